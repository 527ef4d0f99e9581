//! Winning tickets go to the chain, once their offer has expired (payments.md section 14).
//!
//! The intent is stored before the transaction is sent. Whatever a crash leaves open is settled by
//! asking the chain, so a ticket is neither forgotten nor sent a second time when it was paid. One that
//! fails, or of which the chain says nothing, waits and lets those behind it pass.
//! The contract uses a ticket up for whatever its sender has. So what a sender has is asked of the chain itself before the
//! intent is stored, and once more right before it is sent; while it does not cover the whole ticket, the ticket waits
//! for the end of its last round, and then takes what there is if that is more than the gas.
//! Of several processes on one ledger one redeems at a time: it has a lease there, and what it writes
//! carries a fence, so that one that stood still too long changes nothing any more.

use super::{
    again::{interrupted_until, is_news, later},
    cashier::MoneyError,
    funds::Funds,
    put_off::{Why, queued, waits_for},
    right::keeping_the_right,
    short::{self, short, underpaid},
};
use crate::{chain_view::Snapshot, clock};
use penstock_chain::{
    Chain, ChainError, OnChainTicket, Purse, Redemption, Revert, WinningTicket, Worth,
};
use penstock_domain::{Address, B256, Rational, U256, Wei};
use penstock_ledger::orchestrator::{Fence, LedgerError, StoredWinner, WinnerStatus};
use penstock_payments::{Winner, WinnerState, check_redemption};
use penstock_telemetry::go::{self, Whole};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Winners handled in one round of work.
pub(super) const BATCH: u32 = 100;
/// That a ticket is used is known, and not since which block: it is looked for with the next look back.
const UNKNOWN_BLOCK: Option<u64> = Some(0);
/// What is said of one that was being sent when a process died.
const INTERRUPTED: &str = "interrupted";
/// Questions in one round of work to which the chain says nothing, until it is the chain that is away and not an answer.
const MOST_SILENCES: usize = 8;

/// What the chain says of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redeemed {
    /// It was redeemed, which is noted.
    Yes,
    /// It was not.
    No,
    /// Nothing.
    Unknown,
}

/// Counts the silences of one round of work.
#[derive(Debug, Default)]
pub struct Silences(usize);

impl Silences {
    /// One more; whether they are so many that the rest would only be asked in vain.
    pub fn too_many(&mut self) -> bool {
        self.0 += 1;
        self.0 >= MOST_SILENCES
    }
}

/// Redeems winners. One task of a process runs it, of one process at a time.
pub struct Redeemer {
    /// The chain itself; its answers here must not be old.
    pub chain: Arc<dyn Chain>,
    /// The books, and the chain as polled.
    pub funds: Funds,
    /// How often the right to redeem is renewed while the chain takes its time, > 0: a part of the lease.
    pub renew_every: Duration,
    /// The block of L1 at which redemptions were last looked at again.
    pub(super) looked_back: AtomicU64,
    /// Of those that are open since this process tried them: what was said, for when the chain says that they were not
    /// redeemed. Emptied with each settling.
    doubts: Mutex<HashMap<B256, (Why, String)>>,
    /// In this round of work something that was sent could not be called off.
    not_called_off: AtomicBool,
}

impl Redeemer {
    /// One whose right lapses after `lease` without a word.
    pub fn new(chain: Arc<dyn Chain>, funds: Funds, lease: Duration) -> Self {
        // Three chances before it lapses.
        let renew_every = (lease / 4).max(Duration::from_millis(1));
        show();
        Self {
            chain,
            funds,
            renew_every,
            looked_back: AtomicU64::new(0),
            doubts: Mutex::default(),
            not_called_off: AtomicBool::new(false),
        }
    }

    /// Whose tickets are redeemed.
    pub fn recipient(&self) -> Address {
        self.funds.chain.recipient()
    }

