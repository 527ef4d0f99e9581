//! Requests that wait, and a batch of them with their replies.

use crate::signer::{
    AuditEntry, Committed, LedgerError, NewPayment, ReservationId, ReserveRequest, Reserved,
    plan::OpenAsk,
};
use tokio::sync::oneshot;

pub type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

/// One request of the port.
pub enum Write {
    Reserve(Box<ReserveRequest>, Reply<Reserved>),
    Commit(Box<NewPayment>, Reply<Committed>),
    Release(ReservationId, i64, Reply<bool>),
    Expire(i64, u32, Reply<u64>),
    Record(Vec<AuditEntry>, i64, Reply<()>),
    Anchor(i64, Reply<()>),
}

impl Write {
    /// Whether a reservation is to end as a payment.
    pub fn is_commit(&self) -> bool {
        matches!(self, Self::Commit(..))
    }
}

/// Requests of one transaction, sorted by kind, each list with its replies in the same order.
#[derive(Default)]
pub struct Batch {
    pub ask: OpenAsk,
    pub payments: Vec<NewPayment>,
    pub reserve_replies: Vec<Reply<Reserved>>,
    pub release_replies: Vec<Reply<bool>>,
    pub expire_replies: Vec<Reply<u64>>,
    pub record_replies: Vec<Reply<()>>,
    pub commit_replies: Vec<Reply<Committed>>,
    /// Anchors are transactions of their own.
    pub anchors: Vec<(i64, Reply<()>)>,
}

impl Batch {
    pub fn of(writes: &mut Vec<Write>) -> Self {
        let mut batch = Self::default();
        for write in writes.drain(..) {
            batch.add(write);
        }
        batch
    }

    fn add(&mut self, write: Write) {
        match write {
            Write::Reserve(request, reply) => {
                self.ask.reserves.push(*request);
                self.reserve_replies.push(reply);
            }
            Write::Commit(payment, reply) => {
                self.payments.push(*payment);
                self.commit_replies.push(reply);
            }
            Write::Release(id, now_ms, reply) => {
                self.ask.releases.push((id, now_ms));
                self.release_replies.push(reply);
            }
            Write::Expire(now_ms, limit, reply) => {
                // Several at once are one; the first is told how many there were.
                let (now, most) = self.ask.expire.unwrap_or((now_ms, 0));
                self.ask.expire = Some((now.max(now_ms), most.saturating_add(limit)));
                self.expire_replies.push(reply);
            }
            Write::Record(entries, now_ms, reply) => {
                self.ask.records.push((entries, now_ms));
                self.record_replies.push(reply);
            }
            Write::Anchor(now_ms, reply) => self.anchors.push((now_ms, reply)),
        }
    }

    /// The transaction failed: nobody knows whether it happened.
    pub fn refuse(self, error: &LedgerError) {
        // A caller that has gone is no concern: the books are right either way.
        fn all<T>(replies: Vec<Reply<T>>, error: &LedgerError) {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
        all(self.reserve_replies, error);
        all(self.release_replies, error);
        all(self.expire_replies, error);
        all(self.record_replies, error);
        all(self.commit_replies, error);
    }
}

/// Tells each caller its own result.
pub fn tell<T>(replies: Vec<Reply<T>>, results: impl IntoIterator<Item = Result<T, LedgerError>>) {
    for (reply, result) in replies.into_iter().zip(results) {
        let _ = reply.send(result);
    }
}
