//! The outbox's rows.

use super::{Answer, Tx, json::list};
use crate::signer::{
    Backlog, Event,
    decode::{self, Fields, signed},
    engine::store::{Applied, Lease},
};
use sqlx::{Row, SqlitePool};
use uuid::Uuid;

pub async fn lease(tx: &mut Tx) -> Answer<Option<Lease>> {
    let row = sqlx::query("SELECT holder, fence, until_ms FROM outbox_lease WHERE one = 1")
        .fetch_optional(&mut **tx)
        .await?;
    let lease = |row: sqlx::sqlite::SqliteRow| {
        Ok(Lease {
            holder: row.blob("holder")?,
            fence: decode::unsigned(&row, "fence")?,
            until_ms: row.int("until_ms")?,
        })
    };
    row.map(lease).transpose()
}

pub async fn set_lease(tx: &mut Tx, old: Option<&Lease>, new: &Lease) -> Answer<Applied> {
    let done = sqlx::query(
        "INSERT INTO outbox_lease (one, holder, fence, until_ms) VALUES (1, ?1, ?2, ?3) \
         ON CONFLICT (one) DO UPDATE SET holder = ?1, fence = ?2, until_ms = ?3 \
         WHERE fence = ?4 AND until_ms = ?5",
    )
    .bind(&new.holder)
    .bind(signed(new.fence))
    .bind(new.until_ms)
    .bind(old.map(|lease| signed(lease.fence)))
    .bind(old.map(|lease| lease.until_ms))
    .execute(&mut **tx)
    .await?;
    Ok(if done.rows_affected() == 1 { Applied::Done } else { Applied::Stale })
}

pub async fn events(tx: &mut Tx, limit: u32) -> Answer<Vec<Event>> {
    let rows = sqlx::query(
        "SELECT id, state_id, sequence, payload, created_at_ms FROM outbox ORDER BY n LIMIT ?",
    )
    .bind(limit)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(decode::event).collect()
}

pub async fn drop_events(tx: &mut Tx, ids: &[Uuid]) -> Answer<()> {
    sqlx::query("DELETE FROM outbox WHERE id IN (SELECT unhex(value) FROM json_each(?))")
        .bind(list(ids.iter().map(|id| id.simple())))
        .execute(&mut **tx)
        .await?;
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
