//! `POST /v1/audio/transcriptions`, served by audio-to-text, and `/v1/audio/speech`, served by
//! text-to-speech.

use super::{
    OpenAiRefusal, Shared, answer,
    answers::{HeardText, TranscribedSegment, TranscribedWord, VerboseTranscription},
    model, object, unsupported, wrong,
};
use crate::{
    error::GatewayError,
    front::{caller::CallerExt, workload::Workload},
    routes::{body, form, to_the_end},
    service::ai::{
        AiRequest, FieldValue, Pipeline,
        media::{Made, content_type},
    },
    trace,
};
use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::header;
use penstock_wire::json::{AiResult, TextAnswer, TextChunk};
use std::fmt::Write as _;
use utoipa::ToSchema;

/// Answers are bounded where they are fetched.
const MAX_ANSWER: usize = 64 << 20;

/// A sound to be written down.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(super) struct TranscriptionRequest {
    /// The sound.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// The model.
    model: String,
    /// `json` (the default), `text`, `verbose_json`, `srt` or `vtt`.
    response_format: Option<String>,
    /// `segment` or `word`, with `verbose_json`.
    #[schema(rename = "timestamp_granularities[]")]
    timestamp_granularities: Option<Vec<String>>,
}

/// What is said in a sound
///
/// As OpenAI's, over audio-to-text. `language`, `prompt` and `temperature` are left out.
#[utoipa::path(
    post, path = "/v1/audio/transcriptions", tag = "openai",
    request_body(content = TranscriptionRequest, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The text, in the form asked for: `json`, `verbose_json`, `text`, `srt`, `vtt`", content(
            (HeardAs = "application/json"),
            (String = "text/plain"),
            (String = "application/x-subrip"),
            (String = "text/vtt"),
        )),
        OpenAiRefusal,
    )
)]
pub(super) async fn transcriptions(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    let (head, body) = request.into_parts();
    let boundary = form::boundary(&head.headers)?;
    let most = gateway.settings.ai.max_audio_bytes;
    let said = body::said_length(&head.headers);
    let place = gateway.workloads.enter(Workload::Ai, &caller).await?;
    let held = body::read(&place, said, body, most.saturating_add(form::OVERHEAD)).await?;
    let form = form::read(held.data.clone(), &boundary, "file", most).await?;
    let text = |name: &str| form.texts.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let format = Format::of(text("response_format").as_deref().unwrap_or("json"))?;
    if text("stream").is_some_and(|stream| stream == "true") {
        return Err(unsupported("stream"));
    }
    let words = form
        .texts
        .iter()
        .any(|(name, value)| name.starts_with("timestamp_granularities") && value == "word");
    let name = text("model").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| wrong("model", "is required"))?;
    let file = form.file.ok_or_else(|| wrong("file", "is required"))?;
    let stamps = FieldValue::Text(if words { "word" } else { "true" }.to_owned());
    let request = AiRequest::of_values(
        Pipeline::AudioToText,
        model(&gateway, Some(name)),
        Some(file),
        [("return_timestamps", stamps)],
    )?;
    let (jobs, trace) = (gateway.jobs.clone(), trace::of(&head.headers));
    let made = to_the_end(&jobs, trace, async move {
        let done = async {
            let job = gateway.prepare(&caller, request).await?;
            Ok::<_, GatewayError>(gateway.run_ai(&job).await?)
        }
        .await;
        drop((held, place));
        done
    });
    let Made::Json(body) = made.await? else { return Err(GatewayError::Lost) };
    let said = TextAnswer::parse(&body, MAX_ANSWER).map_err(|_| GatewayError::Lost)?;
    Ok(format.write(&said, words))
}

/// Either. Documentation only.
#[derive(serde::Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum HeardAs {
    Json(HeardText),
    VerboseJson(VerboseTranscription),
}

/// How a text is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Text,
    Verbose,
    Srt,
    Vtt,
}

impl Format {
    fn of(name: &str) -> Result<Self, GatewayError> {
        Ok(match name {
            "json" => Self::Json,
            "text" => Self::Text,
            "verbose_json" => Self::Verbose,
            "srt" => Self::Srt,
            "vtt" => Self::Vtt,
            _ => return Err(unsupported("response_format")),
        })
    }

    fn write(self, said: &TextAnswer, words: bool) -> Response {
        match self {
            Self::Json => answer(&HeardText { text: said.text.clone() }),
            Self::Text => plain("text/plain; charset=utf-8", format!("{}\n", said.text)),
            Self::Verbose => answer(&verbose(said, words)),
            Self::Srt => plain("application/x-subrip", captions(&said.chunks, ",", true)),
            Self::Vtt => {
                plain("text/vtt", format!("WEBVTT\n\n{}", captions(&said.chunks, ".", false)))
            }
        }
    }
}

