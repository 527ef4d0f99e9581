//! `POST /process/request/…`: jobs for brought capabilities (byoc.md section 4). Errors are in the
//! envelope here too; the reference writes their texts alone.

use super::{Shared, body, to_the_end};
use crate::{
    error::GatewayError,
    front::{caller::CallerExt, streamed::ProperEnd, workload::Workload},
    openapi::{ErrorBody, JobRefusal},
    service::byoc::{BroughtBody, BroughtJob, Events, Search},
    trace,
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use penstock_wire::json::{ByocJobRequest, JOB_HEADER};
use serde_json::json;
use std::{convert::Infallible, time::Duration};
use utoipa_axum::{router::OpenApiRouter, routes};

/// What precedes the worker's path.
const PREFIX: &str = "/process/request/";

/// The routes. The worker's path may be empty.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(process)).routes(routes!(process_at_root))
}

/// A job at the worker's root
///
/// As `/process/request/{path}`, for a worker whose one address is that of the capability.
#[utoipa::path(
    post, path = "/process/request/", tag = "ai",
    params(
        ("Livepeer" = String, Header, description = "The job request"),
        ("Livepeer-Orch-Search-Timeout" = Option<String>, Header, description = "As 1s or 500ms"),
        ("Livepeer-Orch-Search-Resp-Timeout" = Option<String>, Header, description = "Of each orchestrator"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "Whatever the worker takes"),
    responses(
        (status = 200, description = "The worker's answer, of its own type", body = serde_json::Value, content_type = "*/*"),
        (status = "4XX", description = "As `/process/request/{path}`", body = ErrorBody),
        JobRefusal,
    )
)]
pub async fn process_at_root(
    state: State<Shared>,
    caller: CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    process(state, caller, request).await
}

/// A job for a brought capability
///
/// The header `Livepeer` has the job request, base64 of a JSON object: `capability`, `request` and
/// `parameters` (JSON objects as text), `timeout_seconds`. Priced by the second. The body goes to the
/// capability's worker as it is, under the same path; its answer comes back as it is, events as they
/// come.
#[utoipa::path(
    post, path = "/process/request/{*path}", tag = "ai",
    params(
        ("path" = String, Path, description = "The worker's path"),
        ("Livepeer" = String, Header, description = "The job request"),
        ("Livepeer-Orch-Search-Timeout" = Option<String>, Header, description = "As 1s or 500ms"),
        ("Livepeer-Orch-Search-Resp-Timeout" = Option<String>, Header, description = "Of each orchestrator"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "Whatever the worker takes"),
    responses(
        (status = 200, description = "The worker's answer, of its own type", body = serde_json::Value, content_type = "*/*"),
        (status = "4XX", description = "The worker's own refusal (`worker_refused`)", body = ErrorBody),
        JobRefusal,
    )
)]
pub async fn process(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    let (head, body) = request.into_parts();
    let (path, headers) = (worker_path(head.uri.path()), head.headers);
    let said = headers.get(JOB_HEADER).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let asked = ByocJobRequest::from_header(said)
        .map_err(|e| GatewayError::Form(format!("Unable to parse job request, err={e}")))?;
    let place = gateway.workloads.enter(Workload::Ai, &caller).await?;
    let most = gateway.settings.ai.max_byoc_bytes;
    let held = body::read(&place, body::said_length(&headers), body, most).await?;
    let job = BroughtJob {
        request: asked,
        path,
        content_type: headers.get(header::CONTENT_TYPE).cloned(),
        body: held.data.clone(),
        search: search(&headers),
    };
    let jobs = gateway.jobs.clone();
    let begun = to_the_end(&jobs, trace::of(&headers), async move {
        let begun = gateway.brought(&caller, &job).await;
        Ok((begun?, held, place))
    });
    let (begun, held, place) = begun.await?;
    let mut answer = match begun.body {
        BroughtBody::Whole(body) => body.into_response(),
        BroughtBody::Events(events) => stream(events, (held, place)),
    };
    let kind = begun.content_type.unwrap_or_else(|| "application/octet-stream".to_owned());
    for (name, value) in [
        (header::CONTENT_TYPE, Some(kind)),
        (HeaderName::from_static("livepeer-balance"), begun.balance),
        (HeaderName::from_static("x-metadata"), begun.metadata),
        (HeaderName::from_static("x-orchestrator-url"), Some(begun.orchestrator)),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            answer.headers_mut().insert(name, value);
        }
    }
    // A worker's page must not pass for one of ours.
    let sandbox = HeaderValue::from_static("sandbox");
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, sandbox);
    Ok(answer)
}

fn stream(events: Box<Events>, held: impl Send + 'static) -> Response {
    let (end, state) = (ProperEnd::default(), (events, held, false));
    let proper = end.clone();
    let chunks = futures::stream::unfold(state, move |(mut events, held, broken)| {
        let proper = proper.clone();
        async move {
            let (text, broken) = match events.next().await {
                Some(Ok(lines)) => (lines, broken),
                Some(Err(why)) => {
                    let error = json!({ "error": { "message": why, "code": "broken_off" } });
                    (Bytes::from(format!("event: error\ndata: {error}\n\n")), true)
                }
                None => {
                    if !broken {
                        proper.reached();
                    }
                    return None;
                }
            };
            Some((Ok::<_, Infallible>(text), (events, held, broken)))
        }
    });
    let headers = [(header::CACHE_CONTROL, "no-cache")];
    (Extension(end), headers, Body::from_stream(chunks)).into_response()
}

/// What of a path goes on, as it was encoded. Neither dots nor backslashes may lead out of the worker's
/// part of the orchestrator.
fn worker_path(path: &str) -> String {
    let path = path.strip_prefix(PREFIX).unwrap_or_default();
    let is_dots = |part: &str| {
        let part = part.replace("%2e", ".").replace("%2E", ".");
        part == "." || part == ".."
    };
    let parts: Vec<_> = path.split('/').filter(|part| !is_dots(part)).collect();
    parts.join("/").replace('\\', "%5C")
}

fn search(headers: &HeaderMap) -> Search {
    let time = |name: &str| headers.get(name).and_then(|v| duration(v.to_str().ok()?));
    let usual = Search::default();
    Search {
        whole: time("livepeer-orch-search-timeout").unwrap_or(usual.whole),
        each: time("livepeer-orch-search-resp-timeout").unwrap_or(usual.each),
        ..usual
    }
}

/// Longest search that a client may ask for.
const MAX_SEARCH_S: f64 = 30.0;

/// A Go duration, as `1.5s` or `1m30s`, cut to [`MAX_SEARCH_S`].
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut seconds, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        seconds += number
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => return None,
            };
        rest = next;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds.min(MAX_SEARCH_S)).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1_500)));
        assert_eq!(duration("1s250ms"), Some(Duration::from_millis(1_250)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        assert_eq!(duration("9m"), Some(Duration::from_secs(30)));
        for bad in ["", "5", "-1s", "s", "NaNs", "1s2", "1d", "..s", "1 s", "1sé"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_stay_below_the_workers() {
        for (asked, sent) in [
            ("flux/v1%20x", "flux/v1%20x"),
            ("", ""),
            ("a//b/", "a//b/"),
            ("../../payment", "payment"),
            ("%2e%2E/.%2e/payment", "payment"),
            ("..\\payment", "..%5Cpayment"),
            ("a%2F..%3Fb", "a%2F..%3Fb"),
        ] {
            assert_eq!(worker_path(&format!("{PREFIX}{asked}")), sent);
        }
    }
}
