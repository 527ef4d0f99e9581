//! Counting bytes, or readers and writers, against a bound, and against the bound of what that is part of.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// So much is held of at most so much. A channel's is part of its server's.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicU64,
    max: u64,
    whole: Option<Arc<Budget>>,
}

/// Which bound was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Own,
    Whole,
}

impl Budget {
    pub fn new(max: u64) -> Self {
        Self { held: AtomicU64::new(0), max, whole: None }
    }

    pub fn part_of(whole: Arc<Self>, max: u64) -> Self {
        Self { held: AtomicU64::new(0), max, whole: Some(whole) }
    }

    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Whether nothing more is to be had.
    pub fn is_full(&self) -> bool {
        self.held() >= self.max || self.whole.as_ref().is_some_and(|whole| whole.is_full())
    }

    /// Counts what this process itself uses, whatever the bound says.
    pub fn add(&self, amount: u64) {
        self.held.fetch_add(amount, Relaxed);
        if let Some(whole) = &self.whole {
            whole.add(amount);
        }
    }

    /// Takes `bytes`, or nothing. The caller gives back what it took.
    pub fn take(&self, bytes: u64) -> Result<(), Bound> {
        let more = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= self.max);
        // Relaxed: the number guards nothing but itself.
        self.held.fetch_update(Relaxed, Relaxed, more).map_err(|_| Bound::Own)?;
        if let Some(whole) = &self.whole
            && whole.take(bytes).is_err()
        {
            self.held.fetch_sub(bytes, Relaxed);
            return Err(Bound::Whole);
        }
        Ok(())
    }

    pub fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Relaxed);
        if let Some(whole) = &self.whole {
            whole.give_back(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_bounded_by_itself_and_by_the_whole() {
        let whole = Arc::new(Budget::new(100));
        let (a, b) = (Budget::part_of(whole.clone(), 60), Budget::part_of(whole.clone(), 60));
        assert_eq!(a.take(61), Err(Bound::Own));
        assert_eq!(a.take(60), Ok(()));
        assert_eq!(b.take(41), Err(Bound::Whole));
        assert_eq!((a.held(), b.held(), whole.held()), (60, 0, 60));
        assert_eq!(b.take(40), Ok(()));
        assert_eq!(a.take(u64::MAX), Err(Bound::Own));
        a.give_back(60);
        b.give_back(40);
        assert_eq!((a.held(), b.held(), whole.held()), (0, 0, 0));
        a.add(101);
        assert!(a.is_full() && b.is_full() && whole.is_full());
        assert_eq!((a.held(), whole.held(), b.take(1)), (101, 101, Err(Bound::Whole)));
    }
}
