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
use std::{future::Future, io, time::Duration};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// As the network writes it.
    data: Bytes,
    /// Tokens of the answer up to here: as the runner counts them, one at least for each piece with words.
    tokens: u64,
    /// Whether it says why the answer ends.
    is_last: bool,
}

/// Who hears how an answer in pieces goes.
pub trait Listener: Send + 'static {
    /// The last piece is there. False: it is not passed on, and the answer breaks off.
    fn is_whole(&mut self) -> impl Future<Output = bool> + Send;

    /// The worker's upload is over, and pieces of so many tokens were passed on, whether or not the gateway listened to
    /// the end.
    fn over(self, end: Result<(), Cut>, tokens: u64) -> impl Future<Output = ()> + Send;
}

/// An answer that has begun.
#[derive(Debug)]
pub struct Words {
    pieces: mpsc::Receiver<io::Result<Piece>>,
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
    tokens: u64,
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
            tokens: 0,
            piece_bytes: limits.ai_piece_bytes,
            waiting: limits.ai_waiting_pieces,
        }
    }

    /// The next piece, written as the network does; `None` after the last, which says why it is: a
    /// stream that ends without was cut. (The end of a cancelled HTTP/2 stream looks like any other.)
    /// What is no answer is skipped, as the reference does.
    pub async fn next(&mut self) -> Result<Option<Piece>, Cut> {
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

    fn piece(&mut self, event: &str) -> Option<Piece> {
        let answer = LlmAnswer::parse(event.as_bytes(), self.piece_bytes).ok()?;
        self.ended |= answer.is_last();
        let deltas = answer.choices.iter().filter_map(|choice| choice.delta.as_ref());
        let has_words = deltas.into_iter().any(|delta| !delta.content.is_empty());
        self.tokens = self.tokens.saturating_add(u64::from(has_words));
        self.tokens = self.tokens.max(answer.usage.completion_tokens);
        if answer.usage.total_tokens > 0 && answer.is_last() {
            metrics::counter!("orchestrator_llm_tokens_total").increment(answer.usage.total_tokens);
        }
        let json = serde_json::to_string(&answer).ok()?;
        let data = format!("data: {json}\n\n").into();
        Some(Piece { data, tokens: self.tokens, is_last: self.ended })
    }

    /// Hands an answer whose first piece is there to `begin`, which says whether somebody waits for
    /// it; then passes on the rest.
    pub async fn pass_on(
        mut self,
        first: Piece,
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

    async fn pass_rest(&mut self, sender: &mpsc::Sender<io::Result<Piece>>) -> Result<(), Cut> {
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
                // Nor does anybody listen who has not taken it by the time that all of it may take.
                (None, Ok(Err(_)) | Err(_)) => return Err(Cut::Unheard),
            }
        }
    }
}

impl Words {
    /// The gateway's answer.
    pub fn into_response(self, listener: impl Listener) -> Response {
        let (to_gateway, pieces) = mpsc::channel(1);
        tokio::spawn(self.pass_on(to_gateway, listener));
        let mut response = Response::new(Body::from_stream(ReceiverStream::new(pieces)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    async fn pass_on(
        self,
        to_gateway: mpsc::Sender<io::Result<Bytes>>,
        mut listener: impl Listener,
    ) {
        let Self { mut pieces, over } = self;
        let (mut tokens, mut has_all) = (0, false);
        loop {
            let piece = tokio::select! {
                piece = pieces.recv() => piece,
                () = to_gateway.closed(), if !has_all => break,
            };
            // The upload is over.
            let Some(piece) = piece else { break };
            let is_last = piece.as_ref().is_ok_and(|piece| piece.is_last);
            let is_withheld = is_last && !listener.is_whole().await;
            let (told, data) = match piece {
                Ok(_) if is_withheld => (tokens, Err(io::Error::other("not in the books"))),
                Ok(piece) => (piece.tokens, Ok(piece.data)),
                Err(error) => (tokens, Err(error)),
            };
            if to_gateway.send(data).await.is_err() {
                break;
            }
            (tokens, has_all) = (told, is_last);
        }
        // By that the upload learns that nobody listens.
        drop((pieces, to_gateway));
        // It was dropped without a word: its worker has gone.
        listener.over(over.await.unwrap_or(Err(Cut::BrokenOff)), tokens).await;
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
        assert!(first.data.starts_with(b"data: {\"id\"") && first.data.ends_with(b"}\n\n"));
        assert_eq!((first.tokens, first.is_last), (1, false));
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

    /// What was heard of an answer.
    struct Heard {
        is_booked: bool,
        over: oneshot::Sender<(Result<(), Cut>, u64)>,
    }

    impl Listener for Heard {
        async fn is_whole(&mut self) -> bool {
            self.is_booked
        }

        async fn over(self, end: Result<(), Cut>, tokens: u64) {
            self.over.send((end, tokens)).unwrap();
        }
    }

    /// What a gateway that listens gets of these pieces, and what is heard of it.
    async fn passed(
        pieces: Vec<Result<String, &'static str>>,
        is_booked: bool,
    ) -> (Result<Bytes, axum::Error>, Result<(), Cut>, u64) {
        let mut uploading = uploading(pieces);
        let first = uploading.next().await.unwrap().unwrap();
        let (tell, heard) = oneshot::channel();
        let mut answer = None;
        let upload = uploading.pass_on(first, |words| {
            answer = Some(words.into_response(Heard { is_booked, over: tell }));
            true
        });
        // As far as its room goes, the upload does not wait for the gateway.
        let _ = upload.await;
        let body = axum::body::to_bytes(answer.unwrap().into_body(), 1 << 20).await;
        let (end, tokens) = heard.await.unwrap();
        (body, end, tokens)
    }

    #[tokio::test]
    async fn tokens_are_counted_and_the_last_piece_waits_for_the_books() {
        let usage = r#"data: {"choices":[{"index":0,"delta":{"content":"b c d"}}],"usage":{"completion_tokens":7}}"#;
        let pieces = || vec![Ok(piece("a")), Ok(format!("{usage}\n\n"))];
        let whole = || [pieces(), vec![Ok(format!("{LAST}\n\n"))]].concat();
        let (body, end, tokens) = passed(whole(), true).await;
        assert_eq!((end, tokens), (Ok(()), 7));
        assert!(body.unwrap().windows(4).any(|part| part == b"stop"));
        let (body, _, tokens) = passed(whole(), false).await;
        assert_eq!((body.is_err(), tokens), (true, 7), "who has not paid does not hear the end");
        // A worker that breaks off has brought what it has said.
        let (body, end, tokens) = passed([pieces(), vec![Err("gone")]].concat(), true).await;
        assert_eq!((body.is_err(), end, tokens), (true, Err(Cut::BrokenOff), 7));
        let twice = vec![Ok(piece("a")), Ok(piece("b")), Err("gone")];
        assert_eq!(passed(twice, true).await.2, 2, "a token a piece where nobody counts");
    }
}
