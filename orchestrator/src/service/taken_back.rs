//! Redemptions whose block is taken back after they counted.
//!
//! A redemption counts as soon as its block is deep enough to go on. Until that block is final the chain may take it
//! back, and the ticket is unpaid again while the ledger says otherwise. So each is looked for once more when blocks of
//! its height are final, which costs two questions for each winner. What is gone goes back to the queue, where it is
//! tried, as any other, before it is sent: the contract takes a ticket once, also from one who was wrong about it.

use super::{
    redemption::{BATCH, Redeemer, Silences, on_chain},
    short::{short, underpaid},
};
use crate::{chain_view::Snapshot, clock};
use penstock_chain::{Look, Standing};
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
        for stored in ledger.unsettled_redemptions(last_final, BATCH).await? {
            let ticket = on_chain(&stored.winner).ticket;
            let look = match self.chain.look_again(&ticket, stored.tx_hash, last_final).await {
                Ok(look) => look,
                Err(error) => {
                    tracing::warn!(ticket = %stored.winner.ticket_hash, %error, "whether a redemption stands is not known");
                    if silences.too_many() {
                        break;
                    }
                    continue;
                }
            };
            self.note_look(fence, &stored, look).await?;
        }
        Ok(())
    }

    /// Notes what a later look at a redemption showed. The first one may not have said what was paid, and a transaction that
    /// was taken back and came again pays what there is then: less is said, and counted, once.
    pub(super) async fn note_look(
        &self,
        fence: Fence,
        stored: &StoredWinner,
        Look { standing, paid }: Look,
    ) -> Result<(), LedgerError> {
        let StoredWinner { winner, tx_hash, reason, .. } = stored;
        let (ledger, hash) = (&self.funds.ledger, winner.ticket_hash);
        let said = match paid {
            Some(paid) => short(paid, winner.ticket.face_value),
            None => reason.clone(),
        };
        let now_ms = clock::now_ms();
        if !ledger.settle_redemption(hash, fence, standing, said.as_deref(), now_ms).await? {
            return Ok(());
        }
        match (standing, said) {
            (Standing::Gone, _) => {
                taken_back(1);
                tracing::warn!(ticket = %hash, tx = tx_hash.map(tracing::field::display),
                    "a redemption's block was taken back: the winner waits again");
            }
            (Standing::Final { tx_hash } | Standing::InBlock { tx_hash, .. }, Some(said))
                if reason.is_none() =>
            {
                underpaid(hash, tx_hash, &said);
            }
            _ => {}
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
