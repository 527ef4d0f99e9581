//! A clock of the time that an orchestrator itself has had with a job. It stands while the job is paid for
//! or its results are fetched: a slow signer or a slow store is no reason to doubt whoever works.

use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

#[derive(Debug, Clone, Copy, Default)]
struct Ticks {
    /// Before the clock stood last.
    before: Duration,
    /// Since when it runs.
    since: Option<Instant>,
}

impl Ticks {
    fn run(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    fn stand(&mut self, now: Instant) {
        *self = Self { before: self.elapsed(now), since: None };
    }

    /// When that has passed, if the clock goes on running.
    fn due(&self, wanted: Duration) -> Option<Instant> {
        self.since.and_then(|since| since.checked_add(wanted.saturating_sub(self.before)))
    }

    fn elapsed(&self, now: Instant) -> Duration {
        let running = self.since.map(|since| now.saturating_duration_since(since));
        self.before.saturating_add(running.unwrap_or_default())
    }
}

/// The clock of one try.
#[derive(Debug)]
pub struct OwnTime(watch::Sender<Ticks>);

/// The clock runs while this is held.
#[derive(Debug)]
pub struct Runs<'a>(&'a OwnTime);

impl OwnTime {
    /// One that runs from now on, and one that stands.
    pub fn new(runs: bool) -> Self {
        let since = runs.then(Instant::now);
        Self(watch::Sender::new(Ticks { since, ..Ticks::default() }))
    }

    /// The orchestrator is at it from now on, until the value is dropped.
    pub fn run(&self) -> Runs<'_> {
        self.0.send_modify(|ticks| ticks.run(Instant::now()));
        Runs(self)
    }

    /// How long it has been at it.
    pub fn elapsed(&self) -> Duration {
        self.0.borrow().elapsed(Instant::now())
    }

    /// Until it has been at it for so long.
    pub async fn reaches(&self, wanted: Duration) {
        let mut heard = self.0.subscribe();
        loop {
            let ticks = *heard.borrow_and_update();
            let due = ticks.due(wanted);
            let reached = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // It is there as long as this is.
                _ = heard.changed() => {}
                () = reached => return,
            }
        }
    }
}

impl Drop for Runs<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|ticks| ticks.stand(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn only_the_orchestrators_time_counts() {
        let (mut ticks, begin) = (Ticks::default(), Instant::now());
        // A slow signer.
        assert_eq!((ticks.due(4 * S), ticks.elapsed(begin + 100 * S)), (None, Duration::ZERO));
        ticks.run(begin + 100 * S);
        assert_eq!(ticks.due(4 * S), Some(begin + 104 * S));
        ticks.run(begin + 101 * S);
        assert_eq!(ticks.elapsed(begin + 102 * S), 2 * S, "it ran already");
        ticks.stand(begin + 103 * S);
        // A slow store.
        assert_eq!((ticks.due(4 * S), ticks.elapsed(begin + 200 * S)), (None, 3 * S));
        // Asked once more after a refresh.
        ticks.run(begin + 300 * S);
        assert_eq!(ticks.due(4 * S), Some(begin + 301 * S));
        assert_eq!(ticks.elapsed(begin + 301 * S), 4 * S);
        assert_eq!(ticks.due(2 * S), Some(begin + 300 * S), "over already");
        assert_eq!(ticks.due(Duration::MAX), None);
    }

    #[tokio::test]
    async fn it_is_waited_for() {
        let clock = OwnTime::new(false);
        let mut reached = std::pin::pin!(clock.reaches(Duration::ZERO));
        assert!(reached.as_mut().now_or_never().is_none(), "nobody is at it");
        let runs = clock.run();
        tokio::time::timeout(60 * S, reached).await.unwrap();
        drop(runs);
        assert!(clock.reaches(clock.elapsed() + S).now_or_never().is_none());
        OwnTime::new(true).reaches(Duration::from_millis(1)).await;
    }
}
