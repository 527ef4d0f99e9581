//! Reads of everything, a page at a time.

use super::{Answer, open_batch::counter};
use crate::postgres::bounded_pool::Lent;
use crate::signer::{
    ChargedPayment, CounterKey, OpenReservation, ReservationId, StoredPayment,
    decode::{self, Fields, held_columns, signed, stored_columns},
};
use penstock_domain::{StateId, Wei};

pub async fn payments_at(
    mut reader: Lent,
    places: &[(StateId, u64)],
) -> Answer<Vec<StoredPayment>> {
    let states: Vec<&str> = places.iter().map(|(state_id, _)| state_id.as_str()).collect();
    let numbers: Vec<i64> = places.iter().map(|(_, sequence)| signed(*sequence)).collect();
    let rows = sqlx::query(concat!(
        "SELECT ",
        stored_columns!(),
        " FROM UNNEST($1::text[], $2::bigint[]) AS k (state_id, sequence) \
         JOIN payments p ON p.state_id = k.state_id AND p.sequence = k.sequence \
         JOIN sessions s ON s.state_id = p.state_id"
    ))
    .bind(states)
    .bind(numbers)
    .fetch_all(&mut *reader)
    .await?;
    rows.iter().map(decode::stored).collect()
}

pub async fn stored_after(
    mut reader: Lent,
    after: i64,
    limit: u32,
) -> Answer<Vec<(i64, StoredPayment)>> {
    let rows = sqlx::query(concat!(
        "SELECT p.id, ",
        stored_columns!(),
        " FROM payments p JOIN sessions s ON s.state_id = p.state_id WHERE p.id > $1 \
         ORDER BY p.id LIMIT $2"
    ))
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(&mut *reader)
    .await?;
    rows.iter().map(|row| Ok((row.int("id")?, decode::stored(row)?))).collect()
}

pub async fn charged_after(
    mut reader: Lent,
    after: i64,
    limit: u32,
) -> Answer<Vec<ChargedPayment>> {
    let rows = sqlx::query(
        "SELECT id, account, auth_id, charged::text AS charged, created_at_ms FROM payments \
         WHERE id > $1 ORDER BY id LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(&mut *reader)
    .await?;
    rows.iter().map(decode::charged).collect()
}

pub async fn counters_after(
    mut reader: Lent,
    after: &str,
    limit: u32,
) -> Answer<Vec<(CounterKey, Wei)>> {
    let rows =
        sqlx::query("SELECT key, charged::text FROM counters WHERE key > $1 ORDER BY key LIMIT $2")
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&mut *reader)
            .await?;
    rows.iter().map(counter).collect()
}

pub async fn open_reservations(
    mut reader: Lent,
    after: Option<ReservationId>,
    limit: u32,
) -> Answer<Vec<OpenReservation>> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        held_columns!(),
        ", amount::text FROM reservations WHERE id > $1 ORDER BY id LIMIT $2"
    ))
    .bind(after.map_or_else(Vec::new, |id| id.0.to_vec()))
    .bind(i64::from(limit))
    .fetch_all(&mut *reader)
    .await?;
    rows.iter().map(decode::open_reservation).collect()
}
