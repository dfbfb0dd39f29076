//! The codec: against bytes that a bus and systemd 252 sent, and against bytes that nobody sends.
#![forbid(unsafe_code)]

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let text = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(text).collect()
}

fn one(bytes: &[u8]) -> (Message, usize) {
    parse(bytes).unwrap().unwrap()
}

#[test]
fn a_call_is_marshalled_as_the_specification_says() {
    let method = ("/a", "b.c", "D");
    let sent = call(7, "e.f", method, &[Value::text("xy"), Value::yes(true)]);
    let expected = "6c010001 0c000000 07000000 48000000\
        01016f00 02000000 2f610000 00000000\
        02017300 03000000 622e6300 00000000\
        03017300 01000000 44000000 00000000\
        06017300 03000000 652e6600 00000000\
        08016700 02736200\
        02000000 78790000 01000000";
    assert_eq!(sent, bytes(expected));
    let (message, length) = one(&sent);
    assert_eq!(length, sent.len());
    assert_eq!(
        (message.kind, &*message.member, &*message.signature),
        (CALL, "D", "sb")
    );
}

#[test]
fn values_are_aligned_by_their_types() {
    let array = |kind: &str, items| Value::Array(kind.into(), items);
    for (value, signature, expected) in [
        (Value::Number(b'y', 255), "y", "ff"),
        (Value::Number(b'n', u64::MAX), "n", "ffff"),
        (Value::Number(b't', 1), "t", "0100000000000000"),
        (Value::Text(b'g', "as".into()), "g", "02617300"),
        (
            array("u", vec![Value::Number(b'u', 9)]),
            "au",
            "04000000 09000000",
        ),
        (array("t", vec![]), "at", "00000000 00000000"),
        (
            array("t", vec![Value::Number(b't', 2)]),
            "at",
            "08000000 00000000 0200000000000000",
        ),
        (
            array(
                "(ss)",
                vec![Value::Struct(vec![Value::text("a"), Value::text("b")])],
            ),
            "a(ss)",
            "0e000000 00000000 01000000 61000000 01000000 6200",
        ),
        (
            Value::Variant(Box::new(Value::Number(b't', 3))),
            "v",
            "01740000 00000000 0300000000000000",
        ),
        (
            array("y", vec![Value::Number(b'y', 3), Value::Number(b'y', 1)]),
            "ay",
            "02000000 0301",
        ),
    ] {
        let mut out = Vec::new();
        value.put(&mut out);
        assert_eq!(out, bytes(expected), "{signature}");
        assert_eq!(value.signature_text(), signature);
    }
}

/// A signal with these arguments, in either byte order.
fn signal(big: bool) -> Vec<u8> {
    let word = |number: u32| match big {
        true => number.to_be_bytes(),
        false => number.to_le_bytes(),
    };
    let mut body: Vec<u8> = word(5).into();
    for text in ["/job/5", "x.scope", "done"] {
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(word(u32::try_from(text.len()).unwrap()));
        body.extend(text.bytes().chain([0]));
    }
    let mut fields = Vec::new();
    for (code, kind, text) in [
        (1, b'o', "/m"),
        (3, b's', "JobRemoved"),
        (7, b's', ":1.2"),
        (8, b'g', "uoss"),
    ] {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([code, 1, kind, 0]);
        let length = u32::try_from(text.len()).unwrap();
        match kind {
            b'g' => fields.push(length.try_into().unwrap()),
            _ => fields.extend(word(length)),
        }
        fields.extend(text.bytes().chain([0]));
    }
    let mut out = vec![if big { b'B' } else { b'l' }, SIGNAL, 1, 1];
    out.extend(word(u32::try_from(body.len()).unwrap()));
    out.extend(word(1));
    out.extend(word(u32::try_from(fields.len()).unwrap()));
    out.extend(fields);
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend(body);
    out
}

#[test]
fn a_signal_is_read_in_either_byte_order() {
    for big in [false, true] {
        let (message, _) = one(&signal(big));
        assert_eq!(
            (message.kind, &*message.member, &*message.sender),
            (SIGNAL, "JobRemoved", ":1.2")
        );
        assert_eq!(message.texts().unwrap(), ["/job/5", "x.scope", "done"]);
    }
}

#[test]
fn a_message_that_is_not_whole_is_waited_for() {
    let whole = signal(false);
    for end in 0..whole.len() {
        assert_eq!(parse(whole.get(..end).unwrap()), Ok(None), "{end}");
    }
    let mut more = whole.clone();
    more.extend(&whole);
    assert_eq!(one(&more).1, whole.len());
}

#[test]
fn nonsense_is_an_error_and_never_a_panic() {
    let whole = signal(false);
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bent = whole.clone();
            *bent.get_mut(at).unwrap() = value;
            if let Ok(Some((message, _))) = parse(&bent) {
                drop(message.texts());
            }
        }
    }
    assert!(parse(b"HTTP/1.1 200").is_err());
    let long = bytes("6c010001 ffffffff 07000000 3f000000");
    assert!(parse(&long).is_err());
}
