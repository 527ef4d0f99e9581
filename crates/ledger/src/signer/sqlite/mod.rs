//! The books in one SQLite file, for a signer that stands alone: one writer with a thread of its own
//! (see [`writer`]), one transaction at a time for everything that has queued up.

mod audit;
mod backfill;
mod commit_batch;
mod json;
mod lists;
mod open_batch;
mod outbox;
mod pages;
mod retention;

#[cfg(test)]
mod tests;

use super::{
    AuditChain, AuditRecord, Backlog, ChargedPayment, CounterKey, Event, LedgerError, MIGRATIONS,
    NewPayment, OpenReservation, PaymentRow, PrunedLine, ReservationId, Session, StoredPayment,
    Summary, UsageQuery,
    decode::Fields,
    engine::store::{Applied, Lease, Moved, OldAnswer, Store},
    plan::{
        AuditRow, CommitPlan, CommitRead, Head, Line, LineKey, OldPayment, OpenAsk, OpenPlan,
        OpenRead,
    },
    retention::Mark,
    usage::UsageRow,
};
use crate::sqlite::{
    OpenError, Sqlite, path_of,
    writer::{Tx, Writer},
};
use penstock_domain::{B256, StateId, Wei, parse_b256};
use sqlx::{Row, sqlite::SqliteRow};
use std::collections::{BTreeMap, HashSet};
use tokio::{runtime::Handle, sync::mpsc};
use uuid::Uuid;

type Answer<T> = Result<T, LedgerError>;

/// An open file.
pub struct SqliteStore {
    writer: Writer,
    readers: Sqlite,
    /// Whose totals this process adds to.
    replica: String,
}

impl SqliteStore {
    /// Opens `sqlite://PATH`, creating and migrating it as needed.
    pub async fn open(url: &str, replica: &str) -> Result<Self, OpenError> {
        let readers = Sqlite::open(url, &MIGRATIONS).await?;
        // It made the file what it must be.
        readers.writer().close().await;
        let writer = Writer::open(&path_of(url)?)?;
        backfill::totals(&writer, replica).await?;
        Ok(Self { writer, readers, replica: replica.to_owned() })
    }
}

/// [`Fields`] of a row, whichever way it was read.
macro_rules! fields {
    ($row:ty, $get:ident) => {
        impl Fields for $row {
            fn text(&self, column: &'static str) -> Answer<String> {
                self.$get(column).map_err(|_| LedgerError::Corrupt(column))
            }

            fn int(&self, column: &'static str) -> Answer<i64> {
                self.$get(column).map_err(|_| LedgerError::Corrupt(column))
            }

            fn blob(&self, column: &'static str) -> Answer<Vec<u8>> {
                self.$get(column).map_err(|_| LedgerError::Corrupt(column))
            }

            fn flag(&self, column: &'static str) -> Answer<bool> {
                self.$get(column).map_err(|_| LedgerError::Corrupt(column))
            }

            fn optional_blob(&self, column: &'static str) -> Answer<Option<Vec<u8>>> {
                self.$get(column).map_err(|_| LedgerError::Corrupt(column))
            }

            fn rand_hash(&self, column: &'static str) -> Answer<B256> {
                parse_b256(&self.text(column)?).ok_or(LedgerError::Corrupt(column))
            }
        }
    };
}

