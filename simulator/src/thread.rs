//! What this thread is for the code of the roles: the clock, the chance, and where they die.

use crate::parties::{Parties, Place};
use penstock_failpoint::simulated::World;
use std::{panic::resume_unwind, rc::Rc, sync::Arc};
use tokio::time::Instant;

/// The beginning of every history, Unix seconds.
const BEGIN_S: i64 = 1_700_000_000;

tokio::task_local! {
    /// Whose code the task runs.
    pub static WHERE: Place;
}

/// A history's thread.
pub struct Thread {
    parties: Arc<Parties>,
    began: Instant,
}

impl Thread {
    /// From now on. Inside of a runtime.
    pub fn new(parties: Arc<Parties>) -> Rc<Self> {
        Rc::new(Self { parties, began: Instant::now() })
    }
}

impl World for Thread {
    fn now_ns(&self) -> i64 {
        let passed = i64::try_from(self.began.elapsed().as_nanos()).unwrap_or(i64::MAX);
        (BEGIN_S * 1_000_000_000).saturating_add(passed)
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.parties.chance.fill(bytes);
    }

    fn hit(&self, name: &'static str) {
        if !self.parties.dies_at(name) {
            return;
        }
        let place = WHERE.try_with(|place| *place).ok().or_else(|| Place::of(name));
        if let Some(place) = place {
            self.parties.crash(place);
        }
        // The task goes no further. This is no panic, and nobody is told.
        resume_unwind(Box::new(name));
    }
}
