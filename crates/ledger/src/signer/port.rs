//! The port: what a signer asks of its books. One trait, two implementations, one conformance
//! suite.

use super::{
    AuditChain, AuditEntry, AuditRecord, Backlog, ChargedPayment, Committed, CounterKey, Fence,
    LedgerError, NewPayment, OpenReservation, PaymentRow, Pruned, PrunedLine, ReadDigests,
    ReservationId, ReserveRequest, Reserved, Session, StoredPayment, Summary, TakenEvents, Usage,
    UsageQuery,
};
use async_trait::async_trait;
use penstock_domain::{StateId, Wei};
use tokio::sync::mpsc;
use uuid::Uuid;

/// The signer's books. Every write is durable when it returns. A caller that stops waiting for an
/// answer changes nothing: what was begun is finished.
#[async_trait]
pub trait SignerLedger: Send + Sync {
    // --- the two writes of a payment ---

    /// Takes nonces off the hash's row and charges the counters, all or nothing, and records every
    /// signature to be made in the audit. Answers [`Reserved::Answered`] instead when that payment
    /// has been stored meanwhile.
    async fn reserve(&self, request: ReserveRequest) -> Result<Reserved, LedgerError>;

    /// Stores a signed payment, advances (or creates) its session, puts its event into the outbox.
    /// If another one got there first, that one comes back, the caller's tickets must be forgotten
    /// and its charges are given back. Asking again with the same payment, after an error, is safe.
    async fn commit(&self, payment: NewPayment) -> Result<Committed, LedgerError>;

    // --- reservations that come to nothing ---

    /// Signing failed: gives the charges back and notes it in the audit. The nonces stay taken.
    /// `false`: there is no such reservation (any more).
    async fn release(&self, id: ReservationId, now_ms: i64) -> Result<bool, LedgerError>;

    /// The same for at most `limit` reservations whose time is over, whoever made them. Says how
    /// many.
    async fn expire_reservations(&self, now_ms: i64, limit: u32) -> Result<u64, LedgerError>;

    // --- payments and sessions ---

    /// A payment session by its id.
    async fn session(&self, id: &StateId) -> Result<Option<Session>, LedgerError>;

    /// The stored payment with this sequence number, for a request that was answered before.
    async fn payment(
        &self,
        id: &StateId,
        sequence: u64,
    ) -> Result<Option<StoredPayment>, LedgerError>;

    /// The first payment of the session that `account` opened with this idempotency key.
    async fn first_payment(
        &self,
        account: &str,
        key: &str,
    ) -> Result<Option<StoredPayment>, LedgerError>;

    /// The newest payments, newest first.
    async fn payments(&self, limit: u32) -> Result<Vec<PaymentRow>, LedgerError>;

    /// The newest sessions, newest first.
    async fn sessions(&self, limit: u32) -> Result<Vec<Session>, LedgerError>;

    /// Totals over everything.
    async fn summary(&self) -> Result<Summary, LedgerError>;

    /// What is charged to these counters, in their order; a counter never used holds nothing.
    async fn counters(&self, keys: &[CounterKey]) -> Result<Vec<Wei>, LedgerError>;

    /// Payments added up by account, subject and day, pruned ones included: into `lines`, in that
    /// order, one line at a time, until nobody listens. Without memory for all of them.
    async fn usage(&self, query: UsageQuery, lines: mpsc::Sender<Usage>)
    -> Result<(), LedgerError>;

    /// [`Self::usage`] in one piece, for few lines.
    async fn usage_at_once(&self, query: UsageQuery) -> Result<Vec<Usage>, LedgerError> {
        let (lines, mut read) = mpsc::channel(64);
        let collect = async {
            let mut all = Vec::new();
            while let Some(line) = read.recv().await {
                all.push(line);
            }
            Ok(all)
        };
        Ok(tokio::try_join!(self.usage(query, lines), collect)?.1)
    }

    // --- reading everything back, a page at a time ---

    /// Those of these payments that are stored, in any order.
    async fn payments_at(
        &self,
        places: &[(StateId, u64)],
    ) -> Result<Vec<StoredPayment>, LedgerError>;

