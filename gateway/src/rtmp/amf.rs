//! AMF0: the values of RTMP commands. Bounded in depth and number.

/// Nested so deep at most.
const DEPTH: usize = 8;
/// Values of a message at most.
const MOST: usize = 512;

/// A value. What no command here needs is [`Value::Other`].
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A double.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// UTF-8; what is none is replaced.
    Text(String),
    /// Properties in order.
    Object(Vec<(String, Value)>),
    /// Nothing.
    Null,
    /// Dates, lists, undefined.
    Other,
}

impl Value {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// A property's text.
    pub fn property(&self, name: &str) -> Option<&str> {
        let Self::Object(list) = self else { return None };
        list.iter().find(|(key, _)| key == name)?.1.text()
    }
}

/// All values of a message; `None` when it is none.
pub fn read(bytes: &[u8]) -> Option<Vec<Value>> {
    let mut reader = Reader { rest: bytes, left: MOST };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        values.push(reader.value(DEPTH)?);
    }
    Some(values)
}

struct Reader<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    fn text(&mut self, prefix: usize) -> Option<String> {
        let length = self.number(prefix)?;
        Some(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        let deeper = depth.checked_sub(1)?;
        Some(match self.number(1)? {
            0 => Value::Number(f64::from_be_bytes(self.take(8)?.try_into().ok()?)),
            1 => Value::Bool(self.number(1)? != 0),
            2 => Value::Text(self.text(2)?),
            3 => Value::Object(self.properties(deeper)?),
            5 => Value::Null,
            6 => Value::Other,
            7 => self.take(2).map(|_| Value::Other)?,
            8 => {
                self.take(4)?;
                Value::Object(self.properties(deeper)?)
            }
            10 => {
                let count = self.number(4)?;
                for _ in 0..count {
                    self.value(deeper)?;
                }
                Value::Other
            }
            11 => self.take(10).map(|_| Value::Other)?,
            12 | 15 => Value::Text(self.text(4)?),
            _ => return None,
        })
    }

    fn properties(&mut self, depth: usize) -> Option<Vec<(String, Value)>> {
        let mut list = Vec::new();
        loop {
            let name = self.text(2)?;
            if name.is_empty() && self.rest.first() == Some(&9) {
                self.take(1)?;
                return Some(list);
            }
            list.push((name, self.value(depth)?));
        }
    }
}

/// Writes values one after the other.
pub fn write(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| one(&mut out, value));
    out
}

fn one(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Number(number) => {
            out.push(0);
            out.extend(number.to_be_bytes());
        }
        Value::Bool(truth) => out.extend([1, u8::from(*truth)]),
        Value::Text(text) => {
            out.push(2);
            string(out, text);
        }
        Value::Object(list) => {
            out.push(3);
            for (name, value) in list {
                string(out, name);
                one(out, value);
            }
            out.extend([0, 0, 9]);
        }
        Value::Null => out.push(5),
        Value::Other => out.push(6),
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let bytes = bytes.get(..bytes.len().min(u16::MAX.into())).unwrap_or_default();
    out.extend(u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::generated::*;

    fn connect() -> Vec<Value> {
        let app = Value::Object(vec![
            ("app".into(), Value::Text("live".into())),
            ("fpad".into(), Value::Bool(false)),
        ]);
        vec![Value::Text("connect".into()), Value::Number(1.0), app, Value::Null]
    }

    #[test]
    fn there_and_back() {
        let values = connect();
        assert_eq!(read(&write(&values)).unwrap(), values);
        assert_eq!(values[2].property("app"), Some("live"));
        // An ECMA array, a list, a date.
        let bytes = [
            8, 0, 0, 0, 1, 0, 1, b'w', 5, 0, 0, 9, 10, 0, 0, 0, 2, 5, 5, 11, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0,
        ];
        let values = read(&bytes).unwrap();
        assert_eq!(values[0], Value::Object(vec![("w".into(), Value::Null)]));
        assert_eq!(values.len(), 3);
    }

    #[test]
    fn bounds() {
        assert_eq!(read(&[10, 0xff, 0xff, 0xff, 0xff, 5]), None);
        assert_eq!(read(&[3, 0, 1, b'a'].repeat(50)), None, "too deep");
        assert_eq!(read(&[5; 600]), None, "too many");
        assert_eq!(read(&[12, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn whatever_the_message_is() {
        let valid = write(&connect());
        cases(100_000, |rng| {
            if let Some(values) = read(&damaged(rng, &valid, 4)) {
                assert!(values.len() <= MOST);
                write(&values);
            }
        });
    }
}
