//! Creating, deleting, asking after a channel; closing a segment (trickle.md sections 2.1 to 2.3).

use super::{admit, answer};
use crate::{
    TrickleServer,
    error::Refusal,
    gate::Action,
    server::Maker,
    wire::{EXPECT_CONTENT, Position},
};
use answer::{Headers, closing};
use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;

pub(super) async fn create(
    State(server): State<TrickleServer>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (request, body) = request.into_parts();
    if let Err(denied) = admit(&server, Action::Create, &name, &request).await {
        return closing(&request, body, denied);
    }
    let mime = request.headers.get(EXPECT_CONTENT);
    let maker = if server.settings().autocreate { Maker::Peer } else { Maker::Nobody };
    match server.get_or_create(&name, mime, maker) {
        Ok(_) => ok(),
        Err(refusal) => closing(&request, body, refusal),
    }
}

pub(super) async fn delete(
    State(server): State<TrickleServer>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (request, _) = request.into_parts();
    if let Err(denied) = admit(&server, Action::Delete, &name, &request).await {
        return denied.into_response();
    }
    let deleted = match server.is_reserved(&name) {
        true => Err(Refusal::Reserved),
        false => server.close(&name),
    };
    deleted.map_or_else(IntoResponse::into_response, |()| ok())
}

pub(super) async fn next(
    State(server): State<TrickleServer>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (request, _) = request.into_parts();
    if let Err(denied) = admit(&server, Action::Query, &name, &request).await {
        return denied.into_response();
    }
    match server.get(&name) {
        Ok(channel) => {
            let standing = channel.standing();
            let number = Body::from(standing.next_write.to_string());
            Headers::new(StatusCode::OK, number)
                .text()
                .latest(standing.next_write)
                .closed(standing.closed)
                .done()
        }
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) async fn close_segment(
    State(server): State<TrickleServer>,
    Path((name, idx)): Path<(String, String)>,
    request: Request,
) -> Response {
    close(server, name, &idx, request).await
}

pub(super) async fn close_next(
    State(server): State<TrickleServer>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    close(server, name, "next", request).await
}

async fn close(server: TrickleServer, name: String, idx: &str, request: Request) -> Response {
    let (request, _) = request.into_parts();
    if let Err(denied) = admit(&server, Action::CloseSegment, &name, &request).await {
        return denied.into_response();
    }
    let closed = server.get(&name).and_then(|channel| match idx.parse() {
        Ok(_) if server.is_reserved(&name) => Err(Refusal::Reserved),
        Ok(Position::At(seq)) => channel.close_segment(seq),
        // No segment has a negative number.
        Ok(Position::Next | Position::Current) => Err(Refusal::NoSegment),
        Err(_) => Err(Refusal::InvalidIndex),
    });
    closed.map_or_else(IntoResponse::into_response, |()| ok())
}

fn ok() -> Response {
    Headers::new(StatusCode::OK, Body::empty()).done()
}