fields!(SqliteRow, try_get);
fields!(rusqlite::Row<'_>, get);

/// As the books have a recipientRandHash.
fn hash_text(hash: &B256) -> String {
    format!("{hash:#x}")
}

impl Store for SqliteStore {
    type Tx = Tx;
    const PARALLEL: bool = false;

    fn thread(&self) -> Option<&Handle> {
        Some(self.writer.thread())
    }

    async fn begin(&self) -> Answer<Tx> {
        Ok(self.writer.begin().await?)
    }

    async fn finish(&self, tx: Tx) -> Answer<()> {
        Ok(tx.commit()?)
    }

    async fn read_open(&self, tx: &mut Tx, ask: &OpenAsk) -> Answer<OpenRead> {
        open_batch::read(tx, ask)
    }

    async fn apply_open(&self, tx: &mut Tx, plan: &OpenPlan, before: &Head) -> Answer<Applied> {
        open_batch::apply(tx, plan, before)
    }

    async fn taken(&self, tx: &mut Tx, ids: &[ReservationId]) -> Answer<HashSet<ReservationId>> {
        open_batch::taken(tx, ids)
    }

    async fn read_commit(
        &self,
        tx: &mut Tx,
        batch: &[NewPayment],
        known: CommitRead,
    ) -> Answer<CommitRead> {
        commit_batch::read(tx, batch, known)
    }

    async fn apply_commit(
        &self,
        tx: &mut Tx,
        batch: &[NewPayment],
        plan: &CommitPlan,
    ) -> Answer<Applied> {
        commit_batch::apply(tx, batch, plan, &self.replica)
    }

    async fn head(&self, tx: &mut Tx, name: &str) -> Answer<Option<Head>> {
        audit::head(tx, name)
    }

    async fn start_chain(&self, tx: &mut Tx, name: &str, at_ms: i64) -> Answer<Head> {
        audit::start_chain(tx, name, at_ms)
    }

    async fn moved_chains(&self, tx: &mut Tx, own: i64) -> Answer<Vec<Moved>> {
        audit::moved_chains(tx, own)
    }

    async fn append_audit(&self, tx: &mut Tx, rows: &[AuditRow], before: &Head) -> Answer<Applied> {
        audit::append(tx, rows, before)
    }

    async fn note_anchored(&self, tx: &mut Tx, moved: &[Moved]) -> Answer<()> {
        audit::note_anchored(tx, moved)
    }

    async fn lease(&self, tx: &mut Tx) -> Answer<Option<Lease>> {
        outbox::lease(tx)
    }

    async fn set_lease(&self, tx: &mut Tx, old: Option<&Lease>, new: &Lease) -> Answer<Applied> {
        outbox::set_lease(tx, old, new)
    }

    async fn events(&self, tx: &mut Tx, limit: u32) -> Answer<Vec<Event>> {
        outbox::events(tx, limit)
    }

    async fn drop_events(&self, tx: &mut Tx, ids: &[Uuid]) -> Answer<()> {
        outbox::drop_events(tx, ids)
    }

    async fn mark(&self, tx: &mut Tx) -> Answer<Option<Mark>> {
        retention::mark(tx)
    }

    async fn set_mark(&self, tx: &mut Tx, mark: &Mark) -> Answer<()> {
        retention::set_mark(tx, mark)
    }

    async fn answers_after(
        &self,
        tx: &mut Tx,
        after: (i64, i64),
        before_ms: i64,
        limit: u32,
    ) -> Answer<Vec<OldAnswer>> {
        retention::answers_after(tx, after, before_ms, limit)
    }

    async fn put_answers(&self, tx: &mut Tx, answers: &[(i64, Vec<u8>)]) -> Answer<()> {
        retention::put_answers(tx, answers)
    }

    async fn payments_before(
        &self,
        tx: &mut Tx,
        before_ms: i64,
        limit: u32,
    ) -> Answer<Vec<OldPayment>> {
        retention::payments_before(tx, before_ms, limit)
    }

    async fn add_lines(&self, tx: &mut Tx, lines: &BTreeMap<LineKey, Line>) -> Answer<()> {
        retention::add_lines(tx, lines)
    }

    async fn drop_payments(&self, tx: &mut Tx, old: &[OldPayment], before_ms: i64) -> Answer<()> {
        retention::drop_payments(tx, old, before_ms)
    }

    async fn drop_counters(&self, tx: &mut Tx, keys: &[CounterKey]) -> Answer<()> {
        retention::drop_counters(tx, keys)
    }

    async fn read_mark(&self) -> Answer<Option<Mark>> {
        retention::read_mark(self.readers.readers()).await
    }

    async fn lines_after(&self, after: i64, limit: u32) -> Answer<Vec<PrunedLine>> {
        retention::lines_after(self.readers.readers(), after, limit).await
    }

    async fn backlog(&self) -> Answer<Backlog> {
        outbox::backlog(self.readers.readers()).await
    }

    async fn sessions_by_id(&self, ids: &[StateId]) -> Answer<Vec<Session>> {
        lists::sessions_by_id(self.readers.readers(), ids).await
    }

    async fn payment(&self, id: &StateId, sequence: u64) -> Answer<Option<StoredPayment>> {
        lists::payment(self.readers.readers(), id, sequence).await
    }

    async fn first_payment(&self, account: &str, key: &str) -> Answer<Option<StoredPayment>> {
        lists::first_payment(self.readers.readers(), account, key).await
    }

    async fn payments(&self, limit: u32) -> Answer<Vec<PaymentRow>> {
        lists::payments(self.readers.readers(), limit).await
    }

    async fn sessions(&self, limit: u32) -> Answer<Vec<Session>> {
        lists::sessions(self.readers.readers(), limit).await
    }

    async fn summary(&self) -> Answer<Summary> {
        lists::summary(self.readers.readers()).await
    }

    async fn counters(&self, keys: &[CounterKey]) -> Answer<Vec<Wei>> {
        lists::counters(self.readers.readers(), keys).await
    }

    async fn usage(&self, query: &UsageQuery, rows: mpsc::Sender<UsageRow>) -> Answer<()> {
        lists::usage(self.readers.readers(), query, rows).await
    }

    async fn payments_at(&self, places: &[(StateId, u64)]) -> Answer<Vec<StoredPayment>> {
        pages::payments_at(self.readers.readers(), places).await
    }

    async fn stored_after(&self, after: i64, limit: u32) -> Answer<Vec<(i64, StoredPayment)>> {
        pages::stored_after(self.readers.readers(), after, limit).await
    }

    async fn charged_after(&self, after: i64, limit: u32) -> Answer<Vec<ChargedPayment>> {
        pages::charged_after(self.readers.readers(), after, limit).await
    }

    async fn counters_after(&self, after: &str, limit: u32) -> Answer<Vec<(CounterKey, Wei)>> {
        pages::counters_after(self.readers.readers(), after, limit).await
    }

    async fn open_reservations(
        &self,
        after: Option<ReservationId>,
        limit: u32,
    ) -> Answer<Vec<OpenReservation>> {
        pages::open_reservations(self.readers.readers(), after, limit).await
    }

    async fn audit_chains(&self) -> Answer<Vec<AuditChain>> {
        audit::chains(self.readers.readers()).await
    }

    async fn audit_records(
        &self,
        chain: &str,
        from_seq: u64,
        limit: u32,
    ) -> Answer<Vec<AuditRecord>> {
        audit::records(self.readers.readers(), chain, from_seq, limit).await
    }

    async fn fence(&self) -> Answer<u64> {
        let tx = self.writer.begin().await?;
        let fenced = tx.execute("UPDATE nonces SET last_nonce = ?", [u32::MAX])?;
        tx.commit()?;
        Ok(u64::try_from(fenced).unwrap_or(u64::MAX))
    }

    async fn ping(&self) -> Answer<()> {
        Ok(self.readers.ping().await?)
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
