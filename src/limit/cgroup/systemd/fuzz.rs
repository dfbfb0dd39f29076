//! Fuzzing: unit names, annotations, and what comes from a bus.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use super::super::resources::Write;
use super::message::{self, Value};
use super::name::Name;
use super::properties::Property;
use super::{annotation, properties};
use std::collections::BTreeMap;

pub use super::bus::fuzz::dbus;
pub(crate) use super::bus::fuzz::seeds as dbus_seeds;

/// cgroupsPath as `slice:prefix:name`.
pub(in super::super) fn name(asked: &str) {
    for user in [false, true] {
        let Ok(name) = Name::parse(asked, "id", user) else {
            continue;
        };
        assert!(name.unit.len() <= 255 && name.unit.ends_with(".scope"));
        assert!(!name.unit.contains('/') && name.slice.ends_with(".slice"));
        let path = name.below("/manager").unwrap();
        let below = path.strip_prefix("/manager/").unwrap();
        let plain = |part: &str| part.ends_with(".slice") || part.ends_with(".scope");
        assert!(below.split('/').all(plain), "{path:?}");
        assert!(path.ends_with(&name.unit));
    }
}

/// The value of an annotation `org.systemd.property.*`; its first line is the property's name.
pub fn annotations(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (name, value) = text.split_once('\n').unwrap_or(("CollectMode", text));
    let key = format!("org.systemd.property.{name}");
    let asked = BTreeMap::from([(key, value.to_owned())]);
    let Ok(found) = annotation::properties(&asked) else {
        return;
    };
    assert_eq!(annotation::properties(&asked).as_ref(), Ok(&found));
    call(&found);
}

/// What a scope is asked for when these files are written.
pub(in super::super) fn of(writes: &[Write]) {
    let mut writes = writes.to_vec();
    properties::round(&mut writes);
    call(&properties::of(&writes));
}

/// Whether a call with these properties can be read again by whoever gets it.
fn call(found: &[Property]) {
    let wire = properties::wire(found, u32::MAX);
    let method = ("/object", "an.Interface", "Method");
    let bytes = message::call(7, "a.Service", method, &[Value::text("unit"), wire.clone()]);
    let (message, length) = message::parse(&bytes).unwrap().unwrap();
    assert_eq!(length, bytes.len());
    assert_eq!(message.kind, message::CALL);
    assert_eq!(message.member, "Method");
    assert_eq!(message.signature, format!("s{}", wire.signature_text()));
    let (mut at, mut kinds) = (0, message.signature.as_bytes());
    let body = message.body();
    while !kinds.is_empty() {
        kinds = walk(kinds, body, &mut at).unwrap();
    }
    assert_eq!(at, body.len(), "bytes that no value has");
}

/// Passes over one value, as whoever gets the message must; returns the kinds that follow its own.
fn walk<'a>(kinds: &'a [u8], bytes: &[u8], at: &mut usize) -> Option<&'a [u8]> {
    let (kind, rest) = kinds.split_first()?;
    let align = |at: &mut usize, to: usize| *at = at.next_multiple_of(to);
    let number = |at: &mut usize| {
        align(at, 4);
        let four = bytes.get(*at..)?.first_chunk()?;
        *at += 4;
        usize::try_from(u32::from_le_bytes(*four)).ok()
    };
    let text = |at: &mut usize, length: usize| {
        let text = bytes.get(*at..*at + length)?;
        *at += length + 1;
        (bytes.get(*at - 1) == Some(&0) && !text.contains(&0)).then_some(text)
    };
    match kind {
        b's' | b'o' => {
            let length = number(at)?;
            std::str::from_utf8(text(at, length)?).ok()?;
        }
        b'g' | b'v' => {
            let length = bytes.get(*at).copied()?;
            *at += 1;
            let inner = text(at, length.into())?;
            if *kind == b'v' && !walk(inner, bytes, at)?.is_empty() {
                return None;
            }
        }
        b'(' => {
            align(at, 8);
            let mut inner = rest;
            while *inner.first()? != b')' {
                inner = walk(inner, bytes, at)?;
            }
            return inner.get(1..);
        }
        b'a' => {
            let length = number(at)?;
            align(
                at,
                if b"(xtd".contains(rest.first()?) {
                    8
                } else {
                    1
                },
            );
            let end = *at + length;
            let mut after = rest;
            while *at < end {
                after = walk(rest, bytes, at)?;
            }
            // Nothing to walk over: what the type is, is left to the one who wrote it.
            let after = if length == 0 { past(rest)? } else { after };
            return (*at == end).then_some(after);
        }
        _ => {
            let size = match kind {
                b'y' => 1,
                b'n' | b'q' => 2,
                b'b' | b'i' | b'u' => 4,
                b'x' | b't' | b'd' => 8,
                _ => return None,
            };
            align(at, size);
            *at += size;
            bytes.get(..*at)?;
        }
    }
    Some(rest)
}

/// The kinds that follow the first.
fn past(kinds: &[u8]) -> Option<&[u8]> {
    let (kind, rest) = kinds.split_first()?;
    match kind {
        b'a' => past(rest),
        b'(' => {
            let mut inner = rest;
            while *inner.first()? != b')' {
                inner = past(inner)?;
            }
            inner.get(1..)
        }
        _ => Some(rest),
    }
}
