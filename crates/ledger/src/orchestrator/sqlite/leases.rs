//! The right to redeem, and marks. The file has one process: whoever else has the right is dead.

use crate::orchestrator::{Fence, LedgerError, Mark};
use sqlx::SqliteConnection;

/// Takes the right for `owner`.
pub async fn redeemer(db: &mut SqliteConnection, owner: &str) -> Result<Fence, LedgerError> {
    let fence = sqlx::query_scalar(
        "INSERT INTO leases (name, owner, fence) VALUES ('redeemer', ?1, 1) \
         ON CONFLICT (name) DO UPDATE SET owner = ?1, fence = fence + (owner <> ?1) \
         RETURNING fence",
    )
    .bind(owner)
    .fetch_one(db)
    .await?;
    Ok(Fence(fence))
}

/// Remembers what is new, and names what is another.
pub async fn claim(
    db: &mut SqliteConnection,
    marks: &[Mark],
    replace: bool,
) -> Result<Vec<&'static str>, LedgerError> {
    let mut others = Vec::new();
    for Mark { name, mark } in marks {
        let known: Option<String> = sqlx::query_scalar("SELECT mark FROM marks WHERE name = ?")
            .bind(name)
            .fetch_optional(&mut *db)
            .await?;
        match known {
            Some(known) if known == *mark => continue,
            Some(_) if !replace => {
                others.push(*name);
                continue;
            }
            _ => {}
        }
        sqlx::query("INSERT OR REPLACE INTO marks (name, mark) VALUES (?, ?)")
            .bind(name)
            .bind(mark)
            .execute(&mut *db)
            .await?;
    }
    Ok(others)
}
