//! Reservations: the rows that a batch rests on, and its changes.

use super::{
    Answer, Tx, audit, hash_text,
    json::{Rows, list},
};
use crate::signer::{
    CounterKey, LedgerError, ReservationId, StoredPayment,
    decode::{self, Fields, counters_text, held_columns, signed, stored_columns},
    engine::store::Applied,
    plan::{Change, Head, Held, OpenAsk, OpenPlan, OpenRead, answered_places},
};
use penstock_domain::{B256, StateId, Wei};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

pub async fn read(tx: &mut Tx, ask: &OpenAsk) -> Answer<OpenRead> {
    let freed = freed(tx, ask).await?;
    let counters = counters(tx, &ask.counters(&freed)).await?;
    let (mut sequences, mut nonces, mut answered) = Default::default();
    if !ask.reserves.is_empty() {
        sequences = read_sequences(tx, ask).await?;
        nonces = read_nonces(tx, &ask.hashes()).await?;
        answered = read_answered(tx, answered_places(ask, &sequences)).await?;
    }
    let taken = HashSet::new();
    Ok(OpenRead { freed, sequences, answered, nonces, counters, taken })
}

async fn freed(tx: &mut Tx, ask: &OpenAsk) -> Answer<Vec<Held>> {
    let mut freed = Vec::new();
    if !ask.releases.is_empty() {
        let rows = sqlx::query(concat!(
            "SELECT amount, ",
            held_columns!(),
            " FROM reservations WHERE id IN (SELECT unhex(value) FROM json_each(?)) ORDER BY id"
        ))
        .bind(list(ask.releases.iter().map(|(id, _)| id)))
        .fetch_all(&mut **tx)
        .await?;
        freed.extend(rows.iter().map(decode::held).collect::<Answer<Vec<_>>>()?);
    }
    if let Some((now_ms, limit)) = ask.expire {
        let rows = sqlx::query(concat!(
            "SELECT amount, ",
            held_columns!(),
            " FROM reservations WHERE expires_at_ms <= ? ORDER BY id LIMIT ?"
        ))
        .bind(now_ms)
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?;
        freed.extend(rows.iter().map(decode::held).collect::<Answer<Vec<_>>>()?);
    }
    Ok(freed)
}

pub(super) async fn counters(
    tx: &mut Tx,
    keys: &BTreeSet<CounterKey>,
) -> Answer<HashMap<CounterKey, Wei>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(
        "SELECT key, charged FROM counters WHERE key IN (SELECT value FROM json_each(?))",
    )
    .bind(serde_json::Value::from_iter(keys.iter().map(CounterKey::as_str)).to_string())
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(counter).collect()
}

pub(super) fn counter(row: &impl Fields) -> Answer<(CounterKey, Wei)> {
    let key = CounterKey::from_books(row.text("key")?);
    Ok((key.ok_or(LedgerError::Corrupt("counter"))?, decode::parse(row, "charged")?))
}

async fn read_sequences(tx: &mut Tx, ask: &OpenAsk) -> Answer<HashMap<StateId, u64>> {
    let rows = sqlx::query(
        "SELECT state_id, sequence FROM sessions \
         WHERE state_id IN (SELECT value FROM json_each(?))",
    )
    .bind(list(ask.reserves.iter().map(|r| &r.state_id)))
    .fetch_all(&mut **tx)
    .await?;
    let pair = |row| Ok((decode::state_id(row)?, decode::unsigned(row, "sequence")?));
    rows.iter().map(pair).collect()
}

async fn read_nonces(tx: &mut Tx, hashes: &BTreeSet<B256>) -> Answer<HashMap<B256, u32>> {
    let rows = sqlx::query(
        "SELECT recipient_rand_hash, last_nonce FROM nonces \
         WHERE recipient_rand_hash IN (SELECT value FROM json_each(?))",
    )
    .bind(list(hashes.iter().map(hash_text)))
    .fetch_all(&mut **tx)
    .await?;
    let pair = |row: &sqlx::sqlite::SqliteRow| {
        Ok((row.rand_hash("recipient_rand_hash")?, decode::unsigned(row, "last_nonce")?))
    };
    rows.iter().map(pair).collect()
}

async fn read_answered(
    tx: &mut Tx,
    places: Vec<(StateId, u64)>,
) -> Answer<HashMap<(StateId, u64), StoredPayment>> {
    if places.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(concat!(
        "SELECT ",
        stored_columns!(),
        " FROM json_each(?) j \
         JOIN payments p ON p.state_id = j.value ->> 0 AND p.sequence = j.value ->> 1 \
         JOIN sessions s ON s.state_id = p.state_id"
    ))
    .bind(places_json(&places))
    .fetch_all(&mut **tx)
    .await?;
    let pair = |row| {
        let stored = decode::stored(row)?;
        Ok(((stored.state_id.clone(), stored.sequence), stored))
    };
    rows.iter().map(pair).collect()
}

