//! The outbox's rows.

use super::Answer;
use crate::signer::{
    Backlog, Event,
    decode::{self, Fields, signed},
    engine::store::{Applied, Lease},
};
use crate::sqlite::writer::{Tx, all, find};
use rusqlite::params;
use sqlx::{Row, SqlitePool};
use uuid::Uuid;

pub fn lease(tx: &Tx) -> Answer<Option<Lease>> {
    let mut lease =
        tx.prepare_cached("SELECT holder, fence, until_ms FROM outbox_lease WHERE one = 1")?;
    find(&mut lease, [], |row| {
        Ok(Lease {
            holder: row.blob("holder")?,
            fence: decode::unsigned(row, "fence")?,
            until_ms: row.int("until_ms")?,
        })
    })
}

pub fn set_lease(tx: &Tx, old: Option<&Lease>, new: &Lease) -> Answer<Applied> {
    let mut set = tx.prepare_cached(
        "INSERT INTO outbox_lease (one, holder, fence, until_ms) VALUES (1, ?1, ?2, ?3) \
         ON CONFLICT (one) DO UPDATE SET holder = ?1, fence = ?2, until_ms = ?3 \
         WHERE fence = ?4 AND until_ms = ?5",
    )?;
    let done = set.execute(params![
        new.holder,
        signed(new.fence),
        new.until_ms,
        old.map(|lease| signed(lease.fence)),
        old.map(|lease| lease.until_ms),
    ])?;
    Ok(if done == 1 { Applied::Done } else { Applied::Stale })
}

pub fn events(tx: &Tx, limit: u32) -> Answer<Vec<Event>> {
    let mut oldest = tx.prepare_cached(
        "SELECT id, state_id, sequence, payload, created_at_ms FROM outbox ORDER BY n LIMIT ?",
    )?;
    all(&mut oldest, [limit], |row| decode::event(row))
}

pub fn drop_events(tx: &Tx, ids: &[Uuid]) -> Answer<()> {
    let mut delete = tx.prepare_cached("DELETE FROM outbox WHERE id = ?")?;
    for id in ids {
        delete.execute([id.as_bytes()])?;
    }
    Ok(())
}

pub async fn backlog(readers: &SqlitePool) -> Answer<Backlog> {
    let row = sqlx::query(
        "SELECT count(*) AS events, (SELECT created_at_ms FROM outbox ORDER BY n LIMIT 1) AS oldest \
         FROM outbox",
    )
    .fetch_one(readers)
    .await?;
    Ok(Backlog { events: decode::unsigned(&row, "events")?, oldest_ms: row.try_get("oldest")? })
}
