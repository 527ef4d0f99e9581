//! What a bench draws at random, all of it from one seed, so that it can be drawn again: keys of accounts, keys of
//! jobs. Drivers that are told no seed draw what the system gives.
//!
//! Addresses, ports and names of databases are no part of it: they have to be free, and decide nothing.

use penstock_keys::LocalKey;
use rand::{
    Rng as _, SeedableRng as _,
    distr::{Distribution, StandardUniform},
    rngs::StdRng,
};
use std::sync::{Mutex, PoisonError};

/// Where it comes from; none: from the system.
#[derive(Debug)]
struct Source(Option<StdRng>);

impl Source {
    fn draw<T>(&mut self) -> T
    where
        StandardUniform: Distribution<T>,
    {
        match &mut self.0 {
            Some(seeded) => seeded.random(),
            None => rand::random(),
        }
    }
}

static SOURCE: Mutex<Source> = Mutex::new(Source(None));

/// From now on, what this process draws hangs on the seed.
pub fn begin(seed: u64) {
    let mut source = SOURCE.lock().unwrap_or_else(PoisonError::into_inner);
    *source = Source(Some(StdRng::seed_from_u64(seed)));
}

/// A number, or bytes.
pub fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    SOURCE.lock().unwrap_or_else(PoisonError::into_inner).draw()
}

/// An account's key.
pub fn key() -> LocalKey {
    // All but one of 2^127 are keys.
    LocalKey::from_bytes(random::<[u8; 32]>().into()).expect("a key of the curve")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_again_and_another_does_not() {
        let drawn = |seed: Option<u64>| {
            let mut source = Source(seed.map(StdRng::seed_from_u64));
            (source.draw::<u128>(), source.draw::<[u8; 32]>())
        };
        assert_eq!(drawn(Some(7)), drawn(Some(7)));
        assert_ne!(drawn(Some(7)), drawn(Some(8)));
        assert_ne!(drawn(None), drawn(None));
    }
}
