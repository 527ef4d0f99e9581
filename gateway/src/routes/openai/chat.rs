//! `POST /v1/chat/completions`, served by the llm pipeline.

use super::{
    Asked, OpenAiRefusal, Shared, answer,
    answers::{ChatChoice, ChatCompletion, ChatMessage},
    data, done, model, object, stream_error, wrong,
};
use crate::{
    error::GatewayError,
    front::caller::CallerExt,
    routes::{
        ai::stream::{self, Dialect},
        to_the_end, while_heard,
    },
    service::ai::{
        AiRequest, FieldValue, Pipeline,
        media::Made,
        stream::{BrokenOff, Piece},
    },
    trace,
};
use axum::{
    extract::{Request, State},
    response::Response,
};
use penstock_wire::json::{AiResult, LlmAnswer, LlmUsage};
use serde_json::{Value, json};
use utoipa::ToSchema;

/// Answers are bounded where they are fetched.
const MAX_ANSWER: usize = 64 << 20;

/// What would change the answer and is not to be had.
const UNSUPPORTED: [&str; 9] = [
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "logprobs",
    "logit_bias",
    "stop",
    "audio",
    "modalities",
];

/// A conversation.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(super) struct ChatRequest {
    /// The model.
    model: String,
    /// The turns so far; contents are texts.
    messages: Vec<Value>,
    /// Most tokens of the answer: this is the price. Default: `--default-max-tokens`.
    max_completion_tokens: Option<i64>,
    /// The older name of the same.
    max_tokens: Option<i64>,
    /// As OpenAI's.
    temperature: Option<f64>,
    /// As OpenAI's.
    top_p: Option<f64>,
    /// Events, the last one `[DONE]`.
    stream: Option<bool>,
    /// `{"include_usage": true}`.
    stream_options: Option<Value>,
}

/// A conversation goes on
///
/// As OpenAI's, over the llm pipeline. Tools, log probabilities, stop words and more than one choice
/// are refused.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "openai",
    request_body(content = ChatRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "The answer; with `stream` as events, the last one `[DONE]`", content(
            (ChatCompletion = "application/json"),
            (crate::openapi::Event = "text/event-stream"),
        )),
        OpenAiRefusal,
    )
)]
pub(super) async fn completions(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    let (head, body) = request.into_parts();
    let asked = object(&gateway, &caller, &head, body).await?;
    let request = chat(&gateway, &asked)?;
    let include_usage = asked.get("stream_options").is_some_and(|o| o["include_usage"] == true);
    let (jobs, trace, held) = (gateway.jobs.clone(), trace::of(&head.headers), asked.held);
    if request.wants_stream() {
        let begun = while_heard(&jobs, trace, async move {
            let job = gateway.prepare(&caller, request).await?;
            Ok((gateway.stream_llm(&job).await?, job.model, held))
        });
        let (begun, model, held) = begun.await?;
        let dialect = Chunks { model, include_usage, usage: LlmUsage::default() };
        return Ok(stream::events(begun, held, dialect));
    }
    let done = to_the_end(&jobs, trace, async move {
        let job = gateway.prepare(&caller, request).await?;
        let made = gateway.run_ai(&job).await;
        drop(held);
        Ok((made?, job.model))
    });
    let (made, model) = done.await?;
    let Made::Json(body) = made else { return Err(GatewayError::Lost) };
    let said = LlmAnswer::parse(&body, MAX_ANSWER).map_err(|_| GatewayError::Lost)?;
    let choices = said
        .choices
        .iter()
        .map(|choice| {
            let said = choice.message.as_ref().or(choice.delta.as_ref());
            let content = said.map(|m| m.content.as_str()).unwrap_or_default();
            ChatChoice {
                index: choice.index,
                message: ChatMessage { role: "assistant", content: content.into(), refusal: None },
                finish_reason: choice.finish_reason.clone().unwrap_or_else(|| "stop".to_owned()),
                logprobs: None,
            }
        })
        .collect();
    Ok(answer(&ChatCompletion {
        id: said.id,
        object: "chat.completion",
        created: said.created,
        model,
        choices,
        usage: said.usage,
    }))
}

