//! The one connection that writes, and the thread that it belongs to.
//!
//! A batch is a dozen kinds of statements, one run for each row. Asked from another thread, each
//! would be a hand-over there and one back, which cost more than the statement; so whatever writes
//! runs on the connection's own thread, where waiting for the disk holds nobody up. (The reads beside
//! it are few and go through sqlx's pool.)

use super::OpenError;
use crate::DatabaseError;
use core::ops::Deref;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row};
use std::{path::Path, sync::Arc, thread, time::Duration};
use tokio::{
    runtime::{Builder, Handle},
    sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard, oneshot},
};

/// How long a statement waits for another process's lock on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Statements kept prepared; there are fewer.
const STATEMENTS: usize = 64;

/// The connection, and where it may be used.
#[derive(Debug)]
pub struct Writer {
    /// `None`: closed.
    connection: Arc<Mutex<Option<Connection>>>,
    thread: Handle,
    /// The thread ends when this is dropped.
    _running: oneshot::Sender<()>,
}

impl Writer {
    /// Opens a file that is there and of the present schema.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = connect(path)?;
        let runtime =
            Builder::new_current_thread().enable_time().build().map_err(OpenError::Thread)?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel();
        thread::Builder::new()
            .name("ledger-writer".to_owned())
            .spawn(move || {
                // Nothing is ever sent.
                let _ = runtime.block_on(ended);
            })
            .map_err(OpenError::Thread)?;
        let connection = Arc::new(Mutex::new(Some(connection)));
        Ok(Self { connection, thread: handle, _running: running })
    }

    /// Where [`Self::begin`] and everything after it belongs: there it keeps nobody from running.
    pub fn thread(&self) -> &Handle {
        &self.thread
    }

    /// Begins a transaction that writes.
    pub fn begin(&self) -> impl Future<Output = Result<Tx, DatabaseError>> + Send + use<> {
        let alone = self.alone();
        async move {
            let tx = alone.await?;
            tx.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            Ok(tx)
        }
    }

    /// The connection without a transaction: until it is dropped nobody else writes.
    pub fn alone(&self) -> impl Future<Output = Result<Tx, DatabaseError>> + Send + use<> {
        let connection = Arc::clone(&self.connection);
        async move {
            let connection =
                OwnedMutexGuard::try_map(connection.lock_owned().await, Option::as_mut);
            connection.map(Tx).map_err(|_| DatabaseError::Closed)
        }
    }

    /// Ends the connection; later calls fail.
    pub async fn close(&self) {
        let connection = Arc::clone(&self.connection).lock_owned().await.take();
        // Closing may write.
        let closed = self.thread.spawn(async move { drop(connection) }).await;
        if let Err(error) = closed {
            tracing::error!(%error, "the ledger's writer ended badly");
        }
    }
}

/// Checks that "committed" will mean "on the disk".
pub(super) fn connect(path: &Path) -> Result<Connection, OpenError> {
    let connection = Connection::open(path).map_err(OpenError::Writer)?;
    prepare(&connection).map_err(OpenError::Writer)?;
    for (pragma, need) in [("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1")] {
        let read = |row: &Row<'_>| row.get::<_, rusqlite::types::Value>(0);
        let found = connection.pragma_query_value(None, pragma, read).map_err(OpenError::Writer)?;
        let found = match found {
            rusqlite::types::Value::Text(text) => text.to_ascii_lowercase(),
            rusqlite::types::Value::Integer(n) => n.to_string(),
            other => format!("{other:?}"),
        };
        if found != need {
            return Err(OpenError::Pragma { pragma, found, need });
        }
    }
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
         PRAGMA temp_store = MEMORY",
    )?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// The connection, mostly with an open transaction; dropped, that is rolled back.
pub struct Tx(OwnedMappedMutexGuard<Option<Connection>, Connection>);

impl Tx {
    /// Returns once it is on the disk.
    pub fn commit(&self) -> Result<(), DatabaseError> {
        self.0.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        // A full disk makes SQLite end a transaction by itself.
        if self.0.is_autocommit() {
            return;
        }
        if let Err(error) = self.0.execute_batch("ROLLBACK") {
            tracing::error!(%error, "a transaction was not rolled back");
        }
    }
}

impl Deref for Tx {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

/// The row that a key names, if there is one.
pub fn find<T, E: From<rusqlite::Error>>(
    statement: &mut CachedStatement<'_>,
    key: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, E>,
) -> Result<Option<T>, E> {
    statement.query_row(key, |row| Ok(read(row))).optional()?.transpose()
}

/// All rows of a query.
pub fn all<T, E: From<rusqlite::Error>>(
    statement: &mut CachedStatement<'_>,
    parameters: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T, E>,
) -> Result<Vec<T>, E> {
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}
