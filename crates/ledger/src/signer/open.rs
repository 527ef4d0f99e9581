//! Opening the books that a URL names.

use super::{
    Limits, SignerLedger, engine::Books, existing, postgres::PostgresStore, sqlite::SqliteStore,
};
use crate::sqlite::OpenError;
use std::sync::Arc;

/// Longest name of a replica.
const MAX_REPLICA: usize = 32;

/// Opens `sqlite://PATH` or `postgres://…`, creating and migrating as needed, and checks the
/// settings that durability rests on. `replica` names this process in the audit: 1 to 32 letters,
/// digits, `-`, `_` or `.`, different for each replica that shares the books.
pub async fn open(url: &str, replica: &str) -> Result<Arc<dyn SignerLedger>, OpenError> {
    open_within(url, replica, Limits::default()).await
}

/// [`open`] with other limits for a PostgreSQL that does not answer.
pub async fn open_within(
    url: &str,
    replica: &str,
    limits: Limits,
) -> Result<Arc<dyn SignerLedger>, OpenError> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if replica.is_empty() || replica.len() > MAX_REPLICA || !replica.bytes().all(is_word) {
        return Err(OpenError::Replica(replica.to_owned()));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let store = PostgresStore::open(url, replica, limits).await?;
        return Ok(Arc::new(Books::new(store, replica)));
    }
    let store = SqliteStore::open(url, replica).await?;
    Ok(Arc::new(Books::new(store, replica)))
}

/// The same, where there are books already: makes none and changes no schema.
pub async fn open_existing(url: &str, replica: &str) -> Result<Arc<dyn SignerLedger>, OpenError> {
    existing::check(url).await?;
    open(url, replica).await
}
