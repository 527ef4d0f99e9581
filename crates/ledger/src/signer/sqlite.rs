//! The SQLite books. One task owns all writes and commits whatever has queued up as one
//! transaction (group commit: one disk sync for many requests), each request in a savepoint of
//! its own so that a failing one leaves no trace. A caller that gives up waiting changes nothing:
//! the task finishes what it took.

mod apply;

use super::{
    AuditChain, AuditEntry, AuditRecord, Backlog, Committed, CounterKey, Fence, LedgerError,
    MIGRATIONS, NewPayment, PaymentRow, ReservationId, ReserveRequest, Reserved, Session,
    SignerLedger, StoredPayment, Summary, TakenEvents, Usage, UsageQuery, rows,
};
use crate::sqlite::{OpenError, Sqlite};
use async_trait::async_trait;
use penstock_domain::{Rational, StateId, Wei};
use sqlx::{Acquire, AssertSqlSafe, SqliteConnection};
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Requests waiting for the writer; beyond that callers wait in turn.
const QUEUE: usize = 256;
/// Most requests in one transaction: bounds how long the first of them waits.
const BATCH: usize = 64;

/// Methods of the port that follow.
const NOT_YET: LedgerError = LedgerError::Misuse("not built yet");

type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

enum Write {
    Reserve(ReserveRequest, Reply<Reserved>),
    Commit(Box<NewPayment>, Reply<Committed>),
}

/// The signer's ledger in one SQLite file.
pub struct SqliteSignerLedger {
    db: Sqlite,
    writes: Mutex<Option<mpsc::Sender<Write>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteSignerLedger {
    /// Opens `sqlite://PATH`, creating and migrating it as needed.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let db = Sqlite::open(url, &MIGRATIONS).await?;
        let (writes, queue) = mpsc::channel(QUEUE);
        let writer = tokio::spawn(write_all(db.clone(), queue));
        Ok(Self { db, writes: Mutex::new(Some(writes)), writer: Mutex::new(Some(writer)) })
    }

    async fn write<T>(
        &self,
        write: impl FnOnce(Reply<T>) -> Write + Send,
    ) -> Result<T, LedgerError> {
        let writes = self.writes.lock().await.clone().ok_or(LedgerError::Closed)?;
        let (reply, answer) = oneshot::channel();
        writes.send(write(reply)).await.map_err(|_| LedgerError::Closed)?;
        drop(writes);
        answer.await.map_err(|_| LedgerError::Closed)?
    }
}

async fn write_all(db: Sqlite, mut queue: mpsc::Receiver<Write>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        let size = batch.len();
        match transaction(&db, &mut batch).await {
            Ok(replies) => replies.into_iter().for_each(|reply| reply.send(None)),
            Err((error, replies)) => {
                let error = Arc::new(error);
                tracing::error!(error = %error, requests = size, "ledger transaction failed");
                replies.into_iter().for_each(|reply| reply.send(Some(&error)));
                batch.drain(..).for_each(|write| write.refuse(&error));
            }
        }
    }
}

