//! `PUT|POST /live/{stream}/{file}`: one segment in, its renditions out (ingest-playback.md section 3).

use super::{Shared, body, to_the_end};
use crate::{
    error::GatewayError,
    front::{caller::CallerExt, workload::Workload},
    media::{
        config_header::{self, TranscodeConfig},
        mixed, path,
    },
    service::push::{MAX_DURATION_MS, Push},
    trace,
};
use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use penstock_wire::Clip;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(put, post))
}

/// Push a segment
///
/// The body is one complete segment of a stream, 2 to 10 seconds long, beginning with a key frame. The
/// first segment of a stream begins it. With `Accept: multipart/mixed` the answer holds the renditions;
/// otherwise it is empty. All renditions and the source appear together in the stream's playlists.
///
/// The same bytes under the same number again get the stored answer and cost nothing.
#[utoipa::path(
    put, path = "/live/{stream}/{file}", tag = "video",
    params(
        ("stream" = String, Path, description = "Stream name: 1 to 64 letters, digits, '-', '_', '.'"),
        ("file" = String, Path, description = "`{sequence}.ts` or `{sequence}.mp4`", example = "0.ts"),
        ("Content-Duration" = Option<u32>, Header, description = "Length in milliseconds, up to 300000; 2000 if absent"),
        ("Content-Resolution" = Option<String>, Header, description = "Size of the source", example = "1280x720"),
        ("Content-Slice-From" = Option<u64>, Header, description = "Transcode only from here, milliseconds"),
        ("Content-Slice-To" = Option<u64>, Header, description = "Transcode only up to here, milliseconds"),
        ("Livepeer-Transcode-Configuration" = Option<String>, Header, description = "JSON with `presets`, `profiles`, `manifestID`, `objectStore`, `recordObjectStore` and more; read from a stream's first segment"),
        ("Accept" = Option<String>, Header, description = "Exactly `multipart/mixed` to get the renditions"),
    ),
    request_body(content = Vec<u8>, content_type = "video/mp2t", description = "The segment, up to 300,000,000 bytes"),
    responses(
        (status = 200, description = "Transcoded and published. A part each rendition, in profile order, with `Rendition-Name`", content_type = "multipart/mixed"),
        (status = 400, description = "Bad URL, extension, slice, duration or configuration", body = crate::openapi::ErrorBody),
        (status = 403, description = "The stream webhook refuses the stream, or it is somebody else's; or the account does not have `transcode/*`", body = crate::openapi::ErrorBody),
        (status = 405, description = "Neither PUT nor POST", body = crate::openapi::ErrorBody),
        (status = 413, description = "The body is too large", body = crate::openapi::ErrorBody),
        (status = 422, description = "No orchestrator can transcode this, or all attempts failed", body = crate::openapi::ErrorBody),
        (status = 503, description = "No orchestrator, signer or store available now", body = crate::openapi::ErrorBody),
    )
)]
pub async fn put(
    state: State<Shared>,
    caller: CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    push(state, caller, request).await
}

/// Push a segment (as PUT)
// The rest of its description is PUT's (module `front::document`).
#[utoipa::path(post, path = "/live/{stream}/{file}", tag = "video")]
pub async fn post(
    state: State<Shared>,
    caller: CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    push(state, caller, request).await
}

async fn push(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    caller.may_transcode()?;
    let (head, body) = request.into_parts();
    let headers = head.headers;
    // Everything that needs no body is checked before it is read; the order among those is the
    // documented one.
    let config = config(&headers)?;
    let max = gateway.settings.args.max_body_bytes;
    let said = body::said_length(&headers);
    if said.is_some_and(|said| said > max as u64) {
        return Err(GatewayError::TooLarge);
    }
    let url = decoded(head.uri.path());
    let path = path::parse_push(&url)?;
    let clip = clip(&headers)?;
    let duration_ms = duration(&headers, &url, path.stream.as_str())?;
    let place = gateway.workloads.enter(Workload::Video, &caller).await?;
    let wants_renditions =
        headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes() == b"multipart/mixed");
    let (stream, seq) = (path.stream.to_string(), path.seq);
    let resolution = resolution(&headers);
    let asked_url = seen_url(&headers, &head.uri, &url);
    let jobs = gateway.jobs.clone();
    // From before the body is read: only then does the server look whether the client is still there,
    // and an encoder may send its segment and hang up.
    let parts = to_the_end(&jobs, trace::of(&headers), async move {
        let held = body::read(&place, said, body, max).await?;
        let push = Push {
            caller,
            path,
            data: held.data.clone(),
            duration_ms,
            resolution,
            clip,
            config,
            url: asked_url,
            ingest: None,
            discontinuity: false,
        };
        let done = gateway.push(push).await;
        drop((held, place));
        done.map_err(|error| GatewayError::Push { url, stream, error })
    })
    .await?;
    if !wants_renditions {
        return Ok(StatusCode::OK.into_response());
    }
    let boundary = hex::encode(rand::random::<[u8; 10]>());
    let (content_type, chunks) = mixed::answer(&boundary, seq, parts);
    let chunks = chunks.into_iter().map(Ok::<Bytes, std::convert::Infallible>);
    let body = Body::from_stream(futures::stream::iter(chunks));
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// The URL that the stream webhook is asked about: as the pusher wrote it, without its query, and
/// always `http` (operator.md section 6.1).
pub(super) fn seen_url(headers: &HeaderMap, uri: &http::Uri, path: &str) -> String {
    let host = text(headers, "host").or_else(|| uri.authority().map(|a| a.as_str()));
    format!("http://{}{path}", host.unwrap_or_default())
}

