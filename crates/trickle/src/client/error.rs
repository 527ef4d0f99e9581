//! What goes wrong for a publisher or subscriber, whose fault it is, and what to do next.

use crate::wire::{CLOSED, LATEST, STATUS_NO_SEGMENT, is_set, number};
use http::header::RETRY_AFTER;
use penstock_clients::Fault;
use std::time::Duration;
use thiserror::Error;
use tokio::time::timeout;

/// Words of an answer that are kept.
const MESSAGE_BYTES: usize = 1024;
/// How long they are waited for.
const MESSAGE_TIME: Duration = Duration::from_secs(5);

/// What was waited for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Wait {
    /// The answer to a small call.
    #[error("an answer")]
    Answer,
    /// The transport taking a chunk.
    #[error("room for a chunk")]
    Chunk,
    /// The answer after a segment's end.
    #[error("the end of a segment to be confirmed")]
    Finish,
    /// The next bytes of a segment.
    #[error("the rest of a segment")]
    Silence,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    /// The URL is not http(s).
    #[error("not a URL of a channel: {0}")]
    Url(String),
    /// The channel was closed.
    #[error("end of stream")]
    EndOfStream,
    /// There is no such channel (any more).
    #[error("stream not found")]
    NoChannel,
    /// The channel is there, the segment is not: too old, or too far ahead.
    #[error("the channel has no segment {asked} (latest {latest:?})")]
    NoSegment {
        /// As it was asked for.
        asked: String,
        /// The number after the segment begun last, if the server said it.
        latest: Option<u64>,
    },
    /// The segment was closed before its first byte was sent: nobody will read it.
    #[error("the segment was closed before it began")]
    SegmentClosed,
    /// All numbers are used up.
    #[error("no number is left")]
    NoNumberLeft,
    /// Any other answer that is not a success.
    #[error("answered {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// The peer's words, bounded.
        message: String,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// An answer that does not say which segment it is.
    #[error("the answer has no usable Lp-Trickle-Seq")]
    NoSeq,
    /// The segment is larger than the caller takes.
    #[error("the segment is longer than {max_bytes} bytes")]
    TooLong {
        /// The caller's bound.
        max_bytes: u64,
    },
    /// No connection; nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection ended before the answer did.
    #[error("connection broke: {0}")]
    Broken(String),
    /// Something took too long.
    #[error("waited too long for {0}")]
    Deadline(Wait),
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The same again, a little later: safe while no byte of the segment was sent.
    Again,
    /// Go on with the next segment.
    NextSegment,
    /// Go on where the server is.
    Resync,
    /// It is over.
    Stop,
}

impl ClientError {
    /// Whose fault it is; nobody's when a stream simply ended.
    pub fn fault(&self) -> Option<Fault> {
        Some(match self {
            Self::EndOfStream | Self::NoChannel => return None,
            Self::Url(_) | Self::NoNumberLeft | Self::NoSegment { .. } => Fault::Us,
            Self::TooLong { .. } | Self::NoSeq | Self::SegmentClosed => Fault::Peer,
            Self::Status { status, .. } if (400..500).contains(status) => Fault::Us,
            Self::Status { .. } => Fault::Peer,
            Self::Connect(_) | Self::Broken(_) | Self::Deadline(_) => Fault::Network,
        })
    }

    /// What to do next.
    pub fn then(&self) -> Then {
        match self {
            Self::Url(_) | Self::EndOfStream | Self::NoChannel | Self::NoNumberLeft => Then::Stop,
            Self::NoSegment { .. } => Then::Resync,
            Self::SegmentClosed | Self::TooLong { .. } => Then::NextSegment,
            Self::Status { status: 413, .. } => Then::NextSegment,
            Self::Status { status: 408 | 425 | 429, .. } => Then::Again,
            Self::Status { status, .. } if (400..500).contains(status) => Then::Stop,
            Self::Status { .. }
            | Self::NoSeq
            | Self::Connect(_)
            | Self::Broken(_)
            | Self::Deadline(_) => Then::Again,
        }
    }
}

/// A failed request.
pub(super) fn failed(error: &reqwest::Error) -> ClientError {
    let mut innermost: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let reason = innermost.to_string();
    if error.is_builder() {
        ClientError::Url(reason)
    } else if error.is_connect() {
        ClientError::Connect(reason)
    } else {
        ClientError::Broken(reason)
    }
}

/// An answer with status 200, or what it means that it has another; `asked` is the segment.
pub(super) async fn success(
    mut response: reqwest::Response,
    asked: impl std::fmt::Display,
) -> Result<reqwest::Response, ClientError> {
    let (status, headers) = (response.status().as_u16(), response.headers());
    // Before all others: the end of a stream comes with a status of success.
    if is_set(headers, &CLOSED) {
        return Err(ClientError::EndOfStream);
    }
    match status {
        200 => return Ok(response),
        404 => return Err(ClientError::NoChannel),
        STATUS_NO_SEGMENT => {
            let latest = number(headers, &LATEST);
            return Err(ClientError::NoSegment { asked: asked.to_string(), latest });
        }
        _ => {}
    }
    let retry_after = headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    let retry_after = retry_after.map(Duration::from_secs);
    // Worth a little reading, and never worth failing or waiting for.
    let mut words = Vec::new();
    let _ = timeout(MESSAGE_TIME, read(&mut response, &mut words)).await;
    let message = String::from_utf8_lossy(&words).trim().to_owned();
    Err(ClientError::Status { status, message, retry_after })
}

async fn read(response: &mut reqwest::Response, words: &mut Vec<u8>) {
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MESSAGE_BYTES.saturating_sub(words.len());
        words.extend(chunk.iter().take(room));
        if chunk.len() > room {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_try_again() {
        let status =
            |status| ClientError::Status { status, message: String::new(), retry_after: None };
        for (error, then) in [
            (ClientError::EndOfStream, Then::Stop),
            (ClientError::NoChannel, Then::Stop),
            (ClientError::SegmentClosed, Then::NextSegment),
            (ClientError::NoSegment { asked: "3".to_owned(), latest: None }, Then::Resync),
            (ClientError::Connect(String::new()), Then::Again),
            (ClientError::Deadline(Wait::Chunk), Then::Again),
            (status(400), Then::Stop),
            (status(403), Then::Stop),
            (status(413), Then::NextSegment),
            (status(429), Then::Again),
            (status(500), Then::Again),
            (status(503), Then::Again),
        ] {
            assert_eq!(error.then(), then, "{error}");
        }
    }
}
