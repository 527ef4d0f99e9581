//! Opening the accounts of the books that a URL names, on connections of their own: what operators
//! do must not wait for payments, nor payments for them.

use super::{AccountLedger, PostgresAccounts, SqliteAccounts};
use crate::{
    postgres::{
        bounded_pool::{self, Pool},
        pools::{migrate, server},
        silence::Watch,
    },
    signer::{Limits, MIGRATIONS, POSTGRES_MIGRATIONS},
    sqlite::{OpenError, Sqlite},
};
use std::sync::Arc;

/// Connections to PostgreSQL: one that reads changes, one for an operator who writes.
const CONNECTIONS: u32 = 2;

/// Opens `sqlite://PATH` or `postgres://…`, creating and migrating as needed.
pub async fn open(url: &str) -> Result<Arc<dyn AccountLedger>, OpenError> {
    open_within(url, Limits::default()).await
}

/// [`open`] with other limits for a PostgreSQL that does not answer.
pub async fn open_within(url: &str, limits: Limits) -> Result<Arc<dyn AccountLedger>, OpenError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let watch = Watch::new(limits);
        return Ok(Arc::new(PostgresAccounts::new(postgres(url, &watch).await?, watch)));
    }
    Ok(Arc::new(SqliteAccounts::new(Sqlite::open(url, &MIGRATIONS).await?)))
}

async fn postgres(url: &str, watch: &Watch) -> Result<Pool, OpenError> {
    let server = server(url)?;
    migrate(&server, &POSTGRES_MIGRATIONS).await?;
    let options = bounded_pool::options(CONNECTIONS, watch)
        // Nobody's payment waits for these: lost connections are found before they are used.
        .test_before_acquire(true)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // A revoked key must stay revoked after a power cut.
                sqlx::query("SET synchronous_commit = on").execute(connection).await.map(|_| ())
            })
        });
    Pool::open(options, server, watch).await.map_err(OpenError::Database)
}