    /// Settles what is open, then redeems what is due. Errors are logged; the next call goes on.
    pub async fn run_once(&self, snapshot: &Snapshot) {
        let fence = match self.funds.ledger.redeemer().await {
            Ok(Some(fence)) => fence,
            // Another process does it.
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "nothing is redeemed; trying again");
                return;
            }
        };
        self.not_called_off.store(false, Ordering::Relaxed);
        if let Err(error) = self.settle_open(fence, snapshot).await {
            tracing::warn!(%error, "open redemptions could not be settled; trying again");
            return;
        }
        if let Err(error) = self.look_back(fence, snapshot).await {
            tracing::warn!(%error, "redemptions are not looked at again; trying again");
            return;
        }
        if let Err(error) = self.redeem_due(fence, snapshot).await {
            tracing::warn!(%error, "redemption is interrupted; trying again");
        }
    }

    /// Everything that was being sent when a process (or the connection) died. Nothing else is
    /// in that state, because one process redeems, one batch at a time. One that was taken for dead
    /// may still be sending: the chain pays a ticket once.
    pub async fn settle_open(&self, fence: Fence, snapshot: &Snapshot) -> Result<(), LedgerError> {
        let ledger = &self.funds.ledger;
        let mut silences = Silences::default();
        let mut doubts = std::mem::take(&mut *self.doubts());
        for open in ledger.winners_with(WinnerStatus::Redeeming, BATCH).await? {
            let hash = open.winner.ticket_hash;
            match self.note_paid(&open.winner).await? {
                Redeemed::Yes => {}
                Redeemed::No => {
                    let later = interrupted_until(&open, snapshot);
                    let known = doubts.remove(&hash);
                    let (why, said) =
                        known.unwrap_or_else(|| (Why::Interrupted, INTERRUPTED.to_owned()));
                    ledger.requeue(hash, fence, &said, later, clock::now_ms()).await?;
                    put_off(why);
                }
                Redeemed::Unknown => {
                    // Asked again with the next look.
                    if let Some(doubt) = doubts.remove(&hash) {
                        self.doubts().insert(hash, doubt);
                    }
                    if silences.too_many() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn doubts(&self) -> std::sync::MutexGuard<'_, HashMap<B256, (Why, String)>> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves one where it is, and says why: once, until it is another reason.
    async fn hold(
        &self,
        fence: Fence,
        stored: &StoredWinner,
        (why, reason): (Why, String),
    ) -> Result<(), LedgerError> {
        if !is_news(stored, &reason) {
            return Ok(());
        }
        self.wait(fence, stored, (why, reason), stored.retry_block).await
    }

    /// Leaves one for a later block. The log has it when the reason is another one than before.
    async fn wait(
        &self,
        fence: Fence,
        stored: &StoredWinner,
        (why, reason): (Why, String),
        until: u64,
    ) -> Result<(), LedgerError> {
        let hash = stored.winner.ticket_hash;
        if is_news(stored, &reason) {
            tracing::warn!(ticket = %hash, why = why.label(), reason, "a winning ticket is held");
        }
        put_off(why);
        self.funds.ledger.requeue(hash, fence, &reason, until, clock::now_ms()).await
    }

    /// Asks the chain whether a ticket was paid, and notes it if it was.
    pub async fn note_paid(&self, winner: &Winner) -> Result<Redeemed, LedgerError> {
        let hash = winner.ticket_hash;
        let found = self.chain.redemption(&on_chain(winner).ticket).await;
        let paid = found.as_ref().ok().and_then(Option::as_ref);
        let tx_hash = paid.map(|paid| paid.tx_hash);
        let block = paid.map_or(UNKNOWN_BLOCK, |paid| paid.block);
        if tx_hash.is_none() {
            // How it was redeemed may be more than an endpoint tells. Whether it was, the contract itself says.
            match self.chain.is_used_ticket(hash).await {
                Ok(true) => {}
                Ok(false) => return Ok(Redeemed::No),
                Err(error) => {
                    tracing::warn!(ticket = %hash, %error, "the chain does not say whether it was redeemed");
                    return Ok(Redeemed::Unknown);
                }
            }
        }
        self.mark_redeemed(winner, tx_hash, block, paid).await?;
        let error = found.err().map(|error| error.to_string());
        tracing::info!(ticket = %hash, tx = tx_hash.map(tracing::field::display), error, "was redeemed before");
        Ok(Redeemed::Yes)
    }

    /// The chain has paid: notes it, and what is to be said of the amount if that is known.
    async fn mark_redeemed(
        &self,
        winner: &Winner,
        tx_hash: Option<B256>,
        block: Option<u64>,
        paid: Option<&Redemption>,
    ) -> Result<(), LedgerError> {
        let (ledger, hash) = (&self.funds.ledger, winner.ticket_hash);
        let said = paid.and_then(|paid| short(paid.paid(), winner.ticket.face_value));
        ledger.mark_redeemed(hash, tx_hash, block, said.as_deref(), clock::now_ms()).await?;
        if let Some(said) = said {
            underpaid(hash, tx_hash, &said);
        }
        Ok(())
    }

    /// Closes one that the chain takes no more.
    pub async fn give_up_expired(
        &self,
        fence: Fence,
        stored: &StoredWinner,
    ) -> Result<(), LedgerError> {
        let hash = stored.winner.ticket_hash;
        let reason = "the ticket is older than the chain takes";
        let before =
            stored.reason.as_deref().map(|before| format!("{reason}; until then: {before}"));
        let reason = before.as_deref().unwrap_or(reason);
        self.funds.ledger.mark_failed(hash, fence, reason, clock::now_ms()).await?;
        lost(Why::Expired);
        tracing::warn!(ticket = %hash, reason, "a winning ticket expired unredeemed");
        Ok(())
    }

    async fn redeem_due(&self, fence: Fence, snapshot: &Snapshot) -> Result<(), MoneyError> {
        let block = snapshot.rounds.last_seen_l1_block;
        let view = snapshot.queue_view();
        let (mut silences, mut unknown) = (Silences::default(), HashMap::new());
        let (mut known, mut begun) = (HashMap::new(), Vec::new());
        let most = self.chain.most_in_a_batch().max(1);
        for stored in self.funds.ledger.winners_due(block, BATCH).await? {
            let sender = stored.winner.ticket.sender;
            match queued(&stored).state(&view, snapshot.active) {
                WinnerState::Ready => {
                    if let Some((why, reason)) = unknown.get(&sender) {
                        let held = (*why, String::clone(reason));
                        self.says_nothing(fence, snapshot, &stored, held).await?;
                        continue;
                    }
                    match self.begin(fence, snapshot, &stored, &mut known).await {
                        // Those behind it may be of another sender, of whom the chain says more.
                        Err(MoneyError::Chain(error)) => {
                            let held = (Why::of_chain(&error), error.to_string());
                            self.says_nothing(fence, snapshot, &stored, held.clone()).await?;
                            if silences.too_many() {
                                break;
                            }
                            unknown.insert(sender, held);
                        }
                        is_begun => {
                            if let Some(least) = is_begun? {
                                begun.push((stored, least));
                            }
                        }
                    }
                }
                WinnerState::Expired => self.give_up_expired(fence, &stored).await?,
                WinnerState::ParamsAlive
                | WinnerState::BackingOff
                | WinnerState::RecipientInactive => {
                    if let Some(held) = waits_for(&stored, &view, snapshot.active) {
                        self.hold(fence, &stored, held).await?;
                    }
                }
            }
            if begun.len() >= most {
                self.send(fence, snapshot, &std::mem::take(&mut begun)).await?;
                // It has changed what senders have.
                known.clear();
            }
        }
        if begun.is_empty() { Ok(()) } else { self.send(fence, snapshot, &begun).await }
    }

    /// What the sender has is not known. Where the chain is away it is nothing of this winner's, which is tried as soon as
    /// the chain is back.
    async fn says_nothing(
        &self,
        fence: Fence,
        snapshot: &Snapshot,
        stored: &StoredWinner,
        (why, reason): (Why, String),
    ) -> Result<(), LedgerError> {
        if why != Why::Chain {
            return self.wait(fence, stored, (why, reason), later(stored, snapshot)).await;
        }
        let hash = stored.winner.ticket_hash;
        tracing::warn!(ticket = %hash, why = why.label(), reason, "a winner waits for the chain");
        put_off(why);
        Ok(())
    }

    /// Stores the intent to redeem, if that is worth its gas, and says what it has to bring. What other winners of this
    /// batch take is counted, and what the sender has is asked of the chain itself: a ticket that nothing is left for is
    /// burnt without pay.
    async fn begin(
        &self,
        fence: Fence,
        snapshot: &Snapshot,
        stored: &StoredWinner,
        known: &mut HashMap<Address, Purse>,
    ) -> Result<Option<Wei>, MoneyError> {
        let (ledger, winner) = (&self.funds.ledger, &stored.winner);
        // Kept for as long as there is something to redeem, and looked at before each.
        if ledger.redeemer().await? != Some(fence) {
            return Ok(None);
        }
        let hash = winner.ticket_hash;
        let funds = self.available(winner.ticket.sender, known).await?;
        let (gas, face_value) = (self.funds.redeem_gas, winner.ticket.face_value);
        let (price, created) = (snapshot.gas_price, winner.ticket.expiration_params.creation_round);
        let takes_part = snapshot.queue_view().takes_what_there_is(created);
        let refused = match check_redemption(&funds, face_value, gas, price) {
            Err(refusal) => Some((
                Why::of_refusal(refusal),
                format!(
                    "{refusal}: of the sender are there {funds} wei, it is worth {face_value} wei, \
                     and {gas} units of gas cost {price} wei each"
                ),
            )),
            Ok(()) if !takes_part && funds < Rational::from(face_value) => Some((
                Why::Underfunded,
                format!(
                    "of the sender are there {funds} wei now, and it promises {face_value} wei: \
                     it waits for more until its last round ends"
                ),
            )),
            Ok(()) => None,
        };
        if let Some(held) = refused {
            // Tried again with ever more blocks in between, so that the others have their turn.
            let later = self.after_calling_off(fence, stored, snapshot).await;
            self.wait(fence, stored, held, later).await?;
            return Ok(None);
        }
        let least = if takes_part { above_gas(gas, price).min(face_value) } else { face_value };
        let begun = ledger.begin_redemption(hash, fence, clock::now_ms()).await?;
        Ok(begun.then_some(least))
    }

    /// What was sent of a sender's tickets and waits for its block would be used up for too little when gas becomes cheap.
    /// Where that fails it is tried again with the next block, since others wait. The block before which the winner is not
    /// tried again.
    async fn after_calling_off(
        &self,
        fence: Fence,
        stored: &StoredWinner,
        snapshot: &Snapshot,
    ) -> u64 {
        let next = snapshot.rounds.last_seen_l1_block.saturating_add(1);
        if self.not_called_off.load(Ordering::Relaxed) {
            return next;
        }
        let (hash, sender) = (stored.winner.ticket_hash, stored.winner.ticket.sender);
        let calling = self.chain.call_off(sender);
        let ledger = self.funds.ledger.as_ref();
        if let Err(error) = keeping_the_right(ledger, fence, self.renew_every, calling).await {
            self.not_called_off.store(true, Ordering::Relaxed);
            tracing::warn!(ticket = %hash, %error, "what was sent of its sender's tickets may still come");
            return next;
        }
        later(stored, snapshot)
    }

    /// What is left of a sender's money for one more ticket.
    async fn available(
        &self,
        sender: Address,
        known: &mut HashMap<Address, Purse>,
    ) -> Result<Rational, MoneyError> {
        let purse = match known.get(&sender) {
            Some(purse) => *purse,
            None => {
                let info = self.chain.sender_info(sender).await.map_err(MoneyError::Chain)?;
                let claimable = self.chain.claimable_reserve(sender, self.recipient()).await;
                let purse = Purse::of(&info, claimable).map_err(MoneyError::Chain)?;
                known.insert(sender, purse);
                purse
            }
        };
        let pending = self.funds.ledger.pending_face_value(sender).await?;
        Ok(Rational::from(purse.all()) - Rational::from(pending))
    }

    /// Sends those whose intent is stored, and notes what became of each.
    async fn send(
        &self,
        fence: Fence,
        snapshot: &Snapshot,
        begun: &[(StoredWinner, Wei)],
    ) -> Result<(), MoneyError> {
        let ledger = &self.funds.ledger;
        if ledger.redeemer().await? != Some(fence) {
            // Whoever redeems now settles them.
            return Ok(());
        }
        penstock_failpoint::hit("orchestrator.before_redeem");
        let worth = |(stored, least): &(StoredWinner, Wei)| Worth {
            winner: on_chain(&stored.winner),
            least: *least,
        };
        let winners: Vec<_> = begun.iter().map(worth).collect();
        let sending = self.chain.redeem_worth(&winners);
        let sent = keeping_the_right(ledger.as_ref(), fence, self.renew_every, sending).await;
        penstock_failpoint::hit("orchestrator.after_redeem");
        for ((stored, _), outcome) in begun.iter().zip(sent) {
            match outcome {
                Ok(paid) => self.note_redeemed(stored, &paid).await?,
                Err(error) => {
                    let until = match error {
                        ChainError::Underpaid { .. } => {
                            self.after_calling_off(fence, stored, snapshot).await
                        }
                        _ => later(stored, snapshot),
                    };
                    self.failed(fence, stored, &error, until).await?;
                }
            }
        }
        Ok(())
    }

    async fn note_redeemed(
        &self,
        stored: &StoredWinner,
        paid: &Redemption,
    ) -> Result<(), LedgerError> {
        let winner = &stored.winner;
        let hash = winner.ticket_hash;
        self.mark_redeemed(winner, Some(paid.tx_hash), paid.block, Some(paid)).await?;
        penstock_failpoint::hit("orchestrator.after_redeemed");
        redeemed(1);
        let paid_wei = u128::try_from(paid.paid().0).unwrap_or(u128::MAX);
        metrics::counter!("livepeer_value_redeemed", go::labels([]))
            .increment(REDEEMED.add(paid_wei));
        tracing::info!(ticket = %hash, tx = %paid.tx_hash,
            face_value_wei = %winner.ticket.face_value, paid_wei = %paid.paid(),
            "redeemed a winning ticket");
        Ok(())
    }

    async fn failed(
        &self,
        fence: Fence,
        stored: &StoredWinner,
        error: &ChainError,
        later: u64,
    ) -> Result<(), LedgerError> {
        let (ledger, hash) = (&self.funds.ledger, stored.winner.ticket_hash);
        let why = Why::of_chain(error);
        tracing::warn!(ticket = %hash, why = why.label(), %error, "a redemption failed");
        metrics::counter!("livepeer_ticket_redemption_errors", go::labels([])).increment(1);
        match after(error) {
            After::Paid => {
                let ticket = on_chain(&stored.winner).ticket;
                let paid = self.chain.redemption(&ticket).await.ok().flatten();
                let block = paid.map_or(UNKNOWN_BLOCK, |paid| paid.block);
                let tx_hash = paid.map(|paid| paid.tx_hash);
                self.mark_redeemed(&stored.winner, tx_hash, block, paid.as_ref()).await
            }
            After::Ask => {
                self.doubts().insert(hash, (why, error.to_string()));
                Ok(())
            }
            After::Wait => {
                put_off(why);
                ledger.requeue(hash, fence, &error.to_string(), later, clock::now_ms()).await
            }
            After::Lost => {
                lost(why);
                ledger.mark_failed(hash, fence, &error.to_string(), clock::now_ms()).await
            }
        }
    }
}

/// What follows from a redemption that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// It was paid before: by whom does not matter, the money went to the ticket's recipient.
    Paid,
    /// It may have landed all the same: it stays open, and the chain is asked next time.
    Ask,
    /// It was not sent, or did nothing.
    Wait,
    /// The contract will never take it.
    Lost,
}

/// Only the contract can say that a ticket is worth nothing. A key that does not sign, or that signs for somebody else,
/// is mended by its operator: until the ticket expires it can be redeemed.
fn after(error: &ChainError) -> After {
    match error {
        ChainError::Reverted(Revert::Used) => After::Paid,
        ChainError::Unreachable { .. }
        | ChainError::Unavailable { .. }
        | ChainError::Gas { .. }
        | ChainError::BadAnswer { .. } => After::Ask,
        ChainError::Reverted(revert) if revert.is_final() => After::Lost,
        ChainError::Reverted(_)
        | ChainError::Underpaid { .. }
        | ChainError::Refused { .. }
        | ChainError::OverLimit { .. }
        | ChainError::Lost { .. }
        | ChainError::NoAccount { .. }
        | ChainError::Key { .. } => After::Wait,
    }
}

/// What winners brought, for the Go node's metric.
static REDEEMED: Whole = Whole::gwei();

/// Shows the counters before there is anything to count: Prometheus sees no increase in one that begins with 1.
fn show() {
    redeemed(0);
    for why in Why::ALL {
        let reason = why.label();
        metrics::counter!("orchestrator_redemptions_put_off_total", "reason" => reason)
            .increment(0);
        metrics::counter!("orchestrator_winners_lost_total", "reason" => reason).increment(0);
    }
    short::show();
    super::taken_back::show();
}

fn redeemed(winners: u64) {
    metrics::counter!("orchestrator_tickets_redeemed_total").increment(winners);
}

/// Could not be redeemed now.
fn put_off(why: Why) {
    metrics::counter!("orchestrator_redemptions_put_off_total", "reason" => why.label())
        .increment(1);
}

/// Will never be paid: expired, or refused by the chain for good.
fn lost(why: Why) {
    metrics::counter!("orchestrator_winners_lost_total", "reason" => why.label()).increment(1);
}

/// The least that is more than the gas costs.
fn above_gas(gas: u64, price: Wei) -> Wei {
    Wei(U256::from(gas).saturating_mul(price.0).saturating_add(U256::from(1)))
}

pub(super) fn on_chain(winner: &Winner) -> WinningTicket {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_winner_is_lost_only_when_the_contract_says_so() {
        let reason = String::new;
        for revert in Revert::KNOWN {
            let want = match revert {
                Revert::Used => After::Paid,
                revert if revert.is_final() => After::Lost,
                _ => After::Wait,
            };
            assert_eq!(after(&ChainError::Reverted(revert.clone())), want, "{revert}");
        }
        for error in [
            ChainError::Reverted(Revert::Other(reason())),
            ChainError::Refused { reason: reason() },
            ChainError::OverLimit { reason: reason() },
            ChainError::Underpaid { reason: reason() },
            ChainError::NoAccount { operation: "redeem" },
            ChainError::Key { reason: reason(), retryable: false },
        ] {
            assert_eq!(after(&error), After::Wait, "{error}");
        }
        for error in [
            ChainError::Unreachable { reason: reason() },
            ChainError::Unavailable { reason: reason() },
            ChainError::Gas { reason: reason() },
            ChainError::BadAnswer { reason: reason() },
        ] {
            assert_eq!(after(&error), After::Ask, "{error}");
        }
    }
}
