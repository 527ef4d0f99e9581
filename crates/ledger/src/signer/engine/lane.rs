//! The task that writes: group commit.
//!
//! While one batch is on its way to the disk, the next one gathers; so a batch grows with the load
//! and with the disk's slowness, and its cost is shared by all that are in it. A batch whose rows
//! moved under it (another replica was faster) is read and planned again: its losers get their
//! answer, the others never notice. A caller that gives up waiting changes nothing.

use super::{
    batch::{Batch, Write, tell},
    due::Due,
    pulse::Pulse,
    recent::Recent,
    store::{Applied, Store},
};
use crate::{
    DatabaseError,
    signer::{
        AuditEntry, AuditKind, LedgerError,
        audit::verify::AnchorReference,
        error::away,
        plan::{CommitPlan, CommitRead, Head, OpenPlan, plan_commits, plan_opens},
    },
};
use penstock_domain::B256;
use std::{collections::HashSet, sync::Arc, time::Instant};
use tokio::{runtime::Handle, sync::mpsc};

/// Most requests in one transaction: bounds how long the first of them waits.
const BATCH: usize = 128;
/// How often a batch is planned again. Each time somebody else got on, so this is not reached
/// unless something is wrong.
const TRIES: u32 = 50;

/// One writing task.
pub struct Lane<S: Store> {
    store: Arc<S>,
    /// The own chain's name; it is started with its first record.
    chain: String,
    /// `None`: not known, after a failure or before the first record.
    head: Option<Head>,
    /// Told how it goes.
    pulse: Arc<Pulse>,
    /// What the process's writers wrote last.
    recent: Arc<Recent>,
    /// Whom a batch waits for.
    due: Arc<Due>,
    /// Where the callers are, if not where this runs: each answer sent from another thread would
    /// wake theirs, so all answers of a batch are sent from there.
    callers: Option<Handle>,
}

/// Tells every caller of a batch what came of it.
fn tell_all(batch: Batch, done: Done) {
    tell(batch.reserve_replies, done.open.reserved);
    tell(batch.release_replies, done.open.released.into_iter().map(Ok));
    let expired = std::iter::once(done.open.expired).chain(std::iter::repeat(0));
    tell(batch.expire_replies, expired.map(Ok));
    tell(batch.record_replies, done.open.recorded);
    tell(batch.commit_replies, done.commit.outcomes);
}

/// What a transaction did.
#[derive(Default)]
struct Done {
    open: OpenPlan,
    commit: CommitPlan,
}

impl<S: Store> Lane<S> {
    pub fn new(
        store: Arc<S>,
        chain: String,
        pulse: Arc<Pulse>,
        recent: Arc<Recent>,
        due: Arc<Due>,
    ) -> Self {
        let callers = store.thread().map(|_| Handle::current());
        Self { store, chain, head: None, pulse, recent, due, callers }
    }

