//! When a request under an `Idempotency-Key` whose holder has not let its hold lapse may be done anew all the same:
//! when the holder is certain to have ended. The argument is in docs/session-store.md.

use penstock_store::{Sight, Version};
use std::time::Duration;
use tokio::time::Instant;

/// The holder is looked for when its record has not changed for so long, which is longer than it takes to be
/// renewed; and so often from then on.
const LOOK_AFTER: Duration = Duration::from_millis(1_500);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// So long it has to be gone, whenever it is looked for.
const GONE_FOR: Duration = Duration::from_millis(2_500);
/// So long we have to have been connected without a break: after one a holder may need a while to be back.
const UNBROKEN_MS: u64 = 10_000;

/// What one who waits has seen of a holder.
#[derive(Debug)]
pub struct Watch {
    version: Version,
    since: Instant,
    looked: Option<Instant>,
    gone_since: Option<Instant>,
}

impl Watch {
    /// The record has this version now.
    pub fn new(version: Version, now: Instant) -> Self {
        Self { version, since: now, looked: None, gone_since: None }
    }

    /// The same, later. Whether to look for the holder.
    pub fn is_due(&mut self, version: Version, now: Instant) -> bool {
        if version != self.version {
            *self = Self::new(version, now);
        }
        match self.looked {
            None => now.saturating_duration_since(self.since) >= LOOK_AFTER,
            Some(at) => now.saturating_duration_since(at) >= LOOK_AGAIN,
        }
    }

    /// What was seen of it. Whether it has ended.
    pub fn has_ended(&mut self, sight: Sight, now: Instant) -> bool {
        self.looked = Some(now);
        let Sight::Gone { unbroken_ms } = sight else {
            self.gone_since = None;
            return false;
        };
        let since = *self.gone_since.get_or_insert(now);
        now.saturating_duration_since(since) >= GONE_FOR && unbroken_ms >= UNBROKEN_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: Sight = Sight::Gone { unbroken_ms: UNBROKEN_MS };

    /// Looks each tenth of a second, for so many; says after how many it is over.
    fn after(ticks: u32, mut seen: impl FnMut(u32) -> (Version, Sight)) -> Option<u32> {
        let start = Instant::now();
        let mut watch = Watch::new(seen(0).0, start);
        (0..ticks).find(|tick| {
            let now = start + Duration::from_millis(100) * *tick;
            let (version, sight) = seen(*tick);
            watch.is_due(version, now) && watch.has_ended(sight, now)
        })
    }

    #[test]
    fn who_is_gone_for_certain_is_succeeded() {
        let ours = Version(1);
        assert_eq!(
            after(100, |_| (ours, GONE)),
            Some(40),
            "four seconds after it was last heard of"
        );
        assert_eq!(after(200, |_| (ours, Sight::Here)), None, "it is stopped, or works on");
        assert_eq!(after(200, |_| (ours, Sight::Unknown)), None, "nobody can tell");
        // It lives.
        let renewed = |tick: u32| (Version(u64::from(tick / 39)), GONE);
        assert_eq!(after(200, renewed), None);
        // It was seen again meanwhile.
        let back = |tick| (ours, if tick == 35 { Sight::Here } else { GONE });
        assert_eq!(after(200, back), Some(65));
    }

    #[test]
    fn after_a_break_it_has_time_to_come_back() {
        let connected_at = |from: u32| {
            move |tick: u32| {
                let unbroken_ms = u64::from(tick.saturating_sub(from)) * 100;
                (Version(1), Sight::Gone { unbroken_ms })
            }
        };
        assert_eq!(after(300, connected_at(0)), Some(100));
        assert_eq!(after(300, connected_at(70)), Some(170));
    }
}
