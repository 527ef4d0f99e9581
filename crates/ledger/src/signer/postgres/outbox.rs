//! The outbox's rows.

use super::{Answer, Tx};
use crate::postgres::bounded_pool::Lent;
use crate::signer::{
    Backlog, Event,
    decode::{self, Fields, signed},
    engine::store::{Applied, Lease},
};
use sqlx::Row;
use uuid::Uuid;

pub async fn lease(tx: &mut Tx) -> Answer<Option<Lease>> {
    let row =
        sqlx::query("SELECT holder, fence, until_ms FROM outbox_lease WHERE one = 1 FOR UPDATE")
            .fetch_optional(&mut **tx)
            .await?;
    let lease = |row: sqlx::postgres::PgRow| {
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
        "INSERT INTO outbox_lease AS l (one, holder, fence, until_ms) VALUES (1, $1, $2, $3) \
         ON CONFLICT (one) DO UPDATE SET holder = $1, fence = $2, until_ms = $3 \
         WHERE l.fence = $4 AND l.until_ms = $5",
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
        "SELECT id, state_id, sequence, payload, created_at_ms FROM outbox ORDER BY n LIMIT $1",
    )
    .bind(i64::from(limit))
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(decode::event).collect()
}

pub async fn drop_events(tx: &mut Tx, ids: &[Uuid]) -> Answer<()> {
    let ids: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes().as_slice()).collect();
    sqlx::query("DELETE FROM outbox WHERE id = ANY($1)").bind(ids).execute(&mut **tx).await?;
    Ok(())
}

pub async fn backlog(mut reader: Lent) -> Answer<Backlog> {
    let row = sqlx::query(
        "SELECT count(*) AS events, (SELECT created_at_ms FROM outbox ORDER BY n LIMIT 1) AS oldest \
         FROM outbox",
    )
    .fetch_one(&mut *reader)
    .await?;
    Ok(Backlog { events: decode::unsigned(&row, "events")?, oldest_ms: row.try_get("oldest")? })
}
