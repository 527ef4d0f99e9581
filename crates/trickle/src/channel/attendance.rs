//! Who is at one side of a channel, by its requests: a peer that dies leaves its requests broken off, one that is done
//! does not.

use tokio::time::Instant;

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
        /// It broke off while what it read, or wrote, was not at its end.
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
            (Self::Gone { at: first, .. }, Self::Gone { at: second, .. }) => {
                if first > second {
                    self
                } else {
                    other
                }
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
    pub fn goes(&mut self, broke: bool) {
        self.count = self.count.saturating_sub(1);
        self.gone = Attendance::Gone { at: Instant::now(), broke };
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
        let (first, second) =
            (Gone { at, broke: false }, Gone { at: at + Duration::from_secs(1), broke: true });
        assert_eq!([Never.or(Never), Never.or(first), first.or(Never)], [Never, first, first]);
        assert_eq!([first.or(second), second.or(first)], [second, second]);
        assert_eq!([Here.or(second), second.or(Here), Never.or(Here)], [Here; 3]);
    }

    #[test]
    fn the_last_one_to_go_says_how() {
        let mut side = Side::default();
        assert_eq!(side.attendance(), Never);
        side.count += 2;
        side.goes(true);
        assert_eq!(side.attendance(), Here);
        side.goes(false);
        assert!(matches!(side.attendance(), Gone { broke: false, .. }));
    }
}
