//! `POST /transcodeResults` and `POST /aiResults`: what workers upload, checked in the documented
//! order (video-transcode-worker.md section 3, ai-pipelines.md section 7.3).

use crate::{
    ai::{
        result::Upload,
        words::{Cut, Uploading},
    },
    error::text,
    node::Node,
    routes::body::Held,
    workers::{
        ai::AiResult,
        transcoders::{Rendition, Transcoded},
    },
};
use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, StatusCode, header};
use multer::{Constraints, Multipart, SizeLimit};
use penstock_wire::{
    limits,
    worker_upload::{
        AI_WORKER_AUTHORIZATION, AI_WORKER_ERROR, CREDENTIALS, PIXELS, Part, TASK_ID,
        TRANSCODER_AUTHORIZATION, TRANSCODING_ERROR, parse_pixels, parse_task_id,
    },
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn ok() -> Response {
    text(StatusCode::OK, "OK")
}

/// Rows that both uploads share: who, what type, which task.
fn checked(
    node: &Node,
    headers: &HeaderMap,
    protocol: &str,
    wrong_secret: &str,
) -> Result<(i64, String), Box<Response>> {
    let unauthorized = |why: &str| Box::new(text(StatusCode::UNAUTHORIZED, why));
    if header(headers, header::AUTHORIZATION.as_str()) != Some(protocol) {
        return Err(unauthorized("Unauthorized"));
    }
    if !header(headers, CREDENTIALS).is_some_and(|given| node.knows_secret(given)) {
        return Err(unauthorized(wrong_secret));
    }
    let kind = header(headers, header::CONTENT_TYPE.as_str())
        .filter(|kind| kind.contains('/'))
        .ok_or_else(|| Box::new(text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "mime: no media type")))?;
    let task = header(headers, TASK_ID)
        .and_then(|id| parse_task_id(id).ok())
        .ok_or_else(|| Box::new(text(StatusCode::BAD_REQUEST, "Invalid Task ID")))?;
    Ok((task, kind.to_owned()))
}

/// The type without its parameters, in lower case.
fn essence(kind: &str) -> String {
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The renditions of a segment.
pub async fn transcode_results(State(node): State<Arc<Node>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (task, kind) =
        match checked(&node, &parts.headers, TRANSCODER_AUTHORIZATION, "Unauthorized") {
            Ok(checked) => checked,
            Err(refused) => return *refused,
        };
    if essence(&kind) == TRANSCODING_ERROR {
        let why = error_text(&node, body).await;
        node.transcoders.finish(task, Err(why));
        return ok();
    }
    let Some(decoded_pixels) =
        header(&parts.headers, PIXELS).and_then(|pixels| parse_pixels(pixels).ok())
    else {
        return text(StatusCode::BAD_REQUEST, "Invalid Pixels");
    };
    if essence(&kind) != "multipart/mixed" || !node.transcoders.is_open(task) {
        // As in the reference: another type is ignored (the job runs out of time), and so is a
        // result that came too late.
        return ok();
    }
    match renditions(&node, &kind, body).await {
        Ok(renditions) => {
            node.transcoders.finish(task, Ok(Transcoded { renditions, decoded_pixels }));
            ok()
        }
        Err(why) => {
            node.transcoders.finish(task, Err(why.clone()));
            text(StatusCode::INTERNAL_SERVER_ERROR, why)
        }
    }
}

async fn error_text(node: &Node, body: Body) -> String {
    match node.bodies.read(body, node.limits.worker_error_bytes).await {
        Ok(held) => String::from_utf8_lossy(&held.data).trim().to_owned(),
        Err(_) => "the worker reported an error that could not be read".to_owned(),
    }
}

/// A whole upload, counted like all bodies and given up when the worker stops sending; in parts of
/// at most so many bytes.
async fn multipart(
    node: &Node,
    kind: &str,
    body: Body,
    (part_bytes, all_bytes): (u64, u64),
) -> Result<(Multipart<'static>, Held), String> {
    let boundary = multer_boundary(kind).ok_or("no multipart boundary")?;
    let held = node.bodies.read(body, all_bytes).await.map_err(|e| e.to_string())?;
    let data = held.data.clone();
    let stream = futures::stream::once(async move { Ok::<_, std::convert::Infallible>(data) });
    let limit = SizeLimit::new().per_field(part_bytes).whole_stream(all_bytes);
    let constraints = Constraints::new().size_limit(limit);
    Ok((Multipart::with_constraints(stream, boundary, constraints), held))
}

async fn renditions(node: &Node, kind: &str, body: Body) -> Result<Vec<Rendition>, String> {
    let most = node.limits.segment_bytes;
    let sizes = (most, most.saturating_mul(4));
    let (mut parts, _held) = multipart(node, kind, body, sizes).await?;
    let mut found: Vec<Rendition> = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(|e| e.to_string())? {
        let classified = Part::classify(
            header(part.headers(), header::CONTENT_TYPE.as_str()),
            header(part.headers(), PIXELS),
        )
        .map_err(|e| e.to_string())?;
        let data = part.bytes().await.map_err(|e| e.to_string())?;
        match classified {
            Part::Rendition { .. } if found.len() >= limits::PROFILES => {
                return Err("too many renditions".to_owned());
            }
            Part::Rendition { pixels } => {
                found.push(Rendition { data, pixels, perceptual_hash: None });
            }
            Part::PerceptualHash => match found.last_mut() {
                Some(rendition) => rendition.perceptual_hash = Some(data),
                None => return Err("perceptual hash without a rendition".to_owned()),
            },
            Part::Unknown => {}
        }
    }
    Ok(found)
}

/// The boundary of any `multipart/*`.
fn multer_boundary(kind: &str) -> Option<String> {
    kind.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("boundary") && (1..=70).contains(&value.len()))
            .then(|| value.to_owned())
    })
}

