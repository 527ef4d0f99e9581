//! `POST {name}/{idx}`: a body becomes a segment, chunk by chunk, as it arrives (trickle.md
//! section 3).

use super::{
    admit,
    answer::{self, Headers, closing},
};
use crate::{
    TrickleServer,
    channel::Claim,
    error::Refusal,
    gate::Action,
    server::Maker,
    wire::{Position, RESET, is_set},
};
use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use std::{pin::pin, time::Duration};
use tokio::time::{Instant, sleep};

pub(super) async fn segment(
    State(server): State<TrickleServer>,
    Path((name, idx)): Path<(String, String)>,
    request: Request,
) -> Response {
    publish(server, name, &idx, request).await
}

pub(super) async fn next(
    State(server): State<TrickleServer>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    publish(server, name, "next", request).await
}

/// How a request's body ended.
enum End {
    /// It was read to its end.
    Whole,
    /// The segment was closed before its first byte, or too long ago.
    Closed,
    /// The peer broke off.
    Broken,
    /// A bound was met.
    Full(Refusal),
}

async fn publish(server: TrickleServer, name: String, idx: &str, request: Request) -> Response {
    let (request, mut body) = request.into_parts();
    let creates = server.settings().autocreate && !server.exists(&name);
    if let Err(denied) = admit(&server, Action::Publish { creates }, &name, &request).await {
        return closing(&request, body, denied);
    }
    let (at, claim) = match claim(&server, &name, idx, creates, &request) {
        Ok(claimed) => claimed,
        Err(refusal) => return closing(&request, body, refusal),
    };
    let Some(mut claim) = claim else {
        // Deleted between two steps of ours. As if it had been deleted in the next moment.
        let answer = Headers::new(StatusCode::OK, Body::empty()).closed(true);
        let answer = match at {
            Position::At(seq) => answer.seq(seq.get()),
            Position::Next | Position::Current => answer,
        };
        return closing(&request, body, answer.done());
    };
    let grace = server.settings().limits.publisher_grace;
    let end = relay(&mut claim, &mut body, grace).await;
    answer(claim, end, &request, body)
}

/// The segment to write, in the reference's order of complaints: the channel, then the index.
fn claim(
    server: &TrickleServer,
    name: &str,
    idx: &str,
    creates: bool,
    request: &Parts,
) -> Result<(Position, Option<Claim>), Refusal> {
    let at = idx.parse::<Position>().map_err(|_| Refusal::InvalidIndex);
    if at.is_err() && !creates {
        server.get(name)?;
    }
    let at = at?;
    if server.is_reserved(name) {
        return Err(Refusal::Reserved);
    }
    if server.is_full() {
        return Err(Refusal::TooManyRequests);
    }
    let mime = request.headers.get(header::CONTENT_TYPE);
    let maker = if creates { Maker::Peer } else { Maker::Nobody };
    let (channel, _) = server.get_or_create(name, mime, maker)?;
    let reset = is_set(&request.headers, &RESET);
    Ok((at, channel.write(at, reset, Instant::now())?))
}

async fn relay(claim: &mut Claim, body: &mut Body, grace: Duration) -> End {
    // Before the first byte the close of the segment ends the wait; nothing else but the peer does.
    while !claim.has_begun() {
        let chunk = tokio::select! {
            biased;
            () = claim.closed() => return End::Closed,
            chunk = next_chunk(body) => chunk,
        };
        if let Some(end) = append(claim, chunk) {
            return end;
        }
    }
    // After it the peer may finish what it is sending, but not go on forever.
    let closed = claim.closed_handle();
    let mut given_up = pin!(async move {
        closed.await;
        sleep(grace).await;
    });
    loop {
        let chunk = tokio::select! {
            chunk = next_chunk(body) => chunk,
            () = given_up.as_mut() => return End::Closed,
        };
        if let Some(end) = append(claim, chunk) {
            return end;
        }
    }
}

/// The next bytes; none at the end.
async fn next_chunk(body: &mut Body) -> Result<Option<Bytes>, axum::Error> {
    while let Some(frame) = body.frame().await {
        if let Ok(chunk) = frame?.into_data() {
            return Ok(Some(chunk));
        }
    }
    Ok(None)
}

fn append(claim: &mut Claim, chunk: Result<Option<Bytes>, axum::Error>) -> Option<End> {
    match chunk {
        Ok(Some(chunk)) => claim.append(chunk, Instant::now()).err().map(End::Full),
        Ok(None) => Some(End::Whole),
        Err(error) => {
            tracing::debug!(%error, seq = %claim.seq(), "a publish broke off");
            Some(End::Broken)
        }
    }
}

fn answer(claim: Claim, end: End, request: &Parts, body: Body) -> Response {
    let seq = claim.seq().get();
    let done = Headers::new(StatusCode::OK, Body::empty()).seq(seq);
    match end {
        End::Whole if claim.has_begun() => {
            claim.finish();
            done.done()
        }
        End::Closed if claim.has_begun() => closing(request, body, done.done()),
        End::Whole | End::Closed => {
            let closed = claim.finish_empty(Instant::now());
            closing(request, body, done.closed(closed).done())
        }
        // What came stays, and the segment stays open for whoever comes to finish it.
        End::Broken => {
            answer::text(StatusCode::INTERNAL_SERVER_ERROR, "Server error").into_response()
        }
        // Nobody is to wait for a rest that will not come.
        End::Full(refusal) => {
            claim.finish();
            closing(request, body, refusal)
        }
    }
}
