//! The books in memory, for simulations: `plan` decides as it does for the databases, and the suite of
//! `conformance` runs over it too.

mod starts;
mod trainings;

use super::{
    Account, AccountKey, Booked, CreditLine, Debit, DebitLine, Fence, Held, HoldId, HoldRequest,
    Invoice, InvoiceQuery, LedgerError, Mark, OrchestratorLedger, PaymentReceipt, PaymentTaken,
    QueueLimits, Queued, Start, StoredWinner, Totals, WinnerStatus,
    plan::{self, Aside},
    redemption::{GONE, MAX_REASON, add},
    sqlite::holds::Holds,
};
use crate::memory::{Disk, Process};
use async_trait::async_trait;
use penstock_chain::Standing;
use penstock_domain::{Address, B256, Rational, U256, Wei};
use penstock_payments::{Winner, in_order_of_policy};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use uuid::Uuid;

/// All rows.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    accounts: BTreeMap<AccountKey, Account>,
    /// By offer: the block at which the set may go, and the nonces.
    nonces: BTreeMap<B256, (U256, BTreeSet<u32>)>,
    forgotten_through: u64,
    credits: Vec<(AccountKey, CreditLine)>,
    /// By job.
    debits: BTreeMap<String, (AccountKey, DebitLine)>,
    /// Oldest first.
    winners: Vec<Row>,
    /// When it was first paid, and in whose hands it is: the process and its attempt.
    starts: BTreeMap<AccountKey, (i64, Option<(u64, Uuid)>)>,
    /// Who may redeem.
    redeemer: Option<(u64, i64)>,
    marks: BTreeMap<&'static str, String>,
    trainings: BTreeMap<String, trainings::Kept>,
}

/// A winner's row: its status is never [`WinnerStatus::HandedOver`], which the column beside it says.
#[derive(Debug, Clone)]
struct Row {
    stored: Arc<StoredWinner>,
    handed_over_ms: Option<i64>,
    /// Of a redemption that may still be taken back.
    unsettled_block: Option<u64>,
}

impl Row {
    fn status(&self) -> WinnerStatus {
        match (self.stored.status, self.handed_over_ms) {
            (WinnerStatus::Queued, Some(_)) => WinnerStatus::HandedOver,
            (status, _) => status,
        }
    }

    fn read(&self) -> StoredWinner {
        StoredWinner { status: self.status(), ..StoredWinner::clone(&self.stored) }
    }

    fn change(&mut self, change: impl FnOnce(&mut StoredWinner)) {
        change(Arc::make_mut(&mut self.stored));
    }
}

impl Rows {
    fn winner(&mut self, ticket: B256) -> Option<&mut Row> {
        self.winners.iter_mut().find(|row| row.stored.winner.ticket_hash == ticket)
    }

    fn keep(&mut self, winner: &Winner, session: &str) -> usize {
        if self.winner(winner.ticket_hash).is_some() {
            return 0;
        }
        let stored = StoredWinner {
            winner: winner.clone(),
            session: session.to_owned(),
            status: WinnerStatus::Queued,
            attempts: 0,
            retry_block: 0,
            tx_hash: None,
            reason: None,
        };
        let stored = Arc::new(stored);
        self.winners.push(Row { stored, handed_over_ms: None, unsettled_block: None });
        1
    }

    fn listed(&self, limit: u32, is_wanted: impl Fn(&Row) -> bool) -> Vec<StoredWinner> {
        self.winners.iter().filter(|row| is_wanted(row)).take(most(limit)).map(Row::read).collect()
    }

    fn in_turn(&self, limit: u32, is_wanted: impl Fn(&Row) -> bool) -> Vec<StoredWinner> {
        let wanted: Vec<_> = self.winners.iter().filter(|row| is_wanted(row)).collect();
        let ordered = in_order_of_policy(wanted, |row| {
            let ticket = &row.stored.winner.ticket;
            penstock_payments::QueuePlace {
                creation_round: ticket.expiration_params.creation_round,
                sender: ticket.sender,
                face_value: ticket.face_value,
            }
        });
        ordered.into_iter().take(most(limit)).map(Row::read).collect()
    }

