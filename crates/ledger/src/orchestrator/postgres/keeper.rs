//! Keeps this process alive to the others, and takes away holds that were let go: beside everything
//! else, so that nobody waits for it.

use super::{Answer, holds, leases};
use crate::{
    orchestrator::{HoldId, LeaseTime},
    postgres::pools::Pools,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, task::JoinHandle, time::MissedTickBehavior};
use uuid::Uuid;

/// After a failure, how long until the next try.
const PAUSE: Duration = Duration::from_millis(500);

/// Holds that were let go and whose rows are still there.
#[derive(Debug, Default)]
struct Gone {
    holds: Mutex<BTreeSet<HoldId>>,
    more: Notify,
}

impl Gone {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<HoldId>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task, until this is dropped.
#[derive(Debug)]
pub struct Keeper {
    pools: Pools,
    process: Uuid,
    lease: LeaseTime,
    gone: Arc<Gone>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Says for the first time that the process is alive, and then again and again.
    pub async fn start(pools: Pools, process: Uuid, lease: LeaseTime) -> Answer<Self> {
        leases::renew(&pools, process, lease).await?;
        let gone = Arc::<Gone>::default();
        let task = tokio::spawn(keep(pools.clone(), process, lease, Arc::clone(&gone)));
        Ok(Self { pools, process, lease, gone, task })
    }

    /// Out of turn.
    pub async fn renew(&self) -> Answer<()> {
        leases::renew(&self.pools, self.process, self.lease).await
    }

    /// To be removed soon; for this process it is gone.
    pub fn let_go(&self, hold: HoldId) {
        self.gone.lock().insert(hold);
        self.gone.more.notify_one();
    }

    /// What was let go and may still be there.
    pub fn gone(&self) -> Vec<Vec<u8>> {
        self.gone.lock().iter().map(|hold| hold.0.as_bytes().to_vec()).collect()
    }

    /// Ends the task, and the process's lease.
    pub async fn end(&self) {
        self.task.abort();
        if let Err(error) = leases::resign(&self.pools, self.process).await {
            tracing::warn!(%error, "the ledger does not know that this process ends; its lease lapses");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(pools: Pools, process: Uuid, lease: LeaseTime, gone: Arc<Gone>) {
    // Three chances before it lapses.
    let mut ticks = tokio::time::interval((lease.0 / 4).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        let work = tokio::select! {
            _ = ticks.tick() => leases::renew(&pools, process, lease).await,
            () = gone.more.notified() => remove(&pools, &gone).await,
        };
        if let Err(error) = work {
            tracing::warn!(%error, "this process's lease or holds in the ledger wait");
            tokio::time::sleep(PAUSE).await;
            // Whatever it was that failed.
            gone.more.notify_one();
            ticks.reset_immediately();
        }
    }
}

async fn remove(pools: &Pools, gone: &Gone) -> Answer<()> {
    let all: Vec<HoldId> = gone.lock().iter().copied().collect();
    if all.is_empty() {
        return Ok(());
    }
    holds::remove(pools, &all).await?;
    let mut holds = gone.lock();
    for hold in all {
        holds.remove(&hold);
    }
    Ok(())
}