    /// Runs until the queue is closed and empty.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Write>) {
        let mut writes = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut writes, BATCH).await > 0 {
            // Those that are being signed come to this lane.
            if !S::PARALLEL || writes.iter().any(Write::is_commit) {
                self.due.all().await;
                while writes.len() < BATCH
                    && let Ok(write) = queue.try_recv()
                {
                    writes.push(write);
                }
            }
            self.write(Batch::of(&mut writes)).await;
        }
        if let Some(head) = self.head.take()
            && let Err(error) = self.end_chain(head).await
        {
            tracing::warn!(%error, "the audit chain was not closed");
        }
    }

    async fn write(&mut self, mut batch: Batch) {
        for (now_ms, reply) in std::mem::take(&mut batch.anchors) {
            self.pulse.begins(Instant::now());
            let result = self.anchor(now_ms).await;
            self.pulse.ended(Instant::now(), result.as_ref().map(|()| false));
            let _ = reply.send(result);
        }
        if batch.ask.is_empty() && batch.payments.is_empty() {
            return;
        }
        self.pulse.begins(Instant::now());
        let result = self.transaction(&batch).await;
        let written = result.as_ref().map(|d| !d.open.is_empty() || !d.commit.is_empty());
        self.pulse.ended(Instant::now(), written);
        match result {
            Ok(done) => {
                self.due.written(done.open.reservations.len());
                match &self.callers {
                    Some(callers) => drop(callers.spawn(async move { tell_all(batch, done) })),
                    None => tell_all(batch, done),
                }
            }
            Err(error) => {
                // Whether it was written is not known, so neither is the head.
                self.head = None;
                self.recent.forget(&batch.payments);
                let requests = batch.payments.len() + batch.ask.reserves.len();
                tracing::error!(%error, cause = ?error, requests, "ledger transaction failed");
                batch.refuse(&error);
            }
        }
    }

    async fn transaction(&mut self, batch: &Batch) -> Result<Done, LedgerError> {
        let mut head = match (&self.head, batch.ask.is_empty()) {
            (Some(head), _) => Some(head.clone()),
            (None, true) => None,
            (None, false) => Some(self.find_head(time_of(batch)).await?),
        };
        let mut taken = HashSet::new();
        for again in 0..TRIES {
            let mut tx = self.store.begin().await?;
            let mut done = Done::default();
            if !batch.payments.is_empty() {
                let known = if again == 0 {
                    self.recent.of(&batch.payments)
                } else {
                    self.recent.forget(&batch.payments);
                    CommitRead::default()
                };
                let read = match self.store.read_commit(&mut tx, &batch.payments, known).await {
                    Err(error) if is_transient(&error) => continue,
                    read => read?,
                };
                done.commit = plan_commits(&batch.payments, read);
                if !done.commit.is_empty() {
                    let applied =
                        self.store.apply_commit(&mut tx, &batch.payments, &done.commit).await;
                    match applied {
                        Ok(Applied::Done) => {}
                        Ok(Applied::Stale) => continue,
                        Err(error) if is_transient(&error) => continue,
                        Err(error) => return Err(error),
                    }
                }
            }
            let mut moved = None;
            if let Some(before) = head.as_ref().filter(|_| !batch.ask.is_empty()) {
                let mut read = match self.store.read_open(&mut tx, &batch.ask).await {
                    Err(error) if is_transient(&error) => continue,
                    read => read?,
                };
                read.taken.clone_from(&taken);
                let mut after = before.clone();
                done.open = plan_opens(&batch.ask, &read, &mut after);
                if !done.open.is_empty() {
                    match self.store.apply_open(&mut tx, &done.open, before).await {
                        Ok(Applied::Done) => {}
                        Ok(Applied::Stale) => {
                            drop(tx);
                            (taken, head) = self.look_again(batch).await?;
                            continue;
                        }
                        Err(error) if is_transient(&error) => continue,
                        Err(error) => return Err(error),
                    }
                }
                moved = Some(after);
            }
            self.store.finish(tx).await?;
            if let Some(after) = moved {
                self.head = Some(after);
            }
            self.recent.written(&done.open, &mut done.commit);
            return Ok(done);
        }
        Err(away("rows that others change without end"))
    }

    /// Why rows were not as they had been read. A reservation's name that was used before fails an
    /// insert; here it is found, so that only its own request is refused. And the own chain's head
    /// moves when a write that we gave up is carried out after all.
    async fn look_again(
        &self,
        batch: &Batch,
    ) -> Result<(HashSet<crate::signer::ReservationId>, Option<Head>), LedgerError> {
        let ids: Vec<_> = batch.ask.reserves.iter().map(|request| request.id).collect();
        let mut tx = self.store.begin().await?;
        let taken = self.store.taken(&mut tx, &ids).await?;
        let head = self.store.head(&mut tx, &self.chain).await?;
        self.store.finish(tx).await?;
        let head = head.ok_or(LedgerError::Corrupt("head of the own audit chain"))?;
        Ok((taken, Some(head)))
    }

    /// The own chain's head as the books have it; starts the chain if it has none.
    async fn find_head(&mut self, now_ms: i64) -> Result<Head, LedgerError> {
        let mut tx = self.store.begin().await?;
        let head = match self.store.head(&mut tx, &self.chain).await? {
            Some(head) => head,
            None => {
                let before = self.store.start_chain(&mut tx, &self.chain, now_ms).await?;
                let mut head = before.clone();
                let opened = head.append(now_ms, note(AuditKind::Open, B256::ZERO, String::new()));
                self.anchors(&mut tx, &before, head, vec![opened], now_ms).await?
            }
        };
        self.store.finish(tx).await?;
        self.head = Some(head.clone());
        Ok(head)
    }

    async fn anchor(&mut self, now_ms: i64) -> Result<(), LedgerError> {
        let before = match &self.head {
            Some(head) => head.clone(),
            None => self.find_head(now_ms).await?,
        };
        // Unknown until the books say that it was written.
        self.head = None;
        let mut tx = self.store.begin().await?;
        let head = self.anchors(&mut tx, &before, before.clone(), Vec::new(), now_ms).await?;
        self.store.finish(tx).await?;
        tracing::info!(chain = %head.name, seq = head.seq, hash = %head.hash, "audit head");
        self.head = Some(head);
        Ok(())
    }

    /// Appends `rows` and an anchor for each other chain that moved. `head` is behind `rows`.
    async fn anchors(
        &self,
        tx: &mut S::Tx,
        before: &Head,
        mut head: Head,
        mut rows: Vec<crate::signer::plan::AuditRow>,
        now_ms: i64,
    ) -> Result<Head, LedgerError> {
        let moved = self.store.moved_chains(tx, before.chain_id).await?;
        for other in &moved {
            let chain = &other.chain;
            let reference = AnchorReference { chain: &chain.name, seq: chain.seq }.to_string();
            rows.push(head.append(now_ms, note(AuditKind::Anchor, chain.hash, reference)));
            tracing::info!(chain = %chain.name, seq = chain.seq, hash = %chain.hash, "audit head");
        }
        if !rows.is_empty() {
            match self.store.append_audit(tx, &rows, before).await? {
                Applied::Done => self.store.note_anchored(tx, &moved).await?,
                // Nobody else writes to this chain: a write that we gave up was carried out. The
                // head is read again by the next one.
                Applied::Stale => return Err(away("the own audit chain's head moved")),
            }
        }
        Ok(head)
    }

    async fn end_chain(&self, before: Head) -> Result<(), LedgerError> {
        let now_ms = now_ms();
        let mut head = before.clone();
        let closed = head.append(now_ms, note(AuditKind::Close, B256::ZERO, String::new()));
        let mut tx = self.store.begin().await?;
        self.store.append_audit(&mut tx, &[closed], &before).await?;
        self.store.finish(tx).await?;
        tracing::info!(chain = %head.name, seq = head.seq, hash = %head.hash, "audit head, closed");
        Ok(())
    }
}

