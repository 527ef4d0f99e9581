//! Answers of the batch AI pipelines (ai-pipelines.md section 2.2).

use super::read;
use crate::error::WireError;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Number;

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

/// Answer of text-to-image, image-to-image, upscale and image-to-video.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageAnswer {
    /// The pictures, or the one film.
    pub images: Vec<MediaAnswer>,
}

/// One picture or film.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MediaAnswer {
    /// Where it is: http(s), or a `data:` URL.
    pub url: String,
    /// What it was made from; may be larger than 64 bits.
    #[serde(default = "zero")]
    pub seed: Number,
    /// Whether a safety check found it unfit.
    #[serde(default)]
    pub nsfw: bool,
}

fn zero() -> Number {
    Number::from(0)
}

/// Answer of segment-anything-2: three JSON documents as text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MasksAnswer {
    /// Masks.
    pub masks: String,
    /// How good each is.
    pub scores: String,
    /// Before thresholding.
    pub logits: String,
}

/// Answer of image-to-text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CaptionAnswer {
    /// What is to be seen.
    pub text: String,
}

/// Answer of text-to-speech.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SpeechAnswer {
    /// The sound.
    pub audio: UrlAnswer,
}

/// Where something is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UrlAnswer {
    /// http(s), or a `data:` URL.
    pub url: String,
}

/// Answer of llm, whole or one piece of a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LlmAnswer {
    /// Names the answer.
    #[serde(default)]
    pub id: String,
    /// Who speaks.
    #[serde(default)]
    pub model: String,
    /// Unix seconds.
    #[serde(default)]
    pub created: i64,
    /// What it took.
    #[serde(default)]
    pub usage: LlmUsage,
    /// What was said.
    pub choices: Vec<LlmChoice>,
}

/// Tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LlmUsage {
    /// Of the question.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Of the answer.
    #[serde(default)]
    pub completion_tokens: u64,
    /// Both.
    #[serde(default)]
    pub total_tokens: u64,
}

/// One answer, or a piece of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LlmChoice {
    /// Which, from 0.
    #[serde(default)]
    pub index: u32,
    /// Why it ended; a stream's last piece has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Of a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<LlmMessage>,
    /// Of a whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<LlmMessage>,
}

/// Words and whose they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LlmMessage {
    /// `system`, `user`, `assistant`.
    #[serde(default)]
    pub role: String,
    /// The words.
    #[serde(default)]
    pub content: String,
}

impl LlmAnswer {
    /// Whether a stream ends with this piece: the first choice says why.
    pub fn is_last(&self) -> bool {
        let reason = self.choices.first().and_then(|choice| choice.finish_reason.as_deref());
        reason.is_some_and(|reason| !reason.is_empty())
    }
}

/// An answer of one of the shapes of this module, read with a limit. Unknown fields are left out, as
/// the reference does.
pub trait AiResult: DeserializeOwned {
    /// Names the shape in errors.
    const WHAT: &'static str;

    /// Reads an answer of at most `max_bytes`.
    fn parse(body: &[u8], max_bytes: usize) -> Result<Self, WireError> {
        crate::error::bounded(Self::WHAT, body.len(), max_bytes)?;
        serde_json::from_slice(body).map_err(|e| read::wrong(Self::WHAT, e.to_string()))
    }
}

impl AiResult for TextAnswer {
    const WHAT: &'static str = "text answer";
}
impl AiResult for ImageAnswer {
    const WHAT: &'static str = "image answer";
}
impl AiResult for MasksAnswer {
    const WHAT: &'static str = "masks answer";
}
impl AiResult for CaptionAnswer {
    const WHAT: &'static str = "caption answer";
}
impl AiResult for SpeechAnswer {
    const WHAT: &'static str = "speech answer";
}
impl AiResult for LlmAnswer {
    const WHAT: &'static str = "llm answer";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let text = r#"{"text":" hi","chunks":[{"timestamp":[0.0,1.5],"text":" hi"},{"timestamp":[1.5,null],"text":""}]}"#;
        let answer = TextAnswer::parse(text.as_bytes(), 1000).unwrap();
        assert_eq!(answer.chunks[1].timestamp, [Some(1.5), None]);
        assert_eq!(serde_json::to_string(&answer).unwrap(), text);
        assert!(TextAnswer::parse(text.as_bytes(), 10).is_err());
        assert!(TextAnswer::parse(b"{}", 10).is_err());
    }

    #[test]
    fn images_keep_large_seeds() {
        let text = r#"{"images":[{"url":"u","seed":340282366920938463463,"nsfw":true}]}"#;
        let answer = ImageAnswer::parse(text.as_bytes(), 1000).unwrap();
        assert_eq!(serde_json::to_string(&answer).unwrap(), text);
        let short = ImageAnswer::parse(br#"{"images":[{"url":"u"}]}"#, 1000).unwrap();
        assert!(!short.images[0].nsfw);
        for bad in ["{}", r#"{"images":{}}"#, r#"{"images":[{"seed":1}]}"#] {
            assert!(ImageAnswer::parse(bad.as_bytes(), 1000).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stream_ends_with_a_reason() {
        let piece = |reason: &str| {
            let text = format!(r#"{{"choices":[{{"delta":{{"content":"a"}}{reason}}}]}}"#);
            LlmAnswer::parse(text.as_bytes(), 1000).unwrap()
        };
        assert!(!piece("").is_last());
        assert!(!piece(r#","finish_reason":"""#).is_last());
        assert!(!piece(r#","finish_reason":null"#).is_last());
        assert!(piece(r#","finish_reason":"stop""#).is_last());
        assert!(LlmAnswer::parse(b"{}", 10).is_err());
    }

    #[test]
    fn the_others() {
        let masks = r#"{"masks":"[]","scores":"[]","logits":"[]"}"#;
        assert!(MasksAnswer::parse(masks.as_bytes(), 100).is_ok());
        assert!(MasksAnswer::parse(br#"{"masks":"[]"}"#, 100).is_err());
        assert_eq!(SpeechAnswer::parse(br#"{"audio":{"url":"u"}}"#, 100).unwrap().audio.url, "u");
        assert_eq!(CaptionAnswer::parse(br#"{"text":"a cat"}"#, 100).unwrap().text, "a cat");
    }
}