/// The path with percent signs undone, as the reference sees it. What is no text stays as it is and
/// fails as a name.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match (first, tail) {
            (b'%', [a, b, after @ ..]) if hex(*a).is_some() && hex(*b).is_some() => {
                bytes.push(hex(*a).unwrap_or(0) << 4 | hex(*b).unwrap_or(0));
                rest = after;
            }
            (other, after) => {
                bytes.push(*other);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| path.to_owned())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn config(headers: &HeaderMap) -> Result<TranscodeConfig, GatewayError> {
    let Some(value) = headers.get("livepeer-transcode-configuration") else {
        return Ok(TranscodeConfig::default());
    };
    let value = std::str::from_utf8(value.as_bytes())
        .map_err(|e| config_header::BadConfig::Json(e.to_string()))?;
    if value.is_empty() {
        return Ok(TranscodeConfig::default());
    }
    Ok(config_header::parse_header(value)?)
}

/// Unparsable counts as absent, as in the reference; a number out of range does not.
fn duration(headers: &HeaderMap, url: &str, stream: &str) -> Result<u32, GatewayError> {
    let Some(said) = text(headers, "content-duration") else { return Ok(2_000) };
    let Ok(ms) = said.parse::<i64>() else { return Ok(2_000) };
    match u32::try_from(ms) {
        // 0 is 2 s for an orchestrator as well (orchestrator-wire.md section 6 row 4).
        Ok(0) => Ok(2_000),
        Ok(ms) if ms <= MAX_DURATION_MS => Ok(ms),
        _ => Err(GatewayError::Duration {
            url: url.to_owned(),
            stream: stream.to_owned(),
            duration: format!("{ms}ms"),
        }),
    }
}

fn resolution(headers: &HeaderMap) -> (u32, u32) {
    let parsed = text(headers, "content-resolution").and_then(|value| {
        let (width, height) = value.split_once('x')?;
        let side = |t: &str| t.parse::<u32>().ok().filter(|n| *n <= 16_384);
        Some((side(width)?, side(height)?))
    });
    parsed.unwrap_or((0, 0))
}

/// Unparsable counts as unset; 0 as well.
fn clip(headers: &HeaderMap) -> Result<Option<Clip>, GatewayError> {
    let ms = |name| text(headers, name).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    let (from_ms, to_ms) = (ms("content-slice-from"), ms("content-slice-to"));
    if from_ms > 0 && to_ms > 0 && from_ms > to_ms {
        return Err(GatewayError::Slice { from_ms, to_ms });
    }
    Ok((from_ms > 0 || to_ms > 0).then_some(Clip { from_ms, to_ms }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| ((*n).parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn headers_as_documented() {
        let d = |v| duration(&headers(&[("content-duration", v)]), "/u", "s");
        assert_eq!(d("1500").unwrap(), 1_500);
        assert_eq!(d("x").unwrap(), 2_000);
        assert_eq!(d("0").unwrap(), 2_000);
        assert!(
            d("-1").unwrap_err().to_string().contains("manifestID=s err=\"invalid duration -1ms\"")
        );
        assert!(d("300001").is_err() && d("300000").is_ok());
        assert_eq!(resolution(&headers(&[("content-resolution", "1280x720")])), (1280, 720));
        assert_eq!(resolution(&headers(&[("content-resolution", "99999x1")])), (0, 0));
        let c = |a, b| clip(&headers(&[("content-slice-from", a), ("content-slice-to", b)]));
        assert_eq!(c("10", "x").unwrap(), Some(Clip { from_ms: 10, to_ms: 0 }));
        assert_eq!(
            c("100", "10").unwrap_err().to_string(),
            "Invalid slice config from=100ms to=10ms"
        );
        assert_eq!(c("", "").unwrap(), None);
    }

    #[test]
    fn percent_signs() {
        assert_eq!(decoded("/live/a%20b/0.ts"), "/live/a b/0.ts");
        assert_eq!(decoded("/live/%zz/%"), "/live/%zz/%");
        assert_eq!(decoded("/live/%ff"), "/live/%ff");
    }
}
