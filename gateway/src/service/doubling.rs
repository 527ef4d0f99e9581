//! How many jobs may be done twice. Company helps while few need it; when many are slow at once, all that
//! it does is to double the load and what is paid. So each job that is begun allows a share of another
//! one, and what is not used is saved up for a while.

use std::sync::{Mutex, PoisonError};

/// What one of these is in the account's unit: each job brings in percent.
const ONE: u64 = 100;
/// Saved up at most: the share of so many jobs.
const WINDOW: u64 = 1_000;
/// There at the start: a replica that has hardly worked yet may need it too.
const AT_FIRST: u64 = 10;

/// The account of one kind of jobs.
#[derive(Debug)]
pub struct Doubling {
    percent: u64,
    saved: Mutex<u64>,
}

/// The accounts of a replica.
#[derive(Debug)]
pub struct Doublings {
    pub(super) segments: Doubling,
    pub(super) ai_jobs: Doubling,
}

impl Doublings {
    /// So many of a hundred of each kind (`--hedge-percent`).
    pub fn new(percent: u32) -> Self {
        Self { segments: Doubling::new(percent), ai_jobs: Doubling::new(percent) }
    }
}

impl Doubling {
    /// So many of a hundred jobs may be done twice, of the last thousand or so; and ten at the start,
    /// unless none may.
    pub(super) fn new(percent: u32) -> Self {
        let percent = u64::from(percent);
        let at_first = if percent == 0 { 0 } else { AT_FIRST * ONE };
        Self { percent, saved: Mutex::new(at_first) }
    }

    /// A job is begun.
    pub(super) fn begun(&self) {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        // What was there at the start is not taken back.
        let most = (self.percent * WINDOW).max(*saved);
        *saved = (*saved + self.percent).min(most);
    }

    /// Whether one more may be done twice now; it is counted.
    pub(super) fn allows_one(&self) -> bool {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let left = saved.checked_sub(ONE);
        *saved = left.unwrap_or(*saved);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubled(account: &Doubling, jobs: u32) -> usize {
        let one = |_| {
            account.begun();
            account.allows_one()
        };
        (0..jobs).map(one).filter(|doubled| *doubled).count()
    }

    #[test]
    fn a_share_of_all_may_be_done_twice() {
        let account = Doubling::new(10);
        // All are slow.
        assert_eq!(doubled(&account, 1_000), 100 + 10);
        assert_eq!(doubled(&account, 1_000), 100);
        // A quiet time is saved up, and not for ever.
        (0..100_000).for_each(|_| account.begun());
        assert_eq!((0..1_000).filter(|_| account.allows_one()).count(), 100);
        assert_eq!(doubled(&account, 100), 10);
    }

    #[test]
    fn none_or_all() {
        assert_eq!(doubled(&Doubling::new(0), 1_000), 0);
        assert_eq!(doubled(&Doubling::new(100), 1_000), 1_000);
        assert_eq!(doubled(&Doubling::new(2), 1_000), 10 + 20);
    }
}
