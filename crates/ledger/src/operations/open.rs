//! Opening the operations of the books that a URL names, on connections of their own.

use super::{
    OperationLedger,
    books::{PostgresOperations, SqliteOperations},
};
use crate::{
    orchestrator,
    postgres::{
        bounded_pool::{self, Pool},
        pools::{migrate, server},
        silence::Watch,
    },
    signer::{self, Limits},
    sqlite::{OpenError, Sqlite},
};
use sqlx::migrate::Migrator;
use std::sync::Arc;

/// Connections to PostgreSQL: one for what is done, one for who asks meanwhile.
const CONNECTIONS: u32 = 2;

/// Those of a signer's books, `sqlite://PATH` or `postgres://…`, created and migrated as needed.
pub async fn open_signer(url: &str) -> Result<Arc<dyn OperationLedger>, OpenError> {
    open(url, &signer::MIGRATIONS, &signer::POSTGRES_MIGRATIONS).await
}

/// Those of an orchestrator's books.
pub async fn open_orchestrator(url: &str) -> Result<Arc<dyn OperationLedger>, OpenError> {
    open(url, &orchestrator::MIGRATIONS, &orchestrator::POSTGRES_MIGRATIONS).await
}

async fn open(
    url: &str,
    sqlite: &Migrator,
    postgres: &'static Migrator,
) -> Result<Arc<dyn OperationLedger>, OpenError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Ok(Arc::new(SqliteOperations::new(Sqlite::open(url, sqlite).await?)));
    }
    let watch = Watch::new(Limits::default());
    let server = server(url)?;
    migrate(&server, postgres).await?;
    let options = bounded_pool::options(CONNECTIONS, &watch)
        .test_before_acquire(true)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // What is noted must stay noted after a power cut: it is sent right after.
                sqlx::query("SET synchronous_commit = on").execute(connection).await.map(|_| ())
            })
        });
    let pool = Pool::open(options, server, &watch).await.map_err(OpenError::Database)?;
    Ok(Arc::new(PostgresOperations::new(pool, watch)))
}
