//! The port over a store: queues before it, tasks that write.

use super::{
    batch::{Reply, Write},
    deliveries,
    due::Due,
    lane::{Lane, now_ms},
    lookup::{self, Wanted},
    pruning,
    pulse::Pulse,
    recent::Recent,
    store::Store,
};
use crate::signer::{
    AuditChain, AuditEntry, AuditRecord, Backlog, ChargedPayment, Committed, CounterKey, Fence,
    LedgerError, NewPayment, OpenReservation, PaymentRow, Pruned, PrunedLine, ReadDigests,
    ReservationId, ReserveRequest, Reserved, Session, SignerLedger, StoredPayment, Summary,
    TakenEvents, Usage, UsageQuery, usage,
};
use async_trait::async_trait;
use penstock_domain::{StateId, Wei};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
};
use uuid::Uuid;

/// Requests waiting for a writer; beyond that callers wait in turn.
const QUEUE: usize = 1_024;
/// Rows of a usage report that wait to be added up.
const USAGE_ROWS: usize = 256;
/// How long the database's answer to a ping counts: strangers may ask whether we are ready.
const PING_COUNTS: Duration = Duration::from_secs(1);

/// Where requests go.
#[derive(Clone)]
struct Queues {
    open: mpsc::Sender<Write>,
    commit: mpsc::Sender<Write>,
    lookup: mpsc::Sender<Wanted>,
}

/// The signer's books in a database.
pub struct Books<S: Store> {
    store: Arc<S>,
    queues: Mutex<Option<Queues>>,
    lanes: Mutex<Vec<JoinHandle<()>>>,
    /// One for each writer.
    pulses: Vec<Arc<Pulse>>,
    /// Reservations whose payments are being signed.
    due: Arc<Due>,
    /// The last ping. Locked while one is under way, so that there is one at a time.
    pinged: Mutex<Option<(Instant, Result<(), LedgerError>)>>,
    /// Names this handle in the outbox's lease.
    holder: [u8; 16],
}

impl<S: Store> Books<S> {
    /// Starts the writers. The audit chain is named after the replica and this moment.
    pub fn new(store: S, replica: &str) -> Self {
        let store = Arc::new(store);
        let chain = format!("{replica}-{}-{}", now_ms(), hex::encode(rand::random::<[u8; 8]>()));
        let thread = store.thread().cloned().unwrap_or_else(Handle::current);
        let recent = Arc::<Recent>::default();
        let due = Arc::<Due>::default();
        let (mut lanes, mut pulses) = (Vec::new(), Vec::new());
        let mut lane = || {
            let (sender, queue) = mpsc::channel(QUEUE);
            let pulse = Arc::<Pulse>::default();
            pulses.push(Arc::clone(&pulse));
            let lane = Lane::new(
                Arc::clone(&store),
                chain.clone(),
                pulse,
                Arc::clone(&recent),
                Arc::clone(&due),
            );
            lanes.push(thread.spawn(lane.run(queue)));
            sender
        };
        let open = lane();
        let commit = if S::PARALLEL { lane() } else { open.clone() };
        let (lookup, queue) = mpsc::channel(QUEUE);
        lanes.push(tokio::spawn(lookup::run(Arc::clone(&store), queue)));
        Self {
            store,
            queues: Mutex::new(Some(Queues { open, commit, lookup })),
            lanes: Mutex::new(lanes),
            pulses,
            due,
            pinged: Mutex::default(),
            holder: rand::random(),
        }
    }

    /// Does work that begins transactions, where they have to happen.
    async fn write<T: Send + 'static, F>(
        &self,
        work: impl FnOnce(Arc<S>) -> F,
    ) -> Result<T, LedgerError>
    where
        F: Future<Output = Result<T, LedgerError>> + Send + 'static,
    {
        self.queues().await?;
        let work = work(Arc::clone(&self.store));
        match self.store.thread() {
            Some(thread) => thread.spawn(work).await.map_err(|_| LedgerError::Closed)?,
            None => work.await,
        }
    }

    async fn queues(&self) -> Result<Queues, LedgerError> {
        self.queues.lock().await.clone().ok_or(LedgerError::Closed)
    }

    async fn open<T>(&self, write: impl FnOnce(Reply<T>) -> Write) -> Result<T, LedgerError> {
        send(self.queues().await?.open, write).await
    }
}

