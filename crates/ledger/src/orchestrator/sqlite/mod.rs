//! The books in a SQLite file.

mod accounts;
mod alone;
pub(super) mod holds;
mod invoices;
mod journal;
mod lane;
mod leases;
mod payment;
mod starts;
mod trainings;
mod winners;

use super::{
    Account, AccountKey, Booked, Debit, Fence, Held, HoldId, HoldRequest, Invoice, InvoiceQuery,
    LedgerError, Mark, OrchestratorLedger, PaymentReceipt, PaymentTaken, QueueLimits, Queued,
    Start, StoredWinner, Totals, WinnerStatus, redemption::End,
};
use crate::{
    DatabaseError,
    sqlite::{OpenError, Sqlite, path_of, reader::Reader, writer::Writer},
};
use alone::Alone;
use async_trait::async_trait;
use holds::Holds;
use lane::Lane;
use penstock_chain::Standing;
use penstock_domain::{Address, B256, Rational, Wei};
use penstock_payments::Winner;
use std::sync::Arc;
use uuid::Uuid;

/// The orchestrator's ledger in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteOrchestratorLedger {
    /// Reads only; what is read here may be older than what is being written.
    db: Sqlite,
    /// For one account, of which every payment and job asks.
    reader: Arc<Reader>,
    writer: Arc<Writer>,
    line: Lane,
    holds: Holds,
    alone: Alone,
    /// This opening of the file, among all.
    process: Arc<str>,
}

impl SqliteOrchestratorLedger {
    /// Opens (creating if needed) the file of `sqlite://PATH`, which no other process may use.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let alone = Alone::with(url)?;
        let db = Sqlite::open(url, &super::MIGRATIONS).await?;
        // It made the file what it must be.
        db.writer().close().await;
        let path = path_of(url)?;
        let writer = Arc::new(Writer::open(&path)?);
        let reader = Arc::new(Reader::open(&path)?);
        let line = Lane::start(&writer);
        let process = Uuid::new_v4().to_string().into();
        Ok(Self { db, reader, writer, line, holds: Holds::default(), alone, process })
    }

    async fn settle(&self, ticket: B256, end: End<'_>, now_ms: i64) -> Result<(), LedgerError> {
        let row = end.row();
        self.line.run(move |tx| winners::settle(tx, ticket, &row, now_ms)).await
    }

    /// Alone: fees that are booked together see what the others hold as it was before.
    async fn book_alone(&self, debit: &Debit) -> Result<Booked, LedgerError> {
        let (fee, holds, begun) = (debit.clone(), self.holds.clone(), self.writer.begin());
        let booked = self.writer.thread().spawn(async move {
            let tx = begun.await?;
            let booked = accounts::debit(&tx, &fee, &holds)?;
            tx.commit()?;
            landed(&holds, &fee, &booked);
            Ok(booked)
        });
        booked.await.unwrap_or(Err(DatabaseError::Closed.into()))
    }
}

/// A fee is on the disk, and nobody else has the connection yet.
fn landed(holds: &Holds, fee: &Debit, booked: &Booked) {
    match (&fee.hold, booked) {
        (Some(hold), Booked::Now(_)) => holds.spend(hold, &fee.fee()),
        (Some(hold), Booked::Before) if hold.ends => holds.remove(hold.id),
        _ => {}
    }
}

#[async_trait]
impl OrchestratorLedger for SqliteOrchestratorLedger {
    async fn receive_payment(&self, receipt: &PaymentReceipt) -> Result<PaymentTaken, LedgerError> {
        let (receipt, process) = (receipt.clone(), Arc::clone(&self.process));
        let outcome = self.line.run(move |tx| payment::receive(tx, &receipt, &process)).await?;
        if outcome.credited_tickets > 0 {
            penstock_failpoint::hit("orchestrator.after_credit");
        }
        Ok(outcome)
    }

    async fn account(&self, key: &AccountKey) -> Result<Option<Account>, LedgerError> {
        self.reader.read(|db| accounts::find(db, key))
    }

    async fn adopt_start(
        &self,
        sender: Address,
        attempt: Uuid,
        spent_before_ms: i64,
    ) -> Result<Option<AccountKey>, LedgerError> {
        let process = Arc::clone(&self.process);
        let adopt = move |tx: &_| starts::adopt(tx, sender, &process, attempt, spent_before_ms);
        self.line.run(adopt).await
    }

    async fn carry_over(
        &self,
        to: &AccountKey,
        spent_before_ms: i64,
        now_ms: i64,
    ) -> Result<Rational, LedgerError> {
        let (to, process) = (to.clone(), Arc::clone(&self.process));
        let holds = self.holds.clone();
        let carry = move |tx: &_| starts::carry(tx, &to, &process, &holds, spent_before_ms, now_ms);
        self.line.run(carry).await
    }

    async fn end_start(&self, start: &Start) -> Result<(), LedgerError> {
        let (start, process) = (start.clone(), Arc::clone(&self.process));
        self.line.run(move |tx| starts::end(tx, &start, &process)).await
    }

    async fn debit(&self, debit: &Debit) -> Result<Booked, LedgerError> {
        let (fee, holds) = (debit.clone(), self.holds.clone());
        let then = {
            let (fee, holds) = (debit.clone(), self.holds.clone());
            move |booked: &Booked| landed(&holds, &fee, booked)
        };
        let booked = self.line.run_then(move |tx| accounts::debit(tx, &fee, &holds), then).await?;
        if let (Some(_), true, Booked::Short { .. }) = (&debit.hold, debit.covered, &booked) {
            // Fees that were booked with it are not yet out of what their jobs hold.
            return self.book_alone(debit).await;
        }
        Ok(booked)
    }

