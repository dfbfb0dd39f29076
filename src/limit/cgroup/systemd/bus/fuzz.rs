//! Fuzzing: what comes from a bus, by whoever listens there.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use super::*;
use std::io::Write;
use std::os::unix::net::UnixStream;

/// What a bus says, from its greeting to the end of a job; then it hangs up.
pub fn dbus(bytes: &[u8]) {
    messages(bytes);
    // What fits into the socket's buffer, so that nobody waits.
    let bytes = bytes.get(..65536).unwrap_or(bytes);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(bytes).unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    let mut bus = Bus {
        socket: ours.into(),
        place: "a bus".into(),
        input: Vec::new(),
        serial: 0,
        ended: Vec::new(),
        deadline: Instant::now() + PATIENCE,
    };
    let heard = bus.introduce().and_then(|()| bus.join()).and_then(|()| {
        let answer = bus.call("StartTransientUnit", &[])?;
        match answer {
            Ok(started) => bus.job(&started).map(drop),
            Err(refusal) => Err(refusal.about("start")),
        }
    });
    if let Err(error) = heard {
        assert!(!error.to_string().is_empty());
    }
    assert!(bus.input.len() <= bytes.len());
}

fn messages(mut bytes: &[u8]) {
    while let Ok(Some((message, length))) = message::parse(bytes) {
        assert!(length > 0 && length <= bytes.len());
        let (whole, rest) = bytes.split_at(length);
        assert_eq!(message::parse(whole), Ok(Some((message.clone(), length))));
        // Less than a message is not one, whatever it is.
        let less = whole.split_last().map(|(_, less)| message::parse(less));
        assert!(!matches!(less, Some(Ok(Some(_)))));
        let texts = message.texts().unwrap_or_default();
        assert!(texts.len() <= message.signature.len());
        bytes = rest;
    }
}

/// A bus that takes us for who we are, and does what is asked.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let greeting = b"DATA\r\nOK 0123456789abcdef\r\n".to_vec();
    let number = |code: u8, value: u64| field(code, Value::Number(b'u', value));
    let text = |code: u8, text: &str| field(code, Value::text(text));
    let signature = |kinds: &str| field(8, Value::Text(b'g', kinds.into()));
    let reply = |serial, fields: Vec<Value>, body: &[Value]| {
        let fields = [vec![number(5, serial)], fields].concat();
        message::whole(message::REPLY, 1, fields, body)
    };
    let job = Value::Text(b'o', "/org/freedesktop/systemd1/job/7".into());
    let hello = reply(1, vec![signature("s")], &[Value::text(":1.5")]);
    let matched = reply(2, vec![], &[]);
    let started = reply(
        3,
        vec![text(7, ":1.0"), signature("o")],
        std::slice::from_ref(&job),
    );
    let ended = message::whole(
        message::SIGNAL,
        1,
        vec![
            field(1, Value::Text(b'o', MANAGER.into())),
            text(2, INTERFACE),
            text(3, "JobRemoved"),
            text(7, ":1.0"),
            signature("uoss"),
        ],
        &[
            Value::Number(b'u', 7),
            job,
            Value::text("creel-web1.scope"),
            Value::text("done"),
        ],
    );
    let refused = message::whole(
        message::ERROR,
        1,
        vec![
            number(5, 3),
            text(4, "org.freedesktop.systemd1.UnitExists"),
            signature("s"),
        ],
        &[Value::text("Unit creel-web1.scope already exists.")],
    );
    let property = reply(
        1,
        vec![signature("v")],
        &[Value::Variant(Box::new(Value::text("252")))],
    );
    vec![
        [&*greeting, &hello, &matched, &started, &ended].concat(),
        [&*greeting, &hello, &matched, &ended, &refused].concat(),
        b"REJECTED EXTERNAL\r\n".to_vec(),
        started,
        ended,
        property,
    ]
}

fn field(code: u8, value: Value) -> Value {
    let code = Value::Number(b'y', code.into());
    Value::Struct(vec![code, Value::Variant(Box::new(value))])
}
