//! CHECKPOINT, on the wire: as much of protobuf's encoding as criu's messages need
//! (<https://protobuf.dev/programming-guides/encoding/>).
#![forbid(unsafe_code)]

/// Kinds of values: the low three bits of a key.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// A message that is being written.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// What was written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while let Some(low @ 0x80..) = Some(value) {
            self.0.push((low & 0x7f | 0x80).to_le_bytes()[0]);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    /// A number, an enumerator or a flag.
    pub(super) fn number(&mut self, field: u64, value: impl Into<i64>) -> &mut Self {
        self.varint(field << 3 | VARINT);
        // int32 below zero is sign-extended to 64 bits.
        self.varint(value.into().cast_unsigned());
        self
    }

    /// Bytes or text.
    pub(super) fn put(&mut self, field: u64, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        self.varint(field << 3 | BYTES);
        self.varint(u64::try_from(value.len()).unwrap_or(u64::MAX));
        self.0.extend(value);
        self
    }

    /// A message within this one.
    pub(super) fn message(&mut self, field: u64, value: &Self) -> &mut Self {
        self.put(field, &value.0)
    }
}

/// A value that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    /// Text, a message, or what nobody here reads.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Bytes(_) => 0,
        }
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Number(_) => &[],
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// The fields of a message, by number and in order; `None` if it is malformed.
pub(super) fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            VARINT => Value::Number(varint(&mut bytes)?),
            FIXED64 => Value::Bytes(take(&mut bytes, 8)?),
            BYTES => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Value::Bytes(take(&mut bytes, length)?)
            }
            FIXED32 => Value::Bytes(take(&mut bytes, 4)?),
            _ => return None,
        };
        all.push((key >> 3, value));
    }
    Some(all)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification_hold() {
        let mut message = Message::default();
        message.number(1, 150).put(2, "testing");
        assert_eq!(message.bytes(), b"\x08\x96\x01\x12\x07testing");
        let mut outer = Message::default();
        outer.message(3, &message);
        assert_eq!(outer.bytes(), b"\x1a\x0c\x08\x96\x01\x12\x07testing");
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut message = Message::default();
        message
            .number(1, 0)
            .number(200, 127)
            .number(3, 128)
            .number(4, -1)
            .put(5, [0_u8; 300]);
        let fields = fields(message.bytes()).unwrap();
        let numbers: Vec<_> = fields.iter().map(|(_, value)| value.number()).collect();
        assert_eq!(numbers, [0, 127, 128, u64::MAX, 0]);
        assert_eq!(fields[1].0, 200);
        assert_eq!(fields[4].1.bytes().len(), 300);
    }

    #[test]
    fn fields_of_kinds_that_nobody_reads_are_passed_over() {
        let bytes = b"\x09\x01\x02\x03\x04\x05\x06\x07\x08\x15\x01\x02\x03\x04\x18\x07";
        let fields = fields(bytes).unwrap();
        assert_eq!(fields[2], (3, Value::Number(7)));
    }

    #[test]
    fn malformed_bytes_are_no_message_and_no_panic() {
        for bytes in [
            &b"\x08"[..],
            b"\x08\x80",
            b"\x12\x05abc",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x",
            b"\x0b\x00",
            b"\x0d\x00\x00",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(fields(bytes), None, "{bytes:?}");
        }
        let mut message = Message::default();
        message.number(1, 150).put(2, "testing");
        for end in 0..message.bytes().len() {
            fields(&message.bytes()[..end]);
        }
    }
}
