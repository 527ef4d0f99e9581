//! How a writer is doing: what became of its last write, and for how long it has been at one.
//! Readiness asks this, because a database that answers questions may still refuse to write.

use crate::signer::{LedgerError, error::away};
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a failed write counts, if none was tried since. Not for ever: a replica that is not
/// ready gets no payments, so that only time lets it try again.
const REMEMBERED: Duration = Duration::from_secs(10);
/// A write that takes longer is stuck. Above what a slow disk or a busy lock needs.
const STUCK: Duration = Duration::from_secs(10);

/// What one writer tells.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failed: Option<(Instant, LedgerError)>,
    busy_since: Option<Instant>,
}

impl Pulse {
    /// A batch begins.
    pub fn begins(&self, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).busy_since = Some(now);
    }

    /// It ended: `Ok(true)` if something was written, `Ok(false)` if there was nothing to write,
    /// which shows nothing.
    pub fn ended(&self, now: Instant, written: Result<bool, &LedgerError>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.busy_since = None;
        match written {
            Ok(true) => state.failed = None,
            Ok(false) => {}
            Err(error) => state.failed = Some((now, error.clone())),
        }
    }

    /// Whether the next write may be expected to succeed.
    pub fn check(&self, now: Instant) -> Result<(), LedgerError> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, error)) = &state.failed
            && now.saturating_duration_since(*at) < REMEMBERED
        {
            return Err(error.clone());
        }
        match state.busy_since {
            Some(since) if now.saturating_duration_since(since) >= STUCK => {
                Err(away("a write takes too long"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_until_a_write_succeeds_or_it_is_old() {
        let (pulse, start) = (Pulse::default(), Instant::now());
        let later = |ms| start + Duration::from_millis(ms);
        assert!(pulse.check(start).is_ok());
        pulse.ended(start, Err(&LedgerError::Corrupt("row")));
        assert!(pulse.check(later(9_999)).is_err());
        assert!(pulse.check(later(10_000)).is_ok());
        pulse.ended(later(1), Ok(false));
        assert!(pulse.check(later(2)).is_err(), "nothing was written");
        pulse.ended(later(3), Ok(true));
        assert!(pulse.check(later(4)).is_ok());
    }

    #[test]
    fn a_write_that_does_not_end_counts() {
        let (pulse, start) = (Pulse::default(), Instant::now());
        pulse.begins(start);
        assert!(pulse.check(start + Duration::from_millis(9_999)).is_ok());
        assert!(pulse.check(start + STUCK).is_err());
        pulse.ended(start + STUCK, Ok(false));
        assert!(pulse.check(start + STUCK * 2).is_ok());
    }
}
