//! The orchestrator's books: credits, debits, nonces seen, winning tickets, and what several processes
//! on the same books have to know of each other.
//!
//! One payment is one transaction: its nonces, winners and credit are on disk together or not at
//! all, and nothing is acknowledged before. `plan` decides, the stores read and write; `conformance`
//! is the suite that both pass.

#[cfg(test)]
mod conformance;
mod error;
mod fold;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
mod open;
mod plan;
mod port;
mod postgres;
mod redemption;
mod rows;
mod sqlite;
mod trainings;
mod types;

pub use crate::postgres::silence::Limits;
pub use error::LedgerError;
pub use open::{open, open_within};
pub use port::OrchestratorLedger;
pub use postgres::PostgresOrchestratorLedger;
pub use sqlite::SqliteOrchestratorLedger;
pub use trainings::{NewTraining, StoredTraining, TrainingJobs, TrainingNote, Watch};
pub use types::{
    Account, AccountKey, BadAccountKey, Booked, CreditLine, Debit, DebitLine, Fence, Held, HoldId,
    HoldRequest, HoldSpent, Invoice, InvoiceQuery, LeaseTime, Mark, PaymentReceipt, PaymentTaken,
    QueueLimits, Queued, Start, StoredWinner, Totals, WinnerStatus,
};

/// The schema of the orchestrator's SQLite ledger (`migrations/orchestrator/sqlite`).
pub static MIGRATIONS: sqlx::migrate::Migrator =
    sqlx::migrate!("../../migrations/orchestrator/sqlite");

/// The schema of the orchestrator's PostgreSQL ledger (`migrations/orchestrator/postgres`).
pub static POSTGRES_MIGRATIONS: sqlx::migrate::Migrator =
    sqlx::migrate!("../../migrations/orchestrator/postgres");