/// The machine's clock, for records that no caller asked for.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|d| i64::try_from(d.as_millis()).ok()).unwrap_or(0)
}

fn time_of(batch: &Batch) -> i64 {
    let ask = &batch.ask;
    let first = ask.reserves.first().map(|r| r.now_ms);
    let first = first.or_else(|| ask.releases.first().map(|(_, at)| *at));
    let first = first.or_else(|| ask.records.first().map(|(_, at)| *at));
    first.or_else(|| ask.expire.map(|(at, _)| at)).unwrap_or(0)
}

fn note(kind: AuditKind, digest: B256, reference: String) -> AuditEntry {
    AuditEntry { kind, digest, account: String::new(), auth_id: None, reference }
}

/// Whether the same transaction may succeed at once: a deadlock that the database resolved against
/// us, a serialisation failure, or a connection that was lost. Asked only before the commit is sent,
/// when nothing can have been written.
fn is_transient(error: &LedgerError) -> bool {
    let LedgerError::Unavailable(error) = error else { return false };
    let DatabaseError::Sqlx(error) = &**error else { return false };
    match error {
        // Silence took its time already.
        sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::TimedOut,
        sqlx::Error::Protocol(_) => true,
        error => {
            let code = error.as_database_error().and_then(|e| e.code());
            // serialization_failure, deadlock_detected, admin_shutdown, crash_shutdown, idle_session_timeout
            matches!(code.as_deref(), Some("40001" | "40P01" | "57P01" | "57P02" | "57P05"))
        }
    }
}
