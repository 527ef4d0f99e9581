//! `GET /stream/…`: results for gateways, sources for workers (orchestrator-wire.md section 12).

use crate::{error, node::Node, service::segment::Source, storage::StoredFile};
use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use std::sync::Arc;

/// A rendition, or its perceptual hash.
pub async fn result(
    State(node): State<Arc<Node>>,
    Path((session, profile, name)): Path<(String, String, String)>,
) -> Response {
    answer(node.storage.get(&session, &profile, &name))
}

/// A source. Its name cannot be guessed, and it is there only while a worker is to fetch it.
pub async fn source(
    State(node): State<Arc<Node>>,
    Path((session, name)): Path<(String, String)>,
) -> Response {
    answer(Source::find(&node, &session, &name))
}

fn answer(file: Option<StoredFile>) -> Response {
    match file {
        Some(file) => {
            let kind = HeaderValue::from_static(file.content_type);
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], file.data).into_response()
        }
        None => error::text(StatusCode::NOT_FOUND, "ErrNotFound"),
    }
}
