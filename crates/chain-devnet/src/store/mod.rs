//! The state on disk: SQLite, one commit for each transaction, on the disk before anyone hears of it.
//!
//! `synchronous=FULL` and WAL: a commit that returned survives `kill -9` and a power cut. The file
//! is locked for this process alone, since the state is also in its memory.

mod load;
mod row;
mod save;

use crate::state::{Change, Genesis, State};
use penstock_chain::Redemption;
use penstock_domain::B256;
use sqlx::{
    SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePoolOptions,
        SqliteSynchronous,
    },
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/devnet/sqlite");

/// The file in the data folder.
pub const FILE_NAME: &str = "devnet.sqlite";
/// How long to wait for another process that is just letting go of the file.
const LOCK_WAIT: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 5_000 });

/// The store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The data folder cannot be made. The operator's to fix.
    #[error("--data-dir: cannot create {path}: {source}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The chain in the folder was made with other rounds. The operator's to fix.
    #[error("--round-length: the chain in --data-dir was made with {stored}, not {asked}")]
    RoundLength {
        /// What it was made with.
        stored: u64,
        /// What the settings say now.
        asked: u64,
    },
    /// Another process has the file. The operator's to fix.
    #[error("--data-dir: {path} is in use by another devnet", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file does not hold a state. Restore it or begin anew in another folder.
    #[error("the devnet's store is damaged: {what}")]
    Damaged {
        /// Which value does not make sense.
        what: &'static str,
    },
    /// The schema could not be brought up to date.
    #[error("the devnet's store could not be migrated: {0}")]
    Migrate(#[from] MigrateError),
    /// Anything else that SQLite says. May pass (a full disk).
    #[error("the devnet's store: {0}")]
    Database(#[from] sqlx::Error),
}

/// The open file.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens the chain in `data_dir` and reads its state, or begins `new` there.
    pub async fn open(data_dir: &Path, new: Genesis) -> Result<(Self, State), StoreError> {
        std::fs::create_dir_all(data_dir)
            .map_err(|source| StoreError::Folder { path: data_dir.to_owned(), source })?;
        let path = data_dir.join(FILE_NAME);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            // Before the journal mode: WAL with an exclusive lock needs no shared memory.
            .locking_mode(SqliteLockingMode::Exclusive)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(LOCK_WAIT);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            // The lock goes with the connection, so the one that there is stays.
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(|error| locked_or(error, &path))?;
        match MIGRATIONS.run(&pool).await {
            Err(MigrateError::Execute(error)) => return Err(locked_or(error, &path)),
            done => done?,
        }
        let store = Self { pool };
        let state = match store.load().await? {
            Some(state) => state,
            None => store.begin(new).await?,
        };
        if state.genesis.round_length != new.round_length {
            let (stored, asked) = (state.genesis.round_length, new.round_length);
            return Err(StoreError::RoundLength { stored, asked });
        }
        Ok((store, state))
    }

    /// The state as it is on disk; `None` in a new file.
    pub async fn load(&self) -> Result<Option<State>, StoreError> {
        load::state(&mut *self.pool.acquire().await?).await
    }

    /// Makes the changes of one transaction durable, all or none.
    pub async fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for change in changes {
            save::change(&mut transaction, change).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// The newest redemptions first.
    pub async fn redemptions(&self, limit: u32) -> Result<Vec<Redemption>, StoreError> {
        load::newest_redemptions(&mut *self.pool.acquire().await?, limit).await
    }

    /// Lets go of the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Damages or repairs the file, for tests of what happens then.
    #[cfg(test)]
    pub(crate) async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.pool).await.unwrap();
    }

    async fn begin(&self, genesis: Genesis) -> Result<State, StoreError> {
        let state = State::new(genesis);
        let mut transaction = self.pool.begin().await?;
        save::genesis(&mut transaction, &state).await?;
        transaction.commit().await?;
        Ok(state)
    }
}

/// A number for a new chain's id.
pub fn random_chain_id() -> B256 {
    B256::from(rand::random::<[u8; 32]>())
}

/// SQLITE_BUSY (5) and SQLITE_LOCKED (6), with whatever extended code above the low byte.
fn locked_or(error: sqlx::Error, path: &Path) -> StoreError {
    let code = error.as_database_error().and_then(|e| e.code()).and_then(|c| c.parse::<u32>().ok());
    match code.map(|code| code & 0xff) {
        Some(5 | 6) => StoreError::InUse { path: path.to_owned() },
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests;
