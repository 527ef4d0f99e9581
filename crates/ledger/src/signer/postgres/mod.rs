//! The books in PostgreSQL, shared by replicas.
//!
//! Rows change only if they are as they were read (compare-and-swap) and unique constraints decide
//! who was first, so nothing rests on the isolation level, which is READ COMMITTED. Rows that many
//! want, counters above all, are locked when they are read, always in the order of their keys:
//! replicas then wait for each other instead of planning again and again.
//! Reservations and payments are written by two tasks side by side. Order of locks, which keeps them
//! from deadlock: reservations, sessions, nonces, counters, totals; the mark of retention before all.

mod audit;
mod commit_batch;
mod lists;
mod open_batch;
mod outbox;
mod pages;
mod retention;

use super::{
    AuditChain, AuditRecord, Backlog, ChargedPayment, CounterKey, Event, LedgerError, NewPayment,
    OpenReservation, POSTGRES_MIGRATIONS, PaymentRow, PrunedLine, ReservationId, Session,
    StoredPayment, Summary, UsageQuery,
    decode::{Fields, b256},
    engine::store::{Applied, Lease, Moved, OldAnswer, Store},
    plan::{
        AuditRow, CommitPlan, CommitRead, Head, Line, LineKey, OldPayment, OpenAsk, OpenPlan,
        OpenRead,
    },
    retention::Mark,
    usage::UsageRow,
};
use crate::{
    postgres::{
        pools::{self, Pools, Sizes},
        silence::Limits,
        transaction::Tx,
    },
    sqlite::OpenError,
};
use penstock_domain::{B256, StateId, Wei};
use sqlx::{Row, postgres::PgRow};
use std::collections::{BTreeMap, HashSet};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Two writing tasks, one for the outbox, one to spare; readers beside them.
const SIZES: Sizes = Sizes { application: "penstock-signer", writers: 4, readers: 4, reports: 2 };

type Answer<T> = Result<T, LedgerError>;

/// Open connections.
pub struct PostgresStore {
    pools: Pools,
    /// Whose totals this process adds to.
    writer: String,
}

impl PostgresStore {
    /// Connects to `postgres://…` and migrates as needed.
    pub async fn open(url: &str, replica: &str, limits: Limits) -> Result<Self, OpenError> {
        Ok(Self {
            pools: Pools::open(url, &POSTGRES_MIGRATIONS, SIZES, limits).await?,
            writer: replica.to_owned(),
        })
    }
}

impl Fields for PgRow {
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
        b256(&self.blob(column)?, column)
    }
}

/// A row that breaks a constraint shows that another replica was faster: to be planned again.
fn or_stale(error: sqlx::Error) -> Answer<Applied> {
    let code = error.as_database_error().and_then(|e| e.code());
    // unique_violation, foreign_key_violation
    if matches!(code.as_deref(), Some("23505" | "23503")) {
        return Ok(Applied::Stale);
    }
    Err(error.into())
}

impl Store for PostgresStore {
    type Tx = Tx;
    const PARALLEL: bool = true;

    async fn begin(&self) -> Answer<Tx> {
        self.pools.begin().await
    }

    async fn finish(&self, tx: Tx) -> Answer<()> {
        self.pools.commit(tx).await
    }

    async fn read_open(&self, tx: &mut Tx, ask: &OpenAsk) -> Answer<OpenRead> {
        self.pools.watch.answer(open_batch::read(tx, ask)).await
    }

    async fn apply_open(&self, tx: &mut Tx, plan: &OpenPlan, before: &Head) -> Answer<Applied> {
        self.pools.watch.answer(open_batch::apply(tx, plan, before)).await
    }

    async fn taken(&self, tx: &mut Tx, ids: &[ReservationId]) -> Answer<HashSet<ReservationId>> {
        self.pools.watch.answer(open_batch::taken(tx, ids)).await
    }

