//! One `GET`: waits until its segment begins.

use super::{
    ClientError,
    endpoint::Endpoint,
    error::{failed, success},
};
use crate::wire::{LATEST, Position, SEQ, Seq, number};
use std::time::Duration;
use tokio::time::timeout;

/// A segment that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    pub seq: Seq,
    pub latest: Option<u64>,
    pub response: reqwest::Response,
}

/// Asks until there is an answer: a request that waits longer than `refresh` is made anew. There is
/// no limit to that: a segment may be long in coming.
pub(super) async fn begun(
    endpoint: Endpoint,
    at: Position,
    refresh: Duration,
) -> Result<Begun, ClientError> {
    let sent = loop {
        if let Ok(sent) = timeout(refresh, endpoint.get(at).send()).await {
            break sent;
        }
    };
    let response = success(sent.map_err(|error| failed(&error))?, at).await?;
    let seq = number(response.headers(), &SEQ).and_then(Seq::new).ok_or(ClientError::NoSeq)?;
    let latest = number(response.headers(), &LATEST);
    Ok(Begun { seq, latest, response })
}
