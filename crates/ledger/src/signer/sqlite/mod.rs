//! The books in one SQLite file, for a signer that stands alone: one writer, one transaction at a
//! time for everything that has queued up, a constant number of statements each.

mod audit;
mod backfill;
mod commit_batch;
mod json;
mod lists;
mod open_batch;
mod outbox;

#[cfg(test)]
mod tests;

use super::{
    AuditChain, AuditRecord, Backlog, CounterKey, Event, LedgerError, MIGRATIONS, NewPayment,
    PaymentRow, ReservationId, Session, StoredPayment, Summary, UsageQuery,
    decode::Fields,
    engine::store::{Applied, Lease, Moved, Store},
    plan::{AuditRow, CommitPlan, CommitRead, Head, OpenAsk, OpenPlan, OpenRead},
    usage::UsageRow,
};
use crate::sqlite::{OpenError, Sqlite};
use penstock_domain::{B256, StateId, Wei, parse_b256};
use sqlx::{Row, Transaction, sqlite::SqliteRow};
use std::collections::HashSet;
use uuid::Uuid;

type Tx = Transaction<'static, sqlx::Sqlite>;
type Answer<T> = Result<T, LedgerError>;

/// An open file.
pub struct SqliteStore {
    db: Sqlite,
    /// Whose totals this process adds to.
    writer: String,
}

impl SqliteStore {
    /// Opens `sqlite://PATH`, creating and migrating it as needed.
    pub async fn open(url: &str, replica: &str) -> Result<Self, OpenError> {
        let db = Sqlite::open(url, &MIGRATIONS).await?;
        backfill::totals(&db, replica).await?;
        Ok(Self { db, writer: replica.to_owned() })
    }
}

impl Fields for SqliteRow {
    fn text(&self, column: &'static str) -> Answer<String> {
        self.try_get(column).map_err(|_| LedgerError::Corrupt(column))
    }

    fn int(&self, column: &'static str) -> Answer<i64> {
        self.try_get(column).map_err(|_| LedgerError::Corrupt(column))
    }

    fn blob(&self, column: &'static str) -> Answer<Vec<u8>> {
        self.try_get(column).map_err(|_| LedgerError::Corrupt(column))
    }

    fn flag(&self, column: &'static str) -> Answer<bool> {
        self.try_get(column).map_err(|_| LedgerError::Corrupt(column))
    }

    fn optional_blob(&self, column: &'static str) -> Answer<Option<Vec<u8>>> {
        self.try_get(column).map_err(|_| LedgerError::Corrupt(column))
    }

    fn rand_hash(&self, column: &'static str) -> Answer<B256> {
        parse_b256(&self.text(column)?).ok_or(LedgerError::Corrupt(column))
    }
}

/// As the books have a recipientRandHash.
fn hash_text(hash: &B256) -> String {
    format!("{hash:#x}")
}

impl Store for SqliteStore {
    type Tx = Tx;
    const PARALLEL: bool = false;

    async fn begin(&self) -> Answer<Tx> {
        Ok(self.db.writer().begin_with("BEGIN IMMEDIATE").await?)
    }

    async fn finish(&self, tx: Tx) -> Answer<()> {
        Ok(tx.commit().await?)
    }

    async fn read_open(&self, tx: &mut Tx, ask: &OpenAsk) -> Answer<OpenRead> {
        open_batch::read(tx, ask).await
    }

    async fn apply_open(&self, tx: &mut Tx, plan: &OpenPlan, before: &Head) -> Answer<Applied> {
        open_batch::apply(tx, plan, before).await
    }

    async fn taken(&self, tx: &mut Tx, ids: &[ReservationId]) -> Answer<HashSet<ReservationId>> {
        open_batch::taken(tx, ids).await
    }

    async fn read_commit(&self, tx: &mut Tx, batch: &[NewPayment]) -> Answer<CommitRead> {
        commit_batch::read(tx, batch).await
    }

    async fn apply_commit(
        &self,
        tx: &mut Tx,
        batch: &[NewPayment],
        plan: &CommitPlan,
    ) -> Answer<Applied> {
        commit_batch::apply(tx, batch, plan, &self.writer).await
    }

    async fn head(&self, tx: &mut Tx, name: &str) -> Answer<Option<Head>> {
        audit::head(tx, name).await
    }

    async fn start_chain(&self, tx: &mut Tx, name: &str, at_ms: i64) -> Answer<Head> {
        audit::start_chain(tx, name, at_ms).await
    }

    async fn moved_chains(&self, tx: &mut Tx, own: i64) -> Answer<Vec<Moved>> {
        audit::moved_chains(tx, own).await
    }

    async fn append_audit(&self, tx: &mut Tx, rows: &[AuditRow], before: &Head) -> Answer<Applied> {
        audit::append(tx, rows, before).await
    }

    async fn note_anchored(&self, tx: &mut Tx, moved: &[Moved]) -> Answer<()> {
        audit::note_anchored(tx, moved).await
    }

    async fn lease(&self, tx: &mut Tx) -> Answer<Option<Lease>> {
        outbox::lease(tx).await
    }

    async fn set_lease(&self, tx: &mut Tx, old: Option<&Lease>, new: &Lease) -> Answer<Applied> {
        outbox::set_lease(tx, old, new).await
    }

    async fn events(&self, tx: &mut Tx, limit: u32) -> Answer<Vec<Event>> {
        outbox::events(tx, limit).await
    }

    async fn drop_events(&self, tx: &mut Tx, ids: &[Uuid]) -> Answer<()> {
        outbox::drop_events(tx, ids).await
    }

    async fn backlog(&self) -> Answer<Backlog> {
        outbox::backlog(self.db.readers()).await
    }

    async fn sessions_by_id(&self, ids: &[StateId]) -> Answer<Vec<Session>> {
        lists::sessions_by_id(self.db.readers(), ids).await
    }

    async fn payment(&self, id: &StateId, sequence: u64) -> Answer<Option<StoredPayment>> {
        lists::payment(self.db.readers(), id, sequence).await
    }

    async fn first_payment(&self, account: &str, key: &str) -> Answer<Option<StoredPayment>> {
        lists::first_payment(self.db.readers(), account, key).await
    }

    async fn payments(&self, limit: u32) -> Answer<Vec<PaymentRow>> {
        lists::payments(self.db.readers(), limit).await
    }

    async fn sessions(&self, limit: u32) -> Answer<Vec<Session>> {
        lists::sessions(self.db.readers(), limit).await
    }

    async fn summary(&self) -> Answer<Summary> {
        lists::summary(self.db.readers()).await
    }

    async fn counters(&self, keys: &[CounterKey]) -> Answer<Vec<Wei>> {
        lists::counters(self.db.readers(), keys).await
    }

    async fn usage(&self, query: &UsageQuery) -> Answer<Vec<UsageRow>> {
        lists::usage(self.db.readers(), query).await
    }

    async fn audit_chains(&self) -> Answer<Vec<AuditChain>> {
        audit::chains(self.db.readers()).await
    }

    async fn audit_records(
        &self,
        chain: &str,
        from_seq: u64,
        limit: u32,
    ) -> Answer<Vec<AuditRecord>> {
        audit::records(self.db.readers(), chain, from_seq, limit).await
    }

    async fn fence(&self) -> Answer<u64> {
        let done = sqlx::query("UPDATE nonces SET last_nonce = ?")
            .bind(u32::MAX)
            .execute(self.db.writer())
            .await?;
        Ok(done.rows_affected())
    }

    async fn ping(&self) -> Answer<()> {
        Ok(self.db.ping().await?)
    }

    async fn close(&self) {
        self.db.close().await;
    }
}
