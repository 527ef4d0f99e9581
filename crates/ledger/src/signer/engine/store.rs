//! What a database has to do for the books: read rows, change rows if they are still as they were
//! read. Everything that decides is in [`crate::signer::plan`].

use crate::signer::{
    AuditChain, AuditRecord, Backlog, ChargedPayment, CounterKey, Event, LedgerError, NewPayment,
    OpenReservation, PaymentRow, PrunedLine, ReservationId, Session, StoredPayment, Summary,
    UsageQuery,
    plan::{
        AuditRow, CommitPlan, CommitRead, Head, Line, LineKey, OldPayment, OpenAsk, OpenPlan,
        OpenRead,
    },
    retention::Mark,
    usage::UsageRow,
};
use core::future::Future;
use penstock_domain::{StateId, Wei};
use std::collections::{BTreeMap, HashSet};
use tokio::{runtime::Handle, sync::mpsc};
use uuid::Uuid;

/// Whether a plan's rows were still as they had been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// They were; the changes are part of the transaction.
    Done,
    /// One was not: roll back, read and plan again.
    Stale,
}

/// Another chain with its row, whose head moved since it was anchored last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub chain_id: i64,
    pub chain: AuditChain,
}

/// The lease of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub holder: Vec<u8>,
    pub fence: u64,
    pub until_ms: i64,
}

/// A payment's answer that may shrink.
#[derive(Debug, Clone)]
pub struct OldAnswer {
    pub id: i64,
    pub created_at_ms: i64,
    pub answer: Vec<u8>,
}

type Answer<T> = Result<T, LedgerError>;

