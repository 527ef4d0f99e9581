//! `GET /recordings/{stream}/…`: what was recorded (ingest-playback.md section 8).

use super::{
    Shared,
    ranges::{self, Content},
};
use crate::{
    error::GatewayError,
    service::recording::{Answer, Viewer},
};
use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, header};
use penstock_domain::{StreamId, keccak256};
use utoipa_axum::{router::OpenApiRouter, routes};

/// A recording may grow for as long as its stream lives.
const PLAYLIST_CACHE: &str = "max-age=5";
/// A segment never changes: its name has a mark.
const FILE_CACHE: &str = "public, max-age=31536000, immutable";
/// Longest query that is passed on.
const MOST_QUERY: usize = 2_048;

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(get))
}

/// Recording
///
/// `index.m3u8` lists the renditions of a recorded stream, `{rendition}.m3u8` plays one from its
/// beginning, over all runs of the stream and those that it goes on from; `{rendition}.mp4` is the
/// same as one file. Segments lie where the playlists say.
#[utoipa::path(
    get, path = "/recordings/{stream}/{*path}", tag = "playback",
    params(
        ("stream" = String, Path, description = "The stream; where a stream webhook decides, the name that it was pushed to", example = "demo"),
        ("path" = String, Path, description = "`index.m3u8`, `{rendition}.m3u8`, `{rendition}.mp4`, or a segment as a playlist names it", example = "index.m3u8"),
    ),
    responses(
        (status = 200, description = "A playlist, a segment, or the film", content(
            (String = "application/x-mpegURL"),
            (Vec<u8> = "video/mp2t"),
            (Vec<u8> = "video/mp4"),
        )),
        ranges::Partly,
        (status = 400, description = "No kind of file that recordings have", body = crate::openapi::ErrorBody),
        (status = 403, description = "The stream webhook refuses it", body = crate::openapi::ErrorBody),
        (status = 404, description = "Not recorded, or recordings are not configured", body = crate::openapi::ErrorBody),
        (status = 503, description = "The record store or the webhook does not answer, or too many films are being fetched", body = crate::openapi::ErrorBody),
    )
)]
pub async fn get(
    State(gateway): State<Shared>,
    Path((name, path)): Path<(String, String)>,
    request: Request,
) -> Result<Response, GatewayError> {
    let id = StreamId::new(name).map_err(|_| GatewayError::NotFound)?;
    let (uri, headers) = (request.uri(), request.headers());
    let query = uri.query().filter(|query| !query.is_empty());
    if query.is_some_and(|query| query.len() > MOST_QUERY) {
        return Err(GatewayError::NotFound);
    }
    let url = super::live::seen_url(headers, uri, uri.path_and_query().map_or("", |p| p.as_str()));
    let viewer = Viewer { id: &id, path: &path, query, url: &url };
    match gateway.recording_file(viewer).await? {
        Answer::Playlist(text) => {
            let tag = hex::encode(keccak256(&text).get(..8).unwrap_or_default());
            let (data, kind) = (Bytes::from(text), Answer::content_type(&path));
            Ok(ranges::answer(headers, Content { data, kind, cache: PLAYLIST_CACHE, tag }))
        }
        Answer::File(file) => {
            let cache = if path.ends_with(".m3u8") { PLAYLIST_CACHE } else { FILE_CACHE };
            let body = Body::from_stream(file.chunks);
            let mut response = streamed(body, Answer::content_type(&path), cache);
            response.headers_mut().insert(header::CONTENT_LENGTH, file.size.into());
            Ok(response)
        }
        Answer::Film(chunks) => {
            let body = Body::from_stream(chunks);
            let mut response = streamed(body, Answer::content_type(&path), PLAYLIST_CACHE);
            // Nothing that could end the header, whatever the track is called.
            let plain = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
            let file: String = path.chars().filter(plain).collect();
            let value = format!("attachment; filename={id}-{file};");
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
            }
            Ok(response)
        }
    }
}

fn streamed(body: Body, kind: &'static str, cache: &'static str) -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
    ];
    (headers, body).into_response()
}
