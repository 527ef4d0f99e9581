//! Opening an SQLite file so that "committed" means "on the disk".
//!
//! One writer connection (SQLite has one writer anyway; queueing for it is fairer than
//! busy-waiting on the file lock) and a few readers beside it, which WAL lets run undisturbed. Whoever
//! writes much has [`writer`] in the place of the pool's.
//! The durability settings are read back from the open connection: a setting that did not take
//! is an error at start, not a surprise after a power cut.

pub(crate) mod reader;
pub(crate) mod writer;

use sqlx::{
    Connection, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{
        SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions,
        SqliteSynchronous,
    },
};
use std::{path::Path, path::PathBuf, time::Duration};
use thiserror::Error;

/// How long a statement waits for another process's lock on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller waits for a connection before the ledger counts as away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Readers beside the writer.
const READERS: u32 = 4;
/// Readers of what may be long, beside those.
const REPORTS: u32 = 2;

/// The database could not be opened as it must be. Only [`OpenError::Database`] and
/// [`OpenError::Migrate`] may pass by themselves (a locked file); the others need an operator.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The setting names no books.
    #[error("ledger URL must be sqlite://PATH of a file or postgres://…, got {0:?}")]
    Url(String),
    /// The folder for the file cannot be made.
    #[error("cannot create the ledger's folder {0}")]
    Folder(PathBuf, #[source] std::io::Error),
    /// The file cannot be made, or its rights cannot be narrowed.
    #[error("cannot keep the ledger's file {0} to ourselves")]
    File(PathBuf, #[source] std::io::Error),
    /// A durability setting did not take effect.
    #[error("ledger setting {pragma} is {found:?}, need {need:?}")]
    Pragma {
        /// Which one.
        pragma: &'static str,
        /// As read back.
        found: String,
        /// As it must be.
        need: &'static str,
    },
    /// The schema could not be brought up to date.
    #[error("ledger migration failed")]
    Migrate(#[source] MigrateError),
    /// The books hold something unreadable.
    #[error("the ledger cannot be read: {0}")]
    Books(String),
    /// The replica's name does not fit.
    #[error("a replica's name is 1 to 32 letters, digits, '-', '_' or '.', got {0:?}")]
    Replica(String),
    /// One process at a time uses these books.
    #[error(
        "another process uses {path}; several orchestrators share one PostgreSQL: \
         --ledger postgres://…", path = .0.display()
    )]
    InUse(PathBuf),
    /// There is a database at most, and no books in it.
    #[error("there are no books there: is this the right ledger?")]
    Absent,
    /// The books are of another version of this program.
    #[error("the ledger's schema has version {found}, this program's is {need}: run migrate first")]
    Schema {
        /// What the books have.
        found: i64,
        /// What this program knows.
        need: i64,
    },
    /// Anything else that the database says.
    #[error("cannot open the ledger")]
    Database(#[source] sqlx::Error),
    /// The same, from the connection that writes.
    #[error("cannot open the ledger")]
    Writer(#[source] rusqlite::Error),
    /// The writer gets no thread.
    #[error("no thread for the ledger's writer")]
    Thread(#[source] std::io::Error),
}

/// An open ledger file.
#[derive(Debug, Clone)]
pub struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    reports: SqlitePool,
}

impl Sqlite {
    /// Opens (creating if needed) the file of `sqlite://PATH`, brings the schema up to date, and
    /// checks the settings that durability rests on. `:memory:` is refused: it is not a ledger.
    pub async fn open(url: &str, migrations: &Migrator) -> Result<Self, OpenError> {
        let path = path_of(url)?;
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|e| OpenError::Folder(folder.to_path_buf(), e))?;
        }
        keep_private(&path).map_err(|e| OpenError::File(path.clone(), e))?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let mut first =
            SqliteConnection::connect_with(&options).await.map_err(OpenError::Database)?;
        assert_durable(&mut first).await?;
        first.close().await.map_err(OpenError::Database)?;
        let writer = SqlitePoolOptions::new()
            .min_connections(1)
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // A full disk makes SQLite end a transaction by itself, which sqlx does not notice: it
            // would count that transaction for ever and refuse to begin another one.
            .before_acquire(|connection, _| {
                let usable = !connection.is_in_transaction();
                Box::pin(async move { Ok(usable) })
            })
            .connect_with(options.clone())
            .await
            .map_err(OpenError::Database)?;
        migrations.run(&writer).await.map_err(OpenError::Migrate)?;
        let read = async |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                // A file does not go away between two reads.
                .test_before_acquire(false)
                .connect_with(options.clone())
                .await
                .map_err(OpenError::Database)
        };
        let (readers, reports) = (read(READERS).await?, read(REPORTS).await?);
        Ok(Self { writer, readers, reports })
    }

    /// The one connection that writes. Begin transactions with `begin_with("BEGIN IMMEDIATE")`.
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Connections for reads that need not see an open write transaction.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// The same for reads that may be long, so that nothing else waits for them.
    pub fn reports(&self) -> &SqlitePool {
        &self.reports
    }

    /// Whether the file still answers, for readiness.
    pub async fn ping(&self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT 1").execute(&self.readers).await.map(|_| ())
    }

    /// Closes all connections; later calls fail.
    pub async fn close(&self) {
        self.readers.close().await;
        self.reports.close().await;
        self.writer.close().await;
    }
}

