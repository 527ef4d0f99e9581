//! Reads again, behind the back of the choices that use it, what was read a moment ago: a choice goes by
//! what is there and asks for something newer, for the next one. Only what nobody used for longer is read
//! while a job waits.

use super::Gateway;
use penstock_http_kit::CancellationToken;
use penstock_store::{PoolKey, StoreError};
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::Notify;

/// Things that are to be read at a time, at most: clients choose the names of pools.
const MOST: usize = 256;

/// Something that a choice found to be a moment old.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Old {
    /// Who is in a pool.
    Pool(PoolKey),
    /// Scores and suspensions of a pool.
    Standings(PoolKey),
    /// Its circuits that are not closed.
    Breakers(PoolKey),
}

/// What is to be read.
#[derive(Debug, Default)]
pub struct Refresh {
    old: Mutex<BTreeSet<Old>>,
    some: Notify,
}

impl Refresh {
    /// Has it read soon.
    pub fn soon(&self, old: Old) {
        let mut all = self.old.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MOST && all.insert(old) {
            self.some.notify_one();
        }
    }

    fn take(&self) -> BTreeSet<Old> {
        std::mem::take(&mut *self.old.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Gateway {
    /// Reads what choices ask for until told to stop.
    pub async fn refresh_forever(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.refresh.some.notified() => {}
            }
            // Side by side: one that takes long holds up no other.
            let all = self.refresh.take().into_iter().map(async |old| {
                // What cannot be read is soon too old to be used, and whoever needs it then is told.
                if let Err(error) = self.read_again(&old).await {
                    tracing::debug!(%error, ?old, "not read again");
                }
            });
            futures::future::join_all(all).await;
        }
    }

    async fn read_again(&self, old: &Old) -> Result<(), StoreError> {
        let began = Instant::now();
        match old {
            Old::Pool(key) => self.read_pool_again(key).await?,
            Old::Standings(key) => {
                let standings = self.store.standings(&key.0, crate::clock::now()).await?;
                self.reputation.standings.keep(&key.0, &standings.into(), began);
            }
            Old::Breakers(key) => {
                let (_, breakers) = self.breakers(key, crate::clock::now()).await?;
                self.reputation.breakers.keep(&key.0, &breakers.into(), began);
            }
        }
        Ok(())
    }
}
