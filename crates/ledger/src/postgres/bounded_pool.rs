//! A pool of PostgreSQL connections that waits for nobody for ever.
//!
//! The library's own pool asks a connection that comes back whether it is well, without any limit,
//! and keeps its place until there is an answer: a quarter of an hour if the line has gone silent.
//! Closing the pool waits for all places. Here both end in time, so whoever borrows, borrows here.

use super::silence::{ACQUIRE_TIMEOUT, Watch};
use core::ops::{Deref, DerefMut};
use sqlx::{
    PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::time::{Duration, Instant};
use tokio::{runtime::Handle, time::timeout};

/// How many connections and what each is told are the caller's business.
pub fn options(connections: u32, watch: &Watch) -> PgPoolOptions {
    let watch = watch.clone();
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A question before each use would double the round trips of a small batch.
        .test_before_acquire(false)
        .before_acquire(move |_, meta| {
            let is_good = !watch.is_suspect(meta.age);
            Box::pin(async move { Ok(is_good) })
        })
}

/// Lends connections; none from before a silence.
#[derive(Debug, Clone)]
pub struct Pool {
    // Not to be lent from without a `Lent` around.
    inner: PgPool,
    watch: Watch,
}

impl Pool {
    /// Connects, once.
    pub async fn open(
        options: PgPoolOptions,
        server: PgConnectOptions,
        watch: &Watch,
    ) -> Result<Self, sqlx::Error> {
        Ok(Self { inner: options.connect_with(server).await?, watch: watch.clone() })
    }

    /// A connection, within [`ACQUIRE_TIMEOUT`].
    pub async fn lend(&self) -> Result<Lent, sqlx::Error> {
        let since = Instant::now();
        let connection = self.inner.acquire().await?;
        Ok(Lent { connection, since, watch: self.watch.clone() })
    }

    /// Lends no more, and waits for the connections to come back; for those that do not, only as
    /// long as for an answer.
    pub async fn close(&self) {
        let limit = self.watch.limits().answer;
        if timeout(limit, self.inner.close()).await.is_err() {
            tracing::warn!(
                ?limit,
                "connections to PostgreSQL are left open: they do not come back"
            );
        }
    }
}

/// A connection on loan. Dropped, it goes back, with limits: it comes back well or not at all, and
/// its place is free in either case.
#[derive(Debug)]
pub struct Lent {
    connection: PoolConnection<Postgres>,
    since: Instant,
    watch: Watch,
}

impl Lent {
    /// For how long.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether there was a silence meanwhile.
    pub fn is_suspect(&self) -> bool {
        self.watch.is_suspect(self.age())
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // If this is dropped the connection is closed and its place is free.
        let back = self.connection.return_to_pool();
        // Nobody would be lent it again: no need to ask it anything.
        if self.is_suspect() {
            return;
        }
        let limit = self.watch.limits().answer;
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            if timeout(limit, back).await.is_err() {
                // No proof of a silence: it may still be busy with what its borrower gave up.
                tracing::warn!(?limit, "a connection to PostgreSQL came back without an answer");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{line::Line, pools::open_writers, silence::Limits};
    use crate::signer::LedgerError;
    use sqlx::Executor as _;

    /// How long a test waits for what must come.
    const PATIENCE: Duration = Duration::from_secs(120);

    /// One connection over a line, on loan, with the settings of those that write.
    async fn one_lent(database: &str) -> (Line, Pool, Lent) {
        let (line, url) = Line::to(database).await;
        // Shorter than the wait for a connection, so that there is time for another one.
        let limit = ACQUIRE_TIMEOUT / 2;
        let watch = Watch::new(Limits { answer: limit, report: limit });
        let pool = open_writers(1, url.parse().unwrap(), &watch).await.unwrap();
        let mut lent = pool.lend().await.unwrap();
        lent.execute("BEGIN").await.unwrap();
        (line, pool, lent)
    }

    /// The question of ours is answered, that of the library not.
    #[tokio::test]
    async fn a_connection_that_goes_silent_on_its_way_back_keeps_no_place() {
        let database = penstock_testkit::postgres::database().await;
        let (line, pool, lent) = one_lent(database.url()).await;
        line.cut_after(1);
        drop(lent);
        timeout(PATIENCE, line.is_cut()).await.unwrap();
        line.mend();
        let again = async {
            loop {
                // The first may wait too short for the place, if the machine is busy.
                if let Ok(lent) = pool.lend().await {
                    return lent;
                }
            }
        };
        let mut lent = timeout(PATIENCE, again).await.unwrap();
        lent.execute("SELECT 1").await.unwrap();
        drop(lent);
        timeout(PATIENCE, pool.close()).await.unwrap();
    }

    #[tokio::test]
    async fn closing_does_not_wait_for_what_does_not_come_back() {
        let database = penstock_testkit::postgres::database().await;
        for answers in [0, 1] {
            let (line, pool, lent) = one_lent(database.url()).await;
            line.cut_after(answers);
            drop(lent);
            timeout(PATIENCE, line.is_cut()).await.unwrap();
            timeout(PATIENCE, pool.close()).await.unwrap();
        }
        // Nor for one that is never given back.
        let (_line, pool, lent) = one_lent(database.url()).await;
        timeout(PATIENCE, pool.close()).await.unwrap();
        drop(lent);
    }

    #[tokio::test]
    async fn nothing_is_asked_of_a_connection_from_before_a_silence() {
        let database = penstock_testkit::postgres::database().await;
        let (line, pool, lent) = one_lent(database.url()).await;
        line.cut_after(0);
        let silent = lent.watch.answer(std::future::pending::<Result<(), LedgerError>>()).await;
        assert!(silent.is_err() && lent.is_suspect());
        line.mend();
        drop(lent);
        // At once: there is nobody to wait for.
        assert_eq!((pool.inner.size(), pool.inner.num_idle()), (0, 0));
        pool.lend().await.unwrap().execute("SELECT 1").await.unwrap();
        timeout(PATIENCE, pool.close()).await.unwrap();
    }
}
