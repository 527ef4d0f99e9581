//! The orchestrator's books: credits, debits, nonces seen, winning tickets.

/// The schema of the orchestrator's SQLite ledger (`migrations/orchestrator/sqlite`).
pub static MIGRATIONS: sqlx::migrate::Migrator =
    sqlx::migrate!("../../migrations/orchestrator/sqlite");