    async fn read_commit(
        &self,
        tx: &mut Tx,
        batch: &[NewPayment],
        known: CommitRead,
    ) -> Answer<CommitRead> {
        self.pools.watch.answer(commit_batch::read(tx, batch, known)).await
    }

    async fn apply_commit(
        &self,
        tx: &mut Tx,
        batch: &[NewPayment],
        plan: &CommitPlan,
    ) -> Answer<Applied> {
        self.pools.watch.answer(commit_batch::apply(tx, batch, plan, &self.writer)).await
    }

    async fn head(&self, tx: &mut Tx, name: &str) -> Answer<Option<Head>> {
        self.pools.watch.answer(audit::head(tx, name)).await
    }

    async fn start_chain(&self, tx: &mut Tx, name: &str, at_ms: i64) -> Answer<Head> {
        self.pools.watch.answer(audit::start_chain(tx, name, at_ms)).await
    }

    async fn moved_chains(&self, tx: &mut Tx, own: i64) -> Answer<Vec<Moved>> {
        self.pools.watch.answer(audit::moved_chains(tx, own)).await
    }

    async fn append_audit(&self, tx: &mut Tx, rows: &[AuditRow], before: &Head) -> Answer<Applied> {
        let plan = OpenPlan { audit: rows.to_vec(), ..OpenPlan::default() };
        self.pools.watch.answer(open_batch::apply(tx, &plan, before)).await
    }

    async fn note_anchored(&self, tx: &mut Tx, moved: &[Moved]) -> Answer<()> {
        self.pools.watch.answer(audit::note_anchored(tx, moved)).await
    }

    async fn lease(&self, tx: &mut Tx) -> Answer<Option<Lease>> {
        self.pools.watch.answer(outbox::lease(tx)).await
    }

    async fn set_lease(&self, tx: &mut Tx, old: Option<&Lease>, new: &Lease) -> Answer<Applied> {
        self.pools.watch.answer(outbox::set_lease(tx, old, new)).await
    }

    async fn events(&self, tx: &mut Tx, limit: u32) -> Answer<Vec<Event>> {
        self.pools.watch.answer(outbox::events(tx, limit)).await
    }

    async fn drop_events(&self, tx: &mut Tx, ids: &[Uuid]) -> Answer<()> {
        self.pools.watch.answer(outbox::drop_events(tx, ids)).await
    }

    async fn mark(&self, tx: &mut Tx) -> Answer<Option<Mark>> {
        self.pools.watch.answer(retention::mark(tx)).await
    }

    async fn set_mark(&self, tx: &mut Tx, mark: &Mark) -> Answer<()> {
        self.pools.watch.answer(retention::set_mark(tx, mark)).await
    }

    async fn answers_after(
        &self,
        tx: &mut Tx,
        after: (i64, i64),
        before_ms: i64,
        limit: u32,
    ) -> Answer<Vec<OldAnswer>> {
        self.pools.watch.answer(retention::answers_after(tx, after, before_ms, limit)).await
    }

    async fn put_answers(&self, tx: &mut Tx, answers: &[(i64, Vec<u8>)]) -> Answer<()> {
        self.pools.watch.answer(retention::put_answers(tx, answers)).await
    }

    async fn payments_before(
        &self,
        tx: &mut Tx,
        before_ms: i64,
        limit: u32,
    ) -> Answer<Vec<OldPayment>> {
        self.pools.watch.answer(retention::payments_before(tx, before_ms, limit)).await
    }

    async fn add_lines(&self, tx: &mut Tx, lines: &BTreeMap<LineKey, Line>) -> Answer<()> {
        self.pools.watch.answer(retention::add_lines(tx, lines)).await
    }

    async fn drop_payments(&self, tx: &mut Tx, old: &[OldPayment], before_ms: i64) -> Answer<()> {
        self.pools.watch.answer(retention::drop_payments(tx, old, before_ms)).await
    }

    async fn drop_counters(&self, tx: &mut Tx, keys: &[CounterKey]) -> Answer<()> {
        self.pools.watch.answer(retention::drop_counters(tx, keys)).await
    }

