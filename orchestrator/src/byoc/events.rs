//! An answer that is a stream of events, line by line, for as long as it is paid (byoc.md section 5.2).

use super::job::{Answer, Meter};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use std::{convert::Infallible, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
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

async fn relay(mut meter: Meter, mut upstream: reqwest::Response, until: Instant, lines: Lines) {
    let mut charges = interval_at(Instant::now() + CHARGE_EVERY, CHARGE_EVERY);
    charges.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cut = Cutter::default();
    let end = loop {
        while let Some(line) = cut.next() {
            if contains(&line, DONE) {
                // Before the last word, so that the client reads it.
                let balance = meter.book().await;
                let told = format!("data: {{\"balance\": {}}}\n\n", balance.to_fixed(3));
                let _ = lines.send(Ok(told.into())).await;
            }
            let sent = tokio::select! {
                sent = lines.send(Ok(line)) => sent.is_ok(),
                () = sleep_until(until) => false,
            };
            if !sent {
                meter.book().await;
                return;
            }
        }
        tokio::select! {
            chunk = upstream.chunk() => match chunk {
                Ok(Some(chunk)) if cut.feed(&chunk) => {}
                _ => break End::Upstream,
            },
            _ = charges.tick() => if meter.book().await.is_negative() { break End::Funds },
            () = sleep_until(until) => break End::Time,
            () = lines.closed() => break End::Unheard,
        }
    };
    let balance = meter.book().await;
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
        let _ = lines.send(Ok(last)).await;
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