/// The answer of an AI job.
pub async fn ai_results(State(node): State<Arc<Node>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (task, kind) =
        match checked(&node, &parts.headers, AI_WORKER_AUTHORIZATION, "invalid secret") {
            Ok(checked) => checked,
            Err(refused) => return *refused,
        };
    match essence(&kind).as_str() {
        AI_WORKER_ERROR => {
            let why = error_text(&node, body).await;
            node.ai_workers.finish(task, Err(why));
            ok()
        }
        "text/event-stream" => match node.ai_workers.forgotten(task) {
            Some(forgotten) => stream(&node, task, body, forgotten).await,
            None => ok(),
        },
        "multipart/mixed" => {
            if !node.ai_workers.is_open(task) {
                return ok();
            }
            match upload(&node, &kind, body).await {
                Ok(upload) => {
                    node.ai_workers.finish(task, Ok(AiResult::Whole(upload)));
                    ok()
                }
                Err(why) => {
                    node.ai_workers.finish(task, Err(why.clone()));
                    text(StatusCode::INTERNAL_SERVER_ERROR, why)
                }
            }
        }
        _ => text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported result type"),
    }
}

/// An answer in pieces. It counts as one when its first piece has come; until then it is let go when the
/// gateway is.
async fn stream(node: &Node, task: i64, body: Body, forgotten: CancellationToken) -> Response {
    let mut uploading = Uploading::new(body, &node.limits);
    let first = tokio::select! {
        first = uploading.next() => first,
        () = forgotten.cancelled() => Err(Cut::Unheard),
    };
    let passed = match first {
        Ok(Some(first)) => {
            let begin = |words| node.ai_workers.finish(task, Ok(AiResult::Words(words)));
            uploading.pass_on(first, begin).await
        }
        Ok(None) => Err(Cut::BrokenOff),
        Err(cut) => Err(cut),
    };
    match passed {
        Ok(()) => ok(),
        Err(cut) => {
            tracing::debug!(task, %cut, "a stream was not passed on whole");
            node.ai_workers.finish(task, Err(cut.to_string()));
            match cut {
                // Nothing that the worker could do better.
                Cut::Unheard => ok(),
                cut => text(StatusCode::INTERNAL_SERVER_ERROR, cut.to_string()),
            }
        }
    }
}

/// The JSON part, and the files beside it by the names in their `Content-Disposition`.
async fn upload(node: &Node, kind: &str, body: Body) -> Result<Upload, String> {
    let most = node.limits.segment_bytes;
    let sizes = (most, most.saturating_mul(2));
    let (mut parts, _held) = multipart(node, kind, body, sizes).await?;
    let (mut answer, mut files) = (None, Vec::new());
    while let Some(part) = parts.next_field().await.map_err(|e| e.to_string())? {
        let kind = header(part.headers(), header::CONTENT_TYPE.as_str()).unwrap_or_default();
        let is_json = essence(kind) == "application/json";
        let name = header(part.headers(), header::CONTENT_DISPOSITION.as_str())
            .and_then(file_name)
            .map(str::to_owned);
        let data = part.bytes().await.map_err(|e| e.to_string())?;
        match name {
            _ if is_json && data.len() > node.limits.ai_result_json_bytes => {
                return Err(too_much(
                    "bytes of the result's JSON part",
                    node.limits.ai_result_json_bytes,
                    "--limit-ai-result-json-bytes",
                ));
            }
            _ if is_json => answer = Some(data),
            Some(_) if files.len() >= node.limits.ai_result_files => {
                let most = node.limits.ai_result_files;
                return Err(too_much("files", most, "--limit-ai-result-files"));
            }
            Some(name) => files.push((name, data)),
            None => {}
        }
    }
    let answer = answer.ok_or_else(|| "the result has no JSON part".to_owned())?;
    Ok(Upload { answer, files })
}

/// A worker's operator and ours are to find what to change.
fn too_much(what: &str, most: usize, setting: &str) -> String {
    format!("too many {what}: more than {most} ({setting})")
}

/// The name in `attachment; filename=NAME`, with or without quotes. It is only compared with others.
fn file_name(disposition: &str) -> Option<&str> {
    disposition.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("filename") && (1..=255).contains(&value.len()))
            .then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries() {
        assert_eq!(multer_boundary("multipart/mixed; boundary=ab").as_deref(), Some("ab"));
        assert_eq!(
            multer_boundary("multipart/mixed; x=1; Boundary=\"a b\"").as_deref(),
            Some("a b")
        );
        assert_eq!(multer_boundary("multipart/mixed"), None);
        assert_eq!(multer_boundary("multipart/mixed; boundary="), None);
        assert_eq!(file_name("attachment; filename=a1.png"), Some("a1.png"));
        assert_eq!(file_name("attachment; FileName=\"a b.png\""), Some("a b.png"));
        assert_eq!(file_name("attachment; filename="), None);
        assert_eq!(file_name("filename=a"), None);
        assert_eq!(essence("Multipart/Mixed; boundary=x"), "multipart/mixed");
    }
}
