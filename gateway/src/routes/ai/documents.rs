//! Handlers and documentation of the nine pipelines. The shapes are documentation only: requests are
//! read by the tables of `service::ai::pipeline`, and answers are what orchestrators say.
#![allow(dead_code)]

use super::{Shared, serve};
use crate::{
    error::GatewayError, front::caller::CallerExt, openapi::JobRefusal, service::ai::Pipeline,
};
use axum::{
    extract::{Request, State},
    response::Response,
};
use utoipa::ToSchema;

/// Pictures, or one film.
#[derive(ToSchema)]
pub(crate) struct Images {
    /// In order.
    images: Vec<Image>,
}

/// A picture or film.
#[derive(ToSchema)]
pub(crate) struct Image {
    /// Where it is, for a while.
    url: String,
    /// For the same again.
    seed: i64,
    /// Whether a safety check found it unfit.
    nsfw: bool,
}

/// A transcription.
#[derive(ToSchema)]
pub(crate) struct Transcription {
    /// The whole text.
    text: String,
    /// Pieces with their times.
    chunks: Vec<TranscriptionChunk>,
}

/// A piece of a text.
#[derive(ToSchema)]
pub(crate) struct TranscriptionChunk {
    /// Start and end in seconds.
    timestamp: Vec<Option<f64>>,
    /// What was said.
    text: String,
}

/// Masks, each a JSON document as text.
#[derive(ToSchema)]
pub(crate) struct Masks {
    /// Masks.
    masks: String,
    /// How good each is.
    scores: String,
    /// Before thresholding.
    logits: String,
}

/// A caption.
#[derive(ToSchema)]
pub(crate) struct Caption {
    /// What is to be seen.
    text: String,
}

/// Speech.
#[derive(ToSchema)]
pub(crate) struct Speech {
    /// The sound.
    audio: Sound,
}

/// Where a sound is.
#[derive(ToSchema)]
pub(crate) struct Sound {
    /// For a while.
    url: String,
}

/// A whole answer, or one piece.
#[derive(ToSchema)]
pub(crate) struct Completion {
    /// Names the answer.
    id: String,
    /// Who speaks.
    model: String,
    /// Unix seconds.
    created: i64,
    /// Tokens.
    usage: Usage,
    /// The answer.
    choices: Vec<Choice>,
}

/// Tokens.
#[derive(ToSchema)]
pub(crate) struct Usage {
    /// Of the question.
    prompt_tokens: u64,
    /// Of the answer.
    completion_tokens: u64,
    /// Both.
    total_tokens: u64,
}

/// An answer.
#[derive(ToSchema)]
pub(crate) struct Choice {
    /// From 0.
    index: u32,
    /// Why it ended.
    finish_reason: Option<String>,
    /// In a stream: more words.
    delta: Option<LlmTurn>,
    /// Otherwise: all words.
    message: Option<LlmTurn>,
}

/// A turn of a conversation.
#[derive(ToSchema)]
pub(crate) struct LlmTurn {
    /// `system`, `user` or `assistant`.
    #[schema(example = "user")]
    role: String,
    /// What is said.
    #[schema(example = "Say hello.")]
    content: String,
}

/// The request.
#[derive(ToSchema)]
pub(crate) struct TextToImageRequest {
    /// What to show.
    prompt: String,
    /// The model; the gateway's default if absent or empty.
    model_id: Option<String>,
    /// A JSON map of LoRA models and weights, as text.
    loras: Option<String>,
    /// Pixels; default 512.
    height: Option<i64>,
    /// Pixels; default 512.
    width: Option<i64>,
    /// How closely to follow the prompt; default 7.5.
    guidance_scale: Option<f64>,
    /// What not to show.
    negative_prompt: Option<String>,
    /// Default true.
    safety_check: Option<bool>,
    /// For the same pictures again.
    seed: Option<i64>,
    /// Default 50.
    num_inference_steps: Option<i64>,
    /// Default 1.
    num_images_per_prompt: Option<i64>,
}

/// Pictures of a text
///
/// Priced by height × width × number of pictures.
#[utoipa::path(
    post, path = "/text-to-image", tag = "ai",
    request_body(content = TextToImageRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "Done", body = Images),
        JobRefusal,
    )
)]
pub(super) async fn text_to_image(
    state: State<Shared>,
    caller: CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    serve(state, caller, Pipeline::TextToImage, request).await
}

