//! The orchestrator's books: credits, debits, nonces seen, winning tickets.
//!
//! One payment is one transaction: its nonces, winners and credit are on disk together or not at
//! all, and nothing is acknowledged before. `conformance` is the suite that every
//! implementation passes.

#[cfg(test)]
mod conformance;
mod error;
mod port;
mod sqlite;
mod types;

pub use error::LedgerError;
pub use port::OrchestratorLedger;
pub use sqlite::SqliteOrchestratorLedger;
pub use types::{
    Account, AccountKey, BadAccountKey, CreditLine, Debit, DebitLine, Invoice, InvoiceQuery,
    PaymentReceipt, PaymentTaken, StoredWinner, Totals, WinnerStatus,
};

/// The schema of the orchestrator's SQLite ledger (`migrations/orchestrator/sqlite`).
pub static MIGRATIONS: sqlx::migrate::Migrator =
    sqlx::migrate!("../../migrations/orchestrator/sqlite");
