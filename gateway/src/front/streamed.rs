//! A streamed answer under an `Idempotency-Key`: handed on piece by piece, and kept when it has come to
//! its proper end. The key is held until then, also when the client has gone: what was begun is paid for,
//! and whoever repeats the request gets it.

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderValue, header};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// Longer answers are not kept.
const MOST_BYTES: usize = 4 << 20;
/// Pieces that wait for a client who reads slowly.
const WAITING: usize = 4;
/// A client who takes nothing for so long has gone.
const STALLED: Duration = Duration::from_secs(60);

/// In a streamed answer's extensions: whether it came to its proper end. Only who writes it knows: an answer
/// that breaks off ends with a piece that says so.
#[derive(Debug, Clone, Default)]
pub struct ProperEnd(Arc<AtomicBool>);

impl ProperEnd {
    /// It has.
    pub fn reached(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it has.
    pub fn is_reached(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Whether an answer is one.
pub fn is_streamed(response: &axum::response::Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"))
}

/// The way to the client. The client's answer ends when this is dropped.
#[derive(Debug)]
pub struct Client {
    /// `None`: it has gone.
    to: Option<mpsc::Sender<Bytes>>,
    patience: Duration,
}

/// A client and the body that it gets.
pub fn client() -> (Client, Body) {
    let (to, from) = mpsc::channel(WAITING);
    let pieces = futures::stream::unfold(from, |mut from| async move {
        from.recv().await.map(|piece| (Ok::<_, Infallible>(piece), from))
    });
    (Client { to: Some(to), patience: STALLED }, Body::from_stream(pieces))
}

impl Client {
    async fn send(&mut self, piece: Bytes) {
        let Some(to) = &self.to else { return };
        let sent = tokio::time::timeout(self.patience, to.send(piece)).await;
        if !matches!(sent, Ok(Ok(()))) {
            self.to = None;
        }
    }
}

/// Hands the body on to its end. `None`: it broke. `Some(None)`: it is too long to be kept.
pub async fn hand_on(mut body: BodyDataStream, client: &mut Client) -> Option<Option<Bytes>> {
    let mut all = Some(BytesMut::new());
    while let Some(piece) = body.next().await {
        let piece = piece.ok()?;
        all = all.filter(|all| all.len().saturating_add(piece.len()) <= MOST_BYTES);
        if let Some(all) = &mut all {
            all.extend_from_slice(&piece);
        }
        client.send(piece).await;
    }
    Some(all.map(BytesMut::freeze))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(pieces: impl IntoIterator<Item = &'static [u8]>) -> BodyDataStream {
        let pieces: Vec<_> =
            pieces.into_iter().map(|p| Ok::<_, Infallible>(Bytes::from_static(p))).collect();
        Body::from_stream(futures::stream::iter(pieces)).into_data_stream()
    }

    #[tokio::test]
    async fn who_reads_gets_every_piece_and_all_of_it_is_kept() {
        let (mut client, theirs) = client();
        let reads = tokio::spawn(axum::body::to_bytes(theirs, usize::MAX));
        let kept = hand_on(body([&b"a"[..], b"bc", b"d", b"e", b"f", b"g"]), &mut client).await;
        assert_eq!(kept, Some(Some(Bytes::from_static(b"abcdefg"))));
        assert!(!reads.is_finished(), "it ends when its answer is kept");
        drop(client);
        assert_eq!(reads.await.unwrap().unwrap(), "abcdefg");
    }

    #[tokio::test]
    async fn who_has_gone_stops_nothing() {
        let (mut client, theirs) = client();
        drop(theirs);
        let kept = hand_on(body([&b"a"[..], b"b"]), &mut client).await;
        assert_eq!(kept, Some(Some(Bytes::from_static(b"ab"))));
    }

    #[tokio::test]
    async fn who_takes_nothing_has_gone() {
        let (mut client, _theirs) = client();
        client.patience = Duration::ZERO;
        let kept = hand_on(body([&b"x"[..]; WAITING + 3]), &mut client).await;
        assert_eq!(kept.unwrap().unwrap().len(), WAITING + 3);
        assert!(client.to.is_none());
    }

    #[tokio::test]
    async fn what_is_too_long_is_handed_on_whole() {
        static LONG: [u8; MOST_BYTES / 2 + 1] = [7; MOST_BYTES / 2 + 1];
        let (mut client, theirs) = client();
        let reads = tokio::spawn(axum::body::to_bytes(theirs, usize::MAX));
        assert_eq!(hand_on(body([&LONG[..], &LONG[..]]), &mut client).await, Some(None));
        drop(client);
        assert_eq!(reads.await.unwrap().unwrap().len(), 2 * LONG.len());
    }

    #[tokio::test]
    async fn a_body_that_breaks_is_not_kept() {
        let pieces = [Ok(Bytes::from_static(b"a")), Err(std::io::Error::other("cut"))];
        let body = Body::from_stream(futures::stream::iter(pieces)).into_data_stream();
        let (mut client, _theirs) = client();
        assert_eq!(hand_on(body, &mut client).await, None);
    }
}
