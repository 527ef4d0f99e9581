//! A brought job's answer in events, handed on line by line as it comes. It ends after the line that
//! says `[DONE]` (byoc.md section 4).

use crate::service::{Gateway, pay::Funded, seen};
use bytes::Bytes;
use penstock_clients::AiStream;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// An orchestrator debits a stream in steps of so many seconds.
const STEP_S: u64 = 5;
/// Its clock and ours: a step that may have been taken is taken for taken. One too few would end in a
/// refusal, and credit bought anew.
const SLACK: Duration = Duration::from_secs(1);
/// Longest line.
const MAX_LINE: usize = 16 << 20;
/// What ends a stream.
const END: &[u8] = b"[DONE]";

/// Events on their way to a client. When it is dropped the orchestrator is hung up on, and what it
/// has debited until then is settled.
pub struct Events {
    gateway: Arc<Gateway>,
    upstream: AiStream,
    funded: Option<Funded>,
    started: Instant,
    lines: Lines,
    ended: bool,
}

impl Events {
    pub(super) fn new(gateway: Arc<Gateway>, upstream: AiStream, funded: Funded) -> Self {
        Self {
            gateway,
            upstream,
            funded: Some(funded),
            started: Instant::now(),
            lines: Lines::default(),
            ended: false,
        }
    }

    /// The next lines, as they came; `None` after the one that says `[DONE]`, or at the end. After an
    /// error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Bytes, String>> {
        while !self.ended {
            match self.upstream.chunk().await {
                Ok(Some(chunk)) => {
                    let lines = match self.lines.add(&chunk) {
                        Ok(Some(lines)) => lines,
                        Ok(None) => continue,
                        Err(TooLong) => {
                            self.ended = true;
                            return Some(Err("a line that is too long".to_owned()));
                        }
                    };
                    let (lines, is_last) = until_done(lines);
                    self.ended = is_last;
                    return Some(Ok(lines.into()));
                }
                Ok(None) => {
                    self.ended = true;
                    let rest = std::mem::take(&mut self.lines.rest);
                    return (!rest.is_empty()).then(|| Ok(rest.into()));
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error.message()));
                }
            }
        }
        None
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let Some(funded) = self.funded.take() else { return };
        let used = seconds_debited(self.started.elapsed());
        let price = funded.session.offer.price.map(|price| price.rational());
        seen::cost(seen::BYOC, used, price.as_ref());
        let gateway = Arc::clone(&self.gateway);
        self.gateway.jobs.spawn(async move { gateway.settle(&funded, used).await });
    }
}

fn seconds_debited(took: Duration) -> u64 {
    (took + SLACK).as_secs() / STEP_S * STEP_S
}

/// Bytes put together to whole lines.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
struct TooLong;

impl Lines {
    /// The lines that are whole now.
    fn add(&mut self, chunk: &[u8]) -> Result<Option<Vec<u8>>, TooLong> {
        let Some(end) = chunk.iter().rposition(|b| *b == b'\n') else {
            self.rest.extend_from_slice(chunk);
            return if self.rest.len() > MAX_LINE { Err(TooLong) } else { Ok(None) };
        };
        let (whole, rest) = chunk.split_at(end + 1);
        let mut lines = std::mem::replace(&mut self.rest, rest.to_vec());
        lines.extend_from_slice(whole);
        Ok(Some(lines))
    }
}

/// The lines up to the one that says `[DONE]`, with the empty one that ends its event; and whether
/// it was there.
fn until_done(mut lines: Vec<u8>) -> (Vec<u8>, bool) {
    let Some(at) = lines.windows(END.len()).position(|w| w == END) else { return (lines, false) };
    let after = lines.get(at..).unwrap_or_default();
    let end = after.iter().position(|b| *b == b'\n').map_or(lines.len(), |n| at + n + 1);
    lines.truncate(end);
    lines.push(b'\n');
    (lines, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps() {
        let debited = |ms| seconds_debited(Duration::from_millis(ms));
        assert_eq!([debited(0), debited(3_900), debited(4_000), debited(9_500)], [0, 0, 5, 10]);
    }

    #[test]
    fn lines_are_whole() {
        let mut lines = Lines::default();
        assert_eq!(lines.add(b"data: a"), Ok(None));
        assert_eq!(lines.add(b"b\n\ndata").unwrap().unwrap(), b"data: ab\n\n");
        assert_eq!(lines.add(b": c\n").unwrap().unwrap(), b"data: c\n");
        assert_eq!(lines.rest, b"");
        assert_eq!(lines.add(&vec![b'x'; MAX_LINE]), Ok(None));
        assert_eq!(lines.add(b"x"), Err(TooLong));
    }

    #[test]
    fn nothing_follows_done() {
        let of = |text: &str| {
            let (lines, last) = until_done(text.as_bytes().to_vec());
            (String::from_utf8(lines).unwrap(), last)
        };
        assert_eq!(of("data: a\n"), ("data: a\n".to_owned(), false));
        let done = ("data: a\n\ndata: [DONE]\n\n".to_owned(), true);
        assert_eq!(of("data: a\n\ndata: [DONE]\n"), done);
        assert_eq!(of("data: a\n\ndata: [DONE]\n\n\n\n\ndata: b\n"), done);
    }
}