fn plain(kind: &'static str, text: String) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Start and end of a piece; what is not known is where the one before ended.
fn times(chunk: &TextChunk, before: f64) -> (f64, f64) {
    let at = |index: usize| chunk.timestamp.get(index).copied().flatten();
    let start = at(0).unwrap_or(before);
    (start, at(1).unwrap_or(start))
}

fn verbose(said: &TextAnswer, words: bool) -> VerboseTranscription {
    let mut duration = 0.0;
    let (mut segments, mut heard) = (Vec::new(), Vec::new());
    for (id, chunk) in said.chunks.iter().enumerate() {
        let (start, end) = times(chunk, duration);
        duration = end;
        if words {
            heard.push(TranscribedWord { word: chunk.text.trim().to_owned(), start, end });
        } else {
            let text = chunk.text.clone();
            segments.push(TranscribedSegment { id, start, end, text, ..Default::default() });
        }
    }
    VerboseTranscription {
        task: "transcribe",
        language: "",
        duration,
        text: said.text.clone(),
        segments: (!words).then_some(segments),
        words: words.then_some(heard),
    }
}

fn captions(chunks: &[TextChunk], point: &str, numbered: bool) -> String {
    let mut text = String::new();
    let mut end = 0.0;
    for (number, chunk) in chunks.iter().enumerate() {
        let (start, stop) = times(chunk, end);
        end = stop;
        if numbered {
            let _ = writeln!(text, "{}", number + 1);
        }
        let _ = writeln!(text, "{} --> {}", clock(start, point), clock(stop, point));
        let _ = writeln!(text, "{}\n", chunk.text.trim().replace('\n', " "));
    }
    text
}

/// `01:02:03,004`.
fn clock(seconds: f64, point: &str) -> String {
    // A float to an integer saturates; what a runner says here moves no money.
    let ms = (seconds.max(0.0) * 1_000.0).round() as u64;
    let (s, ms) = (ms / 1_000, ms % 1_000);
    format!("{:02}:{:02}:{:02}{point}{ms:03}", s / 3_600, s / 60 % 60, s % 60)
}

/// A text to be spoken.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(super) struct SpeechRequest {
    /// The model.
    model: String,
    /// What to say; its characters are the price.
    input: String,
    /// How to say it: the description that the pipeline takes.
    instructions: Option<String>,
    /// As OpenAI's; the network's models know no such names, so it is left out.
    voice: Option<String>,
    /// `wav`. `mp3` is taken for "as usual", and the sound comes as it is made; others are refused.
    response_format: Option<String>,
}

/// Text as speech
///
/// As OpenAI's, over text-to-speech. The sound comes as the network makes it, mostly WAV: look at the
/// content type.
#[utoipa::path(
    post, path = "/v1/audio/speech", tag = "openai",
    request_body(content = SpeechRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "The sound", body = Vec<u8>, content_type = "audio/wav"),
        OpenAiRefusal,
    )
)]
pub(super) async fn speech(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    let (head, body) = request.into_parts();
    let asked = object(&gateway, &caller, &head, body).await?;
    if asked.get("speed").is_some_and(|speed| speed.as_f64() != Some(1.0)) {
        return Err(unsupported("speed"));
    }
    if asked.text("stream_format")?.is_some_and(|format| format != "audio") {
        return Err(unsupported("stream_format"));
    }
    // The network's models make WAV. A client of OpenAI's sends nothing, or `mp3`, which it takes for what is
    // usual and plays whatever comes; whoever asks for samples or another container would get noise.
    if asked.text("response_format")?.is_some_and(|f| !matches!(&*f, "wav" | "mp3")) {
        return Err(unsupported("response_format"));
    }
    let name = asked.required("model")?;
    let mut fields = vec![("text", FieldValue::Text(asked.required("input")?))];
    if let Some(how) = asked.text("instructions")?.filter(|how| !how.is_empty()) {
        fields.push(("description", FieldValue::Text(how)));
    }
    let request =
        AiRequest::of_values(Pipeline::TextToSpeech, model(&gateway, Some(name)), None, fields)?;
    let (jobs, trace) = (gateway.jobs.clone(), trace::of(&head.headers));
    let made = to_the_end(&jobs, trace, async move {
        let done = async {
            let job = gateway.prepare(&caller, request).await?;
            Ok::<_, GatewayError>(gateway.run_ai(&job).await?)
        }
        .await;
        drop(asked);
        done
    });
    let Made::Speech { file, .. } = made.await? else { return Err(GatewayError::Lost) };
    let kind = content_type(&file.name).unwrap_or("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, kind)], file.data).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said() -> TextAnswer {
        let chunk = |start, end, text: &str| TextChunk {
            timestamp: vec![start, end],
            text: text.to_owned(),
        };
        TextAnswer {
            text: "one two".into(),
            chunks: vec![
                chunk(Some(0.0), Some(1.25), " one"),
                chunk(None, Some(3_723.5), " two"),
                chunk(Some(4_000.0), None, "\nthree"),
            ],
        }
    }

    #[test]
    fn captions_have_times_in_order() {
        let text = captions(&said().chunks, ",", true);
        assert!(
            text.starts_with(
                "1\n00:00:00,000 --> 00:00:01,250\none\n\n2\n00:00:01,250 --> 01:02:03,500\n"
            ),
            "{text}"
        );
        assert!(text.ends_with("3\n01:06:40,000 --> 01:06:40,000\nthree\n\n"), "{text}");
        assert_eq!(clock(-1.0, "."), "00:00:00.000");
        assert_eq!(clock(f64::NAN, "."), "00:00:00.000");
    }

    #[test]
    fn verbose_documents() {
        let segments = json!(verbose(&said(), false));
        assert_eq!(
            (&segments["duration"], &segments["segments"][1]["start"]),
            (&json!(4000.0), &json!(1.25))
        );
        let words = json!(verbose(&said(), true));
        assert_eq!(words["words"][0], json!({ "word": "one", "start": 0.0, "end": 1.25 }));
        assert!(words.get("segments").is_none());
    }
}
