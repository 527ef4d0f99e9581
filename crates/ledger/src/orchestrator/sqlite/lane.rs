//! What comes at the same time becomes durable together: while one transaction is on its way to the disk,
//! others line up, and the next one takes them all. The line is served on the thread of the connection that
//! writes: handing each statement over to it and back would cost more than the statement.

use crate::{
    DatabaseError,
    orchestrator::LedgerError,
    sqlite::writer::{Tx, Writer},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    slice,
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot};

/// Most in one transaction; as many may wait in line.
const AT_ONCE: usize = 64;

/// Something that is written, and tried again when what was written with it is undone.
trait Work: Send {
    /// Reads and writes within a transaction.
    fn run(&mut self, tx: &Tx) -> Result<(), LedgerError>;

    /// What [`Self::run`] did last is on the disk, and nobody else has the connection yet.
    fn landed(&self);

    /// Tells who waits.
    fn tell(self: Box<Self>, failed: Option<LedgerError>);
}

struct Ask<W, L, T> {
    work: W,
    landed: L,
    done: Option<T>,
    tell: oneshot::Sender<Result<T, LedgerError>>,
}

impl<W, L, T> Work for Ask<W, L, T>
where
    W: Fn(&Tx) -> Result<T, LedgerError> + Send,
    L: Fn(&T) + Send,
    T: Send,
{
    fn run(&mut self, tx: &Tx) -> Result<(), LedgerError> {
        self.done = Some((self.work)(tx)?);
        Ok(())
    }

    fn landed(&self) {
        self.done.iter().for_each(&self.landed);
    }

    fn tell(self: Box<Self>, failed: Option<LedgerError>) {
        let done = self.done.ok_or(LedgerError::Corrupt { what: "line" });
        // Whoever asked may have gone; it is done all the same.
        let _ = self.tell.send(failed.map_or(done, Err));
    }
}

/// The line before the connection that writes.
#[derive(Debug, Clone)]
pub struct Lane(mpsc::Sender<Box<dyn Work>>);

impl Lane {
    /// Ends with its last clone.
    pub fn start(writer: &Arc<Writer>) -> Self {
        let (line, asked) = mpsc::channel(AT_ONCE);
        writer.thread().spawn(serve(Arc::clone(writer), asked));
        Self(line)
    }

    /// Does it within a transaction; when this returns `Ok`, that is on the disk. It is done even when nobody
    /// waits for it any more, and more than once if what was written with it failed and was undone.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&Tx) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.run_then(work, |_| ()).await
    }

    /// The same; `landed` is called once it is on the disk, before anybody else has the connection.
    pub async fn run_then<T: Send + 'static>(
        &self,
        work: impl Fn(&Tx) -> Result<T, LedgerError> + Send + 'static,
        landed: impl Fn(&T) + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (tell, told) = oneshot::channel();
        let ask = Box::new(Ask { work, landed, done: None, tell });
        let gone = || LedgerError::from(DatabaseError::Closed);
        self.0.send(ask).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }
}

async fn serve(writer: Arc<Writer>, mut asked: mpsc::Receiver<Box<dyn Work>>) {
    let mut asks = Vec::with_capacity(AT_ONCE);
    while asked.recv_many(&mut asks, AT_ONCE).await > 0 {
        if asks.len() > 1 {
            // One that fails takes the others with it, so that then each is tried alone.
            match together(&writer, &mut asks).await {
                Ok(()) => asks.drain(..).for_each(|ask| ask.tell(None)),
                Err(error) => tracing::debug!(%error, "writing together failed"),
            }
        }
        for mut ask in asks.drain(..) {
            let failed = together(&writer, slice::from_mut(&mut ask)).await.err();
            ask.tell(failed);
        }
    }
}

/// All in one transaction, which takes the write lock at once, so that what it reads stays true.
async fn together(writer: &Writer, asks: &mut [Box<dyn Work>]) -> Result<(), LedgerError> {
    let tx = writer.begin().await?;
    // One that panics is undone and refused as any other: the line goes on.
    let ran = catch_unwind(AssertUnwindSafe(|| asks.iter_mut().try_for_each(|ask| ask.run(&tx))));
    ran.unwrap_or(Err(LedgerError::Corrupt { what: "row: reading it panicked" }))?;
    tx.commit()?;
    asks.iter().for_each(|ask| ask.landed());
    // Until here nobody else decides by what is held.
    drop(tx);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::{Sqlite, path_of};

    #[tokio::test]
    async fn one_that_panics_takes_nothing_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/o.db", folder.path().display());
        let db = Sqlite::open(&url, &crate::orchestrator::MIGRATIONS).await.unwrap();
        db.writer().close().await;
        let writer = Arc::new(Writer::open(&path_of(&url).unwrap()).unwrap());
        let line = Lane::start(&writer);
        let mark = |name: &'static str| {
            line.run(move |tx| {
                tx.execute("INSERT INTO marks (name, mark) VALUES (?, 'x')", [name])?;
                assert!(name != "bad", "it panics");
                Ok(())
            })
        };
        // While the connection is in use they line up.
        let busy = writer.alone().await.unwrap();
        let (one, bad, two, ()) =
            tokio::join!(mark("one"), mark("bad"), mark("two"), async { drop(busy) });
        assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
        assert!(matches!(bad, Err(LedgerError::Corrupt { .. })), "{bad:?}");
        mark("three").await.unwrap();
        let marks: Vec<String> = sqlx::query_scalar("SELECT mark || name FROM marks ORDER BY name")
            .fetch_all(db.readers())
            .await
            .unwrap();
        assert_eq!(marks, ["xone", "xthree", "xtwo"]);
    }
}
