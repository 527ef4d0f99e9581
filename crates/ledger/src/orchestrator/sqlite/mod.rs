//! The books in a SQLite file.

mod accounts;
mod invoices;
mod payment;
mod rows;
mod winners;

use super::{
    Account, AccountKey, Debit, Invoice, InvoiceQuery, LedgerError, OrchestratorLedger,
    PaymentReceipt, PaymentTaken, StoredWinner, Totals, WinnerStatus,
};
use crate::sqlite::{OpenError, Sqlite};
use async_trait::async_trait;
use penstock_domain::{Address, B256, Wei};
use sqlx::{Sqlite as Db, Transaction};

/// The orchestrator's ledger in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteOrchestratorLedger {
    pub(in crate::orchestrator) db: Sqlite,
}

impl SqliteOrchestratorLedger {
    /// Opens (creating if needed) the file of `sqlite://PATH`.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        Ok(Self { db: Sqlite::open(url, &super::MIGRATIONS).await? })
    }

    /// Closes the file; later calls fail.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// A write transaction that takes the write lock at once, so that what it reads stays true.
    async fn begin(&self) -> Result<Transaction<'static, Db>, LedgerError> {
        Ok(self.db.writer().begin_with("BEGIN IMMEDIATE").await?)
    }
}

#[async_trait]
impl OrchestratorLedger for SqliteOrchestratorLedger {
    async fn receive_payment(&self, receipt: &PaymentReceipt) -> Result<PaymentTaken, LedgerError> {
        let mut tx = self.begin().await?;
        let outcome = payment::receive(&mut tx, receipt).await?;
        tx.commit().await?;
        if outcome.credited_tickets > 0 {
            penstock_failpoint::hit("orchestrator.after_credit");
        }
        Ok(outcome)
    }

    async fn account(&self, key: &AccountKey) -> Result<Option<Account>, LedgerError> {
        accounts::find(self.db.readers(), key).await
    }

    async fn debit(&self, debit: &Debit) -> Result<Option<Account>, LedgerError> {
        let mut tx = self.begin().await?;
        let account = accounts::debit(&mut tx, debit).await?;
        tx.commit().await?;
        Ok(account)
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

    async fn begin_redemption(&self, ticket: B256, now_ms: i64) -> Result<bool, LedgerError> {
        winners::begin(self.db.writer(), ticket, now_ms).await
    }

    async fn mark_redeemed(
        &self,
        ticket: B256,
        tx_hash: Option<B256>,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        let end = winners::End::Redeemed { tx_hash };
        winners::settle(self.db.writer(), ticket, end, now_ms).await
    }

    async fn requeue(
        &self,
        ticket: B256,
        reason: &str,
        retry_block: u64,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        let end = winners::End::Again { reason, retry_block };
        winners::settle(self.db.writer(), ticket, end, now_ms).await
    }

    async fn mark_failed(
        &self,
        ticket: B256,
        reason: &str,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        winners::settle(self.db.writer(), ticket, winners::End::Failed { reason }, now_ms).await
    }

    async fn pending_face_value(&self, sender: Address) -> Result<Wei, LedgerError> {
        winners::pending(self.db.readers(), sender).await
    }

    async fn accounts(&self, limit: u32) -> Result<Vec<Account>, LedgerError> {
        accounts::list(self.db.readers(), limit).await
    }

    async fn invoices(&self, query: &InvoiceQuery) -> Result<Vec<Invoice>, LedgerError> {
        // One transaction: all of it as it was at one moment.
        let mut tx = self.db.readers().begin().await?;
        invoices::of(&mut tx, query).await
    }

    async fn winners(&self, limit: u32) -> Result<Vec<StoredWinner>, LedgerError> {
        winners::list(self.db.readers(), limit).await
    }

    async fn totals(&self) -> Result<Totals, LedgerError> {
        let mut totals = Totals::default();
        accounts::add_totals(self.db.readers(), &mut totals).await?;
        winners::add_totals(self.db.readers(), &mut totals).await?;
        Ok(totals)
    }

    async fn ping(&self) -> Result<(), LedgerError> {
        Ok(self.db.ping().await?)
    }
}
