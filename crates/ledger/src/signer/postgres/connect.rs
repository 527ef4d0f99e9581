//! Connections that wait for the disk, and give up in bounded time.
//!
//! Every connection sets `synchronous_commit = on` and reads it back before it is used; the server's
//! or the role's own settings do not count. Writers and readers have pools of their own, so that a
//! slow report cannot hold up payments.

use super::{
    Answer,
    transaction::{Kept, Tx},
};
use crate::{
    signer::{
        LedgerError, POSTGRES_MIGRATIONS,
        error::DatabaseError,
        silence::{Limits, Released, Watch},
    },
    sqlite::OpenError,
};
use sqlx::{
    Connection, Executor, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::str::FromStr;

/// Two writing tasks, one for the outbox, one to spare.
const WRITERS: u32 = 4;
/// Readers beside them.
const READERS: u32 = 6;
/// What every connection is told. Timeouts are milliseconds: a statement of a batch takes a few, a
/// report may take long, and a transaction whose process hangs must let go of its rows.
const WRITER_SETTINGS: &str = "SET synchronous_commit = on; SET statement_timeout = 10000; \
     SET lock_timeout = 8000; SET idle_in_transaction_session_timeout = 15000; \
     SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off";
const READER_SETTINGS: &str = "SET synchronous_commit = on; SET statement_timeout = 120000; \
     SET default_transaction_isolation = 'read committed'";

/// Both pools.
#[derive(Debug, Clone)]
pub struct Pools {
    pub writers: PgPool,
    pub readers: PgPool,
    /// Writers between two transactions.
    pub kept: Kept,
    /// Limits everything that is asked.
    pub watch: Watch,
}

impl Pools {
    /// Connects, brings the schema up to date, warns of a server that does not sync.
    pub async fn open(url: &str, limits: Limits) -> Result<Self, OpenError> {
        let watch = Watch::new(limits);
        let options =
            PgConnectOptions::from_str(url).map_err(|_| OpenError::Url(without_password(url)))?;
        let options = options.application_name("penstock-signer");
        migrate(&options).await?;
        let writers = watch.pool(WRITERS, Released::MayBeInTransaction);
        let writers = connect(writers, WRITER_SETTINGS, options.clone()).await?;
        let fsync: String = sqlx::query_scalar("SHOW fsync")
            .fetch_one(&writers)
            .await
            .map_err(OpenError::Database)?;
        if fsync != "on" {
            tracing::warn!("PostgreSQL runs with fsync={fsync}: a power cut can lose payments");
        }
        let readers = watch.pool(READERS, Released::Idle);
        let readers = connect(readers, READER_SETTINGS, options).await?;
        Ok(Self { writers, readers, kept: Kept::default(), watch })
    }

    /// Begins a transaction; a connection that was lost while idle is left for another one. Nothing
    /// has been asked yet, so that trying again is safe.
    pub async fn begin(&self) -> Answer<Tx> {
        let begun = async {
            for _ in 0..WRITERS {
                match self.kept.begin(&self.writers, &self.watch).await {
                    Err(error) if is_lost(&error) => {}
                    begun => return Ok(begun?),
                }
            }
            Ok(self.kept.begin(&self.writers, &self.watch).await?)
        };
        self.watch.answer(begun).await
    }

    /// Reads; a connection that was lost while idle is left for another one. Each try takes one dead
    /// connection out of the pool, so there are as many tries as connections and one more.
    pub async fn read<T, F>(&self, work: impl Fn() -> F) -> Answer<T>
    where
        F: Future<Output = Answer<T>>,
    {
        self.watch.answer(Self::try_read(work)).await
    }

    /// The same for what may take long.
    pub async fn report<T, F>(&self, work: impl Fn() -> F) -> Answer<T>
    where
        F: Future<Output = Answer<T>>,
    {
        self.watch.report(Self::try_read(work)).await
    }

    async fn try_read<T, F>(work: impl Fn() -> F) -> Answer<T>
    where
        F: Future<Output = Answer<T>>,
    {
        for _ in 0..READERS {
            match work().await {
                Err(LedgerError::Unavailable(error)) if is_lost_in(&error) => {}
                answer => return answer,
            }
        }
        work().await
    }

    pub async fn close(&self) {
        self.readers.close().await;
        // The pool waits for all of its connections.
        self.kept.close();
        self.writers.close().await;
    }
}

/// On a connection of its own without timeouts: a change of schema may take long, and replicas that
/// start together wait for the first of them.
async fn migrate(options: &PgConnectOptions) -> Result<(), OpenError> {
    let mut connection = PgConnection::connect_with(options).await.map_err(OpenError::Database)?;
    POSTGRES_MIGRATIONS.run(&mut connection).await.map_err(OpenError::Migrate)?;
    connection.close().await.map_err(OpenError::Database)
}

async fn connect(
    pool: PgPoolOptions,
    settings: &'static str,
    options: PgConnectOptions,
) -> Result<PgPool, OpenError> {
    pool.after_connect(move |connection, _| {
        Box::pin(async move {
            connection.execute(settings).await?;
            assert_durable(connection).await
        })
    })
    .connect_with(options)
    .await
    .map_err(OpenError::Database)
}

/// Reads the setting back: what did not take effect is an error now, not a surprise later.
pub(super) async fn assert_durable(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let found: String =
        sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut *connection).await?;
    if found == "on" {
        return Ok(());
    }
    let message = format!("ledger setting synchronous_commit is {found:?}, need \"on\"");
    Err(sqlx::Error::Configuration(message.into()))
}

/// Whether this server is one that can be written to.
pub async fn takes_writes(pool: &PgPool) -> Answer<()> {
    let standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(pool).await?;
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

fn is_lost_in(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::Sqlx(error) if is_lost(error))
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

    #[tokio::test]
    async fn every_connection_is_durable() {
        let database = penstock_testkit::postgres::database().await;
        let pools = Pools::open(database.url(), Limits::default()).await.unwrap();
        for (pool, size) in [(&pools.writers, WRITERS), (&pools.readers, READERS)] {
            let mut held = Vec::new();
            for _ in 0..size {
                let mut connection = pool.acquire().await.unwrap();
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
        let pools = Pools::open(&url, Limits::default()).await.unwrap();
        let mut connection = pools.writers.acquire().await.unwrap();
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