async fn send<T, W>(
    queue: mpsc::Sender<W>,
    write: impl FnOnce(Reply<T>) -> W,
) -> Result<T, LedgerError> {
    let (reply, answer) = oneshot::channel();
    queue.send(write(reply)).await.map_err(|_| LedgerError::Closed)?;
    drop(queue);
    answer.await.map_err(|_| LedgerError::Closed)?
}

#[async_trait]
impl<S: Store> SignerLedger for Books<S> {
    async fn reserve(&self, request: ReserveRequest) -> Result<Reserved, LedgerError> {
        self.open(|reply| Write::Reserve(Box::new(request), reply)).await
    }

    async fn commit(&self, payment: NewPayment) -> Result<Committed, LedgerError> {
        let queue = self.queues().await?.commit;
        // Before the writer can see it, which would wait for it otherwise.
        self.due.came();
        send(queue, |reply| Write::Commit(Box::new(payment), reply)).await
    }

    async fn release(&self, id: ReservationId, now_ms: i64) -> Result<bool, LedgerError> {
        self.due.came();
        self.open(|reply| Write::Release(id, now_ms, reply)).await
    }

    async fn expire_reservations(&self, now_ms: i64, limit: u32) -> Result<u64, LedgerError> {
        self.open(|reply| Write::Expire(now_ms, limit, reply)).await
    }

    async fn session(&self, id: &StateId) -> Result<Option<Session>, LedgerError> {
        send(self.queues().await?.lookup, |reply| (id.clone(), reply)).await
    }

    async fn payment(
        &self,
        id: &StateId,
        sequence: u64,
    ) -> Result<Option<StoredPayment>, LedgerError> {
        self.store.payment(id, sequence).await
    }

    async fn first_payment(
        &self,
        account: &str,
        key: &str,
    ) -> Result<Option<StoredPayment>, LedgerError> {
        self.store.first_payment(account, key).await
    }

    async fn payments(&self, limit: u32) -> Result<Vec<PaymentRow>, LedgerError> {
        self.store.payments(limit).await
    }

    async fn sessions(&self, limit: u32) -> Result<Vec<Session>, LedgerError> {
        self.store.sessions(limit).await
    }

    async fn summary(&self) -> Result<Summary, LedgerError> {
        self.store.summary().await
    }

    async fn counters(&self, keys: &[CounterKey]) -> Result<Vec<Wei>, LedgerError> {
        self.store.counters(keys).await
    }

    async fn usage(
        &self,
        query: UsageQuery,
        lines: mpsc::Sender<Usage>,
    ) -> Result<(), LedgerError> {
        let (rows, read) = mpsc::channel(USAGE_ROWS);
        tokio::try_join!(self.store.usage(&query, rows), usage::add_up(read, lines))?;
        Ok(())
    }

    async fn payments_at(
        &self,
        places: &[(StateId, u64)],
    ) -> Result<Vec<StoredPayment>, LedgerError> {
        self.store.payments_at(places).await
    }

    async fn stored_after(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, StoredPayment)>, LedgerError> {
        self.store.stored_after(after, limit).await
    }

