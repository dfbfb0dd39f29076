//! LIMIT, the systemd driver: `org.systemd.property.NAME` annotations, whose values are in
//! GVariant's text format (<https://docs.gtk.org/glib/gvariant-text-format.html>), as runc and crun
//! read them.
//!
//! Numbers, booleans, strings and arrays of these, with or without a type said: what systemd's
//! simple properties have. Tuples, dictionaries and byte strings are refused, not guessed at.
#![forbid(unsafe_code)]

use super::message::Value;
use super::properties::Property;
use crate::error::{Doing, Error, Result};
use std::collections::BTreeMap;
use std::time::Duration;

const PREFIX: &str = "org.systemd.property.";

/// What a signature may have: so many bytes, and arrays within arrays (D-Bus, "Valid Signatures").
const SIGNATURE: usize = 255;
const ARRAYS: usize = 32;

/// The type keywords and the letters that they stand for.
const KEYWORDS: &[(&str, u8)] = &[
    ("boolean", b'b'),
    ("byte", b'y'),
    ("int16", b'n'),
    ("uint16", b'q'),
    ("int32", b'i'),
    ("uint32", b'u'),
    ("int64", b'x'),
    ("uint64", b't'),
    ("double", b'd'),
    ("string", b's'),
    ("objectpath", b'o'),
    ("signature", b'g'),
];

/// The properties that the annotations ask for.
pub(super) fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let mut found = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let refuse = |why| {
            let field = format_args!("annotations[{key:?}]");
            Err(Error::rule(Doing::PlanCgroup, why)
                .on(format_args!("{text:?}"))
                .field(field))
        };
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return refuse("a property's name has three letters or more, and nothing else");
        }
        let Some(value) = parse(text) else {
            return refuse(
                "not a value as GVariant writes it: true, uint64 7, 'text' or ['a', 'b'] is wanted",
            );
        };
        // On the bus, spans of time are in microseconds.
        let seconds = name.strip_suffix("Sec");
        match seconds.filter(|stem| stem.ends_with(|last: char| last.is_ascii_lowercase())) {
            None => found.push(Property::new(name.to_owned(), value)),
            Some(stem) => match microseconds(&value) {
                Some(count) => found.push(Property::number(format!("{stem}USec"), count)),
                None => return refuse("a number of seconds is wanted"),
            },
        }
    }
    Ok(found)
}

fn microseconds(value: &Value) -> Option<u64> {
    let Value::Number(kind, bits) = value else {
        return None;
    };
    match kind {
        b'b' => None,
        b'd' => {
            let time = Duration::try_from_secs_f64(f64::from_bits(*bits)).ok()?;
            u64::try_from(time.as_micros()).ok()
        }
        b'n' | b'i' | b'x' if bits.cast_signed() < 0 => None,
        _ => bits.checked_mul(1_000_000),
    }
}