    /// Stored payments numbered beyond `after`, with their numbers, in order.
    async fn stored_after(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, StoredPayment)>, LedgerError>;

    /// What payments were charged with, those numbered beyond `after`, in order.
    async fn charged_after(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ChargedPayment>, LedgerError>;

    /// Counters with what is charged to them, those named beyond `after`, in the books' order.
    async fn counters_after(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(CounterKey, Wei)>, LedgerError>;

    /// Open reservations beyond `after`, by their names.
    async fn open_reservations(
        &self,
        after: Option<ReservationId>,
        limit: u32,
    ) -> Result<Vec<OpenReservation>, LedgerError>;

    // --- events ---

    /// Takes or renews the right to deliver, for `lease_ms`, and returns the oldest events; `None`
    /// while another ledger handle (this process's or another's) has that right.
    async fn take_events(
        &self,
        limit: u32,
        now_ms: i64,
        lease_ms: i64,
    ) -> Result<Option<TakenEvents>, LedgerError>;

    /// Removes delivered events. `false`: the right was lost meanwhile and nothing was removed;
    /// another deliverer sends them again.
    async fn delivered(&self, fence: Fence, ids: &[Uuid]) -> Result<bool, LedgerError>;

    /// Gives the right to deliver back, so that another replica goes on at once. `false`: it was lost
    /// already.
    async fn release_events(&self, fence: Fence) -> Result<bool, LedgerError>;

    /// How much waits for delivery.
    async fn backlog(&self) -> Result<Backlog, LedgerError>;

    // --- audit ---

    /// Records signatures outside payments and changes by operators, which the caller may make once
    /// this has returned; or, as [`super::AuditKind::Void`] with the digest, that a signature was not
    /// made.
    async fn record_signatures(
        &self,
        entries: Vec<AuditEntry>,
        now_ms: i64,
    ) -> Result<(), LedgerError>;

    /// Writes the heads of the other chains into ours, where they moved, and logs our own.
    async fn anchor(&self, now_ms: i64) -> Result<(), LedgerError>;

    /// All chains with their heads, oldest first.
    async fn audit_chains(&self) -> Result<Vec<AuditChain>, LedgerError>;

    /// Records of one chain from a number on, in order.
    async fn audit_records(
        &self,
        chain: &str,
        from_seq: u64,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, LedgerError>;

    // --- what is old ---

    /// Shrinks answers of at most `limit` payments made before then, oldest first, to the digests that
    /// `read` finds in them ([`super::digests_left`]). Says how many payments were looked at: fewer
    /// than `limit` when there are no more, or while another replica is at it.
    async fn shrink_answers(
        &self,
        before_ms: i64,
        limit: u32,
        read: ReadDigests,
    ) -> Result<u64, LedgerError>;

    /// Moves at most `limit` payments made before then into lines of usage, oldest first, and ends
    /// sessions that have none left and were not used since. Their states are unknown from then on.
    /// Says how many payments: fewer than `limit` as above.
    async fn prune_payments(&self, before_ms: i64, limit: u32) -> Result<u64, LedgerError>;

    /// Takes away counters of periods that were over by then, if payments were pruned until then. Says
    /// how many.
    async fn prune_counters(&self, before_ms: i64) -> Result<u64, LedgerError>;

    /// What [`Self::prune_payments`] has taken.
    async fn pruned(&self) -> Result<Pruned, LedgerError>;

    /// What pruned payments were charged with by day, lines numbered beyond `after`, in order.
    async fn pruned_after(&self, after: i64, limit: u32) -> Result<Vec<PrunedLine>, LedgerError>;

    // --- operation ---

    /// Uses up every hash in the books, so that each asks for fresh ticket parameters from now on:
    /// after a restore from a backup nobody knows which nonces were used since. Says how many.
    async fn fence(&self) -> Result<u64, LedgerError>;

    /// Whether the ledger takes writes now, for readiness: the database answers (asked at most once
    /// a second) and the last writes succeeded.
    async fn ping(&self) -> Result<(), LedgerError>;

    /// Finishes what is queued and closes; later calls answer [`LedgerError::Closed`].
    async fn close(&self);
}
