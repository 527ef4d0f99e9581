//! An answer that is a stream of events, line by line, for as long as it is paid (byoc.md section 5.2).

use super::job::{Answer, Meter};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use std::{convert::Infallible, pin::pin, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;

/// Between two charges.
const CHARGE_EVERY: Duration = Duration::from_secs(5);
/// Longest line.
const MAX_LINE: usize = 1 << 20;
/// What ends a stream.
const DONE: &[u8] = b"[DONE]";
/// Lines that wait for the client.
const WAITING: usize = 16;
/// For the last words: as long as a peer may take nothing anywhere else.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// The head at once, the events as they come.
pub async fn answer(mut meter: Meter, answer: reqwest::Response, time: Duration) -> Answer {
    let metadata = answer.headers().get("x-metadata").cloned();
    let balance = meter.book().await.to_fixed(0);
    let (lines, waiting) = mpsc::channel(WAITING);
    tokio::spawn(relay(meter, answer, Instant::now() + time, lines));
    Answer {
        status: StatusCode::OK,
        content_type: Some(HeaderValue::from_static("text/event-stream")),
        metadata,
        balance,
        body: Body::from_stream(ReceiverStream::new(waiting)),
        is_events: true,
    }
}

type Lines = mpsc::Sender<Result<Bytes, Infallible>>;

/// Why the events end.
enum End {
    /// The worker has said all, or broke off.
    Upstream,
    /// The job's time is over.
    Time,
    /// The balance is used up.
    Funds,
    /// Nobody reads them.
    Unheard,
}

async fn relay(meter: Meter, mut upstream: reqwest::Response, until: Instant, lines: Lines) {
    let mut charges = interval_at(Instant::now() + CHARGE_EVERY, CHARGE_EVERY);
    charges.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cut = Cutter::default();
    let mut paid = Paid { meter, charges, until };
    let end = match paid.pass_all(&mut upstream, &mut cut, &lines).await {
        Ok(()) => End::Upstream,
        Err(end) => end,
    };
    let balance = paid.meter.book().await;
    // The room is free, whether or not the last words are heard.
    drop((paid, upstream));
    let last = match end {
        End::Upstream => cut.rest(),
        End::Time => {
            format!("data: {{\"balance\": {}}}\n\ndata: [DONE]\n\n", balance.to_fixed(3)).into()
        }
        End::Funds => Bytes::from_static(
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
    charges: Interval,
    until: Instant,
}

impl Paid {
    /// Line by line until the worker has said all, or something else ends it.
    async fn pass_all(
        &mut self,
        upstream: &mut reqwest::Response,
        cut: &mut Cutter,
        lines: &Lines,
    ) -> Result<(), End> {
        loop {
            while let Some(line) = cut.next() {
                if contains(&line, DONE) {
                    // Before the last word, so that the client reads it.
                    let balance = self.meter.book().await;
                    let told = format!("data: {{\"balance\": {}}}\n\n", balance.to_fixed(3));
                    self.pass(told.into(), lines).await?;
                }
                self.pass(line, lines).await?;
            }
            let chunk = tokio::select! {
                chunk = upstream.chunk() => chunk,
                () = lines.closed() => return Err(End::Unheard),
                due = self.due() => {
                    due?;
                    self.charge().await?;
                    continue;
                }
            };
            match chunk {
                Ok(Some(chunk)) if cut.feed(&chunk) => {}
                _ => return Ok(()),
            }
        }
    }

    /// One line. A client that does not read goes on paying.
    async fn pass(&mut self, line: Bytes, lines: &Lines) -> Result<(), End> {
        let mut sent = pin!(lines.send(Ok(line)));
        loop {
            tokio::select! {
                sent = &mut sent => return sent.map_err(|_| End::Unheard),
                due = self.due() => {
                    due?;
                    self.charge().await?;
                }
            }
        }
    }

    /// Waits for the next charge, or the end of the time. Safe to drop half-way, which a charge is not.
    async fn due(&mut self) -> Result<(), End> {
        tokio::select! {
            _ = self.charges.tick() => Ok(()),
            () = sleep_until(self.until) => Err(End::Time),
        }
    }

    async fn charge(&mut self) -> Result<(), End> {
        if self.meter.book().await.is_negative() { Err(End::Funds) } else { Ok(()) }
    }
}

fn contains(line: &[u8], what: &[u8]) -> bool {
    line.windows(what.len()).any(|part| part == what)
}

/// Lines out of chunks, each with its end.
#[derive(Default)]
struct Cutter(BytesMut);

impl Cutter {
    /// False: a line is too long.
    fn feed(&mut self, chunk: &[u8]) -> bool {
        if self.0.len() + chunk.len() > MAX_LINE {
            return false;
        }
        self.0.extend_from_slice(chunk);
        true
    }

    fn next(&mut self) -> Option<Bytes> {
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        Some(self.0.split_to(end + 1).freeze())
    }

    /// A last line without an end.
    fn rest(&mut self) -> Bytes {
        self.0.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        let mut cut = Cutter::default();
        assert!(cut.feed(b"data: a\n\nda") && cut.feed(b"ta: [DO") && cut.feed(b"NE]\nx"));
        let lines: Vec<_> = std::iter::from_fn(|| cut.next()).collect();
        assert_eq!(lines, ["data: a\n", "\n", "data: [DONE]\n"]);
        assert_eq!((contains(&lines[2], DONE), contains(&lines[0], DONE)), (true, false));
        assert_eq!(cut.rest(), "x");
        assert!(!cut.feed(&vec![b'x'; MAX_LINE + 1]));
    }
}
