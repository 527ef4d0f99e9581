//! Reading request bodies: bounded each, and bounded together.

use crate::{
    error::GatewayError,
    front::workload::{Memory, Permit},
};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Room is taken in steps, so that a slow small upload holds little.
const STEP_BYTES: usize = 1 << 20;
/// A body that stops arriving for so long is given up: it holds memory.
const SILENCE: Duration = Duration::from_secs(30);

/// A body and the room it takes in memory; the room is given back when this is dropped.
#[derive(Debug)]
pub struct Held {
    /// The bytes.
    pub data: Bytes,
    /// Their share of the bound over all requests.
    pub room: Vec<[OwnedSemaphorePermit; 2]>,
}

/// Reads a whole body of at most `max` bytes, into the memory of the workload that the request has a
/// place in.
pub async fn read(
    place: &Permit,
    said: Option<u64>,
    body: Body,
    max: usize,
) -> Result<Held, GatewayError> {
    read_into(place.memory(), said, body, max).await
}

/// The same for a request without a place.
pub async fn read_into(
    memory: &Memory,
    said: Option<u64>,
    body: Body,
    max: usize,
) -> Result<Held, GatewayError> {
    let mut room = Vec::new();
    let mut held = 0;
    let data = collect(said, body, max, |length| {
        while length > held {
            room.push(memory.room((STEP_BYTES / 1024) as u32)?);
            held += STEP_BYTES;
        }
        Ok(())
    });
    let data = data.await?;
    Ok(Held { data, room })
}

/// A body so small that no account is kept of it.
pub async fn read_small(said: Option<u64>, body: Body, max: usize) -> Result<Bytes, GatewayError> {
    collect(said, body, max, |_| Ok(())).await
}

/// All of a body; `make_room` is told how long it will be before more of it is kept.
async fn collect(
    said: Option<u64>,
    body: Body,
    max: usize,
    mut make_room: impl FnMut(usize) -> Result<(), GatewayError>,
) -> Result<Bytes, GatewayError> {
    if said.is_some_and(|said| said > max as u64) {
        return Err(GatewayError::TooLarge);
    }
    let mut data = BytesMut::new();
    let mut chunks = body.into_data_stream();
    loop {
        let next = tokio::time::timeout(SILENCE, chunks.next()).await;
        let Some(chunk) = next.map_err(|_| GatewayError::Body("it stopped arriving".to_owned()))?
        else {
            break;
        };
        let chunk = chunk.map_err(|e| GatewayError::Body(innermost(&e)))?;
        let length = data.len().saturating_add(chunk.len());
        if length > max {
            return Err(GatewayError::TooLarge);
        }
        make_room(length)?;
        data.extend_from_slice(&chunk);
    }
    Ok(data.freeze())
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// `Content-Length`, if it is said and is a number.
pub fn said_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
