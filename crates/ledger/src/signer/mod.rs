//! The signer's books: payment sessions, payments with their stored answers, nonces handed out.

/// The schema of the signer's SQLite ledger (`migrations/signer/sqlite`).
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/signer/sqlite");
