//! Many rows as one JSON parameter, which `json_each` takes apart: a statement has the same text
//! and the same number of parameters however large the batch is.

use core::fmt::{Display, Write};

/// An array of rows, each an array of columns. Blobs travel as hex, or beside it (see [`Blobs`]).
#[derive(Debug)]
pub struct Rows {
    text: String,
    first_row: bool,
    first_column: bool,
}

impl Rows {
    pub fn new() -> Self {
        Self { text: String::from("["), first_row: true, first_column: true }
    }

    /// Begins a row; its columns follow.
    pub fn row(&mut self) -> &mut Self {
        self.text.push_str(if self.first_row { "[" } else { "],[" });
        (self.first_row, self.first_column) = (false, true);
        self
    }

    fn comma(&mut self) {
        if !self.first_column {
            self.text.push(',');
        }
        self.first_column = false;
    }

    pub fn int(&mut self, n: i64) -> &mut Self {
        self.comma();
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{n}");
        self
    }

    /// Text without quotes, backslashes or control characters: numbers, hex, our own words.
    pub fn plain(&mut self, value: impl Display) -> &mut Self {
        self.comma();
        let _ = write!(self.text, "\"{value}\"");
        self
    }

    /// Any text.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.comma();
        push_escaped(&mut self.text, value);
        self
    }

    pub fn optional_text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => {
                self.comma();
                self.text.push_str("null");
                self
            }
        }
    }

    /// For `unhex`.
    pub fn hex(&mut self, bytes: &[u8]) -> &mut Self {
        self.plain(hex::encode(bytes))
    }

    pub fn finish(mut self) -> String {
        self.text.push_str(if self.first_row { "]" } else { "]]" });
        self.text
    }
}

fn push_escaped(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Array of plain texts, for `IN (SELECT value FROM json_each(?))`.
pub fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let mut text = String::from("[");
    for (n, value) in values.into_iter().enumerate() {
        let _ = write!(text, "{}\"{value}\"", if n == 0 { "" } else { "," });
    }
    text.push(']');
    text
}

/// Byte strings put one after the other, cut out again with `substr(blob, start, length)`.
#[derive(Debug, Default)]
pub struct Blobs(Vec<u8>);

impl Blobs {
    /// Adds one; returns where it starts, from 1, and how long it is.
    pub fn push(&mut self, bytes: &[u8]) -> (i64, i64) {
        let start = self.0.len().saturating_add(1);
        self.0.extend_from_slice(bytes);
        (i64::try_from(start).unwrap_or(i64::MAX), i64::try_from(bytes.len()).unwrap_or(i64::MAX))
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn is_json_that_says_the_same(
            rows in prop::collection::vec((any::<String>(), any::<i64>(), any::<Option<String>>()), 0..5)
        ) {
            let mut out = Rows::new();
            for (text, n, optional) in &rows {
                out.row().text(text).int(*n).optional_text(optional.as_deref());
            }
            let read: Vec<(String, i64, Option<String>)> =
                serde_json::from_str(&out.finish()).unwrap();
            prop_assert_eq!(read, rows);
        }
    }
}
