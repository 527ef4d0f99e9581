//! The error envelope `{"error":{"message":…,"code":…}}` as a client reads it.

use super::read;

/// What a peer said about a failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorEnvelope {
    /// For people.
    pub message: String,
    /// For programs; only our own services send one.
    pub code: Option<String>,
}

impl ErrorEnvelope {
    /// Longest message kept.
    pub const MESSAGE_BYTES: usize = 4096;

    /// Reads any error body: the envelope, an ai-runner's `{"detail":{"msg":…}}`, else the text
    /// itself, trimmed. Never fails, since the body of a failure decides nothing by its shape.
    pub fn parse(body: &[u8]) -> Self {
        if let Ok(map) = read::object("error", body, 64 * 1024) {
            let inner = |key| read::get(&map, key).and_then(|v| v.as_object());
            if let Some(error) = inner("error") {
                let text = |key| read::text(error, key, Self::MESSAGE_BYTES).ok();
                let code = text("code").filter(|c| !c.is_empty());
                return Self { message: text("message").unwrap_or_default(), code };
            }
            if let Some(detail) = inner("detail") {
                let message = read::text(detail, "msg", Self::MESSAGE_BYTES).unwrap_or_default();
                return Self { message, code: None };
            }
        }
        let text = String::from_utf8_lossy(body.get(..Self::MESSAGE_BYTES).unwrap_or(body));
        Self { message: text.trim().to_owned(), code: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_failure() {
        let message = |b: &[u8]| ErrorEnvelope::parse(b).message;
        assert_eq!(message(br#"{"error":{"message":"no tickets"}}"#), "no tickets");
        assert_eq!(message(br#"{"detail":{"msg":"bad audio"}}"#), "bad audio");
        assert_eq!(message(b"Forbidden\n"), "Forbidden");
        assert_eq!(message(&[0xff; 10_000]).chars().count(), 4096);
        let coded = ErrorEnvelope::parse(br#"{"error":{"message":"m","code":"c"}}"#);
        assert_eq!(coded.code.as_deref(), Some("c"));
    }
}
