//! `POST /audio-to-text` (ai-pipelines.md section 2).

use super::{Shared, body, to_the_end};
use crate::{
    error::GatewayError,
    front::{caller::CallerExt, workload::Workload},
    service::audio::AudioToText,
    trace,
};
use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::header;
use multer::{Constraints, Multipart, SizeLimit};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Most bytes of the form around the file: three short fields and their headers.
const FORM_OVERHEAD: usize = 64 * 1024;
/// Most bytes of one text field.
const FIELD_BYTES: u64 = 4 * 1024;

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(audio_to_text))
}

/// The form. Documentation only: the handler reads the parts as they come.
#[derive(ToSchema)]
#[allow(dead_code)]
struct AudioForm {
    /// WAV, MP3, FLAC, Ogg, M4A, WebM or AAC, at least one second long.
    #[schema(value_type = String, format = Binary)]
    audio: Vec<u8>,
    /// The model; the gateway's default if absent or empty.
    #[schema(example = "openai/whisper-tiny.en")]
    model_id: Option<String>,
    /// `true` (the default), `false`, or `word`.
    #[schema(example = "true")]
    return_timestamps: Option<String>,
}

/// A transcription. Documentation only: the orchestrator's JSON is passed on.
#[derive(ToSchema)]
#[allow(dead_code)]
struct Transcription {
    /// The whole text.
    text: String,
    /// Pieces with their times.
    chunks: Vec<TranscriptionChunk>,
}

/// A piece of a text.
#[derive(ToSchema)]
#[allow(dead_code)]
struct TranscriptionChunk {
    /// Start and end in seconds.
    timestamp: Vec<Option<f64>>,
    /// What was said.
    text: String,
}

/// Speech to text
///
/// Priced by whole seconds of audio. A failing orchestrator is replaced by another within the retry
/// window; its unused credit is kept.
#[utoipa::path(
    post, path = "/audio-to-text", tag = "ai",
    request_body(content = AudioForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The text", body = Transcription),
        (status = 400, description = "Not audio, too short, a bad field, or refused by the model", body = crate::openapi::ErrorBody),
        (status = 405, description = "Not POST", body = crate::openapi::ErrorBody),
        (status = 413, description = "The file is too large", body = crate::openapi::ErrorBody),
        (status = 500, description = "Internal Server Error", body = crate::openapi::ErrorBody),
        (status = 503, description = "No orchestrator, signer or store available now", body = crate::openapi::ErrorBody),
    )
)]
pub async fn audio_to_text(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    let (head, body) = request.into_parts();
    let boundary = head
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| multer::parse_boundary(v).ok())
        .ok_or_else(|| GatewayError::Form("expected multipart/form-data".to_owned()))?;
    let max_audio = gateway.settings.args.max_audio_bytes;
    let said = body::said_length(&head.headers);
    let place = gateway.workloads.enter(Workload::Ai, &caller).await?;
    let held = body::read(&place, said, body, max_audio.saturating_add(FORM_OVERHEAD)).await?;
    let request = form(held.data.clone(), &boundary, max_audio).await?;
    let jobs = gateway.jobs.clone();
    let answer = to_the_end(&jobs, trace::of(&head.headers), async move {
        let answer = gateway.audio_to_text(&caller, &request).await;
        drop((held, place));
        Ok(answer?)
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

async fn form(data: Bytes, boundary: &str, max_audio: usize) -> Result<AudioToText, GatewayError> {
    let sizes = SizeLimit::new()
        .for_field("audio", max_audio as u64)
        .for_field("model_id", FIELD_BYTES)
        .for_field("return_timestamps", FIELD_BYTES)
        .for_field("metadata", FIELD_BYTES);
    let stream = futures::stream::iter([Ok::<Bytes, std::io::Error>(data)]);
    let mut parts =
        Multipart::with_constraints(stream, boundary, Constraints::new().size_limit(sizes));
    let bad = |e: multer::Error| match e {
        multer::Error::FieldSizeExceeded { field_name: Some(name), .. } if name == "audio" => {
            GatewayError::TooLarge
        }
        other => GatewayError::Form(other.to_string()),
    };
    let (mut audio, mut model_id, mut return_timestamps) = (None, None, None);
    while let Some(part) = parts.next_field().await.map_err(bad)? {
        match part.name().unwrap_or_default().to_owned().as_str() {
            "audio" => {
                let name = safe_name(part.file_name());
                audio = Some((part.bytes().await.map_err(bad)?, name));
            }
            "model_id" => model_id = Some(part.text().await.map_err(bad)?),
            "return_timestamps" => return_timestamps = Some(part.text().await.map_err(bad)?),
            // `metadata` is the gateway's to write; what else there is is ignored, as unknown JSON
            // fields are.
            _ => {}
        }
    }
    let (audio, file_name) =
        audio.ok_or_else(|| GatewayError::Form("field audio is required".to_owned()))?;
    if audio.is_empty() {
        return Err(GatewayError::Form("field audio is empty".to_owned()));
    }
    if let Some(value) = &return_timestamps
        && !matches!(value.as_str(), "" | "true" | "false" | "word")
    {
        return Err(GatewayError::Form("return_timestamps must be true, false or word".to_owned()));
    }
    let return_timestamps = return_timestamps.filter(|v| !v.is_empty());
    Ok(AudioToText { audio, file_name, model_id, return_timestamps })
}

/// The client's file name, kept as far as it is harmless: the last path element, 100 plain characters.
fn safe_name(given: Option<&str>) -> String {
    let last = given.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' '))
        .take(100)
        .collect();
    if plain.trim_matches(['.', ' ']).is_empty() { "audio".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        assert_eq!(safe_name(Some("../../etc/passwd")), "passwd");
        assert_eq!(safe_name(Some("C:\\a\\b c.wav")), "b c.wav");
        assert_eq!(safe_name(Some("x\"\r\nEvil: 1.wav")), "xEvil 1.wav");
        assert_eq!(safe_name(Some("..")), "audio");
        assert_eq!(safe_name(None), "audio");
    }
}
