//! One `POST` in flight, whose body is sent as it comes.

use super::{
    ClientError, Wait,
    endpoint::Endpoint,
    error::{failed, success},
};
use crate::wire::{RESET, Seq};
use bytes::Bytes;
use futures::{Stream, stream};
use http::header::CONTENT_TYPE;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

/// Dropping it before the end breaks the request off.
#[derive(Debug)]
pub(super) struct Post {
    chunks: Option<mpsc::Sender<Bytes>>,
    /// The transport has taken a chunk, so the server may have it.
    taken: Arc<AtomicBool>,
    answer: AbortOnDropHandle<Result<(), ClientError>>,
    /// What the answer was, once it was there: a handle answers once.
    ended: Option<Result<(), ClientError>>,
}

impl Post {
    pub fn begin(endpoint: &Endpoint, seq: Seq, mime: &str, reset: bool) -> Self {
        // One chunk waits here, the rest waits at the caller: nothing piles up.
        let (chunks, queue) = mpsc::channel(1);
        let taken = Arc::new(AtomicBool::new(false));
        let body = reqwest::Body::wrap_stream(body(queue, Arc::clone(&taken)));
        let mut request = endpoint.post(seq).header(CONTENT_TYPE, mime).body(body);
        if reset {
            request = request.header(RESET, "1");
        }
        let answer = tokio::spawn(async move {
            let response = request.send().await.map_err(|error| failed(&error))?;
            success(response, seq).await.map(drop)
        });
        let answer = AbortOnDropHandle::new(answer);
        Self { chunks: Some(chunks), taken, answer, ended: None }
    }

    /// Whether the server may have a byte of it.
    pub fn is_taken(&self) -> bool {
        self.taken.load(Relaxed)
    }

    /// Whether the request is still under way.
    pub fn is_open(&self) -> bool {
        self.ended.is_none() && !self.answer.is_finished()
    }

    /// Hands over one chunk. An answer that comes before the body's end is an error.
    pub async fn send(&mut self, chunk: Bytes, deadline: Duration) -> Result<(), ClientError> {
        if let Some(ended) = &self.ended {
            return Err(too_early(ended));
        }
        let Some(chunks) = &self.chunks else { return Err(ClientError::SegmentClosed) };
        let ended = tokio::select! {
            biased;
            ended = &mut self.answer => Some(flat(ended)),
            sent = chunks.send(chunk) => match sent {
                Ok(()) => return Ok(()),
                Err(_) => None,
            },
            () = sleep(deadline) => return Err(ClientError::Deadline(Wait::Chunk)),
        };
        if ended.is_some() {
            self.ended = ended;
        }
        // Where only the body is gone, the answer, or what became of it, is about to be there.
        Err(too_early(&self.answered(deadline).await))
    }

    /// Ends the body and waits for the answer.
    pub async fn finish(&mut self, deadline: Duration) -> Result<(), ClientError> {
        self.chunks = None;
        self.answered(deadline).await
    }

    async fn answered(&mut self, deadline: Duration) -> Result<(), ClientError> {
        if self.ended.is_none() {
            match timeout(deadline, &mut self.answer).await {
                Ok(ended) => self.ended = Some(flat(ended)),
                Err(_) => return Err(ClientError::Deadline(Wait::Finish)),
            }
        }
        self.ended.clone().unwrap_or(Err(ClientError::SegmentClosed))
    }
}

/// A success before the body's end: the server has stopped listening.
fn too_early(ended: &Result<(), ClientError>) -> ClientError {
    ended.clone().err().unwrap_or(ClientError::SegmentClosed)
}

fn flat(ended: Result<Result<(), ClientError>, tokio::task::JoinError>) -> Result<(), ClientError> {
    ended.unwrap_or_else(|error| Err(ClientError::Broken(error.to_string())))
}

fn body(
    queue: mpsc::Receiver<Bytes>,
    taken: Arc<AtomicBool>,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold((queue, taken), |(mut queue, taken)| async move {
        let chunk = queue.recv().await?;
        taken.store(true, Relaxed);
        Some((Ok(chunk), (queue, taken)))
    })
}
