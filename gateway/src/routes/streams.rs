//! The state of streams as JSON, for the player page and for whoever wants to look.

use super::Shared;
use crate::{clock, error::GatewayError, media::playlist::path_element};
use axum::{
    Json,
    extract::{Path, State},
};
use penstock_domain::StreamId;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(one))
}

/// Streams, most recently used first.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamList {
    /// At most 50.
    pub streams: Vec<StreamSummary>,
}

/// One stream of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamSummary {
    /// Its name.
    pub id: String,
    /// Whether it is being pushed; a stream that was silent for `--stream-idle-ms` is over.
    pub live: bool,
    /// Segments finished.
    pub segments: u64,
    /// Unix milliseconds of its first segment.
    pub created_ms: u64,
    /// Unix milliseconds of its newest segment.
    pub last_used_ms: u64,
}

/// One stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamState {
    /// Its name.
    pub id: String,
    /// Whether it is being pushed; a stream that was silent for `--stream-idle-ms` is over.
    pub live: bool,
    /// Segments finished.
    pub segments: u64,
    /// Unix milliseconds of its first segment.
    pub created_ms: u64,
    /// Unix milliseconds of its newest segment.
    pub last_used_ms: u64,
    /// The orchestrator that served it last.
    pub orchestrator: Option<String>,
    /// What can be played, source first; empty before the first segment is done.
    pub renditions: Vec<RenditionState>,
}

/// One rendition of a stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct RenditionState {
    /// Its name.
    pub name: String,
    /// Pixels, 0 if unknown.
    pub width: u32,
    /// Pixels, 0 if unknown.
    pub height: u32,
    /// Peak bits per second.
    pub bandwidth: u64,
    /// RFC 6381 codecs, if known.
    pub codecs: Option<String>,
    /// Its media playlist.
    pub playlist: String,
}

/// Recent streams
#[utoipa::path(
    get, path = "/api/streams", tag = "playback",
    responses((status = 200, description = "The streams", body = StreamList))
)]
pub async fn list(State(gateway): State<Shared>) -> Result<Json<StreamList>, GatewayError> {
    let now = clock::now();
    let streams = gateway.streams().await?.into_iter().map(|(id, record)| StreamSummary {
        id: id.to_string(),
        live: !gateway.is_over(record.last_used_at, now),
        segments: record.segments,
        created_ms: record.created_at.0,
        last_used_ms: record.last_used_at.0,
    });
    Ok(Json(StreamList { streams: streams.collect() }))
}

/// A stream's state
#[utoipa::path(
    get, path = "/api/streams/{stream}", tag = "playback",
    params(("stream" = String, Path, description = "Stream name", example = "demo")),
    responses(
        (status = 200, description = "Its state", body = StreamState),
        (status = 404, description = "No such stream", body = crate::openapi::ErrorBody),
    )
)]
pub async fn one(
    State(gateway): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<StreamState>, GatewayError> {
    let id = StreamId::new(name).map_err(|_| GatewayError::NotFound)?;
    let (record, window) = gateway.stream_state(&id).await?.ok_or(GatewayError::NotFound)?;
    let renditions = window.tracks.into_iter().map(|track| RenditionState {
        playlist: format!("/stream/{id}/{}.m3u8", path_element(&track.name)),
        name: track.name,
        width: track.width,
        height: track.height,
        bandwidth: track.bandwidth,
        codecs: track.codecs,
    });
    Ok(Json(StreamState {
        renditions: renditions.collect(),
        id: id.to_string(),
        live: !gateway.is_over(record.last_used_at, clock::now()),
        segments: record.segments,
        created_ms: record.created_at.0,
        last_used_ms: record.last_used_at.0,
        orchestrator: record.orchestrator,
    }))
}
