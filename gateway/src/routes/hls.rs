//! HLS playback (ingest-playback.md section 6).

use super::Shared;
use crate::{error::GatewayError, service::error::JobError};
use axum::{
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, header};
use penstock_domain::StreamId;
use utoipa_axum::{router::OpenApiRouter, routes};

/// A live playlist is stale within a target duration; half of the usual one.
const PLAYLIST_CACHE: &str = "max-age=1";
/// A segment never changes under a name with its mark.
const SEGMENT_CACHE: &str = "public, max-age=60";
/// Without the mark, the name means another segment once the stream begins again.
const UNMARKED_CACHE: &str = "no-cache";
const PLAYLIST_TYPE: &str = "application/x-mpegURL";

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(master)).routes(routes!(media)).routes(routes!(segment))
}

/// Master playlist
///
/// Lists the source and the renditions of a live stream.
#[utoipa::path(
    get, path = "/stream/{file}", tag = "playback",
    params(("file" = String, Path, description = "`{stream}.m3u8`", example = "demo.m3u8")),
    responses(
        (status = 200, description = "The playlist", body = String, content_type = "application/x-mpegURL"),
        (status = 404, description = "No such stream, or nothing to show yet", body = crate::openapi::ErrorBody),
    )
)]
pub async fn master(
    State(gateway): State<Shared>,
    Path(file): Path<String>,
) -> Result<Response, GatewayError> {
    let stream = stream(file.strip_suffix(".m3u8"))?;
    playlist(gateway.master_playlist(&stream).await)
}

/// Media playlist
///
/// The live window of one rendition: 6 segments. Gaps are marked as discontinuities.
#[utoipa::path(
    get, path = "/stream/{stream}/{file}", tag = "playback",
    params(
        ("stream" = String, Path, description = "Stream name", example = "demo"),
        ("file" = String, Path, description = "`{rendition}.m3u8`", example = "source.m3u8"),
    ),
    responses(
        (status = 200, description = "The playlist", body = String, content_type = "application/x-mpegURL"),
        (status = 404, description = "No such stream or rendition", body = crate::openapi::ErrorBody),
    )
)]
pub async fn media(
    State(gateway): State<Shared>,
    Path((name, file)): Path<(String, String)>,
) -> Result<Response, GatewayError> {
    let stream = stream(Some(&name))?;
    let rendition = file.strip_suffix(".m3u8").ok_or(GatewayError::NotFound)?;
    playlist(gateway.media_playlist(&stream, rendition).await)
}

/// Segment
#[utoipa::path(
    get, path = "/stream/{stream}/{rendition}/{file}", tag = "playback",
    params(
        ("stream" = String, Path, description = "Stream name", example = "demo"),
        ("rendition" = String, Path, description = "Rendition name, or `source`", example = "source"),
        ("file" = String, Path, description = "`{sequence}.ts` or `.mp4`", example = "0.ts"),
        ("h" = Option<String>, Query, description = "Which segment of that number, as the playlist says; the newest without it"),
    ),
    responses(
        (status = 200, description = "The bytes", body = Vec<u8>, content_type = "video/mp2t"),
        (status = 404, description = "Not in the window (any more)", body = crate::openapi::ErrorBody),
    )
)]
pub async fn segment(
    State(gateway): State<Shared>,
    Path((name, rendition, file)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, GatewayError> {
    let stream = stream(Some(&name))?;
    let (seq, extension) = file.split_once('.').ok_or(GatewayError::NotFound)?;
    let seq = seq.parse().map_err(|_| GatewayError::NotFound)?;
    let mark = query.as_deref().and_then(|q| q.split('&').find_map(|p| p.strip_prefix("h=")));
    let cache = if mark.is_some() { SEGMENT_CACHE } else { UNMARKED_CACHE };
    let found = gateway.media_segment(&stream, &rendition, seq, mark).await?;
    let found =
        found.filter(|s| s.format.extension() == extension).ok_or(GatewayError::NotFound)?;
    Ok((shared_headers(cache, found.format.content_type()), found.data).into_response())
}

fn stream(name: Option<&str>) -> Result<StreamId, GatewayError> {
    StreamId::new(name.unwrap_or_default()).map_err(|_| GatewayError::NotFound)
}

fn playlist(found: Result<Option<String>, JobError>) -> Result<Response, GatewayError> {
    let text = found?.ok_or(GatewayError::NotFound)?;
    Ok((shared_headers(PLAYLIST_CACHE, PLAYLIST_TYPE), text).into_response())
}

/// Any page may play a stream.
fn shared_headers(cache: &'static str, kind: &'static str) -> [(HeaderName, HeaderValue); 4] {
    [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Content-Length")),
        (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
    ]
}