/// The request.
#[derive(ToSchema)]
pub(crate) struct ImageToImageRequest {
    /// PNG, JPEG or GIF; its size is part of the price.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// What to show.
    prompt: String,
    /// The model; the gateway's default if absent or empty.
    model_id: Option<String>,
    /// A JSON map of LoRA models and weights, as text.
    loras: Option<String>,
    /// How much to change; default 0.8.
    strength: Option<f64>,
    /// Default 7.5.
    guidance_scale: Option<f64>,
    /// Default 1.5.
    image_guidance_scale: Option<f64>,
    /// What not to show.
    negative_prompt: Option<String>,
    /// Default true.
    safety_check: Option<bool>,
    /// For the same pictures again.
    seed: Option<i64>,
    /// Default 100.
    num_inference_steps: Option<i64>,
    /// Default 1.
    num_images_per_prompt: Option<i64>,
}

/// Pictures of a picture and a text
///
/// Priced by the height × width of the picture × number of pictures.
#[utoipa::path(
    post, path = "/image-to-image", tag = "ai",
    request_body(content = ImageToImageRequest, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "Done", body = Images),
        JobRefusal,
    )
)]
pub(super) async fn image_to_image(
    state: State<Shared>,
    caller: CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    serve(state, caller, Pipeline::ImageToImage, request).await
}

/// The request.
#[derive(ToSchema)]
pub(crate) struct ImageToVideoRequest {
    /// The first picture.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// The model; the gateway's default if absent or empty.
    model_id: Option<String>,
    /// Pixels; default 576.
    height: Option<i64>,
    /// Pixels; default 1024.
    width: Option<i64>,
    /// Default 6.
    fps: Option<i64>,
    /// How much moves; default 127.
    motion_bucket_id: Option<i64>,
    /// Default 0.02.
    noise_aug_strength: Option<f64>,
    /// Default true.
    safety_check: Option<bool>,
    /// For the same film again.
    seed: Option<i64>,
    /// Default 25.
    num_inference_steps: Option<i64>,
}

/// A film of a picture
///
/// Priced by height × width × 25.
#[utoipa::path(
    post, path = "/image-to-video", tag = "ai",
    params(("Prefer" = Option<String>, Header, description = "`respond-async`: the answer is an id at once, and the film is asked for by it")),
    request_body(content = ImageToVideoRequest, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "Done", body = Images),
        (status = 202, description = "With `Prefer: respond-async`: the job has begun, see `/image-to-video/result`", body = super::later::Begun),
        JobRefusal,
    )
)]
pub(super) async fn image_to_video(
    state: State<Shared>,
    caller: CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    serve(state, caller, Pipeline::ImageToVideo, request).await
}

/// The request.
#[derive(ToSchema)]
pub(crate) struct UpscaleRequest {
    /// PNG, JPEG or GIF; its size is the price.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// What the picture shows.
    prompt: String,
    /// The model; the gateway's default if absent or empty.
    model_id: Option<String>,
    /// Default true.
    safety_check: Option<bool>,
    /// For the same picture again.
    seed: Option<i64>,
    /// Default 75.
    num_inference_steps: Option<i64>,
}

/// A larger picture
///
/// Priced by the height × width of the picture.
#[utoipa::path(
    post, path = "/upscale", tag = "ai",
    request_body(content = UpscaleRequest, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "Done", body = Images),
        JobRefusal,
    )
)]
pub(super) async fn upscale(
    state: State<Shared>,
    caller: CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    serve(state, caller, Pipeline::Upscale, request).await
}

/// The request.
#[derive(ToSchema)]
pub(crate) struct AudioToTextRequest {
    /// WAV, MP3, FLAC, Ogg, M4A, WebM or AAC, at least one second long.
    #[schema(value_type = String, format = Binary)]
    audio: Vec<u8>,
    /// The model; the gateway's default if absent or empty.
    model_id: Option<String>,
    /// `true` (the default), `false`, or `word`.
    return_timestamps: Option<String>,
}

