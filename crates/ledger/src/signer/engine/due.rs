//! What a batch waits for: the payments whose reservations were just written.
//!
//! Their callers are signing, which takes a fraction of a millisecond, and come back then. A batch that
//! began with the first of them would take the disk for it alone, and all others would wait for the
//! next one; so it begins with the last of them. Under load that makes a few large transactions of
//! many small ones; a caller who is alone is the one awaited, and waits for nobody.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// Longest wait for them.
const PATIENCE: Duration = Duration::from_millis(2);
/// After a wait that was too short (the key is slow), so many batches do not wait.
const NO_WAIT: u32 = 16;

/// Shared by the writers of one process.
#[derive(Debug, Default)]
pub struct Due {
    state: Mutex<State>,
    all_came: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Reservations written that nobody came for yet.
    out: usize,
    /// How many of them the next batch still waits for.
    awaited: usize,
    /// How many batches do not wait.
    skip: u32,
}

impl Due {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// So many reservations are written. Before their callers are told.
    pub fn written(&self, reservations: usize) {
        self.with(|state| state.out = state.out.saturating_add(reservations));
    }

    /// One of them is about to be in the queue, to be paid or given back.
    pub fn came(&self) {
        let all = self.with(|state| {
            state.out = state.out.saturating_sub(1);
            let was = state.awaited;
            state.awaited = was.saturating_sub(1);
            was == 1
        });
        if all {
            self.all_came.notify_one();
        }
    }

    /// Waits until those that are out now have come, or for as long as is worth it.
    pub async fn all(&self) {
        let wait = self.with(|state| {
            state.skip = state.skip.saturating_sub(1);
            state.awaited = if state.skip > 0 { 0 } else { state.out };
            state.awaited > 0
        });
        if !wait {
            return;
        }
        if tokio::time::timeout(PATIENCE, self.all_came.notified()).await.is_err() {
            // Whoever has not come is slow, or gone.
            self.with(|state| *state = State { skip: NO_WAIT, ..State::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn is_ready(due: &Due) -> bool {
        due.all().now_or_never().is_some()
    }

    #[tokio::test]
    async fn a_batch_waits_for_all_that_are_out() {
        let due = Due::default();
        assert!(is_ready(&due));
        due.written(3);
        due.came();
        let mut waiting = Box::pin(due.all());
        assert!(waiting.as_mut().now_or_never().is_none());
        due.came();
        assert!(waiting.as_mut().now_or_never().is_none());
        due.written(1);
        due.came();
        assert!(waiting.as_mut().now_or_never().is_some(), "who came later is for the next batch");
        assert!(!is_ready(&due));
    }

    #[tokio::test]
    async fn after_a_wait_in_vain_many_do_not_wait() {
        let due = Due::default();
        due.written(1);
        due.all().await;
        for _ in 1..NO_WAIT {
            due.written(1);
            assert!(is_ready(&due));
        }
        due.written(1);
        assert!(!is_ready(&due));
    }

    #[tokio::test]
    async fn more_may_come_than_were_out() {
        let due = Due::default();
        due.came();
        due.written(1);
        due.came();
        due.came();
        assert!(is_ready(&due));
    }
}