    fn has_right(&self, fence: Fence) -> bool {
        self.redeemer.is_some_and(|(_, now)| now == fence.0)
    }

    /// Ends an attempt, unless the winner is paid.
    fn settle(&mut self, ticket: B256, change: impl FnOnce(&mut StoredWinner)) {
        if let Some(row) = self.winner(ticket)
            && row.stored.status != WinnerStatus::Redeemed
        {
            row.change(change);
        }
    }

    fn take(
        &mut self,
        receipt: &PaymentReceipt,
        process: u64,
    ) -> Result<PaymentTaken, LedgerError> {
        let before = self.accounts.get(&receipt.account).cloned();
        let seen = receipt.verified.nonce_key().and_then(|offer| self.nonces.get(&offer));
        let seen = seen.map(|(_, nonces)| nonces.iter().copied().collect()).unwrap_or_default();
        let mut plan = plan::payment(receipt, before, seen, self.forgotten_through);
        let sender = receipt.account.sender();
        let waiting = self.winners.iter().filter(|row| {
            row.stored.status == WinnerStatus::Queued && row.stored.winner.ticket.sender == sender
        });
        plan.keep_within(waiting.count() as u64);
        if let Some(new) = &plan.nonces {
            let none = || (new.expiration_block, BTreeSet::new());
            let (_, nonces) = self.nonces.entry(new.offer).or_insert_with(none);
            for nonce in &new.nonces {
                if !nonces.insert(*nonce) {
                    return Err(LedgerError::Corrupt { what: "nonce" });
                }
            }
        }
        for winner in &plan.winners {
            plan.taken.new_winners += self.keep(winner, receipt.account.session());
        }
        if let (true, Some(account)) = (plan.credits, &plan.taken.account) {
            self.accounts.insert(receipt.account.clone(), account.clone());
            let offer = receipt.verified.nonce_key();
            let line = CreditLine {
                recipient_rand_hash: offer.map(|hash| format!("{hash:#x}")).unwrap_or_default(),
                tickets: plan.taken.credited_tickets,
                amount: plan.taken.credited.clone(),
                at_ms: receipt.now_ms,
            };
            self.credits.push((receipt.account.clone(), line));
        }
        // Tickets that were credited before do as well: the account is what was paid.
        if let (Some(attempt), Some(_)) = (receipt.for_start, &plan.taken.account) {
            plan.taken.is_in_hand = self.open(receipt, (process, attempt));
        }
        Ok(plan.taken)
    }

    fn debit(&mut self, debit: &Debit, holds: &Holds) -> Booked {
        if self.debits.contains_key(&debit.job_id) {
            return Booked::Before;
        }
        let aside = debit.hold.as_ref().map(|hold| Aside {
            own: holds.own(hold.id),
            others: holds.others(hold.id, &debit.account),
        });
        let before = self.accounts.get(&debit.account).cloned();
        let account = match plan::debit(debit, before, &aside.unwrap_or_default()) {
            Ok(account) => account,
            Err(balance) => return Booked::Short { balance },
        };
        self.accounts.insert(debit.account.clone(), account.clone());
        let line = DebitLine {
            job_id: debit.job_id.clone(),
            work: Some((debit.units, debit.price.clone())),
            amount: debit.fee(),
            from_ms: Some(debit.began_ms),
            to_ms: debit.now_ms,
        };
        self.debits.insert(debit.job_id.clone(), (debit.account.clone(), line));
        Booked::Now(Box::new(account))
    }

