//! Opening the accounts of the books that a URL names, on connections of their own: what operators
//! do must not wait for payments, nor payments for them.

use super::{AccountLedger, PostgresAccounts, SqliteAccounts};
use crate::{
    signer::{MIGRATIONS, POSTGRES_MIGRATIONS},
    sqlite::{OpenError, Sqlite},
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use std::{sync::Arc, time::Duration};

/// Connections to PostgreSQL: one that reads changes, one for an operator who writes.
const CONNECTIONS: u32 = 2;
/// How long a caller waits for a connection before the ledger counts as away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens `sqlite://PATH` or `postgres://…`, creating and migrating as needed.
pub async fn open(url: &str) -> Result<Arc<dyn AccountLedger>, OpenError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Arc::new(PostgresAccounts::new(postgres(url).await?)));
    }
    Ok(Arc::new(SqliteAccounts::new(Sqlite::open(url, &MIGRATIONS).await?)))
}

async fn postgres(url: &str) -> Result<PgPool, OpenError> {
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // A revoked key must stay revoked after a power cut.
                sqlx::query("SET synchronous_commit = on").execute(connection).await.map(|_| ())
            })
        })
        .connect(url)
        .await
        .map_err(OpenError::Database)?;
    POSTGRES_MIGRATIONS.run(&pool).await.map_err(OpenError::Migrate)?;
    Ok(pool)
}
