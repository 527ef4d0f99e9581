//! Bodies of requests that have to be there as a whole: a pause that is too long ends them, and so does
//! one byte now and then.

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use std::{io, time::Duration};
use tokio::time::{Instant, timeout_at};

/// What comes at least, in a second, of a body that takes longer than a pause.
const LEAST_PER_S: u64 = 16 * 1024;

/// How long a body is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    begun: Instant,
    pause: Duration,
}

impl Pace {
    /// From now on.
    pub fn new(pause: Duration) -> Self {
        Self { begun: Instant::now(), pause }
    }

    /// Until when the next piece is waited for, with so many bytes there.
    pub fn until(&self, now: Instant, bytes: u64) -> Instant {
        let earned = Duration::from_millis(bytes.saturating_mul(1000) / LEAST_PER_S);
        (now + self.pause).min(self.begun + self.pause + earned)
    }
}

/// The same body, which fails when it comes too slowly.
pub fn paced(body: Body, pause: Duration) -> Body {
    let begun = (body.into_data_stream(), Pace::new(pause), 0_u64);
    Body::from_stream(stream::unfold(begun, |(mut pieces, pace, bytes)| async move {
        let until = pace.until(Instant::now(), bytes);
        let piece: io::Result<Bytes> = match timeout_at(until, pieces.next()).await {
            Ok(piece) => piece?.map_err(io::Error::other),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let bytes = bytes.saturating_add(piece.as_ref().map_or(0, |piece| piece.len() as u64));
        Some((piece, (pieces, pace, bytes)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_fails() {
        let stops = stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"begun"))])
            .chain(stream::pending());
        let body = paced(Body::from_stream(stops), Duration::from_secs(30));
        assert!(axum::body::to_bytes(body, 100).await.is_err());
        let whole = paced(Body::from("all"), Duration::from_secs(30));
        assert_eq!(axum::body::to_bytes(whole, 100).await.unwrap(), "all");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_is_not_waited_for() {
        let (pause, second) = (Duration::from_secs(30), Duration::from_secs(1));
        let pace = Pace::new(pause);
        let left =
            |bytes| pace.until(Instant::now(), bytes).saturating_duration_since(Instant::now());
        assert_eq!(left(0), pause);
        advance(29 * second).await;
        assert_eq!(left(1), second, "a byte is worth nothing");
        assert_eq!(left(10 * LEAST_PER_S), 11 * second);
        assert_eq!(left(1000 * LEAST_PER_S), pause);
        advance(second).await;
        assert_eq!(left(16), Duration::ZERO);
    }
}
