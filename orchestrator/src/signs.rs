//! When somebody whose time is paid for was last known to be there. What passes after that is not charged unless it
//! turns out that he was there all the same.

use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// A last sign of life. Signs may come late, and none takes an earlier one back.
#[derive(Debug)]
pub struct LastSign(Mutex<Instant>);

impl LastSign {
    /// One that comes now.
    pub fn now() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// One more, of that moment.
    pub fn note(&self, at: Instant) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = at.max(*last);
    }

    /// When it came.
    pub fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_last_one_counts_whenever_it_is_told() {
        let sign = LastSign::now();
        let first = sign.at();
        let later = first + Duration::from_secs(3);
        sign.note(later);
        sign.note(first);
        assert_eq!(sign.at(), later);
    }
}
