//! Answers of the batch AI pipelines (ai-pipelines.md section 2.2).

use super::read;
use crate::error::WireError;
use serde::{Deserialize, Serialize};

/// Answer of audio-to-text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TextAnswer {
    /// The whole text.
    pub text: String,
    /// Pieces with their times.
    #[serde(default)]
    pub chunks: Vec<TextChunk>,
}

/// A piece of a text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TextChunk {
    /// Start and end in seconds; the end of a cut-off piece may be unknown.
    #[serde(default)]
    pub timestamp: Vec<Option<f64>>,
    /// What was said.
    #[serde(default)]
    pub text: String,
}

impl TextAnswer {
    /// Reads an answer of at most `max_bytes`.
    pub fn parse(body: &[u8], max_bytes: usize) -> Result<Self, WireError> {
        let what = "text answer";
        crate::error::bounded(what, body.len(), max_bytes)?;
        serde_json::from_slice(body).map_err(|e| read::wrong(what, e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let text = r#"{"text":" hi","chunks":[{"timestamp":[0.0,1.5],"text":" hi"},{"timestamp":[1.5,null],"text":""}]}"#;
        let answer = TextAnswer::parse(text.as_bytes(), 1000).unwrap();
        assert_eq!(answer.chunks[1].timestamp, [Some(1.5), None]);
        assert_eq!(serde_json::to_string(&answer).unwrap(), text);
        assert!(TextAnswer::parse(text.as_bytes(), 10).is_err());
        assert!(TextAnswer::parse(b"{}", 10).is_err());
    }
}
