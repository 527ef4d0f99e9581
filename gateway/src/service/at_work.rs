//! How many jobs this replica has at each orchestrator now, by account: for operators to look at.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Jobs by orchestrator and account. Of those that have none nothing is kept.
#[derive(Debug, Clone, Default)]
pub struct AtWork(Arc<Mutex<Counts>>);

type Counts = BTreeMap<(String, String), usize>;

/// One job; it is at work until this is dropped.
#[derive(Debug)]
pub struct Working {
    all: AtWork,
    place: (String, String),
}

impl AtWork {
    /// A job begins. `account`: of batch AI `{capability}_{model}`.
    pub fn begin(&self, orchestrator: &str, account: &str) -> Arc<Working> {
        let place = (orchestrator.to_owned(), account.to_owned());
        *self.counts().entry(place.clone()).or_default() += 1;
        Arc::new(Working { all: self.clone(), place })
    }

    /// Jobs there now.
    pub fn count(&self, orchestrator: &str, account: &str) -> usize {
        let place = (orchestrator.to_owned(), account.to_owned());
        self.counts().get(&place).copied().unwrap_or(0)
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut counts = self.all.counts();
        if let Some(count) = counts.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_counted_while_they_are_at_work() {
        let all = AtWork::default();
        let (one, two) = (all.begin("https://a", "31_m"), all.begin("https://a", "31_m"));
        let other = all.begin("https://b", "31_m");
        let again = Arc::clone(&one);
        assert_eq!((all.count("https://a", "31_m"), all.count("https://a", "33_x")), (2, 0));
        drop((one, two));
        assert_eq!(all.count("https://a", "31_m"), 1, "somebody still holds it");
        drop((again, other));
        assert!(all.counts().is_empty());
    }
}
