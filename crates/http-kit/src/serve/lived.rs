//! How long this process has been at work: a clock that stands still while the process is stopped, its machine
//! paused or without a processor. What others owe us is counted by it: they could do nothing about such a time,
//! and nobody has looked yet at what they did in it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Of a stop, so much counts.
const TICK: Duration = Duration::from_millis(250);

/// The clock.
#[derive(Debug)]
pub struct Lived(Mutex<Counted>);

#[derive(Debug)]
struct Counted {
    lived: Duration,
    /// When the last tick came.
    ticked: Instant,
}

impl Counted {
    fn now(&self, now: Instant) -> Duration {
        self.lived.saturating_add(now.saturating_duration_since(self.ticked).min(TICK))
    }
}

impl Lived {
    /// From now on, with a task that ticks for as long as anybody has the clock.
    pub fn start() -> Arc<Self> {
        let begun = Counted { lived: Duration::ZERO, ticked: Instant::now() };
        let clock = Arc::new(Self(Mutex::new(begun)));
        let ticking = Arc::downgrade(&clock);
        tokio::spawn(async move {
            loop {
                sleep(TICK).await;
                let Some(clock) = ticking.upgrade() else { return };
                clock.tick();
            }
        });
        clock
    }

    fn tick(&self) {
        let now = Instant::now();
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counted = Counted { lived: counted.now(now), ticked: now };
    }

    /// Since it was started.
    pub fn now(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn it_stands_still_while_nothing_runs() {
        let clock = Lived::start();
        sleep(Duration::from_secs(60)).await;
        let before = clock.now();
        assert!(before >= Duration::from_secs(59), "{before:?}");
        for _ in 0..10 {
            // Not a task of ours runs, and no timer.
            advance(Duration::from_secs(86_400)).await;
        }
        assert!(clock.now() <= before + 11 * TICK, "{:?}", clock.now());
    }
}
