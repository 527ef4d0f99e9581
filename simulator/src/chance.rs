//! All chance of a history, drawn from its seed.

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A source of chance; clones draw from the same one.
#[derive(Debug, Clone)]
pub struct Chance(Arc<Mutex<StdRng>>);

impl Chance {
    /// That of a seed.
    pub fn of(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// So many times of a thousand.
    pub fn per_mille(&self, times: u32) -> bool {
        self.draw(|rng| rng.random_range(0..1_000) < times)
    }

    /// A number of a range that is not empty.
    pub fn of_range(&self, range: Range<u64>) -> u64 {
        self.draw(|rng| rng.random_range(range))
    }

    /// A place in a list of so many, > 0.
    pub fn place(&self, among: usize) -> usize {
        self.draw(|rng| rng.random_range(0..among))
    }

    /// Milliseconds of a range.
    pub fn ms(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.of_range(range))
    }

    /// Random bytes.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.draw(|rng| rng.fill_bytes(bytes));
    }

    /// 32 of them.
    pub fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.fill(&mut bytes);
        bytes
    }
}
