//! The signer's books: payment sessions, payments with their stored answers, nonces handed out.
//!
//! Three rules live here and nowhere else. A nonce range is durable before it is returned and is
//! never returned twice. A payment of a session is stored once, by compare-and-swap on the
//! session's sequence number; whoever comes second gets the first one's answer. And the balance
//! is computed here, in the same transaction, as `old + tickets × EV − fee`.

pub mod accounts;
pub mod audit;
mod bounded_sum;
mod counters;
mod decode;
mod engine;
mod error;
mod existing;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
mod open;
mod outbox;
mod plan;
mod port;
mod postgres;
mod records;
mod reservation;
mod retention;
mod sqlite;
mod usage;

#[cfg(test)]
mod conformance;

pub use crate::postgres::silence::Limits;
pub use audit::{AuditChain, AuditEntry, AuditFault, AuditKind, AuditRecord, AuditReport};
pub use counters::{Charge, CounterKey, Day, Hour, MAX_COUNTER_KEY_BYTES, Month};
pub use error::LedgerError;
pub use open::{open, open_existing, open_within};
pub use outbox::{Backlog, Event, Fence, NewEvent, TakenEvents};
pub use port::SignerLedger;
pub use records::{
    Binding, ChargedPayment, Committed, ManifestBinding, NewPayment, NewSession, PaymentRow,
    Session, StoredPayment, Summary,
};
pub use reservation::{
    MAX_CHARGES, MAX_TICKETS, NonceRange, OpenReservation, Reservation, ReservationId,
    ReserveRequest, Reserved, TicketTemplate,
};
pub use retention::{Pruned, PrunedLine, ReadDigests, digests_left};
pub use usage::{Usage, UsageQuery};

/// The schema of the signer's SQLite ledger (`migrations/signer/sqlite`).
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/signer/sqlite");

/// The schema of the signer's PostgreSQL ledger (`migrations/signer/postgres`).
pub static POSTGRES_MIGRATIONS: sqlx::migrate::Migrator =
    sqlx::migrate!("../../migrations/signer/postgres");