    fn fold(&mut self, before_ms: i64, limit: u32) -> Result<u64, LedgerError> {
        let mut old: Vec<_> = (0..)
            .zip(&self.credits)
            .map(|(n, (_, line))| (line.at_ms, n))
            .collect::<Vec<(_, usize)>>();
        old.retain(|(at_ms, _)| *at_ms < before_ms);
        old.sort_unstable();
        old.truncate(most(limit));
        let gone: BTreeSet<_> = old.into_iter().map(|(_, n)| n).collect();
        let mut folded: Vec<(AccountKey, bool, Rational)> = Vec::new();
        let mut n = 0_usize;
        self.credits.retain(|(key, line)| {
            let goes = gone.contains(&n);
            n += 1;
            if goes {
                folded.push((key.clone(), true, line.amount.clone()));
            }
            !goes
        });
        let mut old: Vec<_> =
            self.debits.iter().map(|(job, (_, line))| (line.to_ms, job.clone())).collect();
        old.retain(|(at_ms, _)| *at_ms < before_ms);
        old.sort_unstable();
        for (_, job) in old.into_iter().take(most(limit)) {
            if let Some((key, line)) = self.debits.remove(&job) {
                folded.push((key, false, line.amount));
            }
        }
        for (key, is_credit, amount) in &folded {
            let account = self.accounts.get_mut(key);
            let account = account.ok_or(LedgerError::Corrupt { what: "journal" })?;
            match is_credit {
                true => account.folded_credits += amount,
                false => account.folded_debits += amount,
            }
        }
        Ok(folded.len() as u64)
    }

    fn invoice(&self, account: &Account, limit: u32) -> Invoice {
        let mine = |key: &AccountKey| *key == account.key;
        let mut credits: Vec<_> = self
            .credits
            .iter()
            .rev()
            .filter(|(key, _)| mine(key))
            .map(|(_, l)| l.clone())
            .collect();
        credits.sort_by_key(|line| std::cmp::Reverse(line.at_ms));
        let debits = self.debits.values().filter(|(key, _)| mine(key));
        let mut debits: Vec<_> = debits.map(|(_, line)| line.clone()).collect();
        debits.sort_by(|a, b| (b.to_ms, &b.job_id).cmp(&(a.to_ms, &a.job_id)));
        let folded = !account.folded_credits.is_zero() || !account.folded_debits.is_zero();
        let is_whole = credits.len() <= most(limit) && debits.len() <= most(limit) && !folded;
        credits.truncate(most(limit));
        debits.truncate(most(limit));
        Invoice { account: account.clone(), credits, debits, is_whole }
    }
}

/// The nonces are gone, as if a process had kept them in its memory. No ledger may do that: for tests of
/// whether somebody would notice.
pub fn lose_nonces(disk: &Disk<Rows>) {
    disk.meddle(|rows| rows.nonces.clear());
}

