//! The port over a store: queues before it, tasks that write.

use super::{
    batch::{Reply, Write},
    lane::{Lane, now_ms},
    lookup::{self, Wanted},
    pulse::Pulse,
    store::{Applied, Lease, Store},
};
use crate::signer::{
    AuditChain, AuditEntry, AuditRecord, Backlog, Committed, CounterKey, Fence, LedgerError,
    NewPayment, PaymentRow, ReservationId, ReserveRequest, Reserved, Session, SignerLedger,
    StoredPayment, Summary, TakenEvents, Usage, UsageQuery, usage,
};
use async_trait::async_trait;
use penstock_domain::{StateId, Wei};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
};
use uuid::Uuid;

/// Requests waiting for a writer; beyond that callers wait in turn.
const QUEUE: usize = 1_024;
/// Most events given out at a time.
const MAX_EVENTS: u32 = 10_000;
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
        let (mut lanes, mut pulses) = (Vec::new(), Vec::new());
        let mut lane = || {
            let (sender, queue) = mpsc::channel(QUEUE);
            let pulse = Arc::<Pulse>::default();
            pulses.push(Arc::clone(&pulse));
            let lane = Lane::new(Arc::clone(&store), chain.clone(), pulse);
            lanes.push(tokio::spawn(lane.run(queue)));
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
            pinged: Mutex::default(),
            holder: rand::random(),
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
        send(queue, |reply| Write::Commit(Box::new(payment), reply)).await
    }

    async fn release(&self, id: ReservationId, now_ms: i64) -> Result<bool, LedgerError> {
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

    async fn usage(&self, query: UsageQuery) -> Result<Vec<Usage>, LedgerError> {
        usage::add_up(self.store.usage(&query).await?)
    }

    async fn take_events(
        &self,
        limit: u32,
        now_ms: i64,
        lease_ms: i64,
    ) -> Result<Option<TakenEvents>, LedgerError> {
        self.queues().await?;
        let mut tx = self.store.begin().await?;
        let old = self.store.lease(&mut tx).await?;
        let Some(new) = next_lease(old.as_ref(), &self.holder, now_ms, lease_ms) else {
            return Ok(None);
        };
        if old.as_ref() != Some(&new)
            && self.store.set_lease(&mut tx, old.as_ref(), &new).await? == Applied::Stale
        {
            return Ok(None);
        }
        let events = self.store.events(&mut tx, limit.min(MAX_EVENTS)).await?;
        self.store.finish(tx).await?;
        Ok(Some(TakenEvents { fence: Fence(new.fence), lease_until_ms: new.until_ms, events }))
    }

    async fn delivered(&self, fence: Fence, ids: &[Uuid]) -> Result<bool, LedgerError> {
        self.queues().await?;
        let mut tx = self.store.begin().await?;
        let lease = self.store.lease(&mut tx).await?;
        if lease.is_none_or(|lease| lease.fence != fence.0 || lease.holder != self.holder) {
            return Ok(false);
        }
        self.store.drop_events(&mut tx, ids).await?;
        self.store.finish(tx).await?;
        Ok(true)
    }

    async fn release_events(&self, fence: Fence) -> Result<bool, LedgerError> {
        self.queues().await?;
        let mut tx = self.store.begin().await?;
        let Some(old) = self.store.lease(&mut tx).await? else { return Ok(false) };
        if old.fence != fence.0 || old.holder != self.holder {
            return Ok(false);
        }
        // Over since ever, and nobody's: whoever asks next gets a new fence, this handle as well.
        let over = Lease { holder: Vec::new(), fence: old.fence, until_ms: i64::MIN };
        let set = self.store.set_lease(&mut tx, Some(&old), &over).await?;
        self.store.finish(tx).await?;
        Ok(set == Applied::Done)
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

    async fn fence(&self) -> Result<u64, LedgerError> {
        self.store.fence().await
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

/// The lease after taking or renewing; `None` while another holder's is running. A lease that has
/// more than half of its time left is not written again.
fn next_lease(old: Option<&Lease>, holder: &[u8], now_ms: i64, lease_ms: i64) -> Option<Lease> {
    let until_ms = now_ms.saturating_add(lease_ms);
    match old {
        Some(lease) if lease.holder == holder => {
            let half = now_ms.saturating_add(lease_ms / 2);
            if lease.until_ms > half {
                return Some(lease.clone());
            }
            Some(Lease { until_ms, ..lease.clone() })
        }
        Some(lease) if lease.until_ms > now_ms => None,
        old => {
            let fence = old.map_or(0, |lease| lease.fence).saturating_add(1);
            Some(Lease { holder: holder.to_vec(), fence, until_ms })
        }
    }
}
