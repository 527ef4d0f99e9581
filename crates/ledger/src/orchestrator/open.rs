//! Opening the books that a URL names.

use super::{LeaseTime, OrchestratorLedger, PostgresOrchestratorLedger, SqliteOrchestratorLedger};
use crate::{postgres::silence::Limits, sqlite::OpenError};
use std::sync::Arc;

/// Opens `sqlite://PATH` or `postgres://…`, creating and migrating as needed, and checks the settings
/// that durability rests on. `lease` says how long a process may be silent before the others take
/// its place; a file has one process only.
pub async fn open(url: &str, lease: LeaseTime) -> Result<Arc<dyn OrchestratorLedger>, OpenError> {
    open_within(url, lease, Limits::default()).await
}

/// [`open`] with other limits for a PostgreSQL that does not answer.
pub async fn open_within(
    url: &str,
    lease: LeaseTime,
    limits: Limits,
) -> Result<Arc<dyn OrchestratorLedger>, OpenError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Arc::new(PostgresOrchestratorLedger::open(url, limits, lease).await?));
    }
    Ok(Arc::new(SqliteOrchestratorLedger::open(url).await?))
}