/// Reads a whole text.
fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text };
    let value = parser.value(None, 0)?;
    parser.skip();
    parser.rest.is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes that character, if it is next.
    fn take(&mut self, wanted: char) -> bool {
        self.skip();
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Takes characters up to a blank or punctuation.
    fn word(&mut self) -> &'a str {
        self.skip();
        let end = self
            .rest
            .find(|next: char| next.is_whitespace() || "[],'\"".contains(next));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    /// A value, of that type if it is known already.
    fn value(&mut self, kind: Option<&str>, depth: u8) -> Option<Value> {
        if depth > 4 {
            return None;
        }
        if self.take('[') {
            return self.array(kind, depth);
        }
        self.skip();
        let letter = match kind.map(str::as_bytes) {
            None => None,
            Some(&[letter]) => Some(letter),
            Some(_) => return None,
        };
        if let Some(quote @ ('\'' | '"')) = self.rest.chars().next() {
            let letter = letter.unwrap_or(b's');
            let text = self.quoted(quote)?;
            let fits = match letter {
                b's' | b'o' => true,
                b'g' => text.len() <= SIGNATURE,
                _ => false,
            };
            return fits.then_some(Value::Text(letter, text));
        }
        let word = self.word();
        if let Some(signature) = word.strip_prefix('@') {
            return self.value(Some(signature), depth + 1);
        }
        if let Some((_, letter)) = KEYWORDS.iter().find(|(keyword, _)| *keyword == word) {
            let kind = char::from(*letter).to_string();
            return self.value(Some(&kind), depth + 1);
        }
        scalar(word, letter)
    }

    /// The rest of an array. All elements are of one type: the first's, unless it was said.
    fn array(&mut self, kind: Option<&str>, depth: u8) -> Option<Value> {
        let known = |basic: &str| KEYWORDS.iter().any(|(_, one)| *basic.as_bytes() == [*one]);
        let mut element = match kind.map(|kind| kind.strip_prefix('a')) {
            None => None,
            Some(element) => {
                let element = element?;
                let basic = element.trim_start_matches('a');
                (known(basic) && element.len() - basic.len() < ARRAYS).then_some(())?;
                Some(element.to_owned())
            }
        };
        let mut items = Vec::new();
        while !self.take(']') {
            if !items.is_empty() && !self.take(',') {
                return None;
            }
            let item = self.value(element.as_deref(), depth + 1)?;
            let signature = item.signature_text();
            match &element {
                Some(known) if *known != signature => return None,
                _ => element = Some(signature),
            }
            items.push(item);
        }
        Some(Value::Array(element?, items))
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut out = String::new();
        let mut chars = self.rest.chars();
        chars.next();
        loop {
            match chars.next()? {
                end if end == quote => break,
                '\\' => out.push(match chars.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'u' => {
                        let hex = chars.as_str().get(..4)?;
                        chars.nth(3);
                        char::from_u32(u32::from_str_radix(hex, 16).ok()?)?
                    }
                    other => other,
                }),
                '\0' => return None,
                other => out.push(other),
            }
        }
        self.rest = chars.as_str();
        (!out.contains('\0')).then_some(out)
    }
}