/// One database. Futures are `Send`: the lanes are tasks.
pub trait Store: Send + Sync + 'static {
    /// An open transaction; dropped, it is rolled back.
    type Tx: Send;
    /// Whether reservations and payments are written by two tasks side by side. A database with
    /// one writer does both in one transaction, which saves a sync.
    const PARALLEL: bool;

    /// Where transactions have to happen, if the database works in the thread that asks it.
    fn thread(&self) -> Option<&Handle> {
        None
    }
    fn begin(&self) -> impl Future<Output = Answer<Self::Tx>> + Send;
    fn finish(&self, tx: Self::Tx) -> impl Future<Output = Answer<()>> + Send;

    // --- batches ---
    fn read_open(
        &self,
        tx: &mut Self::Tx,
        ask: &OpenAsk,
    ) -> impl Future<Output = Answer<OpenRead>> + Send;
    fn apply_open(
        &self,
        tx: &mut Self::Tx,
        plan: &OpenPlan,
        before: &Head,
    ) -> impl Future<Output = Answer<Applied>> + Send;
    /// Which of these reservations are in the books.
    fn taken(
        &self,
        tx: &mut Self::Tx,
        ids: &[ReservationId],
    ) -> impl Future<Output = Answer<HashSet<ReservationId>>> + Send;
    /// The rows that a batch rests on, but for those that are known.
    fn read_commit(
        &self,
        tx: &mut Self::Tx,
        batch: &[NewPayment],
        known: CommitRead,
    ) -> impl Future<Output = Answer<CommitRead>> + Send;
    fn apply_commit(
        &self,
        tx: &mut Self::Tx,
        batch: &[NewPayment],
        plan: &CommitPlan,
    ) -> impl Future<Output = Answer<Applied>> + Send;

    // --- the own chain ---
    fn head(
        &self,
        tx: &mut Self::Tx,
        name: &str,
    ) -> impl Future<Output = Answer<Option<Head>>> + Send;
    fn start_chain(
        &self,
        tx: &mut Self::Tx,
        name: &str,
        at_ms: i64,
    ) -> impl Future<Output = Answer<Head>> + Send;
    fn moved_chains(
        &self,
        tx: &mut Self::Tx,
        own: i64,
    ) -> impl Future<Output = Answer<Vec<Moved>>> + Send;
    fn append_audit(
        &self,
        tx: &mut Self::Tx,
        rows: &[AuditRow],
        before: &Head,
    ) -> impl Future<Output = Answer<Applied>> + Send;
    fn note_anchored(
        &self,
        tx: &mut Self::Tx,
        moved: &[Moved],
    ) -> impl Future<Output = Answer<()>> + Send;

    // --- outbox ---
    fn lease(&self, tx: &mut Self::Tx) -> impl Future<Output = Answer<Option<Lease>>> + Send;
    fn set_lease(
        &self,
        tx: &mut Self::Tx,
        old: Option<&Lease>,
        new: &Lease,
    ) -> impl Future<Output = Answer<Applied>> + Send;
    fn events(
        &self,
        tx: &mut Self::Tx,
        limit: u32,
    ) -> impl Future<Output = Answer<Vec<Event>>> + Send;
    fn drop_events(
        &self,
        tx: &mut Self::Tx,
        ids: &[Uuid],
    ) -> impl Future<Output = Answer<()>> + Send;
    fn backlog(&self) -> impl Future<Output = Answer<Backlog>> + Send;

    // --- what is old ---
    /// The mark, which nobody else gets until the transaction ends; `None`: somebody has it.
    fn mark(&self, tx: &mut Self::Tx) -> impl Future<Output = Answer<Option<Mark>>> + Send;
    fn set_mark(&self, tx: &mut Self::Tx, mark: &Mark) -> impl Future<Output = Answer<()>> + Send;
    /// Answers of payments after this (time, number) and made before then, in that order.
    fn answers_after(
        &self,
        tx: &mut Self::Tx,
        after: (i64, i64),
        before_ms: i64,
        limit: u32,
    ) -> impl Future<Output = Answer<Vec<OldAnswer>>> + Send;
    fn put_answers(
        &self,
        tx: &mut Self::Tx,
        answers: &[(i64, Vec<u8>)],
    ) -> impl Future<Output = Answer<()>> + Send;
    /// The oldest payments made before then.
    fn payments_before(
        &self,
        tx: &mut Self::Tx,
        before_ms: i64,
        limit: u32,
    ) -> impl Future<Output = Answer<Vec<OldPayment>>> + Send;
    fn add_lines(
        &self,
        tx: &mut Self::Tx,
        lines: &BTreeMap<LineKey, Line>,
    ) -> impl Future<Output = Answer<()>> + Send;
    /// Deletes these, and those of their sessions that have none left and were not used since.
    fn drop_payments(
        &self,
        tx: &mut Self::Tx,
        old: &[OldPayment],
        before_ms: i64,
    ) -> impl Future<Output = Answer<()>> + Send;
    fn drop_counters(
        &self,
        tx: &mut Self::Tx,
        keys: &[CounterKey],
    ) -> impl Future<Output = Answer<()>> + Send;
    fn read_mark(&self) -> impl Future<Output = Answer<Option<Mark>>> + Send;
    fn lines_after(
        &self,
        after: i64,
        limit: u32,
    ) -> impl Future<Output = Answer<Vec<PrunedLine>>> + Send;

    // --- reads ---
    fn sessions_by_id(&self, ids: &[StateId]) -> impl Future<Output = Answer<Vec<Session>>> + Send;
    fn payment(
        &self,
        id: &StateId,
        sequence: u64,
    ) -> impl Future<Output = Answer<Option<StoredPayment>>> + Send;
    fn first_payment(
        &self,
        account: &str,
        key: &str,
    ) -> impl Future<Output = Answer<Option<StoredPayment>>> + Send;
    fn payments(&self, limit: u32) -> impl Future<Output = Answer<Vec<PaymentRow>>> + Send;
    fn sessions(&self, limit: u32) -> impl Future<Output = Answer<Vec<Session>>> + Send;
    fn summary(&self) -> impl Future<Output = Answer<Summary>> + Send;
    fn counters(&self, keys: &[CounterKey]) -> impl Future<Output = Answer<Vec<Wei>>> + Send;
    /// In the order of accounts, subjects and days, until nobody listens.
    fn usage(
        &self,
        query: &UsageQuery,
        rows: mpsc::Sender<UsageRow>,
    ) -> impl Future<Output = Answer<()>> + Send;
    fn payments_at(
        &self,
        places: &[(StateId, u64)],
    ) -> impl Future<Output = Answer<Vec<StoredPayment>>> + Send;
    fn stored_after(
        &self,
        after: i64,
        limit: u32,
    ) -> impl Future<Output = Answer<Vec<(i64, StoredPayment)>>> + Send;
    fn charged_after(
        &self,
        after: i64,
        limit: u32,
    ) -> impl Future<Output = Answer<Vec<ChargedPayment>>> + Send;
    fn counters_after(
        &self,
        after: &str,
        limit: u32,
    ) -> impl Future<Output = Answer<Vec<(CounterKey, Wei)>>> + Send;
    fn open_reservations(
        &self,
        after: Option<ReservationId>,
        limit: u32,
    ) -> impl Future<Output = Answer<Vec<OpenReservation>>> + Send;
    fn audit_chains(&self) -> impl Future<Output = Answer<Vec<AuditChain>>> + Send;
    fn audit_records(
        &self,
        chain: &str,
        from_seq: u64,
        limit: u32,
    ) -> impl Future<Output = Answer<Vec<AuditRecord>>> + Send;

    // --- operation ---
    fn fence(&self) -> impl Future<Output = Answer<u64>> + Send;
    fn ping(&self) -> impl Future<Output = Answer<()>> + Send;
    fn close(&self) -> impl Future<Output = ()> + Send;
}
