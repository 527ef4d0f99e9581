//! The nine batch pipelines (ai-pipelines.md section 2): the same few steps for each, and the files
//! of their results.

mod documents;
mod later;
pub mod stream;

use super::{Shared, body, form, to_the_end, while_heard};
use crate::{
    error::GatewayError,
    front::{
        caller::{Caller, CallerExt},
        workload::{Permit, Workload},
    },
    service::ai::{AiRequest, Pipeline, media},
    trace,
};
use axum::{
    body::{Body, Bytes},
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header, request::Parts};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(documents::text_to_image))
        .routes(routes!(documents::image_to_image))
        .routes(routes!(documents::image_to_video))
        .routes(routes!(later::result))
        .routes(routes!(documents::upscale))
        .routes(routes!(documents::audio_to_text))
        .routes(routes!(documents::segment_anything_2))
        .routes(routes!(documents::llm))
        .routes(routes!(documents::image_to_text))
        .routes(routes!(documents::text_to_speech))
        .routes(routes!(result_file))
}

/// A request with its place and the memory of its body, until it is done.
pub(super) struct Taken {
    pub request: AiRequest,
    pub held: (body::Held, Permit),
}

/// Reads a request of a pipeline: JSON, or a form with its file.
pub(super) async fn take(
    gateway: &Shared,
    caller: &Caller,
    pipeline: Pipeline,
    head: &Parts,
    body: Body,
) -> Result<Taken, GatewayError> {
    let limits = &gateway.settings.ai;
    let said = body::said_length(&head.headers);
    let Some(file) = pipeline.file_field() else {
        let place = gateway.workloads.enter(Workload::Ai, caller).await?;
        let held = body::read(&place, said, body, limits.max_json_bytes).await?;
        let request = AiRequest::from_json(pipeline, &held.data)?;
        return Ok(Taken { request, held: (held, place) });
    };
    let boundary = form::boundary(&head.headers)?;
    let most = if file == "audio" { limits.max_audio_bytes } else { limits.max_image_bytes };
    let place = gateway.workloads.enter(Workload::Ai, caller).await?;
    let held = body::read(&place, said, body, most.saturating_add(form::OVERHEAD)).await?;
    let form = form::read(held.data.clone(), &boundary, file, most).await?;
    let request = AiRequest::from_form(pipeline, &form.texts, form.file)?;
    Ok(Taken { request, held: (held, place) })
}

/// One job, from the request to its answer.
async fn serve(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
    pipeline: Pipeline,
    request: Request,
) -> Result<Response, GatewayError> {
    if pipeline == Pipeline::ImageToVideo && later::wanted(request.headers()) {
        return later::begin(State(gateway), CallerExt(caller), request).await;
    }
    let (head, body) = request.into_parts();
    let taken = take(&gateway, &caller, pipeline, &head, body).await?;
    let base = public_base(&gateway, &head.headers);
    let (jobs, trace) = (gateway.jobs.clone(), trace::of(&head.headers));
    if pipeline == Pipeline::Llm && taken.request.wants_stream() {
        let begun = while_heard(&jobs, trace, async move {
            let job = gateway.prepare(&caller, taken.request).await?;
            Ok((gateway.stream_llm(&job).await?, taken.held))
        });
        let (stream, held) = begun.await?;
        return Ok(stream::events(stream, held, stream::Native));
    }
    let answer = to_the_end(&jobs, trace, async move {
        let done = async {
            let job = gateway.prepare(&caller, taken.request).await?;
            let made = gateway.run_ai(&job).await?;
            Ok::<Bytes, GatewayError>(gateway.deliver(made, &base).await?)
        }
        .await;
        drop(taken.held);
        done
    });
    Ok(json(answer.await?))
}

/// A document, with the line break that the reference's encoder writes.
pub(super) fn json(document: Bytes) -> Response {
    let mut body = Vec::with_capacity(document.len() + 1);
    body.extend_from_slice(document.trim_ascii_end());
    body.push(b'\n');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Where the client reaches us, for addresses in answers.
pub(super) fn public_base(gateway: &Shared, headers: &HeaderMap) -> String {
    if let Some(set) = &gateway.settings.ai.public_url {
        return set.clone();
    }
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let scheme = match text("x-forwarded-proto") {
        Some("https") => "https",
        _ => "http",
    };
    // Only ever told to whoever sent it.
    let host = text("host").filter(|h| {
        h.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '[' | ']'))
    });
    host.map(|host| format!("{scheme}://{host}")).unwrap_or_default()
}

/// A file of a result
///
/// Kept for `--ai-result-ttl-ms`. Whoever knows the address may fetch it, without a key.
#[utoipa::path(
    get, path = "/ai/results/{result}/{file}", tag = "ai",
    params(
        ("result" = String, Path, description = "Names the result"),
        ("file" = String, Path, description = "A file of it"),
    ),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, description = "Not there, or not any more", body = crate::openapi::ErrorBody),
        (status = 503, description = "The store is not available now", body = crate::openapi::ErrorBody),
    )
)]
pub async fn result_file(
    State(gateway): State<Shared>,
    Path((result, file)): Path<(String, String)>,
) -> Result<Response, GatewayError> {
    let kind = media::content_type(&file).ok_or(GatewayError::NotFound)?;
    let data = gateway.result_file(&result, &file).await?.ok_or(GatewayError::NotFound)?;
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "private, max-age=3600, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, data).into_response())
}
