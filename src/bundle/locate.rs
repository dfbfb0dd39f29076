//! Where in a JSON text an error happened, as a path of keys: `process.args[1]`.
//!
//! serde_json tells line and column. Walking the text up to there costs nothing where there is no
//! error, unlike bookkeeping in every deserializer (ADR 14).
#![forbid(unsafe_code)]

/// One object or array that is open at the place.
#[derive(Debug)]
enum Open {
    /// With the key whose value is being read.
    Object(String),
    /// With the index of the value being read.
    Array(usize),
}

/// The path to the value that ends at `line` and `column` (both from 1, as serde_json counts);
/// empty at the top.
pub(super) fn path(text: &[u8], line: usize, column: usize) -> String {
    let before: usize = text
        .split_inclusive(|byte| *byte == b'\n')
        .take(line.saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    let mut open: Vec<Open> = Vec::new();
    let mut string: Option<Vec<u8>> = None;
    let mut last = String::new();
    let mut bytes = text.iter().take(before + column);
    while let Some(byte) = bytes.next() {
        match (&mut string, byte) {
            (Some(so_far), b'\\') => so_far.extend(bytes.next()),
            (Some(so_far), b'"') => {
                last = String::from_utf8_lossy(so_far).into_owned();
                string = None;
            }
            (Some(so_far), byte) => so_far.push(*byte),
            (None, b'"') => string = Some(Vec::new()),
            (None, b':') => {
                if let Some(Open::Object(key)) = open.last_mut() {
                    *key = std::mem::take(&mut last);
                }
            }
            (None, b',') => match open.last_mut() {
                Some(Open::Object(key)) => key.clear(),
                Some(Open::Array(index)) => *index += 1,
                None => {}
            },
            (None, b'{') => open.push(Open::Object(String::new())),
            (None, b'[') => open.push(Open::Array(0)),
            (None, b'}' | b']') => {
                open.pop();
            }
            _ => {}
        }
    }
    written(&open)
}

fn written(open: &[Open]) -> String {
    let mut path = String::new();
    for level in open {
        match level {
            // Nothing of it has been read yet: the error is about the whole.
            Open::Object(key) if key.is_empty() => {}
            Open::Object(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
            Open::Array(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn keys_and_indices_lead_to_the_place() {
        let text = br#"{"a": [1, {"b": "x,]}\"", "c": 5}], "d": true}"#;
        let at = |what: &str| {
            let end = std::str::from_utf8(text).unwrap().find(what).unwrap() + what.len();
            path(text, 1, end)
        };
        assert_eq!(at("[1"), "a[0]");
        assert_eq!(at("\"x,]}\\\"\""), "a[1].b");
        assert_eq!(at("\"c\": 5"), "a[1].c");
        assert_eq!(at("5}"), "a[1]");
        assert_eq!(at("true"), "d");
        assert_eq!(at("true}"), "");
    }

    #[test]
    fn lines_are_counted() {
        assert_eq!(path(b"{\n \"a\":\n 5}", 3, 2), "a");
    }
}
