//! LIMIT, the systemd driver: D-Bus messages, to bytes and back
//! (<https://dbus.freedesktop.org/doc/dbus-specification.html>, "Message Protocol").
//!
//! What is read comes from a bus, so every length is checked against what is there: [`parse`]
//! answers any bytes, and is fuzzed.
#![forbid(unsafe_code)]

/// Longer messages are refused; those of systemd have a few KiB.
const LONGEST: usize = 1 << 22;

/// What a message is.
pub(super) const CALL: u8 = 1;
pub(super) const REPLY: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// A value to be sent, of any D-Bus type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A number or a boolean: the letter of its type, and its bits.
    Number(u8, u64),
    /// `s`, `o` or `g`.
    Text(u8, String),
    /// The type of its elements, and they.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(b's', text.into())
    }

    pub(super) fn yes(yes: bool) -> Self {
        Self::Number(b'b', yes.into())
    }

    /// Its type as a signature.
    pub(super) fn signature_text(&self) -> String {
        let mut out = String::new();
        self.signature(&mut out);
        out
    }

    fn signature(&self, out: &mut String) {
        match self {
            Self::Number(kind, _) | Self::Text(kind, _) => out.push(char::from(*kind)),
            Self::Array(kind, _) => {
                out.push('a');
                out.push_str(kind);
            }
            Self::Struct(fields) => {
                out.push('(');
                fields.iter().for_each(|field| field.signature(out));
                out.push(')');
            }
            Self::Variant(_) => out.push('v'),
        }
    }

    /// Appends its bytes; `out` begins where the message or its body does.
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(kind, bits) => {
                let size = size(*kind);
                pad(out, size);
                out.extend(bits.to_le_bytes().iter().take(size));
            }
            Self::Text(kind, text) => {
                if *kind == b'g' {
                    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                } else {
                    pad(out, 4);
                    out.extend(length(text.len()));
                }
                out.extend(text.as_bytes());
                out.push(0);
            }
            Self::Array(kind, items) => {
                pad(out, 4);
                let at = out.len();
                out.extend([0; 4]);
                // The length does not count the padding before the first element.
                pad(out, alignment(kind.bytes().next().unwrap_or(b'y')));
                let start = out.len();
                items.iter().for_each(|item| item.put(out));
                let bytes = length(out.len() - start);
                out.iter_mut()
                    .skip(at)
                    .zip(bytes)
                    .for_each(|(to, byte)| *to = byte);
            }
            Self::Struct(fields) => {
                pad(out, 8);
                fields.iter().for_each(|field| field.put(out));
            }
            Self::Variant(value) => {
                Self::Text(b'g', value.signature_text()).put(out);
                value.put(out);
            }
        }
    }
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

/// Bytes of a number of that type.
const fn size(kind: u8) -> usize {
    match kind {
        b'y' => 1,
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b'h' => 4,
        _ => 8,
    }
}

const fn alignment(kind: u8) -> usize {
    match kind {
        b'g' | b'v' => 1,
        b's' | b'o' | b'a' => 4,
        kind => size(kind),
    }
}

/// A method to be called: object, interface, name.
pub(super) type Method<'a> = (&'a str, &'a str, &'a str);

/// The bytes of a method call to `service`.
pub(super) fn call(
    serial: u32,
    service: &str,
    (object, interface, member): Method<'_>,
    arguments: &[Value],
) -> Vec<u8> {
    let mut kinds = String::new();
    for argument in arguments {
        argument.signature(&mut kinds);
    }
    let field = |code: u8, kind: u8, text: &str| {
        let value = Value::Variant(Box::new(Value::Text(kind, text.into())));
        Value::Struct(vec![Value::Number(b'y', code.into()), value])
    };
    let mut fields = vec![
        field(1, b'o', object),
        field(2, b's', interface),
        field(3, b's', member),
        field(6, b's', service),
    ];
    if !kinds.is_empty() {
        fields.push(field(8, b'g', &kinds));
    }
    whole(CALL, serial, fields, arguments)
}

