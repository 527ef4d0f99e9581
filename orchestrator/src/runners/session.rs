//! One session of a live runner: what belongs to it, and whether anybody uses it.

use crate::{pricing::unit::Unit, release::Reason};
use penstock_domain::{Address, Rational};
use penstock_trickle::{ChannelWatch, Group, TrickleServer};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

/// How a session is paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    /// By whom.
    pub payer: Address,
    /// Wei a unit, as agreed.
    pub price: Rational,
    /// What is counted.
    pub unit: Unit,
}

/// A channel of a session.
#[derive(Debug, Clone)]
pub struct SessionChannel {
    /// Its name among all channels.
    pub channel: String,
    /// What it carries.
    pub mime: String,
    /// Whether it moves.
    pub watch: ChannelWatch,
}

/// A session.
pub struct Session {
    /// When it began; for the order in lists.
    pub begun: Instant,
    /// The same, Unix ms.
    pub begun_ms: i64,
    /// `None` where nobody pays, and until the payment is taken.
    pub paid: Option<Paid>,
    /// Units that it was charged for.
    pub units: Arc<AtomicU64>,
    /// Tells it from others that had, or will have, its name.
    pub generation: u64,
    /// Whether anybody has ever called it.
    pub visited: Arc<AtomicBool>,
    /// Cancelled when the first of it is delivered: a byte of an answer, or one through a channel.
    pub delivered: CancellationToken,
    /// Requests that were sent to its runner, and did not fail by it.
    pub asked: Arc<AtomicU64>,
    /// Why it has ended; known before `ended` is cancelled.
    pub why: Arc<OnceLock<Reason>>,
    /// Its channels, by their names in the session.
    pub channels: BTreeMap<String, SessionChannel>,
    /// What its channels share, once there is one.
    pub group: Option<Group>,
    /// Its proxies, and where they lead.
    pub proxies: BTreeMap<String, Url>,
    /// Cancelled when it ends: what it has open ends with it.
    pub ended: CancellationToken,
    /// Requests under way.
    pub open: usize,
    /// The same, when it has ended under them.
    pub visits: TaskTracker,
    seen: Instant,
    /// What had come through its channels when that was looked at last.
    moved: u64,
}

impl Session {
    /// One that begins now.
    pub fn new(generation: u64, now: Instant, now_ms: i64) -> Self {
        Self {
            begun: now,
            begun_ms: now_ms,
            paid: None,
            units: Arc::default(),
            generation,
            visited: Arc::default(),
            delivered: CancellationToken::new(),
            asked: Arc::default(),
            why: Arc::default(),
            channels: BTreeMap::new(),
            group: None,
            proxies: BTreeMap::new(),
            ended: CancellationToken::new(),
            open: 0,
            visits: TaskTracker::new(),
            seen: now,
            moved: 0,
        }
    }

    /// Somebody uses it.
    pub fn touch(&mut self, now: Instant) {
        self.seen = now;
    }

    /// Whether nobody has used it for so long. A channel counts while bytes come into it and somebody
    /// reads them: when a client dies, either its own stop or nobody reads what is for it.
    pub fn is_abandoned(&mut self, now: Instant, lease: Duration) -> bool {
        let moved: u64 = self
            .channels
            .values()
            .filter(|channel| channel.watch.readers() > 0)
            .map(|channel| channel.watch.received_bytes())
            .fold(0, u64::wrapping_add);
        let came = moved > self.moved;
        self.moved = moved;
        if self.open > 0 || came {
            self.seen = now;
        }
        now.saturating_duration_since(self.seen) > lease
    }

    /// Whether anything of it was delivered: nobody can say whose a byte is that came through a channel, but only a
    /// runner makes those, and only for a client.
    pub fn has_delivered(&self) -> bool {
        if self.channels.values().any(|channel| channel.watch.received_bytes() > 0) {
            self.delivered.cancel();
        }
        self.delivered.is_cancelled()
    }

    /// Ends what it has open, and closes its channels.
    pub fn end(&self, trickle: &TrickleServer) {
        // Later there are no channels to look at.
        self.has_delivered();
        self.ended.cancel();
        for channel in self.channels.values() {
            // A party may have closed it.
            let _ = trickle.close(&channel.channel);
        }
    }

    /// Units that it was charged for.
    pub fn units(&self) -> u64 {
        self.units.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use penstock_trickle::Settings;

    const LEASE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn abandoned_when_nobody_calls_and_nobody_listens() {
        let trickle = TrickleServer::new(Settings::default()).unwrap();
        let mut session = Session::new(0, Instant::now(), 0);
        trickle.create("s-out", "text/plain").unwrap();
        let watch = trickle.watch("s-out").unwrap();
        let (channel, mime) = ("s-out".to_owned(), "text/plain".to_owned());
        session.channels.insert("out".into(), SessionChannel { channel, mime, watch });
        let later = async |session: &mut Session| {
            tokio::time::advance(LEASE + Duration::from_secs(1)).await;
            session.is_abandoned(Instant::now(), LEASE)
        };
        session.open = 1;
        assert!(!later(&mut session).await, "a request is open");
        session.open = 0;
        assert!(later(&mut session).await);
        session.touch(Instant::now());
        // A runner that talks to nobody keeps nothing.
        let mut publisher = trickle.publisher("s-out", "text/plain");
        assert!(!session.has_delivered());
        publisher.write(Bytes::from_static(b"1")).unwrap();
        assert!(later(&mut session).await);
        assert!(!session.delivered.is_cancelled(), "nobody has looked");
        session.end(&trickle);
        assert!(session.ended.is_cancelled() && !trickle.exists("s-out"));
        assert!(session.delivered.is_cancelled(), "a byte had come");
    }
}
