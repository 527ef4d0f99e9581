//! llm answers in pieces: from the runner's events to the orchestrator's, each sent on as it comes.

use super::{client::RunnerError, pool::Lease};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use penstock_wire::{
    ai::events::EventReader,
    json::{AiResult, LlmAnswer},
};
use std::io;

/// What `[DONE]` is called on the network, which has no such line: an answer without a piece that says why
/// it ended has broken off.
const DONE: &str = r#"{"choices":[{"index":0,"finish_reason":"stop"}]}"#;

/// A runner's stream, read piece by piece.
pub struct Pieces {
    runner: BoxStream<'static, Result<Bytes, RunnerError>>,
    reader: EventReader,
    ended: bool,
    piece_bytes: usize,
}

impl Pieces {
    /// Of a runner's body, no piece longer than `piece_bytes`.
    pub fn new(runner: BoxStream<'static, Result<Bytes, RunnerError>>, piece_bytes: usize) -> Self {
        Self { runner, reader: EventReader::new(piece_bytes), ended: false, piece_bytes }
    }

    /// The next piece as the network writes it; `None` after the last, which says why it is. Lines that
    /// are no answer are skipped, as the reference does.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RunnerError> {
        while !self.ended {
            let event = self.reader.next_event().map_err(|_| malformed())?;
            let Some(event) = event else {
                match self.runner.next().await {
                    Some(bytes) => self.reader.push(&bytes?),
                    None => return Err(malformed()),
                }
                continue;
            };
            let event = if event == "[DONE]" { DONE } else { &event };
            if let Some(piece) = self.piece(event) {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    fn piece(&mut self, event: &str) -> Option<Bytes> {
        let answer = LlmAnswer::parse(event.as_bytes(), self.piece_bytes).ok()?;
        self.ended |= answer.is_last();
        let json = serde_json::to_string(&answer).ok()?;
        Some(format!("data: {json}\n\n").into())
    }

    /// The body of the upload, piece by piece. An error breaks the upload off, so that half an answer is
    /// not taken for a whole one. The runner is free when this is dropped.
    pub fn body(self, lease: Lease) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        futures::stream::unfold(Some((self, lease)), async |state| {
            let (mut pieces, lease) = state?;
            match pieces.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some((pieces, lease)))),
                Ok(None) => None,
                Err(error) => {
                    tracing::warn!(%error, "a runner's stream broke off");
                    Some((Err(io::Error::other(error)), None))
                }
            }
        })
    }
}

fn malformed() -> RunnerError {
    RunnerError::Malformed { name: "LLM".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_PIECE_BYTES: usize = 1 << 16;

    async fn read(bytes: &[&str]) -> (Vec<String>, bool) {
        let bytes: Vec<_> =
            bytes.iter().map(|b| Ok(Bytes::copy_from_slice(b.as_bytes()))).collect();
        let mut pieces = Pieces::new(futures::stream::iter(bytes).boxed(), MAX_PIECE_BYTES);
        let mut found = Vec::new();
        loop {
            match pieces.next().await {
                Ok(Some(piece)) => found.push(String::from_utf8(piece.to_vec()).unwrap()),
                Ok(None) => return (found, true),
                Err(_) => return (found, false),
            }
        }
    }

    #[tokio::test]
    async fn pieces_end_with_a_reason_or_done() {
        let piece = |word: &str| {
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{word}\"}}}}]}}\n\n")
        };
        let last = "data: {\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\n";
        let (found, whole) = read(&[&piece("a"), "data: nonsense\n\n", last, &piece("late")]).await;
        assert!(whole && found.len() == 2, "{found:?}");
        assert!(found[0].starts_with("data: {\"id\":\"\"") && found[0].ends_with("}\n\n"));
        let (found, whole) = read(&[&piece("a"), "data: [DONE]\n\n", &piece("late")]).await;
        assert!(whole && found[1].contains("finish_reason"), "{found:?}");
        let (found, whole) = read(&[&piece("a"), piece("b").trim_end()]).await;
        assert!(!whole && found.len() == 1, "it broke off");
        let (found, whole) = read(&[&piece("a"), &"x".repeat(MAX_PIECE_BYTES + 1)]).await;
        assert!(!whole && found.len() == 1, "a line without end");
    }
}
