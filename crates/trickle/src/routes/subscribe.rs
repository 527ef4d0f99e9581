//! `GET {name}/{idx}`: a segment from its first byte on, as it is written (trickle.md section 4).

use super::{admit, answer::Headers};
use crate::{
    TrickleServer,
    channel::{Channel, Found, Subscription},
    error::Refusal,
    gate::Action,
    segment::{Gone, Reader},
    stalls::{Held, Lap},
    wire::{Position, STATUS_NO_SEGMENT},
};
use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{FutureExt as _, stream};
use http::{HeaderValue, StatusCode, header};
use std::sync::Arc;
use tokio::time::Instant;

pub(super) async fn segment(
    State(server): State<TrickleServer>,
    Path((name, idx)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (request, _) = request.into_parts();
    if let Err(denied) = admit(&server, Action::Subscribe, &name, &request).await {
        return denied.into_response();
    }
    match subscribe(&server, &name, &idx) {
        Err(refusal) => refusal.into_response(),
        Ok(Wanted::Missing(answer)) => answer,
        Ok(Wanted::Segment { channel, place, reader, latest }) => {
            relay(&server, channel, place, reader, latest).await
        }
    }
}

enum Wanted {
    Segment { channel: Arc<Channel>, place: Subscription, reader: Reader, latest: u64 },
    Missing(Response),
}

fn subscribe(server: &TrickleServer, name: &str, idx: &str) -> Result<Wanted, Refusal> {
    let channel = server.get(name)?;
    let at: Position = idx.parse().map_err(|_| Refusal::InvalidIndex)?;
    let mut place = channel.subscribe()?;
    Ok(match channel.read(at, Instant::now())? {
        Found::Segment { reader, latest } => {
            place.reads(&reader);
            Wanted::Segment { channel, place, reader, latest }
        }
        Found::Missing { latest, closed } => {
            let open = StatusCode::from_u16(STATUS_NO_SEGMENT).unwrap_or(StatusCode::NOT_FOUND);
            let status = if closed { StatusCode::OK } else { open };
            // The index as it was asked for. It may be signed, so not a number of ours.
            let asked = HeaderValue::from_str(&at.to_string()).unwrap_or(HeaderValue::from(0));
            let answer = Headers::new(status, Body::from("Entry not found"))
                .text()
                .latest(latest)
                .set(crate::wire::SEQ, asked)
                .closed(closed);
            Wanted::Missing(answer.done())
        }
    })
}

/// Answers with the first byte or with the end, whichever comes: until then the client knows that
/// the segment has not begun.
async fn relay(
    server: &TrickleServer,
    channel: Arc<Channel>,
    place: Subscription,
    mut reader: Reader,
    latest: u64,
) -> Response {
    let seq = reader.seq().get();
    let first = match reader.next().now_or_never() {
        Some(first) => first,
        None => {
            let _waiting = place.waits();
            reader.next().await
        }
    };
    let Some(first) = first else {
        let standing = channel.standing();
        return Headers::new(StatusCode::OK, Body::empty())
            .seq(seq)
            .latest(standing.next_write)
            .closed(standing.closed)
            .done();
    };
    let lap = server.stalls().lap(Held::new(reader, place), Instant::now());
    let mut answer = Headers::new(StatusCode::OK, payload(first, lap)).seq(seq);
    if latest != seq {
        answer = answer.latest(latest);
    }
    if let Some(mime) = channel.mime() {
        answer = answer.set(header::CONTENT_TYPE, mime.clone());
    }
    answer.done()
}

/// Chunks that all readers share. It breaks off, visibly, when the segment or the reader is given up.
fn payload(first: Result<Bytes, Gone>, lap: Arc<Lap>) -> Body {
    Body::from_stream(stream::unfold((Some(first), lap), |(first, lap)| async move {
        let chunk = match first {
            Some(first) => first,
            None => lap.next().await?,
        };
        Some((chunk, (None, lap)))
    }))
}
