//! The members of a JSON object as they came, byte by byte: a value that is only passed on need not be read into
//! memory, where it would take many times its size.

use std::borrow::Cow;

/// Names and values, in their order, until the object ends.
pub struct Members<'a>(&'a [u8]);

impl<'a> Members<'a> {
    /// Of a text that has to be one JSON object and nothing else.
    pub fn of(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice::<serde::de::IgnoredAny>(text).ok()?;
        text.trim_ascii().strip_prefix(b"{").map(Self)
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_ascii_start();
        let rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
        let (name, rest) = rest.split_at_checked(end_of_text(rest)?)?;
        let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let (value, rest) = rest.split_at_checked(end_of_value(rest))?;
        self.0 = rest;
        // Most names are as they are written.
        let plain = name.get(1..name.len().checked_sub(1)?)?;
        let name = match std::str::from_utf8(plain) {
            Ok(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
            _ => Cow::Owned(serde_json::from_slice(name).ok()?),
        };
        Some((name, value.trim_ascii_end()))
    }
}

/// Just behind a text in quotes, if one begins here.
fn end_of_text(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    let inner = text.strip_prefix(b"\"")?;
    for (at, byte) in inner.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Just behind a value: where the next member begins, or the object ends.
fn end_of_value(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                let rest = text.get(at..).unwrap_or_default();
                at += end_of_text(rest).unwrap_or(rest.len());
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => depth -= 1,
            b'}' | b',' if depth == 0 => break,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    /// What a reader of the whole finds.
    fn whole(text: &str) -> Option<Map<String, Value>> {
        serde_json::from_str(text).ok()
    }

    fn pieces(text: &str) -> Option<Map<String, Value>> {
        let members = Members::of(text.as_bytes())?;
        Some(
            members
                .map(|(name, value)| (name.into(), serde_json::from_slice(value).unwrap()))
                .collect(),
        )
    }

    #[test]
    fn members_are_those_of_the_object() {
        for text in [
            "{}",
            " { } ",
            r#"{"a":1}"#,
            r#" { "a" : { "b,}" : [ 1, "\"]}" ] } , "c\\" : "d\\", "\u0061b":null , "a":2 } "#,
            r#"{"a":[[],{}],"":""}"#,
            r#"{"a":1"#,
            r#"{"a":1}}"#,
            "[]",
            "null",
            "",
        ] {
            assert_eq!(pieces(text), whole(text), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn any_text_has_the_members_that_a_reader_finds(
            noise in r#"[\{\}\[\]"a-z_:, 0-9\\é]{0,24}"#, inner in r#"[a-z\{\},:"]{0,12}"#
        ) {
            let quoted = serde_json::to_string(&inner).unwrap();
            for text in [
                noise.clone(),
                format!("{{{noise}}}"),
                format!(r#"{{"params":{noise},"x":1}}"#),
                format!(r#"{{{quoted}:[{quoted},{{{quoted}:1}}],"b":{quoted}}}"#),
            ] {
                prop_assert_eq!(pieces(&text), whole(&text), "{}", text);
            }
        }
    }
}
