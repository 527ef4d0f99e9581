//! Live channels with readers: every segment that the server acknowledged to its publisher has to reach each reader
//! whole, or the reader has to be told that it came too late for it.

use bytes::Bytes;
use penstock_clients::{Reach, Trust};
use penstock_trickle::{
    Position, Seq,
    client::{
        ClientError, Publisher, PublisherOptions, Start, Subscriber, SubscriberOptions, Then, http,
    },
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

/// Readers of each channel.
pub const READERS: usize = 3;
/// Between two segments of a channel.
const EVERY: Duration = Duration::from_secs(1);
const BYTES: usize = 16 << 10;
/// Before a publisher or a reader tries again.
const AGAIN: Duration = Duration::from_millis(200);
/// Enough of them to see what is wrong.
const MAX_WRONG: usize = 20;

/// What one reader has.
#[derive(Debug, Default)]
struct Read {
    /// What each segment began with.
    whole: BTreeMap<u64, u64>,
    /// Segments that it asked for and was told it is too late for, and whether its wire was bad then.
    late: BTreeMap<u64, bool>,
    /// The first number that it has not asked for.
    next: u64,
}

/// One channel.
#[derive(Debug)]
struct Channel {
    url: String,
    /// What the server acknowledged: what it begins with, by number.
    acknowledged: Mutex<BTreeMap<u64, u64>>,
    readers: Vec<Mutex<Read>>,
}

/// All of them.
#[derive(Debug)]
pub struct Channels {
    all: Vec<Arc<Channel>>,
    http: reqwest::Client,
    stop: Arc<AtomicBool>,
    is_bad: Arc<AtomicBool>,
    publishing: JoinSet<()>,
    reading: JoinSet<()>,
    wrong: Arc<Mutex<Vec<String>>>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Delivered {
    /// Channels, readers of all of them.
    pub channels: u64,
    /// Readers of all of them.
    pub readers: u64,
    /// Segments that the server acknowledged.
    pub acknowledged: u64,
    /// Segments that readers had, whole.
    pub read: u64,
    /// Segments that readers asked for and were told they are too late for.
    pub late: u64,
    /// Of them those of which readers were told so while nothing was wrong with their wire.
    pub late_in_calm: u64,
    /// Acknowledged ones that neither happened to.
    pub missing: u64,
}

impl Channels {
    /// Starts publishers and readers of these channels.
    pub async fn start(urls: Vec<String>) -> Self {
        let http = http(Trust::AcceptAny, Reach::Anywhere).expect("a client");
        let mut channels = Self {
            all: Vec::new(),
            http,
            stop: Arc::default(),
            is_bad: Arc::default(),
            publishing: JoinSet::new(),
            reading: JoinSet::new(),
            wrong: Arc::default(),
        };
        for url in urls {
            let publisher = channels.publisher(&url).await.expect("a channel");
            let first = publisher.next_seq().expect("a number").get();
            let read = || Mutex::new(Read { next: first, ..Read::default() });
            let channel = Arc::new(Channel {
                url,
                acknowledged: Mutex::default(),
                readers: std::iter::repeat_with(read).take(READERS).collect(),
            });
            for reader in 0..READERS {
                let task = Task::of(&channels, &channel);
                channels.reading.spawn(async move { task.read(reader).await });
            }
            let task = Task::of(&channels, &channel);
            channels.publishing.spawn(async move { task.publish(publisher).await });
            channels.all.push(channel);
        }
        channels
    }

    async fn publisher(&self, url: &str) -> Result<Publisher, ClientError> {
        let options = PublisherOptions { start: Start::Join, ..PublisherOptions::default() };
        Publisher::open(self.http.clone(), url, options).await
    }

    /// Nothing more is published; waits until all is read, or for so long.
    pub async fn end(mut self, patience: Duration) -> (Delivered, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.publishing.join_next().await {
            ended.expect("a publisher notes what it finds and does not panic");
        }
        let until = Instant::now() + patience;
        while self.delivered().missing > 0 && Instant::now() < until {
            sleep(AGAIN).await;
        }
        self.reading.shutdown().await;
        let wrong = self.wrong.lock().unwrap().clone();
        (self.delivered(), wrong)
    }

    /// To be told when the wire to them is bad, and when readers have had time to come back from that.
    pub fn wire_is_bad(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_bad)
    }

    /// What came of it so far.
    pub fn delivered(&self) -> Delivered {
        let mut sum = Delivered { channels: self.all.len() as u64, ..Delivered::default() };
        for channel in &self.all {
            let acknowledged = channel.acknowledged.lock().unwrap();
            sum.acknowledged += acknowledged.len() as u64;
            for reader in &channel.readers {
                reader.lock().unwrap().count(&acknowledged, &mut sum);
            }
        }
        sum
    }
}

impl Read {
    /// What it asked for is not there, and `latest` would be the next to begin: it goes on with the one after it, unless it
    /// is ahead of the server.
    fn is_late(&mut self, latest: u64, is_bad: bool) -> bool {
        let is_late = self.next < latest;
        if is_late {
            self.late.insert(self.next, is_bad);
            self.next += 1;
        }
        is_late
    }

    /// Each acknowledged segment: it is there whole, or the reader was told, or it is missing.
    fn count(&self, acknowledged: &BTreeMap<u64, u64>, sum: &mut Delivered) {
        sum.readers += 1;
        for (number, what) in acknowledged {
            match (self.whole.get(number), self.late.get(number)) {
                (Some(read), _) if read == what => sum.read += 1,
                (_, Some(was_bad)) => {
                    sum.late += 1;
                    sum.late_in_calm += u64::from(!was_bad);
                }
                _ => sum.missing += 1,
            }
        }
    }
}

/// What a task needs of it.
struct Task {
    channel: Arc<Channel>,
    http: reqwest::Client,
    stop: Arc<AtomicBool>,
    is_bad: Arc<AtomicBool>,
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Task {
    fn of(channels: &Channels, channel: &Arc<Channel>) -> Self {
        Self {
            channel: Arc::clone(channel),
            http: channels.http.clone(),
            stop: Arc::clone(&channels.stop),
            is_bad: Arc::clone(&channels.is_bad),
            wrong: Arc::clone(&channels.wrong),
        }
    }

    fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < MAX_WRONG {
            wrong.push(what);
        }
    }

    async fn publish(&self, mut publisher: Publisher) {
        let mut what = 0_u64;
        while !self.stop.load(Ordering::SeqCst) {
            let began = Instant::now();
            match publisher.write(payload(what)).await {
                Ok(number) => {
                    self.channel.acknowledged.lock().unwrap().insert(number.get(), what);
                }
                Err(error) if error.then() == Then::Stop => {
                    let options =
                        PublisherOptions { start: Start::Join, ..PublisherOptions::default() };
                    match Publisher::open(self.http.clone(), &self.channel.url, options).await {
                        Ok(again) => publisher = again,
                        Err(ClientError::NoChannel) => {
                            self.wrong(format!("a channel is gone: {error}"));
                            return;
                        }
                        Err(_) => sleep(AGAIN).await,
                    }
                }
                // Not acknowledged.
                Err(_) => {}
            }
            what += 1;
            sleep_until(began + EVERY).await;
        }
    }

    async fn read(&self, reader: usize) {
        let state = &self.channel.readers[reader];
        // It is told of each segment that is gone, and asks for the next one.
        let options =
            SubscriberOptions { start: at(state), resync: false, ..SubscriberOptions::default() };
        let reader = Subscriber::new(self.http.clone(), &self.channel.url, options);
        let mut reader = reader.expect("a channel's address");
        loop {
            let error = match reader.next_segment().await {
                Ok(mut segment) => {
                    let number = segment.seq().get();
                    match segment.bytes(BYTES).await {
                        Ok(bytes) => {
                            let mut read = state.lock().unwrap();
                            if number != read.next {
                                let asked = read.next;
                                self.wrong(format!("segment {asked} was asked for: {number}"));
                            }
                            read.next = read.next.max(number + 1);
                            read.whole.extend(stamp(&bytes).map(|what| (number, what)));
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if matches!(error, ClientError::EndOfStream | ClientError::NoChannel) {
                self.wrong(format!("a channel ended for its reader: {error}"));
                return;
            }
            let is_late = matches!(error, ClientError::NoSegment { latest: Some(latest), .. }
                if state.lock().unwrap().is_late(latest, self.is_bad.load(Ordering::SeqCst)));
            // What broke off is asked for again.
            reader.set_position(at(state));
            if !is_late {
                sleep(AGAIN).await;
            }
        }
    }
}

fn at(state: &Mutex<Read>) -> Position {
    Seq::new(state.lock().unwrap().next).map_or(Position::Next, Position::At)
}

fn payload(what: u64) -> Bytes {
    let mut bytes = vec![b'.'; BYTES];
    bytes[..8].copy_from_slice(&what.to_le_bytes());
    bytes.into()
}

/// What a whole segment begins with.
fn stamp(bytes: &[u8]) -> Option<u64> {
    let first = bytes.first_chunk::<8>().filter(|_| bytes.len() == BYTES)?;
    Some(u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_told_of_is_missing() {
        let mut read = Read { next: 3, ..Read::default() };
        assert!(!read.is_late(3, false), "not there yet");
        assert!(read.is_late(9, true));
        assert!(read.is_late(9, false));
        assert_eq!(read.next, 5);
        read.whole = BTreeMap::from([(5, 50), (6, 61)]);
        let acknowledged = BTreeMap::from([(3, 30), (4, 40), (5, 50), (6, 60), (7, 70)]);
        let mut sum = Delivered::default();
        read.count(&acknowledged, &mut sum);
        let wanted = Delivered {
            readers: 1,
            read: 1,
            late: 2,
            late_in_calm: 1,
            missing: 2,
            ..Delivered::default()
        };
        assert_eq!(sum, wanted, "another one is read in place of 6, and 7 nowhere");
        read.count(&BTreeMap::new(), &mut sum);
        assert_eq!((sum.late, sum.missing), (2, 2), "what was not acknowledged does not count");
    }

    #[test]
    fn only_whole_segments_count() {
        let whole = payload(7);
        assert_eq!(stamp(&whole), Some(7));
        assert_eq!(stamp(&whole[..BYTES - 1]), None);
        assert_eq!(stamp(&[]), None);
    }
}