/// Makes the file, or takes rights away from it, so that only its owner reads and writes it; SQLite
/// gives its other files (log and index) the rights of this one.
fn keep_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 != 0o600 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// The file of `sqlite://PATH`.
pub(crate) fn path_of(url: &str) -> Result<PathBuf, OpenError> {
    let bad = || OpenError::Url(url.to_owned());
    let path = url.strip_prefix("sqlite://").ok_or_else(bad)?;
    if path.is_empty() || path.contains(":memory:") || path.contains('?') {
        return Err(bad());
    }
    Ok(Path::new(path).to_path_buf())
}

async fn assert_durable(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut *connection)
        .await
        .map_err(OpenError::Database)?;
    require("journal_mode", journal.to_ascii_lowercase(), "wal")?;
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut *connection)
        .await
        .map_err(OpenError::Database)?;
    // 2 is FULL: every commit is synced before it is acknowledged.
    require("synchronous", synchronous.to_string(), "2")?;
    let foreign_keys: i64 = sqlx::query_scalar("PRAGMA foreign_keys")
        .fetch_one(&mut *connection)
        .await
        .map_err(OpenError::Database)?;
    require("foreign_keys", foreign_keys.to_string(), "1")
}

fn require(pragma: &'static str, found: String, need: &'static str) -> Result<(), OpenError> {
    if found == need { Ok(()) } else { Err(OpenError::Pragma { pragma, found, need }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files() {
        for bad in [
            "",
            "postgres://x",
            "sqlite://",
            "sqlite://:memory:",
            "sqlite::memory:",
            "sqlite://a?mode=ro",
        ] {
            assert!(path_of(bad).is_err(), "{bad}");
        }
        assert_eq!(path_of("sqlite:///a/b.db").unwrap(), Path::new("/a/b.db"));
    }

    #[tokio::test]
    async fn every_connection_is_durable() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/deep/ledger.db", folder.path().display());
        let open = Sqlite::open(&url, &crate::signer::MIGRATIONS).await.unwrap();
        for pool in [open.writer(), open.readers(), open.reports()] {
            let mut connection = pool.acquire().await.unwrap();
            assert_durable(&mut connection).await.unwrap();
        }
        open.ping().await.unwrap();
        open.close().await;
        assert!(open.ping().await.is_err());
    }

    #[tokio::test]
    async fn a_setting_that_did_not_take_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("x.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let refused = assert_durable(&mut connection).await.unwrap_err();
        assert!(matches!(refused, OpenError::Pragma { pragma: "synchronous", .. }), "{refused}");
    }
}
