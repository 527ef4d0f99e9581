//! Trickle: one publisher and many readers of each channel. Operation `n` is a segment of channel
//! `n % channels`; it says when it was due, so that each reader knows how late it came.

use super::{
    super::{
        drive::Failure,
        scenario::Trickle,
        tally::{Tally, Turn},
        target::Role,
    },
    Context,
};
use bytes::{Bytes, BytesMut};
use penstock_clients::{Reach, Trust};
use penstock_trickle::{
    Position,
    client::{
        ClientError, Publisher, PublisherOptions, Start, Subscriber, SubscriberOptions, Then, http,
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
    time::{Instant, timeout},
};

/// From when a segment was due until the server has it.
const PUBLISHED: &str = "published";
/// From when a segment was due until a reader has all of it.
const DELIVERY: &str = "delivery";
/// How long nothing may come before what is missing is given up.
const SILENCE: Duration = Duration::from_secs(20);

/// Channels with their readers.
pub struct Channels {
    publishers: Vec<Mutex<Publisher>>,
    readers: u64,
    bytes: usize,
    arrived: Arc<Arrived>,
    sent: AtomicU64,
    given_up: AtomicU64,
    _reading: JoinSet<()>,
}

/// What readers have.
struct Arrived {
    /// Times in segments count from here.
    clock: Instant,
    count: watch::Sender<u64>,
    tally: Arc<Tally>,
}

impl Channels {
    pub async fn prepare(context: &Context<'_>, trickle: &Trickle) -> Result<Self, String> {
        let http = http(Trust::AcceptAny, Reach::Anywhere).map_err(|error| error.to_string())?;
        let places: Vec<_> =
            context.target.all(Role::Trickle).take(trickle.channels).cloned().collect();
        let arrived = Arc::new(Arrived {
            clock: Instant::now(),
            count: watch::Sender::new(0),
            tally: Arc::clone(context.tally),
        });
        let (mut publishers, mut reading) = (Vec::new(), JoinSet::new());
        for place in &places {
            let options = PublisherOptions { start: Start::Join, ..PublisherOptions::default() };
            let publisher = Publisher::open(http.clone(), place.as_str(), options).await;
            let publisher = publisher.map_err(|error| format!("a channel: {error}"))?;
            let first = publisher.next_seq().ok_or("a channel without a number left")?;
            for _ in 0..trickle.readers {
                let options = SubscriberOptions {
                    start: Position::At(first),
                    ..SubscriberOptions::default()
                };
                let reader = Subscriber::new(http.clone(), place.as_str(), options);
                let reader = reader.map_err(|error| format!("a reader: {error}"))?;
                reading.spawn(read(reader, Arc::clone(&arrived), trickle.bytes));
            }
            publishers.push(Mutex::new(publisher));
        }
        let channels = Self {
            publishers,
            readers: trickle.readers as u64,
            bytes: trickle.bytes,
            arrived,
            sent: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            _reading: reading,
        };
        // All are connected when they have this one.
        for number in 0..channels.publishers.len() as u64 {
            let now = Instant::now();
            channels.run(Turn { number, due: now, begun: now }).await?;
        }
        channels.settle().await;
        match channels.missing() {
            0 => Ok(channels),
            missing => Err(format!("{missing} readers got nothing of a first segment")),
        }
    }

    pub async fn run(&self, turn: Turn) -> Result<(), Failure> {
        let place = turn.number as usize % self.publishers.len();
        let mut publisher = self.publishers[place].lock().await;
        let payload = stamped(self.bytes, &turn, self.arrived.clock);
        publisher.write(payload).await.map_err(|error| words(&error))?;
        self.sent.fetch_add(1, Ordering::SeqCst);
        self.arrived.tally.record(PUBLISHED, turn.due, turn.begun);
        Ok(())
    }

    /// Until every reader has every segment, or nothing comes any more.
    pub async fn settle(&self) {
        let wanted = self.sent.load(Ordering::SeqCst) * self.readers;
        let given_up = self.given_up.load(Ordering::SeqCst);
        let mut arrived = self.arrived.count.subscribe();
        while *arrived.borrow_and_update() + given_up < wanted {
            if timeout(SILENCE, arrived.changed()).await.is_err() {
                let missing = wanted - given_up - *self.arrived.count.borrow();
                self.given_up.fetch_add(missing, Ordering::SeqCst);
                self.arrived.tally.reason("segments that a reader did not get", missing);
                return;
            }
        }
    }

    fn missing(&self) -> u64 {
        self.given_up.load(Ordering::SeqCst)
    }
}

/// Segment after segment, to the end of the channel.
async fn read(mut reader: Subscriber, arrived: Arc<Arrived>, bytes: usize) {
    loop {
        let segment = match reader.next_segment().await {
            Ok(mut segment) => {
                let skipped = segment.skipped();
                if skipped > 0 {
                    arrived.tally.reason("segments that a reader was too late for", skipped);
                    arrived.count.send_modify(|count| *count += skipped);
                }
                segment.bytes(bytes).await
            }
            Err(error) => Err(error),
        };
        match segment.map(|segment| times(&segment, arrived.clock)) {
            Ok(Some((due, begun))) => {
                arrived.tally.record(DELIVERY, due, begun);
                arrived.count.send_modify(|count| *count += 1);
            }
            Ok(None) => arrived.tally.reason("segments of somebody else", 1),
            Err(ClientError::EndOfStream | ClientError::NoChannel) => return,
            Err(error) => {
                arrived.tally.reason(&format!("a reader: {}", words(&error)), 1);
                if error.then() == Then::Stop {
                    return;
                }
            }
        }
    }
}

/// So many bytes that begin with when it was due, and when it began.
fn stamped(bytes: usize, turn: &Turn, clock: Instant) -> Bytes {
    let mut payload = BytesMut::zeroed(bytes.max(16));
    for (part, time) in [(0, turn.due), (8, turn.begun)] {
        let ns = u64::try_from(time.duration_since(clock).as_nanos()).unwrap_or(u64::MAX);
        payload[part..part + 8].copy_from_slice(&ns.to_le_bytes());
    }
    payload.freeze()
}

fn times(segment: &[u8], clock: Instant) -> Option<(Instant, Instant)> {
    let time = |part: usize| {
        let bytes = segment.get(part..part + 8)?.try_into().ok()?;
        clock.checked_add(Duration::from_nanos(u64::from_le_bytes(bytes)))
    };
    Some((time(0)?, time(8)?))
}

fn words(error: &ClientError) -> Failure {
    match error {
        ClientError::Status { status, .. } => format!("trickle: {status}"),
        ClientError::NoSegment { .. } => "the channel has no such segment".to_owned(),
        other => other.to_string().split(':').next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_says_when_it_was_due() {
        let clock = Instant::now();
        let (due, begun) = (clock + Duration::from_millis(5), clock + Duration::from_secs(9));
        let payload = stamped(100, &Turn { number: 3, due, begun }, clock);
        assert_eq!(payload.len(), 100);
        assert_eq!(times(&payload, clock), Some((due, begun)));
        assert_eq!(times(&payload[..15], clock), None);
    }
}
