//! llm answers in pieces, from a worker's upload to the gateway, each as it comes (ai-pipelines.md
//! sections 2.2 and 7.3). A worker whose gateway is gone is cut off; one that breaks off breaks the
//! gateway's answer off, so that half of it is not taken for the whole.

use crate::limits::Limits;
use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use http::{HeaderValue, header};
use penstock_wire::{
    ai::events::EventReader,
    json::{AiResult, LlmAnswer},
};
use std::{io, time::Duration};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;

/// An answer that has begun.
#[derive(Debug)]
pub struct Words {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    /// Resolves when the worker's upload has ended, to how.
    over: oneshot::Receiver<Result<(), Cut>>,
}

/// Why a stream is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Cut {
    /// The worker stopped in the middle.
    #[error("the worker's stream broke off")]
    BrokenOff,
    /// It took longer than streams may.
    #[error("the worker's stream took too long")]
    TooLong,
    /// Nobody listens any more.
    #[error("the gateway hung up")]
    Unheard,
}

/// A worker's upload, read piece by piece.
pub struct Uploading {
    body: BoxStream<'static, Result<Bytes, axum::Error>>,
    reader: EventReader,
    until: Instant,
    ended: bool,
    /// Longest piece, and how many of them may wait for a gateway.
    piece_bytes: usize,
    waiting: usize,
}

impl Uploading {
    /// Begins to read.
    pub fn new(body: Body, limits: &Limits) -> Self {
        Self {
            body: body.into_data_stream().boxed(),
            reader: EventReader::new(limits.ai_piece_bytes),
            until: Instant::now() + Duration::from_millis(limits.ai_stream_ms),
            ended: false,
            piece_bytes: limits.ai_piece_bytes,
            waiting: limits.ai_waiting_pieces,
        }
    }

    /// The next piece, written as the network does; `None` after the last, which says why it is: a
    /// stream that ends without was cut. (The end of a cancelled HTTP/2 stream looks like any other.)
    /// What is no answer is skipped, as the reference does.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Cut> {
        while !self.ended {
            match self.reader.next_event().map_err(|_| Cut::BrokenOff)? {
                Some(event) => {
                    if let Some(piece) = self.piece(&event) {
                        return Ok(Some(piece));
                    }
                }
                None => match timeout_at(self.until, self.body.next()).await {
                    Err(_) => return Err(Cut::TooLong),
                    Ok(Some(bytes)) => self.reader.push(&bytes.map_err(|_| Cut::BrokenOff)?),
                    Ok(None) => return Err(Cut::BrokenOff),
                },
            }
        }
        Ok(None)
    }

    fn piece(&mut self, event: &str) -> Option<Bytes> {
        let answer = LlmAnswer::parse(event.as_bytes(), self.piece_bytes).ok()?;
        self.ended |= answer.is_last();
        if answer.usage.total_tokens > 0 && answer.is_last() {
            metrics::counter!("orchestrator_llm_tokens_total").increment(answer.usage.total_tokens);
        }
        let json = serde_json::to_string(&answer).ok()?;
        Some(format!("data: {json}\n\n").into())
    }

    /// Hands an answer whose first piece is there to `begin`, which says whether somebody waits for
    /// it; then passes on the rest.
    pub async fn pass_on(
        mut self,
        first: Bytes,
        begin: impl FnOnce(Words) -> bool,
    ) -> Result<(), Cut> {
        let (sender, pieces) = mpsc::channel(self.waiting);
        let (tell, over) = oneshot::channel();
        let _ = sender.try_send(Ok(first));
        if !begin(Words { pieces, over }) {
            return Err(Cut::Unheard);
        }
        let end = self.pass_rest(&sender).await;
        let _ = tell.send(end);
        end
    }

    async fn pass_rest(&mut self, sender: &mpsc::Sender<io::Result<Bytes>>) -> Result<(), Cut> {
        loop {
            let next = tokio::select! {
                next = self.next() => next,
                () = sender.closed() => return Err(Cut::Unheard),
            };
            let piece = match next {
                Ok(Some(piece)) => Ok(piece),
                Ok(None) => return Ok(()),
                Err(cut) => Err(cut),
            };
            let cut = piece.as_ref().err().copied();
            let sent = timeout_at(self.until, sender.send(piece.map_err(io::Error::other))).await;
            match (cut, sent) {
                (Some(cut), _) => return Err(cut),
                (None, Ok(Ok(()))) => {}
                (None, Ok(Err(_))) => return Err(Cut::Unheard),
                (None, Err(_)) => return Err(Cut::TooLong),
            }
        }
    }
}