/// Speech to text
///
/// Priced by whole seconds of audio. A failing orchestrator is replaced by another within the retry
/// window; its unused credit is kept.
#[utoipa::path(
    post, path = "/audio-to-text", tag = "ai",
    request_body(content = AudioToTextRequest, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "Done", body = Transcription),
        JobRefusal,
    )
)]
pub(super) async fn audio_to_text(
    state: State<Shared>,
    caller: CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    serve(state, caller, Pipeline::AudioToText, request).await
}

/// The request.
#[derive(ToSchema)]
pub(crate) struct SegmentAnything2Request {
    /// PNG, JPEG or GIF; its size is the price.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// The model; the gateway's default if absent or empty.
    model_id: Option<String>,
    /// A JSON list of points, as text.
    point_coords: Option<String>,
    /// A JSON list of labels of the points, as text.
    point_labels: Option<String>,
    /// A JSON list of four numbers, as text.
    #[schema(rename = "box")]
    area: Option<String>,
    /// A mask from before, as text.
    mask_input: Option<String>,
    /// Default true.
    multimask_output: Option<bool>,
    /// Default true.
    return_logits: Option<bool>,
    /// Default true.
    normalize_coords: Option<bool>,
}

/// The things in a picture
///
/// Priced by the height × width of the picture.
#[utoipa::path(
    post, path = "/segment-anything-2", tag = "ai",
    request_body(content = SegmentAnything2Request, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "Done", body = Masks),
        JobRefusal,
    )
)]
pub(super) async fn segment_anything_2(
    state: State<Shared>,
    caller: CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    serve(state, caller, Pipeline::SegmentAnything2, request).await
}

/// The request.
#[derive(ToSchema)]
pub(crate) struct LlmRequest {
    /// The conversation, at least one turn.
    messages: Vec<LlmTurn>,
    /// The model; the gateway's default if empty.
    model: String,
    /// Whether the answer is to come in pieces.
    stream: bool,
    /// Most tokens of the answer; this is the price.
    max_tokens: i64,
    /// Default 0.7.
    temperature: Option<f64>,
    /// Default 1.
    top_p: Option<f64>,
    /// Default -1.
    top_k: Option<i64>,
}

/// Words that follow words
///
/// Priced by `max_tokens`. With `stream` the answer is a stream of events, each a piece, the last one
/// with a `finish_reason`; one that breaks off ends with `event: error`.
#[utoipa::path(
    post, path = "/llm", tag = "ai",
    request_body(content = LlmRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "The answer; with `stream` as events", content(
            (Completion = "application/json"),
            (crate::openapi::Event = "text/event-stream"),
        )),
        JobRefusal,
    )
)]
pub(super) async fn llm(
    state: State<Shared>,
    caller: CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    serve(state, caller, Pipeline::Llm, request).await
}

/// The request.
#[derive(ToSchema)]
pub(crate) struct ImageToTextRequest {
    /// PNG, JPEG or GIF; its size is the price.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// What to ask about it.
    prompt: Option<String>,
    /// The model; the gateway's default if absent or empty.
    model_id: Option<String>,
}

/// What a picture shows
///
/// Priced by the height × width of the picture.
#[utoipa::path(
    post, path = "/image-to-text", tag = "ai",
    request_body(content = ImageToTextRequest, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "Done", body = Caption),
        JobRefusal,
    )
)]
pub(super) async fn image_to_text(
    state: State<Shared>,
    caller: CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    serve(state, caller, Pipeline::ImageToText, request).await
}

/// The request.
#[derive(ToSchema)]
pub(crate) struct TextToSpeechRequest {
    /// What to say; its characters are the price.
    text: String,
    /// The model; the gateway's default if absent or empty.
    model_id: Option<String>,
    /// How to say it.
    description: Option<String>,
}

/// Text as speech
///
/// Priced by 1000 × the characters of the text.
#[utoipa::path(
    post, path = "/text-to-speech", tag = "ai",
    request_body(content = TextToSpeechRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "Done", body = Speech),
        JobRefusal,
    )
)]
pub(super) async fn text_to_speech(
    state: State<Shared>,
    caller: CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    serve(state, caller, Pipeline::TextToSpeech, request).await
}
