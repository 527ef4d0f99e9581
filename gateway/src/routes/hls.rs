//! HLS and DASH playback (ingest-playback.md section 6).

use super::{
    Shared,
    ranges::{self, Content},
};
use crate::{
    error::GatewayError,
    media::fmp4::Want,
    service::{
        error::JobError,
        playback::{DashPart, Which},
    },
};
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use bytes::Bytes;
use http::HeaderMap;
use penstock_domain::{StreamId, keccak256};
use penstock_store::UnixMs;
use utoipa_axum::{router::OpenApiRouter, routes};

/// A live playlist is stale within a target duration; half of the usual one.
const PLAYLIST_CACHE: &str = "max-age=1";
/// A segment never changes under a name with its mark or its place.
const SEGMENT_CACHE: &str = "public, max-age=31536000, immutable";
/// Without the mark, the name means another segment once the stream begins again.
const UNMARKED_CACHE: &str = "no-cache";
const PLAYLIST_TYPE: &str = "application/x-mpegURL";
const MANIFEST_TYPE: &str = "application/dash+xml";

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(master)).routes(routes!(media)).routes(routes!(segment))
}

/// Master playlist or DASH manifest
///
/// `.m3u8` lists the source and the renditions of a live stream for HLS; `.mpd` is the same stream for
/// DASH players: H.264 and AAC as fragmented MP4, made of the same segments. A stream that is over
/// ends. With `--current-manifest`, `current.m3u8` is the newest stream's.
#[utoipa::path(
    get, path = "/stream/{file}", tag = "playback",
    params(("file" = String, Path, description = "`{stream}.m3u8` or `{stream}.mpd`", example = "demo.m3u8")),
    responses(
        (status = 200, description = "The playlist", content(
            (String = "application/x-mpegURL"),
            (String = "application/dash+xml"),
        )),
        ranges::Partly,
        (status = 404, description = "No such stream, or nothing to show yet", body = crate::openapi::ErrorBody),
    )
)]
pub async fn master(
    State(gateway): State<Shared>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response, GatewayError> {
    if let Some(name) = file.strip_suffix(".mpd") {
        let found = gateway.dash_manifest(&stream(Some(name))?).await;
        return playlist(&headers, MANIFEST_TYPE, found);
    }
    let stream = if gateway.settings.args.video.current_manifest
        && file.eq_ignore_ascii_case("current.m3u8")
    {
        let newest = gateway.streams().await?.into_iter().next();
        newest.ok_or(GatewayError::NotFound)?.0
    } else {
        stream(file.strip_suffix(".m3u8"))?
    };
    playlist(&headers, PLAYLIST_TYPE, gateway.master_playlist(&stream).await)
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
        ranges::Partly,
        (status = 404, description = "No such stream or rendition", body = crate::openapi::ErrorBody),
    )
)]
pub async fn media(
    State(gateway): State<Shared>,
    Path((name, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, GatewayError> {
    let stream = stream(Some(&name))?;
    let rendition = file.strip_suffix(".m3u8").ok_or(GatewayError::NotFound)?;
    playlist(&headers, PLAYLIST_TYPE, gateway.media_playlist(&stream, rendition).await)
}

/// Segment
///
/// For HLS `{sequence}.ts` or `.mp4`; for DASH what the manifest names.
#[utoipa::path(
    get, path = "/stream/{stream}/{rendition}/{file}", tag = "playback",
    params(
        ("stream" = String, Path, description = "Stream name", example = "demo"),
        ("rendition" = String, Path, description = "Rendition name, or `source`", example = "source"),
        ("file" = String, Path, description = "`{sequence}.ts` or `.mp4`, or a name of the DASH manifest", example = "0.ts"),
        ("h" = Option<String>, Query, description = "Which segment of that number, as the playlist says; the newest without it"),
        ("Range" = Option<String>, Header, description = "One range of bytes"),
    ),
    responses(
        (status = 200, description = "The bytes", body = Vec<u8>, content_type = "video/mp2t"),
        ranges::Partly,
        (status = 404, description = "Not in the window (any more)", body = crate::openapi::ErrorBody),
    )
)]
pub async fn segment(
    State(gateway): State<Shared>,
    Path((name, rendition, file)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, GatewayError> {
    let stream = stream(Some(&name))?;
    if let Some((part, want)) = dash_part(&file) {
        let data = gateway.dash_part(&stream, &rendition, part, want).await?;
        let data = data.ok_or(GatewayError::NotFound)?;
        let kind = if want == Want::Audio { "audio/mp4" } else { "video/mp4" };
        return Ok(ranges::answer(
            &headers,
            Content { tag: content_tag(&data), data, kind, cache: SEGMENT_CACHE },
        ));
    }
    let (seq, extension) = file.split_once('.').ok_or(GatewayError::NotFound)?;
    let seq = seq.parse().map_err(|_| GatewayError::NotFound)?;
    let mark = query.as_deref().and_then(|q| q.split('&').find_map(|p| p.strip_prefix("h=")));
    let cache = if mark.is_some() { SEGMENT_CACHE } else { UNMARKED_CACHE };
    let found = gateway.media_segment(&stream, &rendition, seq, mark).await?;
    let (found, tag) =
        found.filter(|(s, _)| s.format.extension() == extension).ok_or(GatewayError::NotFound)?;
    let kind = found.format.content_type();
    Ok(ranges::answer(&headers, Content { data: found.data, kind, cache, tag }))
}

/// `{epoch}-{time}.m4v`, `.m4a`; `{epoch}-p{period}.v.mp4`, `.a.mp4`.
fn dash_part(file: &str) -> Option<(DashPart, Want)> {
    let (name, extension) = file.split_once('.')?;
    let (epoch, which) = name.split_once('-')?;
    let (which, want) = match extension {
        "m4v" => (Which::At(which.parse().ok()?), Want::Video),
        "m4a" => (Which::At(which.parse().ok()?), Want::Audio),
        "v.mp4" => (Which::Init(which.strip_prefix('p')?.parse().ok()?), Want::Video),
        "a.mp4" => (Which::Init(which.strip_prefix('p')?.parse().ok()?), Want::Audio),
        _ => return None,
    };
    Some((DashPart { epoch: UnixMs(epoch.parse().ok()?), which }, want))
}

fn stream(name: Option<&str>) -> Result<StreamId, GatewayError> {
    StreamId::new(name.unwrap_or_default()).map_err(|_| GatewayError::NotFound)
}

fn playlist(
    headers: &HeaderMap,
    kind: &'static str,
    found: Result<Option<String>, JobError>,
) -> Result<Response, GatewayError> {
    let data = Bytes::from(found?.ok_or(GatewayError::NotFound)?);
    let tag = content_tag(&data);
    Ok(ranges::answer(headers, Content { data, kind, cache: PLAYLIST_CACHE, tag }))
}

fn content_tag(data: &[u8]) -> String {
    hex::encode(keccak256(data).get(..8).unwrap_or_default())
}
