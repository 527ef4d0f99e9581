//! How fast work has been done lately, in the units that it is paid by: pixels encoded, milliseconds of audio, and so
//! on. What an operator may make a price depend on, and gateways may ask for.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// One job's part in the average.
const PART: u64 = 8;

/// The average of each kind of work: of a pipeline's capability and a model, or of segments.
#[derive(Debug)]
pub struct Throughput {
    all: Mutex<BTreeMap<Option<(u32, String)>, u64>>,
    /// Kinds of work remembered; models are what workers offer.
    most: usize,
}

impl Throughput {
    /// Of at most so many kinds of work.
    pub fn new(most: usize) -> Self {
        Self { all: Mutex::default(), most }
    }

    /// So many units were done in this time.
    pub fn note(&self, work: Option<(u32, &str)>, units: u64, time: Duration) {
        let now = u128::from(units).saturating_mul(1_000_000_000) / time.as_nanos().max(1);
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let work = work.map(|(capability, model)| (capability, model.to_owned()));
        let mut all = self.lock();
        let is_full = all.len() >= self.most;
        match all.get_mut(&work) {
            // Rounded down; of numbers as large as these that is next to nothing.
            Some(average) => *average = *average - *average / PART + now / PART,
            None if is_full => {}
            None => drop(all.insert(work, now)),
        }
    }

    /// Units a second; 0 if there was none of it yet.
    pub fn of(&self, work: Option<(u32, &str)>) -> u64 {
        let work = work.map(|(capability, model)| (capability, model.to_owned()));
        self.lock().get(&work).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Option<(u32, String)>, u64>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages() {
        const MOST: usize = 50;
        let (all, second) = (Throughput::new(MOST), Duration::from_secs(1));
        let of = || all.of(Some((31, "m")));
        assert_eq!(of(), 0, "nothing is known");
        all.note(Some((31, "m")), 8_000, second * 2);
        assert_eq!(of(), 4_000);
        all.note(Some((31, "m")), 8_000, second);
        assert_eq!(of(), 4_500, "an eighth of what is new");
        assert_eq!((all.of(Some((31, "n"))), all.of(None)), (0, 0));
        for _ in 0..3 {
            all.note(None, u64::MAX, Duration::ZERO);
        }
        assert!(all.of(None) > u64::MAX / 2);
        for n in 0..2 * MOST {
            all.note(Some((1, &n.to_string())), 1, second);
        }
        assert_eq!(all.lock().len(), MOST);
    }
}
