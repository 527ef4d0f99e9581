//! Keeps this process alive to the others, takes away holds that were let go, and sets aside anew what was
//! lost when the others took this process for dead: beside everything else, so that nobody waits for it.

use super::{Answer, away, holds, leases, or_again};
use crate::{
    orchestrator::{Held, HoldId, HoldRequest, HoldSpent, LeaseTime, LedgerError},
    postgres::pools::Pools,
};
use penstock_domain::Rational;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::JoinHandle, time::MissedTickBehavior};
use uuid::Uuid;

/// After a failure, how long until the next try.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct State {
    /// What this process has set aside, as it was asked for and less what was spent since.
    own: HashMap<HoldId, HoldRequest>,
    /// Holds that were let go and whose rows may still be there.
    gone: BTreeSet<HoldId>,
    /// The rows of `own` may be gone.
    is_lost: bool,
    /// They were once: rows may come again behind the back of a fee that ends a hold.
    was_lost: bool,
    /// The process ends: it does not come to life again.
    has_ended: bool,
}

#[derive(Debug)]
struct Shared {
    pools: Pools,
    process: Uuid,
    lease: LeaseTime,
    state: Mutex<State>,
    more: Notify,
}

/// The task, until this is dropped.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Says for the first time that the process is alive, and then again and again.
    pub async fn start(pools: Pools, process: Uuid, lease: LeaseTime) -> Answer<Self> {
        leases::enter(&pools, process, lease).await?;
        let (state, more) = (Mutex::default(), Notify::new());
        let shared = Arc::new(Shared { pools, process, lease, state, more });
        let task = tokio::spawn(keep(Arc::clone(&shared)));
        Ok(Self { shared, task })
    }

    /// Out of turn.
    pub async fn renew(&self) -> Answer<()> {
        self.shared.renew().await
    }

    /// This is set aside now.
    pub fn took(&self, ask: &HoldRequest) {
        self.shared.lock().own.insert(ask.id, ask.clone());
    }

    /// A fee came out of one, or ended it.
    pub fn spent(&self, spent: &HoldSpent, fee: &Rational) {
        let mut state = self.shared.lock();
        let left = state.own.get(&spent.id).and_then(|ask| spent.left(&ask.amount, fee));
        if let (Some(left), Some(ask)) = (left, state.own.get_mut(&spent.id)) {
            ask.amount = left;
        } else if state.was_lost {
            drop(state);
            self.let_go(spent.id);
        } else {
            state.own.remove(&spent.id);
        }
    }

    /// To be removed soon; for this process it is gone.
    pub fn let_go(&self, hold: HoldId) {
        let mut state = self.shared.lock();
        state.own.remove(&hold);
        state.gone.insert(hold);
        drop(state);
        self.shared.more.notify_one();
    }

    /// What was let go and may still be there.
    pub fn gone(&self) -> Vec<Vec<u8>> {
        self.shared.gone()
    }

    /// Ends the task, and the process's lease.
    pub async fn end(&self) {
        self.shared.lock().has_ended = true;
        self.task.abort();
        let Shared { pools, process, .. } = &*self.shared;
        if let Err(error) = leases::resign(pools, *process).await {
            tracing::warn!(%error, "the ledger does not know that this process ends; its lease lapses");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(shared: Arc<Shared>) {
    // Three chances before it lapses.
    let mut ticks = tokio::time::interval((shared.lease.0 / 4).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        let work = tokio::select! {
            _ = ticks.tick() => shared.renew_and_bury().await,
            () = shared.more.notified() => shared.tidy().await,
        };
        if let Err(error) = work {
            tracing::warn!(%error, "this process's lease or holds in the ledger wait");
            tokio::time::sleep(PAUSE).await;
            // Whatever it was that failed.
            shared.more.notify_one();
            ticks.reset_immediately();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone(&self) -> Vec<Vec<u8>> {
        self.lock().gone.iter().map(|hold| hold.0.as_bytes().to_vec()).collect()
    }

    async fn renew_and_bury(&self) -> Answer<()> {
        self.renew().await?;
        // On its own: the dead are not waited for while this process's row is locked.
        leases::bury(&self.pools).await
    }

    async fn renew(&self) -> Answer<()> {
        if leases::renew(&self.pools, self.process, self.lease).await? {
            return Ok(());
        }
        // Before the row is there again: whether its return is heard of or not, what was lost is.
        {
            let mut state = self.lock();
            if state.has_ended {
                return Err(away("the ledger is closed"));
            }
            (state.is_lost, state.was_lost) = (true, true);
        }
        leases::enter(&self.pools, self.process, self.lease).await?;
        self.more.notify_one();
        Ok(())
    }

    /// First what was lost: it may have been let go since.
    async fn tidy(&self) -> Answer<()> {
        let is_lost = std::mem::take(&mut self.lock().is_lost);
        if is_lost && let Err(error) = self.set_aside_anew().await {
            self.lock().is_lost = true;
            return Err(error);
        }
        self.remove_gone().await
    }

    /// As far as it is still there: others may have begun on the same balance. What is not, the job finds out
    /// when it is charged.
    async fn set_aside_anew(&self) -> Answer<()> {
        let own: Vec<HoldRequest> = self.lock().own.values().cloned().collect();
        let (all, mut lost) = (own.len(), 0_usize);
        let mut renewed = Instant::now();
        for ask in own {
            // Many holds may take longer than the lease.
            if renewed.elapsed() > self.lease.0 / 4 {
                self.renew().await?;
                renewed = Instant::now();
            }
            match self.take_anew(&ask).await? {
                Held::Aside => {}
                Held::Short(_) => lost = lost.saturating_add(1),
            }
            // One that was let go meanwhile is among `gone`, and goes next.
        }
        tracing::warn!(
            holds = all,
            lost,
            "the ledger took this process for dead; what its jobs had \
            set aside is set aside anew"
        );
        Ok(())
    }

    async fn take_anew(&self, ask: &HoldRequest) -> Answer<Held> {
        let gone = self.gone();
        let us = holds::Us { process: self.process, gone: &gone };
        let mut tx = self.pools.begin_with::<LedgerError>(super::LIGHT).await?;
        let step = self.pools.watch.answer(holds::take(&mut tx, us, ask)).await;
        let held = step.or_else(or_again)?.ok_or_else(|| away("others were faster"))?;
        let held = held.ok_or_else(|| away("this process's lease does not hold"))?;
        self.pools.commit::<LedgerError>(tx).await?;
        Ok(held)
    }

    async fn remove_gone(&self) -> Answer<()> {
        let all: Vec<HoldId> = self.lock().gone.iter().copied().collect();
        if all.is_empty() {
            return Ok(());
        }
        holds::remove(&self.pools, &all).await?;
        let mut state = self.lock();
        for hold in all {
            state.gone.remove(&hold);
        }
        Ok(())
    }
}