impl Words {
    /// The gateway's answer. `ended` hears how the worker's upload has ended, whether or not the gateway listened
    /// to the end.
    pub fn into_response(self, ended: impl FnOnce(Result<(), Cut>) + Send + 'static) -> Response {
        let Self { pieces, over } = self;
        tokio::spawn(async move {
            // The upload was dropped: its worker has gone.
            ended(over.await.unwrap_or(Err(Cut::BrokenOff)));
        });
        let mut response = Response::new(Body::from_stream(ReceiverStream::new(pieces)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: &str = r#"data: {"choices":[{"index":0,"finish_reason":"stop"}]}"#;

    fn piece(word: &str) -> String {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}}}}]}}\n\n")
    }

    fn uploading(pieces: Vec<Result<String, &'static str>>) -> Uploading {
        let pieces = pieces.into_iter().map(|p| p.map_err(io::Error::other));
        Uploading::new(Body::from_stream(futures::stream::iter(pieces)), &Limits::default())
    }

    #[tokio::test]
    async fn a_stream_stops_after_its_last_piece() {
        let noise = ": hello\n\ndata: nonsense\n\n".to_owned();
        let pieces = vec![Ok(piece("a")), Ok(noise), Ok(format!("{LAST}\n\n{}", piece("late")))];
        let mut uploading = uploading(pieces);
        let first = uploading.next().await.unwrap().unwrap();
        assert!(first.starts_with(b"data: {\"id\"") && first.ends_with(b"}\n\n"));
        let mut heard = None;
        let passed = uploading.pass_on(first, |words| {
            heard = Some(words);
            true
        });
        assert_eq!(passed.await, Ok(()));
        let mut words = heard.unwrap();
        let mut count = 0;
        while let Some(piece) = words.pieces.recv().await {
            piece.unwrap();
            count += 1;
        }
        assert_eq!(count, 2);
        assert_eq!(words.over.await.unwrap(), Ok(()), "the upload is over");
    }

    #[tokio::test]
    async fn who_breaks_off_breaks_the_answer_off() {
        let mut broken = uploading(vec![Ok(piece("a")), Err("gone")]);
        let first = broken.next().await.unwrap().unwrap();
        let mut heard = None;
        let passed = broken.pass_on(first, |words| {
            heard = Some(words);
            true
        });
        assert_eq!(passed.await, Err(Cut::BrokenOff));
        let mut words = heard.unwrap();
        assert!(words.pieces.recv().await.unwrap().is_ok());
        assert!(words.pieces.recv().await.unwrap().is_err());
        let mut nothing = uploading(vec![Ok("data: {}\n\n".to_owned())]);
        assert_eq!(nothing.next().await, Err(Cut::BrokenOff));
        let mut silent = uploading(vec![Ok(piece("a"))]);
        silent.next().await.unwrap().unwrap();
        assert_eq!(silent.next().await, Err(Cut::BrokenOff), "no reason given");
    }

    #[tokio::test]
    async fn nobody_who_listens_cuts_the_worker_off() {
        let endless = futures::stream::iter([Ok::<_, io::Error>(piece("a"))])
            .chain(futures::stream::pending());
        let mut uploading = Uploading::new(Body::from_stream(endless), &Limits::default());
        let first = uploading.next().await.unwrap().unwrap();
        let passed = uploading.pass_on(first.clone(), |words| {
            drop(words);
            true
        });
        assert_eq!(passed.await, Err(Cut::Unheard));
    }
}
