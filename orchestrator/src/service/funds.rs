//! What stands behind tickets: the books and the chain, looked at together. Shared by offers, by
//! redemption, and by a redeemer that others ask.

use super::cashier::MoneyError;
use crate::chain_view::ChainView;
use penstock_domain::{Address, Rational};
use penstock_ledger::orchestrator::OrchestratorLedger;
use penstock_payments::{SenderFloat, oldest_redeemable_round};
use std::sync::Arc;

/// The books and the chain.
#[derive(Clone)]
pub struct Funds {
    /// The books.
    pub ledger: Arc<dyn OrchestratorLedger>,
    /// The chain as polled.
    pub chain: Arc<ChainView>,
    /// Gas that one redemption uses.
    pub redeem_gas: u64,
}

impl Funds {
    /// What of a sender's money stands behind its tickets to the recipient.
    pub async fn sender_float(&self, sender: Address) -> Result<SenderFloat, MoneyError> {
        let snapshot = self.chain.current().await?;
        let known = self.chain.sender(sender).await?;
        Ok(SenderFloat {
            deposit: known.info.deposit,
            reserve_remaining: known.info.reserve.funds_remaining,
            claimed_in_current_round: known.info.reserve.claimed_in_current_round,
            claimed_by_me: known.claimed_by_me,
            pool_size: snapshot.pool_size,
            pending: self.ledger.pending_face_value(sender).await?,
        })
    }

    /// The largest face value to offer while the redeemer does not say it: every winner in these books
    /// that can still be redeemed counts as taken from the reserve.
    pub async fn cautious_max_float(&self, sender: Address) -> Result<Rational, MoneyError> {
        let round = self.chain.current().await?.rounds.last_initialized_round;
        let open = self.ledger.open_face_value(sender, oldest_redeemable_round(round)).await?;
        Ok(self.sender_float(sender).await?.cautious_max_float(open))
    }
}
