//! The chain's time. Blocks come all the while, so that offers end and winners are redeemed; but none
//! comes that would end an offer whose tickets are on their way. So every ticket that a client sends is a
//! good one for as long as it is sent, and whoever refuses it is wrong.

use penstock_testkit::sim::SimChain;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Blocks between the newest one and the end of an offer that may still be used.
const USABLE_BLOCKS: u64 = 10;
/// Blocks that stay between the newest one and the end of an offer in use.
const KEPT_BLOCKS: u64 = 3;

/// Unix milliseconds, as the processes note them in the books.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("a time of ours")
}

/// The newest block, and for which offers it waits.
#[derive(Debug)]
pub struct Clock {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    block: u64,
    /// By client: the block at which the offer in use ends.
    in_use: BTreeMap<usize, u64>,
    stopped: bool,
}

impl Clock {
    /// At this block.
    pub fn new(block: u64) -> Self {
        let state = State { block, in_use: BTreeMap::new(), stopped: false };
        Self { state: Mutex::new(state) }
    }

    /// A client is going to send tickets of an offer that ends at this block: the chain waits for it from
    /// now on. False: it ends too soon to begin.
    pub fn begin(&self, client: usize, ends_at: u64) -> bool {
        let mut state = self.state.lock().unwrap();
        let usable = ends_at >= state.block + USABLE_BLOCKS;
        if usable {
            state.in_use.insert(client, ends_at);
        }
        usable
    }

    /// They have been taken.
    pub fn end(&self, client: usize) {
        self.state.lock().unwrap().in_use.remove(&client);
    }

    /// No more blocks by itself.
    pub fn stop(&self) {
        self.state.lock().unwrap().stopped = true;
    }

    /// Whether the next block may come now.
    fn next(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        let first = state.in_use.values().min();
        let may = !state.stopped && first.is_none_or(|ends| state.block + KEPT_BLOCKS < *ends);
        state.block += u64::from(may);
        may
    }

    /// Mines until it is stopped.
    pub async fn run(self: Arc<Self>, chain: Arc<SimChain>, block: Duration) {
        while !self.state.lock().unwrap().stopped {
            tokio::time::sleep(block).await;
            if self.next() {
                chain.mine_blocks(1).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_block_ends_an_offer_in_use() {
        let clock = Clock::new(100);
        assert!(!clock.begin(1, 109), "too near");
        assert!(clock.begin(1, 110) && clock.begin(2, 140));
        let mut blocks = 0;
        while clock.next() {
            blocks += 1;
        }
        assert_eq!(blocks, 7, "three are left");
        clock.end(1);
        assert!(clock.next(), "the other offer lives longer");
        clock.end(2);
        clock.stop();
        assert!(!clock.next());
    }
}
