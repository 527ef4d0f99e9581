//! The right to redeem, and marks. The file has one process: whoever else has the right is dead.

use crate::{
    orchestrator::{Fence, LedgerError, Mark},
    sqlite::writer::Tx,
};
use rusqlite::{OptionalExtension as _, params};

/// Takes the right for `owner`.
pub fn redeemer(tx: &Tx, owner: &str) -> Result<Fence, LedgerError> {
    let mut take = tx.prepare_cached(
        "INSERT INTO leases (name, owner, fence) VALUES ('redeemer', ?1, 1) \
         ON CONFLICT (name) DO UPDATE SET owner = ?1, fence = fence + (owner <> ?1) \
         RETURNING fence",
    )?;
    Ok(Fence(take.query_row([owner], |row| row.get(0))?))
}

/// Remembers what is new, and names what is another.
pub fn claim(tx: &Tx, marks: &[Mark], replace: bool) -> Result<Vec<&'static str>, LedgerError> {
    let mut others = Vec::new();
    for Mark { name, mark } in marks {
        let mut by_name = tx.prepare_cached("SELECT mark FROM marks WHERE name = ?")?;
        let known: Option<String> = by_name.query_row([name], |row| row.get(0)).optional()?;
        match known {
            Some(known) if known == *mark => continue,
            Some(_) if !replace => {
                others.push(*name);
                continue;
            }
            _ => {}
        }
        tx.execute("INSERT OR REPLACE INTO marks (name, mark) VALUES (?, ?)", params![name, mark])?;
    }
    Ok(others)
}
