//! Reading request bodies: bounded each, and bounded together.

use crate::{
    error::GatewayError,
    front::workload::{Memory, Permit},
};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use std::time::Duration;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

/// Room is taken in steps, so that a slow small upload holds little.
const STEP_BYTES: usize = 1 << 20;
/// Room that is taken before so much has arrived: enough for most bodies.
const AT_ONCE_BYTES: usize = 128 << 10;
/// A body that stops arriving for so long is given up: it holds memory.
const SILENCE: Duration = Duration::from_secs(30);
/// So is one that goes on arriving more slowly than this, bytes a second: a byte now and then would
/// hold memory for ever. The slowest of live encoders are faster.
const LEAST_RATE: u64 = 2_048;

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
    let began = Instant::now();
    loop {
        let latest = latest(began, Instant::now(), data.len() as u64);
        let next = tokio::time::timeout_at(latest, chunks.next()).await;
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
        if data.is_empty() {
            // Once for all of it, but no more than is arriving: what is said costs its sayer nothing.
            let said = said.and_then(|said| usize::try_from(said).ok()).unwrap_or_default();
            data.reserve(said.clamp(chunk.len(), AT_ONCE_BYTES.max(chunk.len())));
        }
        data.extend_from_slice(&chunk);
    }
    Ok(data.freeze())
}

/// Until when more of a body has to be there.
fn latest(began: Instant, now: Instant, arrived: u64) -> Instant {
    let at_least = began + SILENCE + Duration::from_secs(arrived / LEAST_RATE);
    at_least.min(now + SILENCE)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_bodies_are_given_up_and_live_ones_are_not() {
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        // A byte each 29 s.
        assert_eq!(latest(began, began + second * 29, 1), began + SILENCE);
        // An encoder of 64 kbit/s, after ten minutes.
        let now = began + second * 600;
        assert_eq!(latest(began, now, 600 * 8_000), now + SILENCE);
    }
}
