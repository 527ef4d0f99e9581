//! Winning tickets go to the chain, once their offer has expired (payments.md section 14).
//!
//! The intent is stored before the transaction is sent. Whatever a crash leaves open is settled by
//! asking the chain, so a ticket is neither forgotten nor sent a second time when it was paid.
//! Of several processes on one ledger one redeems at a time: it has a lease there, and what it writes
//! carries a fence, so that one that stood still too long changes nothing any more.

use super::cashier::{Cashier, MoneyError};
use crate::{chain_view::Snapshot, clock};
use penstock_chain::{Chain, ChainError, OnChainTicket, Revert, WinningTicket};
use penstock_domain::U256;
use penstock_ledger::orchestrator::{Fence, LedgerError, StoredWinner, WinnerStatus};
use penstock_payments::{
    QueueView, QueuedWinner, Winner, WinnerState, check_redemption, retry_block,
};
use std::sync::Arc;

/// Winners handled in one round of work.
const BATCH: u32 = 100;

/// Redeems winners. One task of a process runs it, of one process at a time.
pub struct Redeemer {
    /// The chain itself; its answers here must not be old.
    pub chain: Arc<dyn Chain>,
}

impl Redeemer {
    /// Settles what is open, then redeems what is due. Errors are logged; the next call goes on.
    pub async fn run_once(&self, cashier: &Cashier, snapshot: &Snapshot) {
        let fence = match cashier.ledger.redeemer().await {
            Ok(Some(fence)) => fence,
            // Another process does it.
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "nothing is redeemed; trying again");
                return;
            }
        };
        if let Err(error) = self.settle_open(cashier, fence, snapshot).await {
            tracing::warn!(%error, "open redemptions could not be settled; trying again");
            return;
        }
        if let Err(error) = self.redeem_due(cashier, fence, snapshot).await {
            tracing::warn!(%error, "redemption is interrupted; trying again");
        }
    }

    /// Everything that was being sent when a process (or the connection) died. Nothing else is
    /// in that state, because one process redeems, one ticket at a time. One that was taken for dead
    /// may still be sending: the chain pays a ticket once.
    async fn settle_open(
        &self,
        cashier: &Cashier,
        fence: Fence,
        snapshot: &Snapshot,
    ) -> Result<(), MoneyError> {
        let ledger = &cashier.ledger;
        for open in ledger.winners_with(WinnerStatus::Redeeming, BATCH).await? {
            let hash = open.winner.ticket_hash;
            match self.chain.redemption(hash).await? {
                Some(paid) => {
                    ledger.mark_redeemed(hash, Some(paid.tx_hash), clock::now_ms()).await?;
                    tracing::info!(ticket = %hash, tx = %paid.tx_hash, "was redeemed before the stop");
                }
                None if self.chain.is_used_ticket(hash).await? => {
                    ledger.mark_redeemed(hash, None, clock::now_ms()).await?;
                }
                None => {
                    let block = snapshot.rounds.last_seen_l1_block;
                    ledger.requeue(hash, fence, "interrupted", block, clock::now_ms()).await?;
                }
            }
        }
        Ok(())
    }

    async fn redeem_due(
        &self,
        cashier: &Cashier,
        fence: Fence,
        snapshot: &Snapshot,
    ) -> Result<(), MoneyError> {
        let block = snapshot.rounds.last_seen_l1_block;
        let view = QueueView {
            last_initialized_round: snapshot.rounds.last_initialized_round,
            last_seen_l1_block: block,
        };
        for stored in cashier.ledger.winners_due(block, BATCH).await? {
            match queued(&stored).state(&view, snapshot.active) {
                WinnerState::Ready => self.redeem(cashier, fence, snapshot, &stored).await?,
                WinnerState::Expired => {
                    let hash = stored.winner.ticket_hash;
                    let reason = "the ticket is older than the chain takes";
                    cashier.ledger.mark_failed(hash, fence, reason, clock::now_ms()).await?;
                    tracing::warn!(ticket = %hash, "a winning ticket expired unredeemed");
                }
                WinnerState::ParamsAlive
                | WinnerState::BackingOff
                | WinnerState::RecipientInactive => {}
            }
        }
        Ok(())
    }

    async fn redeem(
        &self,
        cashier: &Cashier,
        fence: Fence,
        snapshot: &Snapshot,
        stored: &StoredWinner,
    ) -> Result<(), MoneyError> {
        // Kept for as long as there is something to redeem, and looked at before each.
        if cashier.ledger.redeemer().await? != Some(fence) {
            return Ok(());
        }
        let (ledger, winner) = (&cashier.ledger, &stored.winner);
        let hash = winner.ticket_hash;
        let block = snapshot.rounds.last_seen_l1_block;
        let later = retry_block(stored.attempts.saturating_add(1), block);
        let funds = cashier.sender_float(winner.ticket.sender).await?.available_funds();
        let (gas, face_value) = (cashier.config.redeem_gas, winner.ticket.face_value);
        if let Err(refusal) = check_redemption(&funds, face_value, gas, snapshot.gas_price) {
            ledger.requeue(hash, fence, &refusal.to_string(), later, clock::now_ms()).await?;
            return Ok(());
        }
        if !ledger.begin_redemption(hash, fence, clock::now_ms()).await? {
            return Ok(());
        }
        penstock_failpoint::hit("orchestrator.before_redeem");
        let sent = self.chain.redeem(&on_chain(winner)).await;
        penstock_failpoint::hit("orchestrator.after_redeem");
        match sent {
            Ok(paid) => {
                ledger.mark_redeemed(hash, Some(paid.tx_hash), clock::now_ms()).await?;
                metrics::counter!("orchestrator_tickets_redeemed_total").increment(1);
                tracing::info!(ticket = %hash, tx = %paid.tx_hash,
                    face_value_wei = %winner.ticket.face_value, paid_wei = %paid.paid(),
                    "redeemed a winning ticket");
                Ok(())
            }
            Err(error) => Ok(self.failed(cashier, fence, stored, &error, later).await?),
        }
    }

    async fn failed(
        &self,
        cashier: &Cashier,
        fence: Fence,
        stored: &StoredWinner,
        error: &ChainError,
        later: u64,
    ) -> Result<(), LedgerError> {
        let (ledger, hash) = (&cashier.ledger, stored.winner.ticket_hash);
        tracing::warn!(ticket = %hash, %error, "a redemption failed");
        match error {
            // Paid already: by whom does not matter, the money went to the ticket's recipient.
            ChainError::Reverted(Revert::Used) => {
                let paid = self.chain.redemption(hash).await.ok().flatten();
                ledger.mark_redeemed(hash, paid.map(|p| p.tx_hash), clock::now_ms()).await
            }
            // It may have landed all the same: it stays open, and the chain is asked next time.
            ChainError::Unreachable { .. }
            | ChainError::Unavailable { .. }
            | ChainError::BadAnswer { .. } => Ok(()),
            other if other.is_retryable() => {
                ledger.requeue(hash, fence, &other.to_string(), later, clock::now_ms()).await
            }
            other => ledger.mark_failed(hash, fence, &other.to_string(), clock::now_ms()).await,
        }
    }
}

fn queued(stored: &StoredWinner) -> QueuedWinner<()> {
    let ticket = &stored.winner.ticket;
    QueuedWinner {
        id: (),
        recipient: ticket.recipient,
        creation_round: ticket.expiration_params.creation_round,
        params_expiration_block: stored.winner.params_expiration_block,
        retry_block: stored.retry_block,
    }
}

fn on_chain(winner: &Winner) -> WinningTicket {
    let ticket = &winner.ticket;
    WinningTicket {
        ticket: OnChainTicket {
            recipient: ticket.recipient,
            sender: ticket.sender,
            face_value: ticket.face_value,
            win_prob: ticket.win_prob,
            sender_nonce: U256::from(ticket.sender_nonce),
            recipient_rand_hash: ticket.recipient_rand_hash,
            aux_data: ticket.expiration_params.aux_data(),
        },
        sig: winner.signature.as_bytes().to_vec(),
        recipient_rand: winner.recipient_rand.to_u256(),
    }
}
