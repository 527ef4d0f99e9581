//! Who is at one side of a channel, by its requests: a peer that dies leaves its requests broken off, one that is done
//! does not.

use std::time::Duration;
use tokio::time::Instant;

/// The requests of a peer that dies break off together; one of them may have been at its end.
const TOGETHER: Duration = Duration::from_secs(1);

/// Who reads a channel, or writes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Attendance {
    /// Nobody so far.
    #[default]
    Never,
    /// Somebody, who may be waiting.
    Here,
    /// Nobody any more.
    Gone {
        /// When the last one went.
        at: Instant,
        /// It, or one that went together with it, broke off while what it read, or wrote, was not at its end.
        broke: bool,
    },
}

impl Attendance {
    /// Of two sides, as if they were one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, one) | (one, Self::Never) => one,
            (Self::Here, _) | (_, Self::Here) => Self::Here,
            (Self::Gone { at, broke }, Self::Gone { at: at_too, broke: broke_too }) => {
                let last = at.max(at_too);
                let counts = |at: Instant| last.saturating_duration_since(at) <= TOGETHER;
                let broke = broke && counts(at) || broke_too && counts(at_too);
                Self::Gone { at: last, broke }
            }
        }
    }
}

/// How many are there, and how the last one went.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub count: usize,
    gone: Attendance,
}

impl Side {
    pub fn comes(&mut self) {
        self.count += 1;
        // Whoever broke off before is back, or has been followed.
        self.gone = Attendance::Never;
    }

    pub fn goes(&mut self, broke: bool) {
        self.count = self.count.saturating_sub(1);
        self.gone = self.gone.or(Attendance::Gone { at: Instant::now(), broke });
    }

    pub fn attendance(&self) -> Attendance {
        if self.count > 0 { Attendance::Here } else { self.gone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Attendance::{Gone, Here, Never};
    use std::time::Duration;

    #[test]
    fn whoever_is_there_counts_and_else_who_went_last() {
        let at = Instant::now();
        let later = |ms: u64, broke: bool| Gone { at: at + Duration::from_millis(ms), broke };
        let (first, second) = (later(0, false), later(2_000, true));
        assert_eq!([Never.or(Never), Never.or(first), first.or(Never)], [Never, first, first]);
        assert_eq!([first.or(second), second.or(first)], [second, second]);
        // A break that is long ago is none of the last one's; one just before is.
        let (done, just_done) = (later(4_000, false), later(2_500, false));
        assert_eq!([done.or(second), second.or(done)], [done, done]);
        assert_eq!([just_done.or(second), second.or(just_done)], [later(2_500, true); 2]);
        assert_eq!([Here.or(second), second.or(Here), Never.or(Here)], [Here; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_ones_to_go_say_how() {
        let mut side = Side::default();
        assert_eq!(side.attendance(), Never);
        (0..3).for_each(|_| side.comes());
        side.goes(true);
        assert_eq!(side.attendance(), Here);
        side.goes(false);
        side.goes(false);
        assert!(matches!(side.attendance(), Gone { broke: true, .. }));
        side.comes();
        side.goes(false);
        assert!(matches!(side.attendance(), Gone { broke: false, .. }));
        (0..2).for_each(|_| side.comes());
        side.goes(true);
        tokio::time::advance(TOGETHER * 2).await;
        side.goes(false);
        assert!(matches!(side.attendance(), Gone { broke: false, .. }));
    }
}
