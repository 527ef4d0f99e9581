//! Many keys as one JSON parameter: a statement has the same text however many there are.

use core::fmt::{Display, Write};

/// Array of plain texts, for `IN (SELECT value FROM json_each(?))`.
pub fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let mut text = String::from("[");
    for (n, value) in values.into_iter().enumerate() {
        let _ = write!(text, "{}\"{value}\"", if n == 0 { "" } else { "," });
    }
    text.push(']');
    text
}