    async fn charged_after(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ChargedPayment>, LedgerError> {
        self.store.charged_after(after, limit).await
    }

    async fn counters_after(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(CounterKey, Wei)>, LedgerError> {
        self.store.counters_after(after, limit).await
    }

    async fn open_reservations(
        &self,
        after: Option<ReservationId>,
        limit: u32,
    ) -> Result<Vec<OpenReservation>, LedgerError> {
        self.store.open_reservations(after, limit).await
    }

    async fn take_events(
        &self,
        limit: u32,
        now_ms: i64,
        lease_ms: i64,
    ) -> Result<Option<TakenEvents>, LedgerError> {
        let terms = deliveries::Terms { holder: self.holder, now_ms, lease_ms };
        self.write(move |store| deliveries::take(store, terms, limit)).await
    }

    async fn delivered(&self, fence: Fence, ids: &[Uuid]) -> Result<bool, LedgerError> {
        let (holder, ids) = (self.holder, ids.to_vec());
        self.write(move |store| deliveries::delivered(store, holder, fence, ids)).await
    }

    async fn release_events(&self, fence: Fence) -> Result<bool, LedgerError> {
        let holder = self.holder;
        self.write(move |store| deliveries::release(store, holder, fence)).await
    }

    async fn backlog(&self) -> Result<Backlog, LedgerError> {
        self.store.backlog().await
    }

    async fn record_signatures(
        &self,
        entries: Vec<AuditEntry>,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        self.open(|reply| Write::Record(entries, now_ms, reply)).await
    }

    async fn anchor(&self, now_ms: i64) -> Result<(), LedgerError> {
        self.open(|reply| Write::Anchor(now_ms, reply)).await
    }

    async fn audit_chains(&self) -> Result<Vec<AuditChain>, LedgerError> {
        self.store.audit_chains().await
    }

    async fn audit_records(
        &self,
        chain: &str,
        from_seq: u64,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, LedgerError> {
        self.store.audit_records(chain, from_seq, limit).await
    }

    async fn shrink_answers(
        &self,
        before_ms: i64,
        limit: u32,
        read: ReadDigests,
    ) -> Result<u64, LedgerError> {
        self.write(move |store| pruning::shrink_answers(store, before_ms, limit, read)).await
    }

    async fn prune_payments(&self, before_ms: i64, limit: u32) -> Result<u64, LedgerError> {
        self.write(move |store| pruning::prune_payments(store, before_ms, limit)).await
    }

    async fn prune_counters(&self, before_ms: i64) -> Result<u64, LedgerError> {
        // Counters go behind their payments.
        let before_ms = before_ms.min(self.pruned().await?.before_ms);
        let (mut after, mut count) = (String::new(), 0_u64);
        loop {
            let page = self.store.counters_after(&after, pruning::COUNTERS).await?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            last.as_str().clone_into(&mut after);
            let keys = page.into_iter().map(|(key, _)| key);
            let ended: Vec<_> = keys.filter(|key| key.ended_before(before_ms)).collect();
            let number = u64::try_from(ended.len()).unwrap_or(u64::MAX);
            if number == 0 {
                continue;
            }
            if !self.write(move |store| pruning::drop_counters(store, ended)).await? {
                return Ok(count);
            }
            count = count.saturating_add(number);
        }
    }

    async fn pruned(&self) -> Result<Pruned, LedgerError> {
        let mark = self.store.read_mark().await?;
        mark.map(|mark| mark.pruned).ok_or(LedgerError::Corrupt("retention"))
    }

    async fn pruned_after(&self, after: i64, limit: u32) -> Result<Vec<PrunedLine>, LedgerError> {
        self.store.lines_after(after, limit).await
    }

    async fn fence(&self) -> Result<u64, LedgerError> {
        self.write(|store| async move { store.fence().await }).await
    }

    async fn ping(&self) -> Result<(), LedgerError> {
        self.queues().await?;
        for pulse in &self.pulses {
            pulse.check(Instant::now())?;
        }
        let mut pinged = self.pinged.lock().await;
        if let Some((at, answer)) = &*pinged
            && at.elapsed() < PING_COUNTS
        {
            return answer.clone();
        }
        let answer = self.store.ping().await;
        *pinged = Some((Instant::now(), answer.clone()));
        answer
    }

    async fn close(&self) {
        self.queues.lock().await.take();
        for lane in self.lanes.lock().await.drain(..) {
            if let Err(error) = lane.await {
                tracing::error!(%error, "a writer of the ledger ended badly");
            }
        }
        self.store.close().await;
    }
}