fn chat(gateway: &Shared, asked: &Asked) -> Result<AiRequest, GatewayError> {
    asked.refuse(&UNSUPPORTED)?;
    if asked.int("n")?.is_some_and(|n| n != 1) {
        return Err(super::unsupported("n"));
    }
    if asked.get("response_format").is_some_and(|format| format["type"] != "text") {
        return Err(super::unsupported("response_format"));
    }
    let name = asked.required("model")?;
    let messages = asked.get("messages").and_then(Value::as_array);
    let messages = messages.ok_or_else(|| wrong("messages", "must be a list"))?;
    let turns = messages.iter().map(turn).collect::<Result<Vec<_>, _>>()?;
    let most = asked.int("max_completion_tokens")?.or(asked.int("max_tokens")?);
    let most = most.unwrap_or(gateway.settings.ai.default_max_tokens.into());
    let mut fields = vec![
        ("messages", FieldValue::Messages(turns)),
        ("stream", FieldValue::Bool(asked.flag("stream")?)),
        ("max_tokens", FieldValue::Int(most)),
    ];
    for name in ["temperature", "top_p"] {
        match asked.get(name) {
            None => {}
            Some(Value::Number(number)) if number.as_f64().is_some_and(f64::is_finite) => {
                fields.push((name, FieldValue::Float(number.clone())));
            }
            Some(_) => return Err(wrong(name, "must be a number")),
        }
    }
    if let Some(top_k) = asked.int("top_k")? {
        fields.push(("top_k", FieldValue::Int(top_k)));
    }
    Ok(AiRequest::of_values(Pipeline::Llm, model(gateway, Some(name)), None, fields)?)
}

/// A turn: its content is a text, or a list of texts.
fn turn(value: &Value) -> Result<(String, String), GatewayError> {
    let role = match value["role"].as_str() {
        Some("developer") => "system",
        Some(role) if !role.is_empty() => role,
        _ => return Err(wrong("messages", "must have roles")),
    };
    let content = match &value["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match (part["type"].as_str(), part["text"].as_str()) {
                (Some("text"), Some(text)) => Ok(text),
                _ => Err(super::unsupported("messages: a part that is no text")),
            })
            .collect::<Result<Vec<_>, _>>()?
            .concat(),
        Value::Null => String::new(),
        _ => return Err(wrong("messages", "must have texts as contents")),
    };
    Ok((role.to_owned(), content))
}

/// OpenAI's chunks.
struct Chunks {
    model: String,
    include_usage: bool,
    usage: LlmUsage,
}

impl Chunks {
    fn chunk(&self, piece: &LlmAnswer, choices: Vec<Value>, usage: Value) -> Value {
        let mut chunk = json!({
            "id": piece.id, "object": "chat.completion.chunk", "created": piece.created,
            "model": self.model, "choices": choices,
        });
        if let (true, Some(object)) = (self.include_usage, chunk.as_object_mut()) {
            object.insert("usage".to_owned(), usage);
        }
        chunk
    }
}

impl Dialect for Chunks {
    fn piece(&mut self, piece: &Piece) -> String {
        let piece = &piece.answer;
        self.usage = piece.usage;
        let choices = piece
            .choices
            .iter()
            .map(|choice| {
                let said = choice.delta.as_ref().or(choice.message.as_ref());
                let content = said.map(|m| m.content.as_str()).unwrap_or_default();
                let reason = choice.finish_reason.as_deref().filter(|r| !r.is_empty());
                json!({
                    "index": choice.index,
                    "delta": { "role": "assistant", "content": content },
                    "finish_reason": reason, "logprobs": null,
                })
            })
            .collect();
        let mut text = data(&self.chunk(piece, choices, Value::Null));
        if piece.is_last() && self.include_usage {
            text.push_str(&data(&self.chunk(piece, Vec::new(), json!(self.usage))));
        }
        text
    }

    fn end(&mut self) -> String {
        done()
    }

    fn broken(&mut self, error: &BrokenOff) -> String {
        stream_error(&error.to_string())
    }
}
