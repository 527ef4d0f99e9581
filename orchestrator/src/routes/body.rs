//! Bodies, read with a limit for each, a limit for all together, and no patience with peers that
//! stop sending, or send a byte now and then.

use crate::{error::JobError, peers::upload::Pace};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// What is counted.
const PIECE: usize = 64 * 1024;

/// Memory for bodies that are being read or worked on.
#[derive(Debug, Clone)]
pub struct BodyMemory {
    room: Arc<Semaphore>,
    pieces: usize,
    pause: Duration,
}

/// A body, and its share of the memory, given back when dropped.
#[derive(Debug)]
pub struct Held {
    /// The bytes.
    pub data: Bytes,
    /// Keep it as long as the bytes.
    pub share: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// The bytes as a body, piece by piece, with their share until the last has been taken.
    pub fn into_body(self) -> Body {
        Body::new(self.into_pieces())
    }

    /// The same for a client's request.
    pub fn into_pieces(self) -> impl HttpBody<Data = Bytes, Error = Infallible> + Send + Sync {
        Pieces(Some(self))
    }
}

/// Bytes as they are taken. It says when nothing is left: connections that know its length do not ask again.
struct Pieces(Option<Held>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.0.as_mut().map(|held| held.data.split_to(PIECE.min(held.data.len())));
        let piece = piece.filter(|piece| !piece.is_empty());
        if piece.is_none() {
            self.0 = None;
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|held| held.data.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |held| held.data.len() as u64))
    }
}

impl BodyMemory {
    /// For so many bytes in all; a body may pause for so long.
    pub fn new(bytes: usize, pause: Duration) -> Self {
        let pieces = (bytes / PIECE).clamp(1, Semaphore::MAX_PERMITS);
        Self { room: Arc::new(Semaphore::new(pieces)), pieces, pause }
    }

    /// What is taken of it, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.pieces.saturating_sub(self.room.available_permits()) * PIECE
    }

    /// How long a body may pause.
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// The whole body, at most `max_bytes`.
    pub async fn read(&self, body: Body, max_bytes: u64) -> Result<Held, JobError> {
        self.read_slowly(body, max_bytes, self.pause).await
    }

    /// The same from a peer that may stop for as long as `patience` between two pieces.
    pub async fn read_slowly(
        &self,
        body: Body,
        max_bytes: u64,
        patience: Duration,
    ) -> Result<Held, JobError> {
        let mut share: Option<OwnedSemaphorePermit> = None;
        let mut data = BytesMut::new();
        let mut pieces = body.into_data_stream();
        let pace = Pace::new(patience);
        loop {
            let until = pace.until(Instant::now(), data.len() as u64);
            let next = timeout_at(until, pieces.next()).await.map_err(|_| JobError::BodyTooSlow)?;
            let Some(piece) = next else { break };
            let piece = piece.map_err(|_| JobError::BodyBroken)?;
            if (data.len() + piece.len()) as u64 > max_bytes {
                return Err(JobError::BodyTooLarge(max_bytes));
            }
            let held = share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let more = (data.len() + piece.len()).div_ceil(PIECE).saturating_sub(held);
            if more > 0 {
                let more = u32::try_from(more).map_err(|_| JobError::Busy)?;
                let granted = Arc::clone(&self.room)
                    .try_acquire_many_owned(more)
                    .map_err(|_| JobError::Busy)?;
                match &mut share {
                    Some(share) => share.merge(granted),
                    None => share = Some(granted),
                }
            }
            data.extend_from_slice(&piece);
        }
        Ok(Held { data: data.freeze(), share })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn limits() {
        let memory = BodyMemory::new(4 * PIECE, Duration::from_secs(30));
        let body = |size: usize| Body::from(vec![7; size]);
        let held = memory.read(body(3 * PIECE), 1 << 20).await.unwrap();
        assert_eq!((held.data.len(), memory.held_bytes()), (3 * PIECE, 3 * PIECE));
        let busy = memory.read(body(2 * PIECE), 1 << 20).await.unwrap_err();
        assert!(matches!(busy, JobError::Busy));
        assert_eq!(memory.read(body(PIECE), 1 << 20).await.unwrap().data.len(), PIECE);
        // Passed on, it counts until all of it was taken.
        let mut passed = held.into_body().into_data_stream();
        for _ in 0..3 {
            let busy = memory.read(body(2 * PIECE), 1 << 20).await.unwrap_err();
            assert!(matches!(busy, JobError::Busy));
            assert_eq!(passed.next().await.unwrap().unwrap().len(), PIECE);
        }
        assert!(passed.next().await.is_none());
        let short = memory.read(body(1), 1 << 20).await.unwrap();
        let mut short = short.into_body();
        assert!(!HttpBody::is_end_stream(&short));
        assert_eq!(HttpBody::size_hint(&short).exact(), Some(1));
        let taken = std::future::poll_fn(|cx| Pin::new(&mut short).poll_frame(cx)).await;
        assert!(taken.unwrap().is_ok() && HttpBody::is_end_stream(&short), "nothing is left");
        drop(short);
        assert_eq!(memory.read(body(2 * PIECE), 1 << 20).await.unwrap().data.len(), 2 * PIECE);
        let large = memory.read(body(11), 10).await.unwrap_err();
        assert!(matches!(large, JobError::BodyTooLarge(10)));
        assert_eq!(memory.read(Body::empty(), 0).await.unwrap().data.len(), 0);
        assert_eq!(memory.held_bytes(), 0, "all of it was given back");
    }
}
