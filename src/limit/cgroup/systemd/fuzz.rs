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
}
