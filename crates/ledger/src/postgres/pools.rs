//! Connections that wait for the disk, and give up in bounded time.
//!
//! Every connection sets `synchronous_commit = on` and reads it back before it is used; the server's
//! or the role's own settings do not count. Writers, reads that a payment waits for, and reports have pools
//! of their own, so that no number of slow reports holds up payments.

use super::{
    Fault,
    bounded_pool::{self, Lent, Pool},
    silence::{ACQUIRE_TIMEOUT, Limits, Watch, timed_out},
    transaction::{Kept, Tx},
};
use crate::sqlite::OpenError;
use sqlx::{
    ConnectOptions, Connection, Executor, PgConnection,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::str::FromStr;
use tokio::time::timeout;

/// What every connection is told. Timeouts are milliseconds: a statement of a batch takes a few, a
/// report may take long, and a transaction whose process hangs must let go of its rows.
const WRITER_SETTINGS: &str = "SET synchronous_commit = on; SET statement_timeout = 10000; \
     SET lock_timeout = 8000; SET idle_in_transaction_session_timeout = 15000; \
     SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off";
const READER_SETTINGS: &str = "SET synchronous_commit = on; SET statement_timeout = 120000; \
     SET default_transaction_isolation = 'read committed'";

/// Whose connections they are, and how many.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// As the server's own lists name them.
    pub application: &'static str,
    /// Transactions at once.
    pub writers: u32,
    /// Reads beside them that something waits for.
    pub readers: u32,
    /// Reads that may be long.
    pub reports: u32,
}

/// All pools.
#[derive(Debug, Clone)]
pub struct Pools {
    pub writers: Pool,
    pub readers: Pool,
    pub reports: Pool,
    /// Writers between two transactions.
    pub kept: Kept,
    /// Limits everything that is asked.
    pub watch: Watch,
    sizes: Sizes,
}

impl Pools {
    /// Connects, brings the schema up to date, warns of a server that does not sync.
    pub async fn open(
        url: &str,
        migrations: &Migrator,
        sizes: Sizes,
        limits: Limits,
    ) -> Result<Self, OpenError> {
        let watch = Watch::new(limits);
        let options = server(url)?.application_name(sizes.application);
        migrate(&options, migrations).await?;
        let writers = open_writers(sizes.writers, options.clone(), &watch);
        let writers = writers.await.map_err(OpenError::Database)?;
        let fsync = async {
            let mut writer = writers.lend().await?;
            sqlx::query_scalar::<_, String>("SHOW fsync").fetch_one(&mut *writer).await
        };
        let fsync = timeout(limits.answer, fsync).await.unwrap_or_else(|_| Err(timed_out()));
        let fsync = fsync.map_err(OpenError::Database)?;
        if fsync != "on" {
            tracing::warn!("PostgreSQL runs with fsync={fsync}: a power cut can lose payments");
        }
        // The pool's own question is enough for those that read.
        let open = async |connections| {
            let pool = durable(bounded_pool::options(connections, &watch), READER_SETTINGS);
            Pool::open(pool, options.clone(), &watch).await.map_err(OpenError::Database)
        };
        let (readers, reports) = (open(sizes.readers).await?, open(sizes.reports).await?);
        Ok(Self { writers, readers, reports, kept: Kept::default(), watch, sizes })
    }

    /// Begins a transaction; a connection that was lost while idle is left for another one. Nothing
    /// has been asked yet, so that trying again is safe.
    pub async fn begin<E: Fault>(&self) -> Result<Tx, E> {
        self.begin_with("BEGIN").await
    }

    /// The same with `sql`: a `BEGIN`, and what else goes with it.
    pub async fn begin_with<E: Fault>(&self, sql: &'static str) -> Result<Tx, E> {
        let begun = async {
            for _ in 0..self.sizes.writers {
                match self.kept.begin(&self.writers, sql).await {
                    Err(error) if is_lost(&error) => {}
                    begun => return Ok(begun?),
                }
            }
            Ok(self.kept.begin(&self.writers, sql).await?)
        };
        self.watch.answer(begun).await
    }

    /// Makes it durable.
    pub async fn commit<E: Fault>(&self, tx: Tx) -> Result<(), E> {
        self.watch.answer(async { Ok(self.kept.commit(tx).await?) }).await
    }

    /// Reads; a connection that was lost while idle is left for another one. Each try takes one dead
    /// connection out of the pool, so there are as many tries as connections and one more.
    pub async fn read<T, E: Fault, F>(&self, work: impl Fn(Lent) -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.watch.answer(try_read(&self.readers, self.sizes.readers, work)).await
    }

    /// The same for what may take long, on connections that nothing else waits for.
    pub async fn report<T, E: Fault, F>(&self, work: impl Fn(Lent) -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.watch.report(try_read(&self.reports, self.sizes.reports, work)).await
    }

    pub async fn close(&self) {
        // The pool waits for all of its connections, which do not come back while they are kept.
        tokio::join!(self.readers.close(), self.reports.close(), self.writers.close(), async {
            self.kept.close()
        });
    }
}

