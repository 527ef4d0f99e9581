//! How far what is read is behind the chain: in seconds, by the time of the newest block that was read; in blocks, by the
//! highest one that any endpoint has shown, which is more than the newest one read where the endpoint that answers now
//! has fallen behind another.

use crate::rpc::wire::Head;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The newest block read, and the highest ever read.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    number: u64,
    /// Seconds since 1970.
    made_s: u64,
    highest: u64,
}

/// How far behind it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Behind {
    pub number: u64,
    pub blocks: u64,
    pub seconds: u64,
}

impl Lag {
    /// The newest block is this, as an endpoint says whose height is believed.
    pub(crate) fn read(&self, head: &Head) {
        if let (Some(number), Some(made_s)) = (head.number.to_u64(), head.timestamp.to_u64()) {
            self.note(number, made_s);
        }
    }

    fn note(&self, number: u64, made_s: u64) {
        let mut seen = self.seen();
        let highest = seen.map_or(number, |seen| seen.highest.max(number));
        *seen = Some(Seen { number, made_s, highest });
    }

    /// Nothing before the first block is read.
    pub(crate) fn behind(&self, now: SystemTime) -> Option<Behind> {
        let Seen { number, made_s, highest } = (*self.seen())?;
        let now_s = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // A block from the future is not behind; how far it may be ahead is another's question.
        let (blocks, seconds) = (highest.saturating_sub(number), now_s.saturating_sub(made_s));
        Some(Behind { number, blocks, seconds })
    }

    /// Puts it into the metrics, and says what is wrong with it, if it is more than `most`.
    pub(crate) fn tell(&self, most: Option<Duration>) -> Option<String> {
        let behind = self.behind(SystemTime::now())?;
        let shown = |value| u32::try_from(value).unwrap_or(u32::MAX);
        metrics::gauge!("chain_seen_block").set(shown(behind.number));
        metrics::gauge!("chain_block_lag_blocks").set(shown(behind.blocks));
        metrics::gauge!("chain_block_lag_seconds").set(shown(behind.seconds));
        too_far(behind, most?)
    }

    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        // A panic cannot leave plain values in a bad state.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_far(behind: Behind, most: Duration) -> Option<String> {
    let Behind { number, blocks, seconds } = behind;
    (seconds > most.as_secs().saturating_add(1)).then(|| {
        format!(
            "the newest block of --chain that was read, {number}, is {seconds} s old and {blocks} blocks behind, more than \
             --eth-max-head-age-ms {}",
            most.as_millis()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_behind_the_clock_and_the_highest_block() {
        let (lag, at) = (Lag::default(), |s| UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(lag.behind(at(9)), None);
        lag.note(100, 1_000);
        let behind = |blocks, seconds| Some(Behind { number: 100, blocks, seconds });
        assert_eq!(lag.behind(at(1_000)), behind(0, 0));
        assert_eq!(lag.behind(at(1_030)), behind(0, 30), "it grows while nothing is read");
        assert_eq!(lag.behind(at(999)), behind(0, 0), "a clock that is late");
        // Another endpoint is further on, then the first one answers again.
        lag.note(140, 1_040);
        lag.note(100, 1_000);
        assert_eq!(lag.behind(at(1_050)), behind(40, 50));
        lag.note(141, 1_051);
        assert_eq!(lag.behind(at(1_051)), Some(Behind { number: 141, blocks: 0, seconds: 0 }));
    }

    #[test]
    fn what_is_too_far_is_said_with_its_setting() {
        let most = Duration::from_secs(60);
        let behind = |seconds| Behind { number: 7, blocks: 3, seconds };
        assert_eq!(too_far(behind(61), most), None, "block times are in whole seconds");
        let why = too_far(behind(62), most).unwrap();
        for word in ["62 s", "3 blocks", "--eth-max-head-age-ms 60000"] {
            assert!(why.contains(word), "{why}");
        }
    }
}
