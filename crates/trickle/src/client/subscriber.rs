//! Reads segment after segment, one request ahead.

use super::{
    ClientError, Deadlines, Then,
    endpoint::Endpoint,
    get::{Begun, begun},
    reader::SegmentReader,
};
use crate::wire::{Position, Seq};
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// How a subscriber behaves.
#[derive(Debug, Clone)]
pub struct SubscriberOptions {
    /// Where it begins.
    pub start: Position,
    /// A segment that is not there: go on where the server is, instead of failing.
    pub resync: bool,
    /// Failures in a row that are tried again (Go node: 5).
    pub max_failures: u32,
    /// Before a failed request is made again (Go node: 300 ms).
    pub retry_pause: Duration,
    /// Before a segment that is too far ahead is asked for again (SDK: 250 ms).
    pub ahead_pause: Duration,
    /// Deadlines.
    pub deadlines: Deadlines,
}

impl Default for SubscriberOptions {
    fn default() -> Self {
        Self {
            start: Position::Next,
            resync: true,
            max_failures: 5,
            retry_pause: Duration::from_millis(300),
            ahead_pause: Duration::from_millis(250),
            deadlines: Deadlines::default(),
        }
    }
}

/// Subscribes to one channel.
#[derive(Debug)]
pub struct Subscriber {
    endpoint: Endpoint,
    options: SubscriberOptions,
    at: Position,
    /// The number that would follow the last segment without a gap.
    expected: Option<Seq>,
    ahead: Option<AbortOnDropHandle<Result<Begun, ClientError>>>,
    failures: u32,
}

/// What follows from a failed request.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Ask there, after a pause.
    Ask(Position, Duration),
    /// Tell the caller.
    Tell,
}

impl Subscriber {
    /// Asks for nothing yet. `http` should be from [`http`](super::http()).
    pub fn new(
        http: reqwest::Client,
        url: &str,
        options: SubscriberOptions,
    ) -> Result<Self, ClientError> {
        let endpoint = Endpoint::new(http, url)?;
        let at = options.start;
        Ok(Self { endpoint, options, at, expected: None, ahead: None, failures: 0 })
    }

    /// Reads there next; a request that waits is let go, failures are forgotten.
    pub fn set_position(&mut self, at: Position) {
        self.ahead = None;
        self.at = at;
        self.expected = None;
        self.failures = 0;
    }

    /// The next segment, as soon as it has begun, with the request for the one after it under way.
    /// Waits as long as that takes. May be dropped half-way without losing a segment.
    ///
    /// Failures that may pass are tried again; the error is what failed `max_failures` times more,
    /// or what does not pass. [`ClientError::EndOfStream`] and [`ClientError::NoChannel`] are the
    /// regular ends.
    pub async fn next_segment(&mut self) -> Result<SegmentReader, ClientError> {
        loop {
            let error = match self.wait().await {
                Ok(begun) => return Ok(self.deliver(begun)),
                Err(error) => error,
            };
            match step(&error, self.at, self.failures, &self.options) {
                Step::Tell => return Err(error),
                Step::Ask(at, pause) => {
                    tracing::debug!(%error, %at, "asking again");
                    self.failures += 1;
                    self.at = at;
                    sleep(pause).await;
                }
            }
        }
    }

    async fn wait(&mut self) -> Result<Begun, ClientError> {
        let ahead = match &mut self.ahead {
            Some(ahead) => ahead,
            None => {
                let request = ask(&self.endpoint, self.at, &self.options);
                self.ahead.insert(request)
            }
        };
        let ended = ahead.await;
        self.ahead = None;
        ended.unwrap_or_else(|error| Err(ClientError::Broken(error.to_string())))
    }

    fn deliver(&mut self, begun: Begun) -> SegmentReader {
        let seq = begun.seq;
        let skipped = self.expected.map_or(0, |e| seq.get().saturating_sub(e.get()));
        self.failures = 0;
        self.expected = seq.next();
        // After the last number there is none to ask for; whatever comes next is asked for.
        self.at = seq.next().map_or(Position::Next, Position::At);
        self.ahead = Some(ask(&self.endpoint, self.at, &self.options));
        SegmentReader::new(begun, skipped, self.options.deadlines.silence)
    }
}

fn ask(
    endpoint: &Endpoint,
    at: Position,
    options: &SubscriberOptions,
) -> AbortOnDropHandle<Result<Begun, ClientError>> {
    let waiting = begun(endpoint.clone(), at, options.deadlines.refresh);
    AbortOnDropHandle::new(tokio::spawn(waiting))
}

/// Decides: where to ask after an error, and when.
fn step(error: &ClientError, at: Position, failures: u32, options: &SubscriberOptions) -> Step {
    if failures >= options.max_failures {
        return Step::Tell;
    }
    match error {
        ClientError::NoSegment { latest, .. } if options.resync => {
            match (at, latest.and_then(Seq::new)) {
                // Ahead of the server: it will come, or the publisher has gone back.
                (Position::At(wanted), Some(latest)) if latest < wanted => {
                    Step::Ask(at, options.ahead_pause)
                }
                (_, Some(latest)) => Step::Ask(latest.into(), Duration::ZERO),
                (_, None) => Step::Ask(Position::Next, Duration::ZERO),
            }
        }
        ClientError::Status { retry_after: Some(pause), .. } if error.then() == Then::Again => {
            Step::Ask(at, options.retry_pause.max((*pause).min(Duration::from_secs(5))))
        }
        _ if error.then() == Then::Again => Step::Ask(at, options.retry_pause),
        _ => Step::Tell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_ask_after_an_error() {
        let options = SubscriberOptions::default();
        let at = |n: u64| Position::At(Seq::new(n).unwrap());
        let gone = |latest| ClientError::NoSegment { asked: "7".to_owned(), latest };
        let after = |error: &ClientError, failures| step(error, at(7), failures, &options);
        // Fallen behind: to where the server is. Ahead of it: the same, a little later.
        assert_eq!(after(&gone(Some(20)), 0), Step::Ask(at(20), Duration::ZERO));
        assert_eq!(after(&gone(Some(7)), 0), Step::Ask(at(7), Duration::ZERO));
        assert_eq!(after(&gone(Some(3)), 0), Step::Ask(at(7), options.ahead_pause));
        assert_eq!(after(&gone(None), 0), Step::Ask(Position::Next, Duration::ZERO));
        assert_eq!(after(&gone(Some(20)), 5), Step::Tell);
        let broken = ClientError::Broken("x".to_owned());
        assert_eq!(after(&broken, 4), Step::Ask(at(7), options.retry_pause));
        assert_eq!(after(&broken, 5), Step::Tell);
        for end in [ClientError::EndOfStream, ClientError::NoChannel] {
            assert_eq!(after(&end, 0), Step::Tell);
        }
        let report = SubscriberOptions { resync: false, ..options };
        assert_eq!(step(&gone(Some(20)), at(7), 0, &report), Step::Tell);
    }
}