    async fn read_mark(&self) -> Answer<Option<Mark>> {
        self.pools.report(retention::read_mark).await
    }

    async fn lines_after(&self, after: i64, limit: u32) -> Answer<Vec<PrunedLine>> {
        self.pools.report(|reader| retention::lines_after(reader, after, limit)).await
    }

    async fn backlog(&self) -> Answer<Backlog> {
        self.pools.read(outbox::backlog).await
    }

    async fn sessions_by_id(&self, ids: &[StateId]) -> Answer<Vec<Session>> {
        self.pools.read(|reader| lists::sessions_by_id(reader, ids)).await
    }

    async fn payment(&self, id: &StateId, sequence: u64) -> Answer<Option<StoredPayment>> {
        self.pools.read(|reader| lists::payment(reader, id, sequence)).await
    }

    async fn first_payment(&self, account: &str, key: &str) -> Answer<Option<StoredPayment>> {
        self.pools.read(|reader| lists::first_payment(reader, account, key)).await
    }

    async fn payments(&self, limit: u32) -> Answer<Vec<PaymentRow>> {
        self.pools.report(|reader| lists::payments(reader, limit)).await
    }

    async fn sessions(&self, limit: u32) -> Answer<Vec<Session>> {
        self.pools.report(|reader| lists::sessions(reader, limit)).await
    }

    async fn summary(&self) -> Answer<Summary> {
        self.pools.report(lists::summary).await
    }

    async fn counters(&self, keys: &[CounterKey]) -> Answer<Vec<Wei>> {
        self.pools.read(|reader| lists::counters(reader, keys)).await
    }

    async fn usage(&self, query: &UsageQuery, rows: mpsc::Sender<UsageRow>) -> Answer<()> {
        // Asked once: rows that were sent cannot be taken back.
        let lent = async { Answer::Ok(self.pools.readers.lend().await?) };
        let reader = self.pools.watch.answer(lent).await?;
        lists::usage(reader, &self.pools.watch, query, rows).await
    }

    async fn payments_at(&self, places: &[(StateId, u64)]) -> Answer<Vec<StoredPayment>> {
        self.pools.report(|reader| pages::payments_at(reader, places)).await
    }

    async fn stored_after(&self, after: i64, limit: u32) -> Answer<Vec<(i64, StoredPayment)>> {
        self.pools.report(|reader| pages::stored_after(reader, after, limit)).await
    }

    async fn charged_after(&self, after: i64, limit: u32) -> Answer<Vec<ChargedPayment>> {
        self.pools.report(|reader| pages::charged_after(reader, after, limit)).await
    }

    async fn counters_after(&self, after: &str, limit: u32) -> Answer<Vec<(CounterKey, Wei)>> {
        self.pools.report(|reader| pages::counters_after(reader, after, limit)).await
    }

    async fn open_reservations(
        &self,
        after: Option<ReservationId>,
        limit: u32,
    ) -> Answer<Vec<OpenReservation>> {
        self.pools.report(|reader| pages::open_reservations(reader, after, limit)).await
    }

    async fn audit_chains(&self) -> Answer<Vec<AuditChain>> {
        self.pools.report(audit::chains).await
    }

    async fn audit_records(
        &self,
        chain: &str,
        from_seq: u64,
        limit: u32,
    ) -> Answer<Vec<AuditRecord>> {
        self.pools.report(|reader| audit::records(reader, chain, from_seq, limit)).await
    }

    async fn fence(&self) -> Answer<u64> {
        let fence = async {
            let mut writer = self.pools.writers.lend().await?;
            let done = sqlx::query("UPDATE nonces SET last_nonce = $1")
                .bind(i64::from(u32::MAX))
                .execute(&mut *writer)
                .await?;
            Ok(done.rows_affected())
        };
        self.pools.watch.answer(fence).await
    }

    async fn ping(&self) -> Answer<()> {
        self.pools.read(pools::takes_writes).await
    }

    async fn close(&self) {
        self.pools.close().await;
    }
}