fn most(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// What a database's column holds of a reason.
fn short(reason: &str) -> String {
    reason.chars().take(MAX_REASON).collect()
}

/// The orchestrator's ledger of one process on a disk in memory. Opening another on the same disk is a
/// restart: this one is dead from then on.
#[derive(Debug)]
pub struct MemoryOrchestratorLedger {
    process: Process<Rows>,
    holds: Holds,
}

impl MemoryOrchestratorLedger {
    /// A process on this disk, the only one.
    pub fn open(disk: &Disk<Rows>) -> Self {
        disk.crash();
        Self { process: disk.process(), holds: Holds::default() }
    }

    fn read<T>(&self, look: impl FnOnce(&Rows) -> T) -> Result<T, LedgerError> {
        Ok(self.process.read(look)?)
    }

    fn write<T>(&self, change: impl FnOnce(&mut Rows) -> T) -> Result<T, LedgerError> {
        self.process.write(|rows| Ok(change(rows)))
    }
}

#[async_trait]
impl OrchestratorLedger for MemoryOrchestratorLedger {
    async fn receive_payment(&self, receipt: &PaymentReceipt) -> Result<PaymentTaken, LedgerError> {
        let number = self.process.number();
        let taken = self.process.write(|rows| rows.take(receipt, number))?;
        if taken.credited_tickets > 0 {
            penstock_failpoint::hit("orchestrator.after_credit");
        }
        Ok(taken)
    }

    async fn account(&self, key: &AccountKey) -> Result<Option<Account>, LedgerError> {
        self.read(|rows| rows.accounts.get(key).cloned())
    }

    async fn adopt_start(
        &self,
        sender: Address,
        attempt: Uuid,
        spent_before_ms: i64,
    ) -> Result<Option<AccountKey>, LedgerError> {
        let number = self.process.number();
        self.write(|rows| rows.adopt(sender, (number, attempt), spent_before_ms))
    }

    async fn carry_over(
        &self,
        to: &AccountKey,
        spent_before_ms: i64,
        now_ms: i64,
    ) -> Result<Rational, LedgerError> {
        let number = self.process.number();
        self.write(|rows| rows.carry(to, number, &self.holds, spent_before_ms, now_ms))
    }

    async fn end_start(&self, start: &Start) -> Result<(), LedgerError> {
        let number = self.process.number();
        self.write(|rows| rows.end(start, number))
    }

    async fn debit(&self, debit: &Debit) -> Result<Booked, LedgerError> {
        let booked = self.write(|rows| rows.debit(debit, &self.holds))?;
        match (&debit.hold, &booked) {
            (Some(hold), Booked::Now(_)) => self.holds.spend(hold, &debit.fee()),
            (Some(hold), Booked::Before) if hold.ends => self.holds.remove(hold.id),
            _ => {}
        }
        Ok(booked)
    }

    async fn hold(&self, ask: &HoldRequest) -> Result<Held, LedgerError> {
        let account = self.read(|rows| rows.accounts.get(&ask.account).cloned())?;
        let others = self.holds.others(ask.id, &ask.account);
        let free = account.map(|account| &account.balance() - &others);
        if free.as_ref().is_none_or(|free| *free < ask.least) {
            return Ok(Held::Short(free));
        }
        self.holds.set(ask);
        Ok(Held::Aside)
    }

    fn let_go(&self, hold: HoldId) {
        self.holds.remove(hold);
    }

    async fn redeemer(&self) -> Result<Option<Fence>, LedgerError> {
        let number = self.process.number();
        let fence = self.write(|rows| {
            let (owner, fence) = rows.redeemer.unwrap_or((number, 1));
            let fence = if owner == number { fence } else { fence.saturating_add(1) };
            rows.redeemer = Some((number, fence));
            fence
        })?;
        Ok(Some(Fence(fence)))
    }

    async fn claim(&self, marks: &[Mark], replace: bool) -> Result<Vec<&'static str>, LedgerError> {
        self.write(|rows| {
            let mut others = Vec::new();
            for Mark { name, mark } in marks {
                match rows.marks.get(name) {
                    Some(known) if known == mark => {}
                    Some(_) if !replace => others.push(*name),
                    _ => drop(rows.marks.insert(name, mark.clone())),
                }
            }
            others
        })
    }

    async fn fold(&self, before_ms: i64, limit: u32) -> Result<u64, LedgerError> {
        self.process.write(|rows| rows.fold(before_ms, limit))
    }

    async fn forget_nonces(&self, block: u64) -> Result<u64, LedgerError> {
        self.write(|rows| {
            let before = rows.nonces.len();
            let mut last = rows.forgotten_through;
            rows.nonces.retain(|_, (expiry, _)| {
                let stays = *expiry > U256::from(block);
                if !stays {
                    last = last.max(u64::try_from(*expiry).unwrap_or(block));
                }
                stays
            });
            rows.forgotten_through = last;
            before.saturating_sub(rows.nonces.len()) as u64
        })
    }

    async fn winners_due(&self, block: u64, limit: u32) -> Result<Vec<StoredWinner>, LedgerError> {
        self.read(|rows| {
            rows.in_turn(limit, |row| {
                row.status() == WinnerStatus::Queued
                    && row.stored.winner.params_expiration_block <= U256::from(block)
                    && row.stored.retry_block <= block
            })
        })
    }

    async fn winners_with(
        &self,
        status: WinnerStatus,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError> {
        self.read(|rows| rows.listed(limit, |row| row.status() == status))
    }

    async fn begin_redemption(
        &self,
        ticket: B256,
        fence: Fence,
        _: i64,
    ) -> Result<bool, LedgerError> {
        self.write(|rows| {
            let has_right = rows.has_right(fence);
            let row = rows.winner(ticket).filter(|row| row.status() == WinnerStatus::Queued);
            let Some(row) = row.filter(|_| has_right) else { return false };
            row.change(|stored| {
                stored.status = WinnerStatus::Redeeming;
                stored.attempts = stored.attempts.saturating_add(1);
            });
            true
        })
    }

    async fn mark_redeemed(
        &self,
        ticket: B256,
        tx_hash: Option<B256>,
        block: Option<u64>,
        short_of: Option<&str>,
        _: i64,
    ) -> Result<(), LedgerError> {
        self.write(|rows| {
            let row = rows.winner(ticket);
            let row = row.filter(|row| row.stored.status != WinnerStatus::Redeemed);
            let Some(row) = row else { return };
            row.unsettled_block = block;
            row.change(|stored| {
                stored.status = WinnerStatus::Redeemed;
                stored.tx_hash = tx_hash.or(stored.tx_hash);
                stored.reason = short_of.map(short);
            });
        })
    }

    async fn unsettled_redemptions(
        &self,
        block: u64,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError> {
        self.read(|rows| {
            let of = |row: &&Row| row.unsettled_block.is_some_and(|its| its <= block);
            let mut found: Vec<_> = rows.winners.iter().filter(of).collect();
            found.sort_by_key(|row| row.unsettled_block);
            found.into_iter().take(most(limit)).map(Row::read).collect()
        })
    }

    async fn settle_redemption(
        &self,
        ticket: B256,
        fence: Fence,
        standing: Standing,
        short_of: Option<&str>,
        _: i64,
    ) -> Result<bool, LedgerError> {
        self.write(|rows| {
            let has_right = rows.has_right(fence);
            let row = rows.winner(ticket).filter(|row| row.unsettled_block.is_some());
            let Some(row) = row.filter(|_| has_right) else { return false };
            let (tx_hash, block) = match standing {
                Standing::Final { tx_hash } => (tx_hash, None),
                Standing::InBlock { tx_hash, block } => (tx_hash, Some(block)),
                Standing::Gone => {
                    (row.handed_over_ms, row.unsettled_block) = (None, None);
                    row.change(|stored| {
                        (stored.status, stored.tx_hash) = (WinnerStatus::Queued, None);
                        (stored.reason, stored.retry_block) = (Some(GONE.to_owned()), 0);
                    });
                    return true;
                }
            };
            row.unsettled_block = block;
            row.change(|stored| {
                stored.tx_hash = tx_hash.or(stored.tx_hash);
                stored.reason = short_of.map(short);
            });
            true
        })
    }

    async fn requeue(
        &self,
        ticket: B256,
        fence: Fence,
        reason: &str,
        retry_block: u64,
        _: i64,
    ) -> Result<(), LedgerError> {
        self.write(|rows| {
            if rows.has_right(fence) {
                rows.settle(ticket, |stored| {
                    let is_tried =
                        stored.status == WinnerStatus::Queued && retry_block > stored.retry_block;
                    stored.attempts = stored.attempts.saturating_add(u32::from(is_tried));
                    stored.status = WinnerStatus::Queued;
                    (stored.reason, stored.retry_block) = (Some(short(reason)), retry_block);
                });
            }
        })
    }

    async fn mark_failed(
        &self,
        ticket: B256,
        fence: Fence,
        reason: &str,
        _: i64,
    ) -> Result<(), LedgerError> {
        self.write(|rows| {
            if rows.has_right(fence) {
                rows.settle(ticket, |stored| {
                    stored.status = WinnerStatus::Failed;
                    stored.reason = Some(short(reason));
                });
            }
        })
    }

    async fn winners_to_hand_over(
        &self,
        block: u64,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError> {
        self.read(|rows| {
            rows.in_turn(limit, |row| {
                row.status() == WinnerStatus::Queued && row.stored.retry_block <= block
            })
        })
    }

    async fn mark_handed_over(&self, ticket: B256, now_ms: i64) -> Result<(), LedgerError> {
        self.write(|rows| {
            let row = rows.winner(ticket).filter(|row| row.status() == WinnerStatus::Queued);
            if let Some(row) = row {
                row.handed_over_ms = Some(now_ms);
                row.change(|stored| stored.reason = None);
            }
        })
    }

    async fn handed_over_before(
        &self,
        round: u64,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError> {
        let round_of =
            |stored: &StoredWinner| stored.winner.ticket.expiration_params.creation_round;
        self.read(|rows| {
            let old = |row: &Row| {
                row.status() == WinnerStatus::HandedOver && round_of(&row.stored) < round
            };
            let mut found = rows.listed(u32::MAX, old);
            found.sort_by_key(round_of);
            found.truncate(most(limit));
            found
        })
    }

    async fn take_back_winners(&self, before_ms: i64, _: i64) -> Result<u64, LedgerError> {
        self.write(|rows| {
            let mut back = 0;
            for row in &mut rows.winners {
                let old = row.handed_over_ms.is_some_and(|at_ms| at_ms < before_ms);
                if old && row.stored.status == WinnerStatus::Queued {
                    row.handed_over_ms = None;
                    back += 1;
                }
            }
            back
        })
    }

    async fn queue_winner(
        &self,
        winner: &Winner,
        limits: QueueLimits,
        _: i64,
    ) -> Result<Queued, LedgerError> {
        self.write(|rows| {
            if rows.winner(winner.ticket_hash).is_some() {
                return Queued::Before;
            }
            let waiting =
                || rows.winners.iter().filter(|r| r.stored.status == WinnerStatus::Queued);
            let theirs = |row: &&Row| row.stored.winner.ticket.sender == winner.ticket.sender;
            if waiting().count() >= most(limits.all)
                || waiting().filter(theirs).count() >= most(limits.sender)
            {
                return Queued::Full;
            }
            rows.keep(winner, "");
            Queued::Now
        })
    }

    async fn open_face_value(&self, sender: Address, round: u64) -> Result<Wei, LedgerError> {
        self.read(|rows| {
            sum(rows, |row| {
                let ticket = &row.stored.winner.ticket;
                matches!(row.stored.status, WinnerStatus::Queued | WinnerStatus::Redeeming)
                    && ticket.sender == sender
                    && ticket.expiration_params.creation_round >= round
            })
        })?
    }

    async fn pending_face_value(&self, sender: Address) -> Result<Wei, LedgerError> {
        self.read(|rows| {
            sum(rows, |row| {
                row.stored.status == WinnerStatus::Redeeming
                    && row.stored.winner.ticket.sender == sender
            })
        })?
    }

    async fn accounts(&self, limit: u32) -> Result<Vec<Account>, LedgerError> {
        self.read(|rows| {
            let mut all: Vec<_> = rows.accounts.values().cloned().collect();
            all.sort_by_key(|account| std::cmp::Reverse(account.updated_ms));
            all.truncate(most(limit));
            all
        })
    }

    async fn invoices(&self, query: &InvoiceQuery) -> Result<Vec<Invoice>, LedgerError> {
        self.read(|rows| {
            let asked = rows.accounts.values().filter(|account| {
                account.key.session() == query.session
                    && query.sender.is_none_or(|sender| sender == account.key.sender())
            });
            asked.take(most(query.limit)).map(|a| rows.invoice(a, query.limit)).collect()
        })
    }

    async fn winners(&self, limit: u32) -> Result<Vec<StoredWinner>, LedgerError> {
        self.read(|rows| rows.winners.iter().rev().take(most(limit)).map(Row::read).collect())
    }

    async fn totals(&self) -> Result<Totals, LedgerError> {
        self.read(|rows| {
            let mut totals = Totals::default();
            for account in rows.accounts.values() {
                totals.credited += &account.credited;
                totals.debited += &account.debited;
                totals.tickets = totals.tickets.saturating_add(account.tickets);
            }
            for row in &rows.winners {
                totals.add_winner(row.status(), || Ok(row.stored.winner.ticket.face_value))?;
            }
            Ok(totals)
        })?
    }

    async fn ping(&self) -> Result<(), LedgerError> {
        self.read(|_| ())
    }

    async fn close(&self) {}
}

fn sum(rows: &Rows, is_wanted: impl Fn(&Row) -> bool) -> Result<Wei, LedgerError> {
    let wanted = rows.winners.iter().filter(|row| is_wanted(row));
    wanted.map(|row| row.stored.winner.ticket.face_value).try_fold(Wei::ZERO, add)
}