/// The bytes of a message: `fields` of its header, which say its signature, and its body.
pub(super) fn whole(kind: u8, serial: u32, fields: Vec<Value>, values: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    values.iter().for_each(|value| value.put(&mut body));
    let mut out = vec![b'l', kind, 0, 1];
    out.extend(length(body.len()));
    out.extend(serial.to_le_bytes());
    Value::Array("(yv)".into(), fields).put(&mut out);
    pad(&mut out, 8);
    out.extend(body);
    out
}

/// A message that came, as far as anybody here looks at it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Message {
    pub(super) kind: u8,
    /// The call that this answers; 0: none.
    pub(super) answers: u32,
    pub(super) member: String,
    pub(super) error: String,
    pub(super) sender: String,
    pub(super) signature: String,
    body: Vec<u8>,
    big: bool,
}

impl Message {
    /// The texts (`s` or `o`) in a body of only those and `u`; `None` if it is not that.
    pub(super) fn texts(&self) -> Option<Vec<&str>> {
        let mut reader = self.reader();
        let mut texts = Vec::new();
        for kind in self.signature.bytes() {
            match kind {
                b's' | b'o' => texts.push(reader.text()?),
                b'u' => drop(reader.u32()?),
                b'v' if reader.signature()? == "s" => texts.push(reader.text()?),
                _ => return None,
            }
        }
        Some(texts)
    }

    /// For fuzzers, that read it all.
    #[cfg(any(test, fuzzing))]
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            bytes: &self.body,
            at: 0,
            big: self.big,
        }
    }
}

/// Reads the first message: it and its length, or `None` while bytes are missing.
///
/// # Errors
/// This is no D-Bus message, or one that is too long.
pub fn parse(bytes: &[u8]) -> Result<Option<(Message, usize)>, &'static str> {
    let Some((&[order, kind, _, version], _)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    if !matches!(order, b'l' | b'B') || version != 1 {
        return Err("no message of D-Bus version 1");
    }
    let big = order == b'B';
    let mut reader = Reader { bytes, at: 4, big };
    let (Some(body), Some(_serial), Some(fields)) = (reader.u32(), reader.u32(), reader.u32())
    else {
        return Ok(None);
    };
    let start = reader.at;
    let whole = [body, fields].map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if whole.iter().any(|length| *length > LONGEST) {
        return Err("a message that is too long");
    }
    let [body, fields] = whole;
    let head = start + fields;
    let end = head.next_multiple_of(8) + body;
    let (Some(top), Some(content)) = (bytes.get(..head), bytes.get(end - body..end)) else {
        return Ok(None);
    };
    let mut message = Message {
        kind,
        big,
        body: content.into(),
        ..Message::default()
    };
    let mut reader = Reader {
        bytes: top,
        at: start,
        big,
    };
    while reader.at < head {
        message
            .field(&mut reader)
            .ok_or("a header that makes no sense")?;
    }
    Ok(Some((message, end)))
}

impl Message {
    /// Takes a field of the header; those of no interest are passed over.
    fn field(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        reader.align(8)?;
        let code = reader.take(1)?.first().copied()?;
        match reader.signature()?.as_bytes() {
            b"s" | b"o" => {
                let text = reader.text()?;
                let place = match code {
                    3 => &mut self.member,
                    4 => &mut self.error,
                    7 => &mut self.sender,
                    _ => return Some(()),
                };
                text.clone_into(place);
            }
            b"g" => reader.signature()?.clone_into(&mut self.signature),
            b"u" if code == 5 => self.answers = reader.u32()?,
            &[kind] if b"ybnqiuxtdh".contains(&kind) => {
                reader.align(size(kind))?;
                reader.take(size(kind))?;
            }
            _ => return None,
        }
        Some(())
    }
}

/// Walks through bytes; `None` when they end too early or are no text.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(to)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4)?;
        let bytes = *self.take(4)?.first_chunk()?;
        Some(match self.big {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        })
    }

    /// `s` or `o`.
    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.characters(length)
    }

    /// `g`
    fn signature(&mut self) -> Option<&'a str> {
        let length = self.take(1)?.first().copied()?;
        self.characters(length.into())
    }

    fn characters(&mut self, length: usize) -> Option<&'a str> {
        let (end, text) = self.take(length.checked_add(1)?)?.split_last()?;
        (*end == 0).then_some(())?;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
