//! What the signer knows of the chain: read together, in the background, and never older than a
//! stated bound when money depends on it.

use crate::service::reserve_watch;
use penstock_chain::{ActiveOrchestrator, Chain, ChainError, Rounds, SenderInfo};
use penstock_domain::{Address, Wei};
use penstock_http_kit::CancellationToken;
use penstock_payments::{SenderFunds, SenderView};
use penstock_telemetry::go;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, watch};

/// An unknown recipient makes the facts be read again, but not more often than this: strangers
/// must not be able to drive the chain's load.
const ON_DEMAND: Duration = Duration::from_millis(250);

/// One reading of the chain.
#[derive(Debug, Clone)]
pub struct ChainSnapshot {
    /// Rounds and L1 height.
    pub rounds: Rounds,
    /// The signer's own deposit and reserve.
    pub sender: SenderInfo,
    /// Orchestrators active in the current round.
    pub active: HashMap<Address, ActiveOrchestrator>,
    read_at: Instant,
}

impl ChainSnapshot {
    /// Among how many the reserve is shared.
    pub fn orchestrators(&self) -> u64 {
        u64::try_from(self.active.len()).unwrap_or(u64::MAX)
    }

    /// In the form that the sender's checks take.
    pub fn sender_view(&self) -> SenderView {
        SenderView {
            last_seen_l1_block: self.rounds.last_seen_l1_block,
            last_initialized_round: self.rounds.last_initialized_round,
            last_initialized_l1_block_hash: self.rounds.l1_block_hash,
            funds: Ok(SenderFunds {
                deposit: self.sender.deposit,
                reserve_remaining: self.sender.reserve.funds_remaining,
                withdraw_round: self.sender.withdraw_round,
            }),
        }
    }
}

/// The facts are too old to pay on, or were never read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale(pub String);

/// The facts, kept fresh by [`ChainFacts::follow`].
pub struct ChainFacts {
    chain: Arc<dyn Chain>,
    account: Address,
    max_age: Duration,
    newest: watch::Sender<Option<Arc<ChainSnapshot>>>,
    /// How often the active orchestrators, their URIs or stakes turned out to be others.
    active_changes: watch::Sender<u64>,
    /// One reading at a time, whoever asks.
    reading: Mutex<()>,
}

/// The account's money under the Go node's names, of which each has two.
fn show(sender: &SenderInfo) {
    let as_gwei = |wei: Wei| go::gwei(u128::try_from(wei.0).unwrap_or(u128::MAX));
    let (deposit, reserve) = (as_gwei(sender.deposit), as_gwei(sender.reserve.funds_remaining));
    metrics::gauge!("livepeer_gateway_deposit", go::labels([])).set(deposit);
    metrics::gauge!("livepeer_broadcaster_deposit", go::labels([])).set(deposit);
    metrics::gauge!("livepeer_gateway_reserve", go::labels([])).set(reserve);
    metrics::gauge!("livepeer_broadcaster_reserve", go::labels([])).set(reserve);
}

impl ChainFacts {
    /// Nothing is known until the first [`refresh`](Self::refresh).
    pub fn new(chain: Arc<dyn Chain>, account: Address, max_age: Duration) -> Self {
        let (newest, active_changes) = (watch::Sender::new(None), watch::Sender::new(0));
        Self { chain, account, max_age, newest, active_changes, reading: Mutex::new(()) }
    }

    /// Tells when the active orchestrators, their URIs or stakes are others than they were.
    pub fn active_changes(&self) -> watch::Receiver<u64> {
        self.active_changes.subscribe()
    }

    /// What of the way to the chain works less well.
    pub fn troubles(&self) -> Vec<String> {
        self.chain.troubles()
    }

    /// The newest reading, if it is not older than the bound.
    pub fn fresh(&self) -> Result<Arc<ChainSnapshot>, Stale> {
        let newest = self.newest.borrow().clone();
        let snapshot = newest.ok_or_else(|| Stale("not read yet".to_owned()))?;
        let age = snapshot.read_at.elapsed();
        if age > self.max_age {
            return Err(Stale(format!(
                "{} ms old, more than {} ms",
                age.as_millis(),
                self.max_age.as_millis()
            )));
        }
        Ok(snapshot)
    }

    /// The newest reading, read again first if `recipient` is not active in it: it may have
    /// joined a moment ago.
    pub async fn fresh_for(&self, recipient: Address) -> Result<Arc<ChainSnapshot>, Stale> {
        let known = self.fresh();
        if known.as_ref().is_ok_and(|facts| facts.active.contains_key(&recipient)) {
            return known;
        }
        if let Err(error) = self.refresh_if_older(ON_DEMAND).await {
            tracing::warn!(error = %error, "chain facts could not be read on demand");
        }
        self.fresh()
    }

    async fn refresh_if_older(&self, age: Duration) -> Result<(), ChainError> {
        let _one = self.reading.lock().await;
        // Somebody else may have read while this caller waited.
        let young = self.newest.borrow().as_ref().is_some_and(|s| s.read_at.elapsed() < age);
        if young { Ok(()) } else { self.read().await }
    }

    /// Reads everything now.
    pub async fn refresh(&self) -> Result<(), ChainError> {
        let _one = self.reading.lock().await;
        self.read().await
    }

    async fn read(&self) -> Result<(), ChainError> {
        // The age counts from before the reads: what they answer may be that old.
        let read_at = Instant::now();
        let (rounds, sender, active) = tokio::try_join!(
            self.chain.rounds(),
            self.chain.sender_info(self.account),
            self.chain.active_orchestrators(),
        )?;
        show(&sender);
        let active: HashMap<_, _> = active.into_iter().map(|o| (o.address, o)).collect();
        let is_other = self.newest.borrow().as_ref().is_none_or(|known| known.active != active);
        let facts = ChainSnapshot { rounds, sender, active, read_at };
        reserve_watch::show(&facts.sender, facts.orchestrators());
        self.newest.send_replace(Some(Arc::new(facts)));
        if is_other {
            self.active_changes.send_modify(|times| *times = times.wrapping_add(1));
        }
        Ok(())
    }

    /// Reads again every `interval` until `stop`.
    pub async fn follow(&self, interval: Duration, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.refresh().await {
                tracing::warn!(error = %error, "chain facts could not be read");
                metrics::counter!("signer_chain_read_errors_total").increment(1);
            }
        }
    }
}
