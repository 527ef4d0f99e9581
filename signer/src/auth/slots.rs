//! How many requests of one account are at work at once: a quarter of what the signer takes in all, so
//! that no tenant can use up everyone's room, for example with bodies that never end.

use super::AuthError;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many accounts it takes to fill the signer.
const SHARES: usize = 4;
/// How many forgotten names may pile up before they are swept.
const SWEEP_AT: usize = 1024;

/// A place at work; given back when the last copy is dropped.
pub type Slot = Arc<OwnedSemaphorePermit>;

/// The places of every account. A name costs memory only while one of its requests is at work.
#[derive(Debug)]
pub struct Slots {
    each: usize,
    accounts: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Slots {
    /// Shares out the places of `max_in_flight` requests.
    pub fn of(max_in_flight: usize) -> Self {
        let each = (max_in_flight / SHARES).clamp(1, Semaphore::MAX_PERMITS);
        Self { each, accounts: Mutex::default() }
    }

    /// Takes a place, or refuses at once.
    pub fn take(&self, account: &str) -> Result<Slot, AuthError> {
        let places = self.places(account);
        let place = places.try_acquire_owned().map_err(|_| {
            metrics::counter!("signer_rate_limited_total").increment(1);
            AuthError::Busy { account: account.to_owned(), slots: self.each }
        })?;
        Ok(Arc::new(place))
    }

    fn places(&self, account: &str) -> Arc<Semaphore> {
        // The map is whole after a panic elsewhere: every change to it is one call.
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= SWEEP_AT {
            accounts.retain(|_, places| places.strong_count() > 0);
        }
        if let Some(places) = accounts.get(account).and_then(Weak::upgrade) {
            return places;
        }
        let places = Arc::new(Semaphore::new(self.each));
        accounts.insert(account.to_owned(), Arc::downgrade(&places));
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_a_quarter_and_others_theirs() {
        let slots = Slots::of(8);
        let held = (slots.take("a").unwrap(), slots.take("a").unwrap());
        assert!(matches!(slots.take("a"), Err(AuthError::Busy { slots: 2, .. })));
        assert!(slots.take("b").is_ok());
        drop(held.0);
        assert!(slots.take("a").is_ok());
        assert!(Slots::of(1).take("a").is_ok());
    }
}
