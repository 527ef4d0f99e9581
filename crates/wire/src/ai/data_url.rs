//! `data:` URLs: how runners give pictures and sound inside JSON (ai-pipelines.md section 8.1).

use crate::error::WireError;
use base64::{Engine as _, engine::general_purpose::STANDARD};

const WHAT: &str = "data URL";

/// The content of a base64 `data:` URL of at most `max_bytes`; its media type is not looked at.
pub fn decode(url: &str, max_bytes: usize) -> Result<Vec<u8>, WireError> {
    let (head, data) = url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(','))
        .ok_or(WireError::invalid(WHAT, "is none"))?;
    if !head.ends_with(";base64") {
        return Err(WireError::invalid(WHAT, "is not base64"));
    }
    if data.len() > max_bytes.saturating_mul(4) / 3 + 4 {
        return Err(WireError::invalid(WHAT, "is too large"));
    }
    let content =
        STANDARD.decode(data.trim()).map_err(|_| WireError::invalid(WHAT, "is broken"))?;
    if content.is_empty() { Err(WireError::invalid(WHAT, "is empty")) } else { Ok(content) }
}

/// The URL that holds `content`.
pub fn encode(media_type: &str, content: &[u8]) -> String {
    format!("data:{media_type};base64,{}", STANDARD.encode(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::generated::cases;
    use rand::Rng;

    #[test]
    fn there_and_back() {
        let url = encode("image/png", b"picture");
        assert_eq!(url, "data:image/png;base64,cGljdHVyZQ==");
        assert_eq!(decode(&url, 7).unwrap(), b"picture");
        assert!(decode(&encode("image/png", &[0; 100]), 50).is_err());
        for bad in ["", "data:", "data:,x", "data:image/png;base64,", "data:a;base64,=", "http://x"]
        {
            assert!(decode(bad, 100).is_err(), "{bad}");
        }
    }

    #[test]
    fn noise_is_harmless() {
        const PIECES: [&str; 8] = ["data:", "image/png", ";base64", ",", "AAAA", "=", "é", " "];
        cases(100_000, |rng| {
            let count = rng.random_range(0..8);
            let text: String = (0..count).map(|_| PIECES[rng.random_range(0..8)]).collect();
            let _ = decode(&text, 16);
        });
    }
}
