//! Protocol buffers as bytes, by hand: the shim's own reader must not be the judge of what it writes.
#![forbid(unsafe_code)]

use crate::case::Result;

/// A message that is being written.
#[derive(Debug, Default, Clone)]
pub struct Message(Vec<u8>);

impl Message {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a number (or a flag) to it.
    pub fn number(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    /// Adds a text, bytes, or another message's bytes.
    pub fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                return self.0.push(low & 0x7f);
            }
            self.0.push(low | 0x80);
        }
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A `google.protobuf.Any`.
pub fn any(kind: &str, value: impl AsRef<[u8]>) -> Message {
    Message::new().bytes(1, kind).bytes(2, value)
}

enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

/// A message that was read. What it does not have is 0, or empty.
#[derive(Default)]
pub struct Fields(Vec<(u64, Value)>);

impl Fields {
    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes.iter().copied();
        let mut fields = Vec::new();
        while let Some(tag) = varint(&mut rest) {
            let value = match tag & 7 {
                0 => Value::Number(varint(&mut rest).ok_or("a number is cut off")?),
                1 => Value::Bytes(rest.by_ref().take(8).collect()),
                2 => {
                    let length = varint(&mut rest).ok_or("a length is cut off")?;
                    let length = usize::try_from(length)?;
                    let bytes: Vec<u8> = rest.by_ref().take(length).collect();
                    if bytes.len() != length {
                        return Err("bytes are cut off".into());
                    }
                    Value::Bytes(bytes)
                }
                other => return Err(format!("a field of kind {other}").into()),
            };
            fields.push((tag >> 3, value));
        }
        Ok(Self(fields))
    }

    /// The number of that field.
    pub fn number(&self, field: u64) -> u64 {
        let mut found = self.0.iter().filter(|(tag, _)| *tag == field);
        match found.next_back() {
            Some((_, Value::Number(number))) => *number,
            _ => 0,
        }
    }

    /// The bytes of that field.
    pub fn bytes(&self, field: u64) -> &[u8] {
        let mut found = self.0.iter().filter(|(tag, _)| *tag == field);
        match found.next_back() {
            Some((_, Value::Bytes(bytes))) => bytes,
            _ => &[],
        }
    }

    /// The text of that field.
    pub fn text(&self, field: u64) -> String {
        String::from_utf8_lossy(self.bytes(field)).into_owned()
    }

    /// The message in that field.
    pub fn message(&self, field: u64) -> Result<Self> {
        Self::parse(self.bytes(field))
    }
}

fn varint(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
