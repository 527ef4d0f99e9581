//! Redemptions whose block is taken back after they counted.
//!
//! A redemption counts as soon as its block is deep enough to go on. Until that block is final the chain may take it
//! back, and the ticket is unpaid again while the ledger says otherwise. So each is looked for once more when blocks of
//! its height are final, which costs two questions for each winner. What is gone goes back to the queue, where it is
//! tried, as any other, before it is sent: the contract takes a ticket once, also from one who was wrong about it.

use super::redemption::{BATCH, Redeemer, Silences, on_chain};
use crate::{chain_view::Snapshot, clock};
use penstock_chain::Standing;
use penstock_ledger::orchestrator::{Fence, LedgerError, StoredWinner};
use std::sync::atomic::Ordering;

impl Redeemer {
    /// Looks at the redemptions whose blocks ought to be final by now, once for each block of L1. What the chain does not
    /// say is asked next time.
    pub async fn look_back(&self, fence: Fence, snapshot: &Snapshot) -> Result<(), LedgerError> {
        let (ledger, block) = (&self.funds.ledger, snapshot.rounds.last_seen_l1_block);
        // It may go back, with what was redeemed.
        if self.looked_back.swap(block, Ordering::Relaxed) == block {
            return Ok(());
        }
        if ledger.unsettled_redemptions(u64::MAX, 1).await?.is_empty() {
            return Ok(());
        }
        let last_final = match self.chain.final_block().await {
            Ok(Some(block)) => block,
            // Nothing is ever taken back: these are of another chain's time.
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "which blocks are final is not known");
                return Ok(());
            }
        };
        let mut silences = Silences::default();
        for StoredWinner { winner, tx_hash, .. } in
            ledger.unsettled_redemptions(last_final, BATCH).await?
        {
            let (ticket, hash) = (on_chain(&winner).ticket, winner.ticket_hash);
            let standing = match self.chain.redemption_standing(&ticket, tx_hash, last_final).await
            {
                Ok(standing) => standing,
                Err(error) => {
                    tracing::warn!(ticket = %hash, %error, "whether a redemption stands is not known");
                    if silences.too_many() {
                        break;
                    }
                    continue;
                }
            };
            let noted = ledger.settle_redemption(hash, fence, standing, clock::now_ms()).await?;
            if noted && standing == Standing::Gone {
                taken_back(1);
                tracing::warn!(ticket = %hash, tx = tx_hash.map(tracing::field::display),
                    "a redemption's block was taken back: the winner waits again");
            }
        }
        Ok(())
    }
}

/// Shows the counter before there is anything to count.
pub fn show() {
    taken_back(0);
}

fn taken_back(redemptions: u64) {
    metrics::counter!("orchestrator_redemptions_taken_back_total").increment(redemptions);
}
