//! Reads of everything, a page at a time.

use super::{Answer, json::list, lists::counter};
use crate::signer::{
    ChargedPayment, CounterKey, OpenReservation, ReservationId, StoredPayment,
    decode::{self, Fields, held_columns, stored_columns},
};
use penstock_domain::{StateId, Wei};
use sqlx::SqlitePool;

pub async fn payments_at(
    readers: &SqlitePool,
    places: &[(StateId, u64)],
) -> Answer<Vec<StoredPayment>> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        stored_columns!(),
        " FROM json_each(?1) AS state CROSS JOIN json_each(?2) AS number ON number.key = state.key \
         CROSS JOIN payments p ON p.state_id = state.value AND p.sequence = number.value \
         CROSS JOIN sessions s ON s.state_id = p.state_id"
    ))
    .bind(list(places.iter().map(|(state_id, _)| state_id)))
    .bind(serde_json::Value::from_iter(places.iter().map(|(_, sequence)| *sequence)).to_string())
    .fetch_all(readers)
    .await?;
    rows.iter().map(decode::stored).collect()
}

pub async fn stored_after(
    readers: &SqlitePool,
    after: i64,
    limit: u32,
) -> Answer<Vec<(i64, StoredPayment)>> {
    let rows = sqlx::query(concat!(
        "SELECT p.id, ",
        stored_columns!(),
        " FROM payments p JOIN sessions s ON s.state_id = p.state_id WHERE p.id > ? \
         ORDER BY p.id LIMIT ?"
    ))
    .bind(after)
    .bind(limit)
    .fetch_all(readers)
    .await?;
    rows.iter().map(|row| Ok((row.int("id")?, decode::stored(row)?))).collect()
}

pub async fn charged_after(
    readers: &SqlitePool,
    after: i64,
    limit: u32,
) -> Answer<Vec<ChargedPayment>> {
    let rows = sqlx::query(
        "SELECT id, account, auth_id, charged, created_at_ms FROM payments WHERE id > ? \
         ORDER BY id LIMIT ?",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(readers)
    .await?;
    rows.iter().map(decode::charged).collect()
}

pub async fn counters_after(
    readers: &SqlitePool,
    after: &str,
    limit: u32,
) -> Answer<Vec<(CounterKey, Wei)>> {
    let rows = sqlx::query("SELECT key, charged FROM counters WHERE key > ? ORDER BY key LIMIT ?")
        .bind(after)
        .bind(limit)
        .fetch_all(readers)
        .await?;
    rows.iter().map(counter).collect()
}

pub async fn open_reservations(
    readers: &SqlitePool,
    after: Option<ReservationId>,
    limit: u32,
) -> Answer<Vec<OpenReservation>> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        held_columns!(),
        ", amount FROM reservations WHERE id > ? ORDER BY id LIMIT ?"
    ))
    .bind(after.map_or_else(Vec::new, |id| id.0.to_vec()))
    .bind(limit)
    .fetch_all(readers)
    .await?;
    rows.iter().map(decode::open_reservation).collect()
}