pub(super) fn places_json(places: &[(StateId, u64)]) -> String {
    let mut rows = Rows::new();
    for (state_id, sequence) in places {
        rows.row().plain(state_id).int(signed(*sequence));
    }
    rows.finish()
}

pub async fn taken(tx: &mut Tx, ids: &[ReservationId]) -> Answer<HashSet<ReservationId>> {
    let rows = sqlx::query(
        "SELECT id FROM reservations WHERE id IN (SELECT unhex(value) FROM json_each(?))",
    )
    .bind(list(ids))
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| decode::reservation_id(row.blob("id")?)).collect()
}

pub async fn apply(tx: &mut Tx, plan: &OpenPlan, before: &Head) -> Answer<Applied> {
    let mut complete = true;
    if !plan.freed.is_empty() {
        complete &= end_reservations(tx, plan.freed.iter()).await? == plan.freed.len() as u64;
    }
    if !plan.nonces.is_empty() {
        complete &= set_nonces(tx, &plan.nonces).await? == plan.nonces.len() as u64;
    }
    if !plan.counters.is_empty() {
        complete &= set_counters(tx, &plan.counters).await? == plan.counters.len() as u64;
    }
    if !plan.reservations.is_empty() {
        let inserted = insert_reservations(tx, &plan.reservations).await?;
        complete &= inserted == plan.reservations.len() as u64;
    }
    if !plan.audit.is_empty() {
        complete &= audit::append(tx, &plan.audit, before).await? == Applied::Done;
    }
    Ok(if complete { Applied::Done } else { Applied::Stale })
}

pub(super) async fn end_reservations(
    tx: &mut Tx,
    ids: impl Iterator<Item = &ReservationId>,
) -> Answer<u64> {
    let done =
        sqlx::query("DELETE FROM reservations WHERE id IN (SELECT unhex(value) FROM json_each(?))")
            .bind(list(ids))
            .execute(&mut **tx)
            .await?;
    Ok(done.rows_affected())
}

/// The transaction excludes other writers; that a nonce only grows is asked for all the same.
async fn set_nonces(tx: &mut Tx, nonces: &BTreeMap<B256, Change<u32>>) -> Answer<u64> {
    let mut rows = Rows::new();
    for (hash, change) in nonces {
        rows.row().plain(hash_text(hash)).int(change.new.into());
    }
    let done = sqlx::query(
        "INSERT INTO nonces (recipient_rand_hash, last_nonce) \
         SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE true \
         ON CONFLICT (recipient_rand_hash) DO UPDATE SET last_nonce = excluded.last_nonce \
         WHERE nonces.last_nonce < excluded.last_nonce",
    )
    .bind(rows.finish())
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn set_counters(
    tx: &mut Tx,
    counters: &BTreeMap<CounterKey, Change<Wei>>,
) -> Answer<u64> {
    let mut rows = Rows::new();
    for (key, change) in counters {
        rows.row().text(key.as_str()).plain(change.new);
    }
    let done = sqlx::query(
        "INSERT INTO counters (key, charged) \
         SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE true \
         ON CONFLICT (key) DO UPDATE SET charged = excluded.charged",
    )
    .bind(rows.finish())
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

async fn insert_reservations(tx: &mut Tx, reservations: &[Held]) -> Answer<u64> {
    let mut rows = Rows::new();
    for held in reservations {
        rows.row()
            .plain(held.id)
            .plain(&held.state_id)
            .int(signed(held.sequence))
            .text(&held.account)
            .text(held.auth_id.as_ref().map_or("", |id| id.as_str()))
            .plain(hash_text(&held.nonces.recipient_rand_hash))
            .int(held.nonces.first.into())
            .int(held.nonces.last.into())
            .plain(held.amount_wei)
            .text(&counters_text(&held.counters))
            .int(held.reserved_at_ms)
            .int(held.expires_at_ms);
    }
    let done = sqlx::query(
        "INSERT INTO reservations (id, state_id, sequence, account, auth_id, recipient_rand_hash, \
         first_nonce, last_nonce, amount, counters, reserved_at_ms, expires_at_ms) \
         SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, \
         value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, \
         value ->> 11 FROM json_each(?) WHERE true ON CONFLICT (id) DO NOTHING",
    )
    .bind(rows.finish())
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}
