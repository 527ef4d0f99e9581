//! What OpenAI's paths answer, field by field: written by the routes and described in the document
//! from the same types.

use penstock_wire::json::LlmUsage;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// How a conversation goes on.
#[derive(Serialize, ToSchema)]
pub(super) struct ChatCompletion {
    /// Names the answer.
    pub id: String,
    /// `chat.completion`.
    pub object: &'static str,
    /// Unix seconds.
    pub created: i64,
    /// The model that was asked for.
    pub model: String,
    /// One.
    pub choices: Vec<ChatChoice>,
    /// What it took.
    #[schema(value_type = ChatUsage)]
    pub usage: LlmUsage,
}

/// One answer.
#[derive(Serialize, ToSchema)]
pub(super) struct ChatChoice {
    /// From 0.
    pub index: u32,
    /// What was said.
    pub message: ChatMessage,
    /// Why it ends there: `stop`, `length`.
    pub finish_reason: String,
    /// Always null.
    pub logprobs: Option<Value>,
}

/// What was said.
#[derive(Serialize, ToSchema)]
pub(super) struct ChatMessage {
    /// `assistant`.
    pub role: &'static str,
    /// The text.
    pub content: String,
    /// Always null.
    pub refusal: Option<String>,
}

/// Tokens.
#[derive(ToSchema)]
#[allow(dead_code)]
struct ChatUsage {
    /// Of the question.
    prompt_tokens: u64,
    /// Of the answer.
    completion_tokens: u64,
    /// Both.
    total_tokens: u64,
}

/// What was heard (`response_format` `json`).
// In the document: nothing else, so that it is not the longer form as well.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HeardText {
    /// All of it.
    pub text: String,
}

/// What was heard, and when (`verbose_json`).
#[derive(Serialize, ToSchema)]
pub(super) struct VerboseTranscription {
    /// `transcribe`.
    pub task: &'static str,
    /// Empty: the network's runners do not say.
    pub language: &'static str,
    /// Seconds.
    pub duration: f64,
    /// All of it.
    pub text: String,
    /// Piece by piece; not with `timestamp_granularities[]=word`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<Vec<TranscribedSegment>>,
    /// Word by word, with `timestamp_granularities[]=word`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<Vec<TranscribedWord>>,
}

/// A piece of what was heard. What the network's runners do not measure is 0 or empty.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct TranscribedSegment {
    /// From 0.
    pub id: usize,
    /// 0.
    pub seek: u32,
    /// Seconds.
    pub start: f64,
    /// Seconds.
    pub end: f64,
    /// The words.
    pub text: String,
    /// Empty.
    pub tokens: Vec<u32>,
    /// 0.
    pub temperature: f64,
    /// 0.
    pub avg_logprob: f64,
    /// 0.
    pub compression_ratio: f64,
    /// 0.
    pub no_speech_prob: f64,
}

/// A word.
#[derive(Serialize, ToSchema)]
pub(super) struct TranscribedWord {
    /// It.
    pub word: String,
    /// Seconds.
    pub start: f64,
    /// Seconds.
    pub end: f64,
}

/// Pictures.
#[derive(Serialize, ToSchema)]
pub(super) struct Pictures {
    /// Unix seconds.
    pub created: u64,
    /// As many as were asked for.
    pub data: Vec<Picture>,
}

/// A picture, in the form asked for.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct Picture {
    /// Where it can be fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The file itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b64_json: Option<String>,
}

/// Vectors, as the worker of the capability answers. Documentation only: its answer is passed on as it is.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(super) struct Embeddings {
    /// `list`.
    object: Option<String>,
    /// A vector for each text.
    data: Vec<Value>,
    /// The worker's model.
    model: Option<String>,
    /// Tokens.
    usage: Option<Value>,
}

/// A model.
#[derive(Serialize, ToSchema)]
pub(super) struct Model {
    /// What requests call it.
    pub id: String,
    /// `model`.
    pub object: &'static str,
    /// 0: nobody knows.
    pub created: u64,
    /// `livepeer`.
    pub owned_by: &'static str,
}

/// Models.
#[derive(Serialize, ToSchema)]
pub(super) struct Models {
    /// `list`.
    pub object: &'static str,
    /// Each.
    pub data: Vec<Model>,
}
