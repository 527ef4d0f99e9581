//! Names for keys and files, made of names that a client or a peer chose.

use penstock_domain::keccak256;

/// Letters, digits, '-', '_' and '.' stay, the rest is `%XX`. A name longer than `most` ends in `~`
/// and its hash; `~` is in no other name.
pub(crate) fn encoded(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        if out.len() > most {
            out.truncate(most / 2);
            return format!("{out}~{}", hashed(text));
        }
    }
    out
}

/// 128 bits of Keccak-256 in hexadecimal: beyond guessing a second name for a first.
pub(crate) fn hashed(text: &str) -> String {
    hex::encode(keccak256(text.as_bytes()).get(..16).unwrap_or_default())
}
