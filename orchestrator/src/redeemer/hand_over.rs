//! Winners on their way from an orchestrator's books to the redeemer's.
//!
//! A winner counts as handed over when the redeemer has acknowledged it, which it does when it is on its
//! disk; until then it is sent again and again, in the same words. Whatever a crash leaves open is sent
//! once more, and the redeemer knows it. In the end the chain is asked what became of it.

use super::remote::{Remote, why_away};
use crate::{
    chain_view::Snapshot,
    clock,
    service::{
        again::{is_news, later},
        cashier::MoneyError,
        redemption::{Redeemed, Redeemer, Silences},
    },
};
use penstock_ledger::orchestrator::{Fence, StoredWinner, WinnerStatus};
use penstock_payments::oldest_redeemable_round;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Winners handled in one round of work.
const BATCH: u32 = 100;
/// What is not known to be paid so long after it was handed over is handed over again, and it is looked for
/// that so often: a redeemer that lost its disk, or another one, has to hear of it while the chain takes it.
const AGAIN: Duration = Duration::from_secs(60 * 60);
const LOOK_FOR_AGAIN: Duration = Duration::from_secs(5 * 60);
/// A redeemer that was not called for so long is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(10);

/// Hands winners over. One task of a process runs it, of one process at a time.
pub struct HandOver {
    /// To whom.
    pub remote: Arc<Remote>,
    /// Settles what this process, or one before it, began to redeem itself.
    pub redeemer: Redeemer,
    /// When it was last looked for what has to be handed over again.
    looked: Mutex<Option<Instant>>,
}

impl HandOver {
    /// Hands over what `redeemer` would redeem.
    pub fn new(remote: Arc<Remote>, redeemer: Redeemer) -> Self {
        Self { remote, redeemer, looked: Mutex::default() }
    }

    /// Asks the chain about the oldest of what was handed over, and hands over once more what has not been paid for
    /// too long.
    async fn look_again(&self) -> Result<(), MoneyError> {
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.is_some_and(|then| then.elapsed() < LOOK_FOR_AGAIN) {
                return Ok(());
            }
            *looked = Some(Instant::now());
        }
        let (ledger, mut silences) = (&self.redeemer.funds.ledger, Silences::default());
        for StoredWinner { winner, .. } in
            ledger.winners_with(WinnerStatus::HandedOver, BATCH).await?
        {
            if self.redeemer.note_paid(&winner).await? == Redeemed::Unknown && silences.too_many() {
                break;
            }
        }
        let again_ms = i64::try_from(AGAIN.as_millis()).unwrap_or(i64::MAX);
        let now_ms = clock::now_ms();
        let back = ledger.take_back_winners(now_ms.saturating_sub(again_ms), now_ms).await?;
        if back > 0 {
            tracing::info!(winners = back, "handed over and not known to be paid: once more");
        }
        Ok(())
    }

    /// Hands over what waits. Errors are logged; the next call goes on.
    pub async fn run_once(&self, snapshot: Option<&Snapshot>) {
        if self.remote.last_call().is_none_or(|last| last.elapsed() >= SILENCE) {
            // Whose max float is asked for does not matter here.
            let _ = self.remote.max_float(self.redeemer.recipient()).await;
        }
        let ledger = &self.redeemer.funds.ledger;
        let done = match ledger.redeemer().await {
            // Another process does it.
            Ok(None) => return,
            Ok(Some(fence)) => self.work(fence, snapshot).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "winners are not handed over; trying again");
        }
    }

    async fn work(&self, fence: Fence, snapshot: Option<&Snapshot>) -> Result<(), MoneyError> {
        if let Some(snapshot) = snapshot {
            self.redeemer.settle_open(fence, snapshot).await?;
            self.redeemer.look_back(fence, snapshot).await?;
        }
        self.hand_over(fence, snapshot).await?;
        match snapshot {
            Some(snapshot) => {
                self.look_again().await?;
                self.settle_old(fence, snapshot).await
            }
            None => Ok(()),
        }
    }

    async fn hand_over(&self, fence: Fence, snapshot: Option<&Snapshot>) -> Result<(), MoneyError> {
        let ledger = &self.redeemer.funds.ledger;
        // As long as the chain was never seen, nothing has to wait for a block, now or later.
        let block = snapshot.map(|snapshot| snapshot.rounds.last_seen_l1_block);
        let block = block.unwrap_or(u64::MAX);
        let oldest = snapshot.map_or(0, oldest_round);
        for stored in ledger.winners_to_hand_over(block, BATCH).await? {
            let hash = stored.winner.ticket_hash;
            if stored.winner.ticket.expiration_params.creation_round < oldest {
                self.redeemer.give_up_expired(fence, &stored).await?;
                continue;
            }
            penstock_failpoint::hit("orchestrator.before_hand_over");
            let sent = self.remote.queue(&stored.winner).await;
            penstock_failpoint::hit("orchestrator.after_hand_over");
            match sent {
                Ok(()) => {
                    ledger.mark_handed_over(hash, clock::now_ms()).await?;
                    metrics::counter!("orchestrator_winners_handed_over_total").increment(1);
                    tracing::info!(ticket = %hash, redeemer = self.remote.client.origin(),
                        "handed a winning ticket over");
                }
                // The others would fare no better.
                Err(error) if why_away(&error).is_some() => return Ok(()),
                Err(error) => {
                    let reason = format!("the redeemer refused: {}", error.message());
                    if is_news(&stored, &reason) {
                        tracing::warn!(ticket = %hash, reason, "a winning ticket stays here for now");
                    }
                    let later = snapshot.map_or(0, |snapshot| later(&stored, snapshot));
                    metrics::counter!("orchestrator_hand_overs_refused_total").increment(1);
                    ledger.requeue(hash, fence, &reason, later, clock::now_ms()).await?;
                }
            }
        }
        Ok(())
    }

    /// What was handed over so long ago that the chain takes it no more is paid by now, or never.
    async fn settle_old(&self, fence: Fence, snapshot: &Snapshot) -> Result<(), MoneyError> {
        let (ledger, mut silences) = (&self.redeemer.funds.ledger, Silences::default());
        for StoredWinner { winner, .. } in
            ledger.handed_over_before(oldest_round(snapshot), BATCH).await?
        {
            let hash = winner.ticket_hash;
            match self.redeemer.note_paid(&winner).await? {
                Redeemed::Yes => {}
                Redeemed::No => {
                    let reason = "the redeemer did not redeem it while the chain took it";
                    ledger.mark_failed(hash, fence, reason, clock::now_ms()).await?;
                    tracing::warn!(ticket = %hash, "a ticket that was handed over is not paid");
                }
                Redeemed::Unknown if silences.too_many() => break,
                Redeemed::Unknown => {}
            }
        }
        Ok(())
    }
}

fn oldest_round(snapshot: &Snapshot) -> u64 {
    oldest_redeemable_round(snapshot.rounds.last_initialized_round)
}
