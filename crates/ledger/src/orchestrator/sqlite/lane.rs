//! What comes at the same time becomes durable together: while one transaction is on its way to the disk,
//! others line up, and the next one takes them all.

use super::{accounts, holds::Holds, payment};
use crate::{
    orchestrator::{Booked, Debit, LedgerError, PaymentReceipt, PaymentTaken},
    sqlite::Sqlite,
};
use sqlx::{Connection as _, SqliteConnection};
use std::slice;
use tokio::sync::{mpsc, oneshot};

/// Most in one transaction; as many may wait in line.
const AT_ONCE: usize = 64;

/// Something that is written, and may be tried again when what was written with it is undone.
pub trait Work: Send + Sync + 'static {
    /// What it came to.
    type Done: Send + 'static;

    /// Reads and writes within a transaction of this process.
    fn run(
        &self,
        db: &mut SqliteConnection,
        process: &str,
    ) -> impl Future<Output = Result<Self::Done, LedgerError>> + Send;

    /// It is on the disk, and nobody else has the connection yet.
    fn landed(&self, _: &Self::Done) {}
}

impl Work for PaymentReceipt {
    type Done = PaymentTaken;

    async fn run(
        &self,
        db: &mut SqliteConnection,
        process: &str,
    ) -> Result<PaymentTaken, LedgerError> {
        payment::receive(db, self, process).await
    }
}

/// A fee, and what jobs hold.
#[derive(Debug)]
pub struct Fee {
    pub debit: Debit,
    pub holds: Holds,
}

impl Work for Fee {
    type Done = Booked;

    async fn run(&self, db: &mut SqliteConnection, _: &str) -> Result<Booked, LedgerError> {
        accounts::debit(db, &self.debit, &self.holds).await
    }

    fn landed(&self, booked: &Booked) {
        match (&self.debit.hold, booked) {
            (Some(hold), Booked::Now(_)) => self.holds.spend(hold, &self.debit.fee()),
            (Some(hold), Booked::Before) if hold.ends => self.holds.remove(hold.id),
            _ => {}
        }
    }
}

struct Ask<W: Work> {
    work: W,
    tell: oneshot::Sender<Result<W::Done, LedgerError>>,
}

/// The line before the connection that writes, for one kind of work.
#[derive(Debug)]
pub struct Lane<W: Work>(mpsc::Sender<Ask<W>>);

impl<W: Work> Clone for Lane<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W: Work> Lane<W> {
    /// Ends with its last clone.
    pub fn start(db: Sqlite, process: String) -> Self {
        let (line, asked) = mpsc::channel(AT_ONCE);
        tokio::spawn(serve(db, process, asked));
        Self(line)
    }

    /// Does it; when this returns `Ok`, it is on the disk. It is done even when nobody waits for it any
    /// more.
    pub async fn run(&self, work: W) -> Result<W::Done, LedgerError> {
        let (tell, told) = oneshot::channel();
        let gone = || LedgerError::from(sqlx::Error::PoolClosed);
        self.0.send(Ask { work, tell }).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }
}

async fn serve<W: Work>(db: Sqlite, process: String, mut asked: mpsc::Receiver<Ask<W>>) {
    let mut asks = Vec::with_capacity(AT_ONCE);
    while asked.recv_many(&mut asks, AT_ONCE).await > 0 {
        if asks.len() > 1 {
            // One that fails takes the others with it, so that then each is tried alone.
            match together(&db, &process, &asks).await {
                Ok(done) => {
                    for (ask, done) in asks.drain(..).zip(done) {
                        let _ = ask.tell.send(Ok(done));
                    }
                }
                Err(error) => tracing::debug!(%error, "writing together failed"),
            }
        }
        for ask in asks.drain(..) {
            let done = together(&db, &process, slice::from_ref(&ask)).await;
            let done =
                done.and_then(|mut done| done.pop().ok_or(LedgerError::Corrupt { what: "line" }));
            let _ = ask.tell.send(done);
        }
    }
}

/// All in one transaction, which takes the write lock at once, so that what it reads stays true.
async fn together<W: Work>(
    db: &Sqlite,
    process: &str,
    asks: &[Ask<W>],
) -> Result<Vec<W::Done>, LedgerError> {
    let mut writer = db.writer().acquire().await?;
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let mut done = Vec::with_capacity(asks.len());
    for ask in asks {
        done.push(ask.work.run(&mut tx, process).await?);
    }
    tx.commit().await?;
    for (ask, done) in asks.iter().zip(&done) {
        ask.work.landed(done);
    }
    // Until here nobody else decides by what is held.
    drop(writer);
    Ok(done)
}