/// A number or a boolean; without a type said, GVariant takes `int32` or `double`.
fn scalar(word: &str, letter: Option<u8>) -> Option<Value> {
    let is_float = word.contains('.') || (!word.starts_with("0x") && word.contains(['e', 'E']));
    let letter = letter.unwrap_or(match word {
        "true" | "false" => b'b',
        _ if is_float => b'd',
        _ => b'i',
    });
    let bits = match letter {
        b'b' => match word {
            "true" => 1,
            "false" => 0,
            _ => return None,
        },
        b'd' => word.parse::<f64>().ok()?.to_bits(),
        _ => {
            let (negative, digits) = match word.strip_prefix('-') {
                Some(digits) => (true, digits),
                None => (false, word.strip_prefix('+').unwrap_or(word)),
            };
            let (digits, radix) = match digits.strip_prefix("0x") {
                Some(hex) => (hex, 16),
                None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
                None => (digits, 10),
            };
            if !digits.starts_with(|first: char| first.is_ascii_hexdigit()) {
                return None;
            }
            let number = i128::from(u64::from_str_radix(digits, radix).ok()?);
            let number = if negative { -number } else { number };
            let fits = match letter {
                b'y' => u8::try_from(number).is_ok(),
                b'n' => i16::try_from(number).is_ok(),
                b'q' => u16::try_from(number).is_ok(),
                b'i' => i32::try_from(number).is_ok(),
                b'u' => u32::try_from(number).is_ok(),
                b'x' => i64::try_from(number).is_ok(),
                b't' => u64::try_from(number).is_ok(),
                _ => false,
            };
            if !fits {
                return None;
            }
            u64::try_from(number)
                .or_else(|_| i64::try_from(number).map(i64::cast_unsigned))
                .ok()?
        }
    };
    Some(Value::Number(letter, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(letter: u8, value: i64) -> Option<Value> {
        Some(Value::Number(letter, value.cast_unsigned()))
    }

    fn texts(of: &[&str]) -> Option<Value> {
        Some(Value::Array(
            "s".into(),
            of.iter().map(|one| Value::text(*one)).collect(),
        ))
    }

    #[test]
    fn values_are_read_as_gvariant_writes_them() {
        for (text, value) in [
            ("true", number(b'b', 1)),
            ("boolean false", number(b'b', 0)),
            ("7", number(b'i', 7)),
            (" -7 ", number(b'i', -7)),
            ("uint64 123456789", number(b't', 123_456_789)),
            ("uint64 18446744073709551615", number(b't', -1)),
            ("int64 -9223372036854775808", number(b'x', i64::MIN)),
            ("byte 0x1f", number(b'y', 31)),
            ("uint16 010", number(b'q', 8)),
            ("@t 5", number(b't', 5)),
            ("1.5", Some(Value::Number(b'd', 1.5f64.to_bits()))),
            ("double 2", Some(Value::Number(b'd', 2.0f64.to_bits()))),
            (
                "'inactive-or-failed'",
                Some(Value::text("inactive-or-failed")),
            ),
            (r#""it's \"so\"""#, Some(Value::text("it's \"so\""))),
            (r"'\u00e9\n'", Some(Value::text("é\n"))),
            ("objectpath '/a'", Some(Value::Text(b'o', "/a".into()))),
            ("['a', 'b']", texts(&["a", "b"])),
            ("@as []", texts(&[])),
            ("@as ['a']", texts(&["a"])),
        ] {
            assert_eq!(parse(text), value, "{text}");
        }
        let pair = Value::Array(
            "u".into(),
            vec![Value::Number(b'u', 1), Value::Number(b'u', 2)],
        );
        assert_eq!(parse("[uint32 1, 2]"), Some(pair));
    }

    #[test]
    fn what_is_not_a_value_is_refused() {
        for text in [
            "",
            "x",
            "7 8",
            "'a",
            "[1",
            "[]",
            "[1, 'a']",
            "[1 2]",
            "uint64",
            "uint64 -1",
            "byte 256",
            "uint32 'a'",
            "boolean 1",
            "string 7",
            "@a(ss) []",
            "('a', 1)",
            "{'a': 1}",
            "<1>",
            "b'x'",
            "1,",
            "+-1",
            "--1",
            "0x",
            "-",
            "'a\0b'",
            "[[[[[[1]]]]]]",
            "@@@@@@t 1",
            "08",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_bus_has_no_room_for_is_refused() {
        let signature = |length| format!("signature '{}'", "s".repeat(length));
        let array = |depth| format!("@{}s []", "a".repeat(depth));
        assert!(parse(&signature(255)).is_some() && parse(&array(32)).is_some());
        assert_eq!((parse(&signature(256)), parse(&array(33))), (None, None));
    }

    fn one(key: &str, text: &str) -> Result<Vec<Property>> {
        properties(&BTreeMap::from([(key.into(), text.into())]))
    }

    #[test]
    fn annotations_become_properties_and_seconds_microseconds() {
        for (key, text, name, value) in [
            ("TimeoutStopUSec", "uint64 5", "TimeoutStopUSec", 5),
            ("TimeoutStopSec", "uint64 5", "TimeoutStopUSec", 5_000_000),
            ("TimeoutStopSec", "2", "TimeoutStopUSec", 2_000_000),
            ("TimeoutStopSec", "1.5", "TimeoutStopUSec", 1_500_000),
        ] {
            let got = one(&format!("{PREFIX}{key}"), text).unwrap();
            assert_eq!(
                got,
                [Property::number(name.to_owned(), value)],
                "{key} {text}"
            );
        }
        assert_eq!(one("org.other.property.X", "rubbish").unwrap(), []);
        assert_eq!(
            one("org.systemd.property.CollectMode", "'inactive'").unwrap(),
            [Property::new(
                "CollectMode".to_owned(),
                Value::text("inactive")
            )]
        );
    }

    #[test]
    fn a_wrong_annotation_is_named() {
        for (key, text) in [
            ("AB", "1"),
            ("Up1", "1"),
            ("A-B-C", "1"),
            ("CPUWeight", "uint64"),
            ("TimeoutStopSec", "'5'"),
            ("TimeoutStopSec", "-5"),
            ("TimeoutStopSec", "uint64 18446744073709551615"),
        ] {
            let error = one(&format!("{PREFIX}{key}"), text)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(&format!("annotations[\"{PREFIX}{key}\"]")),
                "{error}"
            );
        }
    }
}