    async fn hold(&self, ask: &HoldRequest) -> Result<Held, LedgerError> {
        // One row of what is in memory mostly: read on this thread, sooner than another one is awake.
        let alone = self.writer.alone().await?;
        let account = accounts::find(&alone, &ask.account)?;
        let others = self.holds.others(ask.id, &ask.account);
        let free = account.map(|account| &account.balance() - &others);
        if free.as_ref().is_none_or(|free| *free < ask.least) {
            return Ok(Held::Short(free));
        }
        self.holds.set(ask);
        // Until here nobody else decides by what is held.
        drop(alone);
        Ok(Held::Aside)
    }

    fn let_go(&self, hold: HoldId) {
        self.holds.remove(hold);
    }

    async fn redeemer(&self) -> Result<Option<Fence>, LedgerError> {
        let process = Arc::clone(&self.process);
        self.line.run(move |tx| leases::redeemer(tx, &process)).await.map(Some)
    }

    async fn claim(&self, marks: &[Mark], replace: bool) -> Result<Vec<&'static str>, LedgerError> {
        let marks = marks.to_vec();
        self.line.run(move |tx| leases::claim(tx, &marks, replace)).await
    }

    async fn fold(&self, before_ms: i64, limit: u32) -> Result<u64, LedgerError> {
        self.line.run(move |tx| journal::fold(tx, before_ms, limit)).await
    }

    async fn forget_nonces(&self, block: u64) -> Result<u64, LedgerError> {
        self.line.run(move |tx| payment::forget(tx, block)).await
    }

    async fn winners_due(&self, block: u64, limit: u32) -> Result<Vec<StoredWinner>, LedgerError> {
        winners::due(self.db.readers(), block, limit).await
    }

    async fn winners_with(
        &self,
        status: WinnerStatus,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError> {
        winners::with_status(self.db.readers(), status, limit).await
    }

    async fn begin_redemption(
        &self,
        ticket: B256,
        fence: Fence,
        now_ms: i64,
    ) -> Result<bool, LedgerError> {
        self.line.run(move |tx| winners::begin(tx, ticket, fence, now_ms)).await
    }

    async fn mark_redeemed(
        &self,
        ticket: B256,
        tx_hash: Option<B256>,
        block: Option<u64>,
        short: Option<&str>,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        self.settle(ticket, End::Redeemed { tx_hash, block, short }, now_ms).await
    }

    async fn unsettled_redemptions(
        &self,
        block: u64,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError> {
        winners::unsettled(self.db.readers(), block, limit).await
    }

    async fn settle_redemption(
        &self,
        ticket: B256,
        fence: Fence,
        standing: Standing,
        short: Option<&str>,
        now_ms: i64,
    ) -> Result<bool, LedgerError> {
        let short = short.map(str::to_owned);
        self.line
            .run(move |tx| winners::look(tx, ticket, fence, standing, short.as_deref(), now_ms))
            .await
    }

    async fn requeue(
        &self,
        ticket: B256,
        fence: Fence,
        reason: &str,
        retry_block: u64,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        self.settle(ticket, End::Again { reason, retry_block, fence }, now_ms).await
    }

    async fn mark_failed(
        &self,
        ticket: B256,
        fence: Fence,
        reason: &str,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        self.settle(ticket, End::Failed { reason, fence }, now_ms).await
    }

    async fn winners_to_hand_over(
        &self,
        block: u64,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError> {
        winners::to_hand_over(self.db.readers(), block, limit).await
    }

    async fn mark_handed_over(&self, ticket: B256, now_ms: i64) -> Result<(), LedgerError> {
        self.line.run(move |tx| winners::handed_over(tx, ticket, now_ms)).await
    }

    async fn handed_over_before(
        &self,
        round: u64,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError> {
        winners::handed_over_before(self.db.readers(), round, limit).await
    }

    async fn take_back_winners(&self, before_ms: i64, now_ms: i64) -> Result<u64, LedgerError> {
        self.line.run(move |tx| winners::take_back(tx, before_ms, now_ms)).await
    }

    async fn queue_winner(
        &self,
        winner: &Winner,
        limits: QueueLimits,
        now_ms: i64,
    ) -> Result<Queued, LedgerError> {
        let winner = winner.clone();
        self.line.run(move |tx| winners::queue(tx, &winner, limits, now_ms)).await
    }

    async fn open_face_value(&self, sender: Address, round: u64) -> Result<Wei, LedgerError> {
        winners::open_face_value(self.db.readers(), sender, round).await
    }

    async fn pending_face_value(&self, sender: Address) -> Result<Wei, LedgerError> {
        winners::pending(self.db.readers(), sender).await
    }

    async fn accounts(&self, limit: u32) -> Result<Vec<Account>, LedgerError> {
        accounts::list(self.db.reports(), limit).await
    }

    async fn invoices(&self, query: &InvoiceQuery) -> Result<Vec<Invoice>, LedgerError> {
        // One transaction: all of it as it was at one moment.
        let mut tx = self.db.reports().begin().await?;
        invoices::of(&mut tx, query).await
    }

    async fn winners(&self, limit: u32) -> Result<Vec<StoredWinner>, LedgerError> {
        winners::list(self.db.reports(), limit).await
    }

    async fn totals(&self) -> Result<Totals, LedgerError> {
        let mut totals = Totals::default();
        accounts::add_totals(self.db.reports(), &mut totals).await?;
        winners::add_totals(self.db.reports(), &mut totals).await?;
        Ok(totals)
    }

    async fn ping(&self) -> Result<(), LedgerError> {
        self.db.ping().await?;
        // Whether the line moves, and the file can be locked.
        self.line.run(|_| Ok(())).await
    }

    async fn close(&self) {
        self.db.close().await;
        self.reader.close();
        self.writer.close().await;
        self.alone.end();
    }
}