async fn try_read<T, E: Fault, F>(
    pool: &Pool,
    connections: u32,
    work: impl Fn(Lent) -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let once = async || work(pool.lend().await?).await;
    for _ in 0..connections {
        match once().await {
            Err(error) if error.database().is_some_and(is_lost) => {}
            answer => return answer,
        }
    }
    once().await
}

/// What a URL says.
pub fn server(url: &str) -> Result<PgConnectOptions, OpenError> {
    PgConnectOptions::from_str(url).map_err(|_| OpenError::Url(without_password(url)))
}

/// On a connection of its own without timeouts: a change of schema may take long, and replicas that
/// start together wait for the first of them.
pub async fn migrate(options: &PgConnectOptions, migrations: &Migrator) -> Result<(), OpenError> {
    let connection = timeout(ACQUIRE_TIMEOUT, options.connect()).await;
    let connection = connection.unwrap_or_else(|_| Err(timed_out()));
    let mut connection = connection.map_err(OpenError::Database)?;
    migrations.run(&mut connection).await.map_err(OpenError::Migrate)?;
    // What was done is done, whatever comes of the farewell.
    let _ = timeout(ACQUIRE_TIMEOUT, connection.close()).await;
    Ok(())
}

/// Connections that may come back from the middle of a transaction.
pub async fn open_writers(
    connections: u32,
    server: PgConnectOptions,
    watch: &Watch,
) -> Result<Pool, sqlx::Error> {
    let options = durable(bounded_pool::options(connections, watch), WRITER_SETTINGS);
    let options = options.after_release(|connection, _| {
        // Of no effect, but for a warning, if it is in none.
        Box::pin(async move { connection.execute("ROLLBACK").await.map(|_| true) })
    });
    Pool::open(options, server, watch).await
}

fn durable(pool: PgPoolOptions, settings: &'static str) -> PgPoolOptions {
    pool.after_connect(move |connection, _| {
        Box::pin(async move {
            connection.execute(settings).await?;
            assert_durable(connection).await
        })
    })
}

/// Reads the setting back: what did not take effect is an error now, not a surprise later.
pub async fn assert_durable(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let found: String =
        sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut *connection).await?;
    if found == "on" {
        return Ok(());
    }
    let message = format!("ledger setting synchronous_commit is {found:?}, need \"on\"");
    Err(sqlx::Error::Configuration(message.into()))
}

/// Whether this server is one that can be written to.
pub async fn takes_writes<E: Fault>(mut reader: Lent) -> Result<(), E> {
    let standby: bool =
        sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut *reader).await?;
    if standby {
        let message = "the ledger's PostgreSQL is a standby";
        return Err(sqlx::Error::Configuration(message.into()).into());
    }
    Ok(())
}

/// Whether the connection, not the question, is at fault.
fn is_lost(error: &sqlx::Error) -> bool {
    if matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) {
        return true;
    }
    let code = error.as_database_error().and_then(|e| e.code());
    // admin_shutdown, crash_shutdown, idle_session_timeout
    matches!(code.as_deref(), Some("57P01" | "57P02" | "57P05"))
}

/// For messages.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{place}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::POSTGRES_MIGRATIONS as MIGRATIONS;

    const SIZES: Sizes = Sizes { application: "test", writers: 4, readers: 6, reports: 2 };

    #[tokio::test]
    async fn every_connection_is_durable() {
        let database = penstock_testkit::postgres::database().await;
        let pools =
            Pools::open(database.url(), &MIGRATIONS, SIZES, Limits::default()).await.unwrap();
        for (pool, size) in [
            (&pools.writers, SIZES.writers),
            (&pools.readers, SIZES.readers),
            (&pools.reports, SIZES.reports),
        ] {
            let mut held = Vec::new();
            for _ in 0..size {
                let mut connection = pool.lend().await.unwrap();
                assert_durable(&mut connection).await.unwrap();
                held.push(connection);
            }
        }
        pools.close().await;
    }

    #[tokio::test]
    async fn what_the_url_or_the_database_says_does_not_count() {
        let database = penstock_testkit::postgres::database().await;
        let mut owner = PgConnection::connect(database.url()).await.unwrap();
        let name: String =
            sqlx::query_scalar("SELECT current_database()").fetch_one(&mut owner).await.unwrap();
        let weaken = format!("ALTER DATABASE {name} SET synchronous_commit = off");
        owner.execute(sqlx::AssertSqlSafe(weaken)).await.unwrap();
        let url = format!("{}?options=-c%20synchronous_commit%3Doff", database.url());
        let pools = Pools::open(&url, &MIGRATIONS, SIZES, Limits::default()).await.unwrap();
        let mut connection = pools.writers.lend().await.unwrap();
        assert_durable(&mut connection).await.unwrap();
        // Without our settings the same connection would not have passed.
        let mut plain = PgConnection::connect(&url).await.unwrap();
        let refused = assert_durable(&mut plain).await.unwrap_err();
        assert!(refused.to_string().contains("synchronous_commit"), "{refused}");
        drop(connection);
        pools.close().await;
    }

    #[test]
    fn messages_name_no_password() {
        assert_eq!(without_password("postgres://u:p@h/d"), "postgres://h/d");
        assert_eq!(without_password("postgres://h/d"), "postgres://h/d");
    }
}
