//! What this process knows of the chain, asked for at an interval instead of per request.

use crate::chain_senders::{SenderBounds, Senders};
use penstock_chain::{Chain, ChainError, Rounds, SenderInfo};
use penstock_domain::{Address, Wei};
use penstock_payments::{QueueView, RoundView};
use penstock_telemetry::go;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The chain at the last poll.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot {
    /// Rounds and the height of L1.
    pub rounds: Rounds,
    /// Wei per unit of gas.
    pub gas_price: Wei,
    /// Recipients that share each reserve.
    pub pool_size: u64,
    /// Whether this orchestrator is active this round.
    pub active: bool,
    /// Whether it is, and is not in the next.
    pub leaves: bool,
    /// When it was asked for: what it says may be as old.
    pub read_at: Instant,
}

impl Snapshot {
    /// As the queue of winners wants it.
    pub fn queue_view(&self) -> QueueView {
        QueueView {
            last_initialized_round: self.rounds.last_initialized_round,
            last_seen_l1_block: self.rounds.last_seen_l1_block,
            round_start_block: self.rounds.round_start_block,
            round_length: self.rounds.round_length,
            recipient_leaves: self.leaves,
        }
    }

    /// As the offers want it.
    pub fn round_view(&self) -> RoundView {
        RoundView {
            last_initialized_round: self.rounds.last_initialized_round,
            l1_block_hash: self.rounds.l1_block_hash,
            previous_round_l1_block_hash: self.rounds.previous_round_l1_block_hash,
            last_seen_l1_block: self.rounds.last_seen_l1_block,
        }
    }
}

/// A sender's money, and what this recipient took of its reserve this round.
#[derive(Debug, Clone, Copy)]
pub struct SenderSnapshot {
    /// Deposit, reserve, withdraw round.
    pub info: SenderInfo,
    /// Claimed by this recipient this round.
    pub claimed_by_me: Wei,
}

/// The chain as polled. Shared by offers, payments and redemption.
#[derive(Debug)]
pub struct ChainView {
    chain: Arc<dyn Chain>,
    recipient: Address,
    max_age: Duration,
    snapshot: watch::Sender<Option<Snapshot>>,
    senders: Senders,
}

impl ChainView {
    /// Knows nothing yet; see [`Self::refresh`]. What is older than `max_age` counts for nothing. `senders`:
    /// about how many it asks at once, and how many it remembers.
    pub fn new(
        chain: Arc<dyn Chain>,
        recipient: Address,
        max_age: Duration,
        senders: SenderBounds,
    ) -> Self {
        let (snapshot, senders) = (watch::Sender::new(None), Senders::new(senders));
        Self { chain, recipient, max_age, snapshot, senders }
    }

    /// Asks the chain. On an error the old snapshot stays.
    pub async fn refresh(&self) -> Result<Snapshot, ChainError> {
        let read_at = Instant::now();
        let (rounds, gas_price, pool_size, active, inactive_from) = tokio::try_join!(
            self.chain.rounds(),
            self.chain.gas_price(),
            self.chain.pool_size(),
            self.chain.is_active(self.recipient),
            self.chain.deactivation_round(self.recipient),
        )?;
        let leaves = active && inactive_from <= rounds.last_initialized_round.saturating_add(1);
        let gas_gwei = go::gwei(u128::try_from(gas_price.0).unwrap_or(u128::MAX));
        metrics::gauge!("livepeer_suggested_gas_price", go::labels([])).set(gas_gwei);
        let snapshot = Snapshot { rounds, gas_price, pool_size, active, leaves, read_at };
        self.senders.polled();
        self.snapshot.send_replace(Some(snapshot));
        Ok(snapshot)
    }

    /// The last snapshot, unless it is too old, or a first one if there is none yet.
    pub async fn current(&self) -> Result<Snapshot, ChainError> {
        let known = *self.snapshot.borrow();
        match known {
            Some(snapshot) => match self.too_old(&snapshot) {
                None => Ok(snapshot),
                Some(reason) => Err(ChainError::Unavailable { reason }),
            },
            None => self.refresh().await,
        }
    }

    fn too_old(&self, snapshot: &Snapshot) -> Option<String> {
        let (age, most) = (snapshot.read_at.elapsed(), self.max_age);
        (age > most).then(|| {
            let (age, most) = (age.as_millis(), most.as_millis());
            format!("what is known of --chain is {age} ms old, more than --chain-max-age-ms {most}")
        })
    }

    /// Why nothing that needs the chain can be done now.
    pub fn missing(&self) -> Option<String> {
        match self.latest() {
            Some(snapshot) => self.too_old(&snapshot),
            None => Some("--chain does not answer".to_owned()),
        }
    }

    /// Asks the chain, and tells the log when it stops answering (`failing`), and when it answers again.
    pub async fn refresh_and_log(&self, failing: &mut bool) -> Option<Snapshot> {
        match self.refresh().await {
            Ok(snapshot) => {
                if std::mem::take(failing) {
                    tracing::info!("the chain answers again");
                }
                Some(snapshot)
            }
            Err(error) => {
                if !std::mem::replace(failing, true) {
                    tracing::warn!(%error, "the chain does not answer; going on with what is known");
                }
                None
            }
        }
    }

    /// The account whose view it is.
    pub fn recipient(&self) -> Address {
        self.recipient
    }

    /// The last snapshot, if there is one.
    pub fn latest(&self) -> Option<Snapshot> {
        *self.snapshot.borrow()
    }

    /// What of the way to the chain works less well.
    pub fn troubles(&self) -> Vec<String> {
        self.chain.troubles()
    }

    /// Tells of every poll.
    pub fn subscribe(&self) -> watch::Receiver<Option<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// How a sender stands, at most one poll old.
    pub async fn sender(&self, sender: Address) -> Result<SenderSnapshot, ChainError> {
        let ask = async || {
            let (info, claimed_by_me) = tokio::try_join!(
                self.chain.sender_info(sender),
                self.chain.claimed_reserve(sender, self.recipient),
            )?;
            Ok(SenderSnapshot { info, claimed_by_me })
        };
        self.senders.of(sender, ask).await
    }
}
