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
mod winners;

use super::{
    Account, AccountKey, Booked, Debit, Fence, Held, HoldId, HoldRequest, Invoice, InvoiceQuery,
    LedgerError, Mark, OrchestratorLedger, PaymentReceipt, PaymentTaken, QueueLimits, Queued,
    Start, StartEnd, StoredWinner, Totals, WinnerStatus, redemption::End,
};
use crate::sqlite::{OpenError, Sqlite};
use alone::Alone;
use async_trait::async_trait;
use holds::Holds;
use lane::{Fee, Lane};
use penstock_chain::Standing;
use penstock_domain::{Address, B256, Wei};
use penstock_payments::Winner;
use sqlx::{Sqlite as Db, Transaction};
use uuid::Uuid;

/// The orchestrator's ledger in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteOrchestratorLedger {
    db: Sqlite,
    payments: Lane<PaymentReceipt>,
    debits: Lane<Fee>,
    holds: Holds,
    alone: Alone,
    /// This opening of the file, among all.
    process: String,
}

impl SqliteOrchestratorLedger {
    /// Opens (creating if needed) the file of `sqlite://PATH`, which no other process may use.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let alone = Alone::with(url)?;
        let db = Sqlite::open(url, &super::MIGRATIONS).await?;
        let (holds, process) = (Holds::default(), Uuid::new_v4().to_string());
        let payments = Lane::start(db.clone(), process.clone());
        let debits = Lane::start(db.clone(), process.clone());
        Ok(Self { db, payments, debits, holds, alone, process })
    }

    /// A write transaction that takes the write lock at once, so that what it reads stays true.
    async fn begin(&self) -> Result<Transaction<'static, Db>, LedgerError> {
        Ok(self.db.writer().begin_with("BEGIN IMMEDIATE").await?)
    }
}

#[async_trait]
impl OrchestratorLedger for SqliteOrchestratorLedger {
    async fn receive_payment(&self, receipt: &PaymentReceipt) -> Result<PaymentTaken, LedgerError> {
        let outcome = self.payments.run(receipt.clone()).await?;
        if outcome.credited_tickets > 0 {
            penstock_failpoint::hit("orchestrator.after_credit");
        }
        Ok(outcome)
    }

    async fn account(&self, key: &AccountKey) -> Result<Option<Account>, LedgerError> {
        accounts::find(self.db.readers(), key).await
    }

    async fn adopt_start(
        &self,
        sender: Address,
        attempt: Uuid,
    ) -> Result<Option<AccountKey>, LedgerError> {
        let mut tx = self.begin().await?;
        let adopted = starts::adopt(&mut tx, sender, &self.process, attempt).await?;
        tx.commit().await?;
        Ok(adopted)
    }

    async fn end_start(&self, start: &Start, end: StartEnd) -> Result<(), LedgerError> {
        let mut tx = self.begin().await?;
        starts::end(&mut tx, start, &self.process, end).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn debit(&self, debit: &Debit) -> Result<Booked, LedgerError> {
        let fee = || Fee { debit: debit.clone(), holds: self.holds.clone() };
        let booked = self.debits.run(fee()).await?;
        if let (Some(_), true, Booked::Short { .. }) = (&debit.hold, debit.covered, &booked) {
            // Fees that were booked with it are not yet out of what their jobs hold.
            return self.debits.run(fee()).await;
        }
        Ok(booked)
    }

    async fn hold(&self, ask: &HoldRequest) -> Result<Held, LedgerError> {
        let mut writer = self.db.writer().acquire().await?;
        let account = accounts::find(&mut *writer, &ask.account).await?;
        let others = self.holds.others(ask.id, &ask.account);
        let free = account.map(|account| &account.balance() - &others);
        if free.as_ref().is_none_or(|free| *free < ask.least) {
            return Ok(Held::Short(free));
        }
        self.holds.set(ask);
        // Until here nobody else decides by what is held.
        drop(writer);
        Ok(Held::Aside)
    }

    fn let_go(&self, hold: HoldId) {
        self.holds.remove(hold);
    }

    async fn redeemer(&self) -> Result<Option<Fence>, LedgerError> {
        let mut tx = self.begin().await?;
        let fence = leases::redeemer(&mut tx, &self.process).await?;
        tx.commit().await?;
        Ok(Some(fence))
    }

    async fn claim(&self, marks: &[Mark], replace: bool) -> Result<Vec<&'static str>, LedgerError> {
        let mut tx = self.begin().await?;
        let others = leases::claim(&mut tx, marks, replace).await?;
        tx.commit().await?;
        Ok(others)
    }

    async fn fold(&self, before_ms: i64, limit: u32) -> Result<u64, LedgerError> {
        let mut tx = self.begin().await?;
        let gone = journal::fold(&mut tx, before_ms, limit).await?;
        tx.commit().await?;
        Ok(gone)
    }

    async fn forget_nonces(&self, block: u64) -> Result<u64, LedgerError> {
        let mut tx = self.begin().await?;
        let forgotten = payment::forget(&mut tx, block).await?;
        tx.commit().await?;
        Ok(forgotten)
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
        winners::begin(self.db.writer(), ticket, fence, now_ms).await
    }

    async fn mark_redeemed(
        &self,
        ticket: B256,
        tx_hash: Option<B256>,
        block: Option<u64>,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        let end = End::Redeemed { tx_hash, block };
        winners::settle(self.db.writer(), ticket, end, now_ms).await
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
        now_ms: i64,
    ) -> Result<bool, LedgerError> {
        winners::look(self.db.writer(), ticket, fence, standing, now_ms).await
    }

    async fn requeue(
        &self,
        ticket: B256,
        fence: Fence,
        reason: &str,
        retry_block: u64,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        let end = End::Again { reason, retry_block, fence };
        winners::settle(self.db.writer(), ticket, end, now_ms).await
    }

    async fn mark_failed(
        &self,
        ticket: B256,
        fence: Fence,
        reason: &str,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        winners::settle(self.db.writer(), ticket, End::Failed { reason, fence }, now_ms).await
    }

    async fn winners_to_hand_over(
        &self,
        block: u64,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError> {
        winners::to_hand_over(self.db.readers(), block, limit).await
    }

    async fn mark_handed_over(&self, ticket: B256, now_ms: i64) -> Result<(), LedgerError> {
        winners::handed_over(self.db.writer(), ticket, now_ms).await
    }

    async fn handed_over_before(
        &self,
        round: u64,
        limit: u32,
    ) -> Result<Vec<StoredWinner>, LedgerError> {
        winners::handed_over_before(self.db.readers(), round, limit).await
    }

    async fn take_back_winners(&self, before_ms: i64, now_ms: i64) -> Result<u64, LedgerError> {
        winners::take_back(self.db.writer(), before_ms, now_ms).await
    }

    async fn queue_winner(
        &self,
        winner: &Winner,
        limits: QueueLimits,
        now_ms: i64,
    ) -> Result<Queued, LedgerError> {
        let mut tx = self.begin().await?;
        let queued = winners::queue(&mut tx, winner, limits, now_ms).await?;
        tx.commit().await?;
        Ok(queued)
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
        Ok(self.db.ping().await?)
    }

    async fn close(&self) {
        self.db.close().await;
        self.alone.end();
    }
}
