//! Fuzzing: what criu answers.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use super::protobuf::{Message, Value, fields};
use super::rpc::Response;

/// What criu answers, in protobuf.
pub fn criu(bytes: &[u8]) {
    assert_eq!(Response::read(bytes), Response::read(bytes));
    let Some(all) = fields(bytes) else {
        return assert_eq!(Response::read(bytes), None);
    };
    // What is written again reads the same.
    let mut message = Message::default();
    for (field, value) in &all {
        match value {
            Value::Number(number) => message.number(*field, number.cast_signed()),
            Value::Bytes(bytes) => message.put(*field, bytes),
        };
    }
    assert_eq!(fields(message.bytes()), Some(all));
}

/// A notification, a version, a failure and what kinds of fields there are.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let all: [&[u8]; 5] = [
        b"\x08\x06\x10\x01\x2a\x0f\x0a\x0bpost-resume\x10\x7b",
        b"\x08\x0a\x10\x01\x52\x08\x08\x04\x10\x02\x1a\x02v4",
        b"\x08\x01\x10\x00\x38\x34\x4a\x02no",
        b"\x08\x09\x10\x01\x42\x04\x08\x01\x10\x01",
        b"\x09\x01\x02\x03\x04\x05\x06\x07\x08\x15\x01\x02\x03\x04\x18\x07",
    ];
    all.map(<[u8]>::to_vec).to_vec()
}