impl Write {
    fn refuse(self, error: &Arc<sqlx::Error>) {
        let error = LedgerError::Unavailable(Arc::clone(error));
        match self {
            Self::Reserve(_, reply) => drop(reply.send(Err(error))),
            Self::Commit(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

/// A result that waits for its transaction to be on disk before it is told.
enum Waiting {
    Reserved(Result<Reserved, LedgerError>, Reply<Reserved>),
    Committed(Result<Committed, LedgerError>, Reply<Committed>),
}

impl Waiting {
    /// Answers with the result, or with the transaction's failure. A caller that has gone is no
    /// concern: the books are right either way.
    fn send(self, failed: Option<&Arc<sqlx::Error>>) {
        let failed = failed.map(|error| LedgerError::Unavailable(Arc::clone(error)));
        match self {
            Self::Reserved(result, reply) => drop(reply.send(failed.map_or(result, Err))),
            Self::Committed(result, reply) => drop(reply.send(failed.map_or(result, Err))),
        }
    }
}

/// Applies all of `batch` in one transaction. On error the replies so far come back, and what was
/// not applied is still in `batch`.
async fn transaction(
    db: &Sqlite,
    batch: &mut Vec<Write>,
) -> Result<Vec<Waiting>, (sqlx::Error, Vec<Waiting>)> {
    let mut waiting = Vec::with_capacity(batch.len());
    let mut tx = match db.writer().begin_with("BEGIN IMMEDIATE").await {
        Ok(tx) => tx,
        Err(error) => return Err((error, waiting)),
    };
    for write in batch.drain(..) {
        waiting.push(match write {
            Write::Reserve(request, reply) => {
                let result =
                    in_savepoint(&mut tx, async |c| apply::reserve(c, &request).await).await;
                Waiting::Reserved(result, reply)
            }
            Write::Commit(payment, reply) => {
                let result =
                    in_savepoint(&mut tx, async |c| apply::commit(c, &payment).await).await;
                Waiting::Committed(result, reply)
            }
        });
    }
    match tx.commit().await {
        Ok(()) => Ok(waiting),
        Err(error) => Err((error, waiting)),
    }
}

async fn in_savepoint<T>(
    connection: &mut SqliteConnection,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, LedgerError>,
) -> Result<T, LedgerError> {
    let mut savepoint = connection.begin().await?;
    match work(&mut savepoint).await {
        Ok(value) => Ok(savepoint.commit().await.map(|()| value)?),
        Err(error) => {
            savepoint.rollback().await?;
            Err(error)
        }
    }
}

#[async_trait]
impl SignerLedger for SqliteSignerLedger {
    async fn session(&self, id: &StateId) -> Result<Option<Session>, LedgerError> {
        let row = sqlx::query(AssertSqlSafe(format!("{}WHERE state_id = ?", rows::SESSION)))
            .bind(id.as_str())
            .fetch_optional(self.db.readers())
            .await?;
        row.as_ref().map(rows::session).transpose()
    }

    async fn payment(
        &self,
        id: &StateId,
        sequence: u64,
    ) -> Result<Option<StoredPayment>, LedgerError> {
        let mut reader = self.db.readers().acquire().await?;
        apply::stored(&mut reader, id, sequence).await
    }

    async fn first_payment(
        &self,
        account: &str,
        key: &str,
    ) -> Result<Option<StoredPayment>, LedgerError> {
        let mut reader = self.db.readers().acquire().await?;
        apply::stored_by_key(&mut reader, account, key).await
    }

    async fn reserve(&self, request: ReserveRequest) -> Result<Reserved, LedgerError> {
        self.write(|reply| Write::Reserve(request, reply)).await
    }

    async fn commit(&self, payment: NewPayment) -> Result<Committed, LedgerError> {
        self.write(|reply| Write::Commit(Box::new(payment), reply)).await
    }

    async fn release(&self, _: ReservationId, _: i64) -> Result<bool, LedgerError> {
        Err(NOT_YET)
    }

    async fn expire_reservations(&self, _: i64, _: u32) -> Result<u64, LedgerError> {
        Err(NOT_YET)
    }

    async fn counters(&self, _: &[CounterKey]) -> Result<Vec<Wei>, LedgerError> {
        Err(NOT_YET)
    }

    async fn usage(&self, _: UsageQuery) -> Result<Vec<Usage>, LedgerError> {
        Err(NOT_YET)
    }

    async fn take_events(
        &self,
        _: u32,
        _: i64,
        _: i64,
    ) -> Result<Option<TakenEvents>, LedgerError> {
        Err(NOT_YET)
    }

    async fn delivered(&self, _: Fence, _: &[Uuid]) -> Result<bool, LedgerError> {
        Err(NOT_YET)
    }

    async fn backlog(&self) -> Result<Backlog, LedgerError> {
        Err(NOT_YET)
    }

    async fn record_signatures(&self, _: Vec<AuditEntry>, _: i64) -> Result<(), LedgerError> {
        Err(NOT_YET)
    }

    async fn anchor(&self, _: i64) -> Result<(), LedgerError> {
        Err(NOT_YET)
    }

    async fn audit_chains(&self) -> Result<Vec<AuditChain>, LedgerError> {
        Err(NOT_YET)
    }

    async fn audit_records(
        &self,
        _: &str,
        _: u64,
        _: u32,
    ) -> Result<Vec<AuditRecord>, LedgerError> {
        Err(NOT_YET)
    }

    async fn fence(&self) -> Result<u64, LedgerError> {
        let done = sqlx::query("UPDATE nonces SET last_nonce = ?")
            .bind(u32::MAX)
            .execute(self.db.writer())
            .await?;
        Ok(done.rows_affected())
    }

    async fn payments(&self, limit: u32) -> Result<Vec<PaymentRow>, LedgerError> {
        let rows =
            sqlx::query(AssertSqlSafe(format!("{}ORDER BY p.id DESC LIMIT ?", rows::PAYMENT)))
                .bind(limit)
                .fetch_all(self.db.readers())
                .await?;
        rows.iter().map(rows::payment).collect()
    }

    async fn sessions(&self, limit: u32) -> Result<Vec<Session>, LedgerError> {
        let rows =
            sqlx::query(AssertSqlSafe(format!("{}ORDER BY rowid DESC LIMIT ?", rows::SESSION)))
                .bind(limit)
                .fetch_all(self.db.readers())
                .await?;
        rows.iter().map(rows::session).collect()
    }

    async fn summary(&self) -> Result<Summary, LedgerError> {
        // One statement per table inside one read transaction: both see the same books.
        let mut tx = self.db.readers().begin().await?;
        let counts = sqlx::query(
            "SELECT count(*) AS payments, coalesce(sum(num_tickets), 0) AS tickets FROM payments",
        )
        .fetch_one(&mut *tx)
        .await?;
        let sessions = sqlx::query("SELECT ticket_ev_total, fee_total, balance FROM sessions")
            .fetch_all(&mut *tx)
            .await?;
        let mut total = Summary {
            payments: rows::unsigned(&counts, "payments")?,
            tickets: rows::unsigned(&counts, "tickets")?,
            ..Summary::default()
        };
        for row in &sessions {
            total.ticket_ev_total_wei += &rows::parse::<Rational>(row, "ticket_ev_total")?;
            total.fee_total_wei += &rows::parse::<Rational>(row, "fee_total")?;
            total.balance_total_wei += &rows::parse::<Rational>(row, "balance")?;
        }
        Ok(total)
    }

    async fn ping(&self) -> Result<(), LedgerError> {
        if self.writes.lock().await.is_none() {
            return Err(LedgerError::Closed);
        }
        Ok(self.db.ping().await?)
    }

    async fn close(&self) {
        self.writes.lock().await.take();
        if let Some(writer) = self.writer.lock().await.take()
            && let Err(error) = writer.await
        {
            tracing::error!(error = %error, "the ledger's writer ended badly");
        }
        self.db.close().await;
    }
}
