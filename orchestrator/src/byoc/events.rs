//! An answer that is a stream of events, line by line, for as long as it is paid (byoc.md section 5.2). Lines are
//! passed on as they come; `[DONE]`, and the end of the answer, when all is booked: otherwise it breaks off. The time
//! until a line came is owed; what passes after the last one, before its worker fails, is not.

use super::{
    job::Answer,
    meter::{Cut, Left, Meter},
};
use crate::release::Reason;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use std::{io, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;

/// What ends a stream.
const DONE: &[u8] = b"[DONE]";
/// For the last words: as long as a peer may take nothing anywhere else.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// The head at once, the events as they come.
pub async fn answer(
    mut meter: Meter,
    answer: reqwest::Response,
    (until, is_clients_time): (Instant, bool),
) -> Answer {
    let limits = *meter.limits();
    let metadata = answer.headers().get("x-metadata").cloned();
    let balance = meter.settle().await.whole();
    let (lines, waiting) = mpsc::channel(limits.byoc_waiting_lines);
    let paid = Paid { meter, until, is_clients_time, has_lines: false };
    tokio::spawn(relay(paid, answer, lines, limits.byoc_line_bytes));
    Answer {
        status: StatusCode::OK,
        content_type: Some(HeaderValue::from_static("text/event-stream")),
        metadata,
        balance,
        body: Body::from_stream(ReceiverStream::new(waiting)),
        length: None,
        is_events: true,
        reason: None,
    }
}

type Lines = mpsc::Sender<io::Result<Bytes>>;

/// Why the events end.
enum End {
    /// The worker has said all.
    Upstream,
    /// The worker broke off, or said a line that is too long.
    Broken,
    /// Its time, or its money, is over.
    Cut(Cut),
    /// The worker is about to say that it is done, and that could not be booked.
    Unbooked,
    /// Nobody reads them.
    Unheard,
}

impl From<Cut> for End {
    fn from(cut: Cut) -> Self {
        Self::Cut(cut)
    }
}

async fn relay(mut paid: Paid, mut upstream: reqwest::Response, lines: Lines, line_bytes: usize) {
    let mut cut = Cutter::new(line_bytes);
    let end = match paid.pass_all(&mut upstream, &mut cut, &lines).await {
        Ok(()) => End::Upstream,
        Err(end) => end,
    };
    drop(upstream);
    let (why, is_delivered) = paid.owe_at(&end);
    let Some((balance, meter)) = paid.meter.end(why, is_delivered).await else {
        let broken = Err(io::Error::other("the ledger is not available"));
        let _ = tokio::time::timeout(LAST_WORDS, lines.send(broken)).await;
        return;
    };
    // The room is free, whether or not the last words are heard.
    drop(meter);
    let last = match end {
        End::Upstream | End::Broken => cut.rest(),
        End::Cut(Cut::Time | Cut::NoBooks) | End::Unbooked => {
            let told = balance_line(&balance);
            format!("{told}data: [DONE]\n\n").into()
        }
        End::Cut(Cut::Funds) => Bytes::from_static(
            b"event: insufficient balance\ndata: {\"balance\": 0}\n\ndata: [DONE]\n\n",
        ),
        End::Unheard => Bytes::new(),
    };
    if !last.is_empty() {
        let _ = tokio::time::timeout(LAST_WORDS, lines.send(Ok(last))).await;
    }
}

/// What bounds every wait of a stream: its money and its time.
struct Paid {
    meter: Meter,
    until: Instant,
    /// Whether that is what the client asked for.
    is_clients_time: bool,
    /// Whether the worker has said anything.
    has_lines: bool,
}

impl Paid {
    /// What is owed at the end, why it came, and whether what is booked has been delivered.
    fn owe_at(&mut self, end: &End) -> (Reason, bool) {
        let meter = &mut self.meter;
        match end {
            End::Upstream => {
                meter.went_well();
                (Reason::Completed, true)
            }
            // As much as it was paid for.
            End::Cut(cut) => {
                match cut {
                    Cut::Time if !self.has_lines => meter.timed_out(self.is_clients_time),
                    // What came was wanted, and no more of it in the client's own time.
                    Cut::Time if self.is_clients_time => meter.owe(),
                    Cut::Funds => meter.owe(),
                    Cut::Time | Cut::NoBooks => {}
                }
                (cut.reason(), true)
            }
            // What it has said was passed on, and is all that is owed.
            End::Broken => {
                meter.worker_failed(Reason::WorkerFailed);
                (Reason::WorkerFailed, true)
            }
            End::Unbooked => (Reason::LedgerUnavailable, false),
            End::Unheard => {
                meter.owe();
                (Reason::ClientGone, false)
            }
        }
    }

    /// Line by line until the worker has said all, or something else ends it.
    async fn pass_all(
        &mut self,
        upstream: &mut reqwest::Response,
        cut: &mut Cutter,
        lines: &Lines,
    ) -> Result<(), End> {
        loop {
            while let Some(line) = cut.next() {
                self.has_lines = true;
                self.meter.owe();
                if contains(&line, DONE) {
                    // Before the last word, so that the client reads it.
                    let balance = self.meter.paid_yet().await.ok_or(End::Unbooked)?;
                    let told = balance_line(&balance);
                    if !told.is_empty() {
                        self.pass(told.into(), lines).await?;
                    }
                }
                self.pass(line, lines).await?;
            }
            let next = async {
                tokio::select! {
                    chunk = upstream.chunk() => Ok(chunk),
                    () = lines.closed() => Err(End::Unheard),
                }
            };
            match self.meter.during(Some(self.until), next).await?? {
                Ok(Some(chunk)) if cut.feed(&chunk) => {}
                Ok(None) => return Ok(()),
                Ok(Some(_)) | Err(_) => return Err(End::Broken),
            }
        }
    }

    /// One line. A client that does not read goes on paying.
    async fn pass(&mut self, line: Bytes, lines: &Lines) -> Result<(), End> {
        self.meter.owe_all();
        let sent = self.meter.during(Some(self.until), lines.send(Ok(line))).await?;
        self.meter.owe();
        sent.map_err(|_| End::Unheard)
    }
}

/// What is left, as an event; none where that is not known.
fn balance_line(left: &Left) -> String {
    left.told(3).map_or_else(String::new, |wei| format!("data: {{\"balance\": {wei}}}\n\n"))
}

fn contains(line: &[u8], what: &[u8]) -> bool {
    line.windows(what.len()).any(|part| part == what)
}

/// Lines out of chunks, each with its end.
struct Cutter {
    rest: BytesMut,
    /// Longest line.
    line_bytes: usize,
}

impl Cutter {
    fn new(line_bytes: usize) -> Self {
        Self { rest: BytesMut::new(), line_bytes }
    }

    /// False: a line is too long.
    fn feed(&mut self, chunk: &[u8]) -> bool {
        if self.rest.len() + chunk.len() > self.line_bytes {
            return false;
        }
        self.rest.extend_from_slice(chunk);
        true
    }

    fn next(&mut self) -> Option<Bytes> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        Some(self.rest.split_to(end + 1).freeze())
    }

    /// A last line without an end.
    fn rest(&mut self) -> Bytes {
        self.rest.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        let mut cut = Cutter::new(64);
        assert!(cut.feed(b"data: a\n\nda") && cut.feed(b"ta: [DO") && cut.feed(b"NE]\nx"));
        let lines: Vec<_> = std::iter::from_fn(|| cut.next()).collect();
        assert_eq!(lines, ["data: a\n", "\n", "data: [DONE]\n"]);
        assert_eq!((contains(&lines[2], DONE), contains(&lines[0], DONE)), (true, false));
        assert_eq!(cut.rest(), "x");
        assert!(!cut.feed(&[b'x'; 65]));
    }
}
