//! Reservations: the rows that a batch rests on, locked in key order, and its changes in one
//! statement.

use super::{Answer, Tx, or_stale};
use crate::signer::{
    CounterKey, LedgerError, ReservationId, StoredPayment,
    decode::{self, Fields, auth_text, counters_text, held_columns, signed, stored_columns},
    engine::store::Applied,
    plan::{Head, Held, OpenAsk, OpenPlan, OpenRead, answered_places},
};
use penstock_domain::{B256, StateId, Wei};
use sqlx::Row;
use std::collections::{BTreeSet, HashMap, HashSet};

pub async fn read(tx: &mut Tx, ask: &OpenAsk) -> Answer<OpenRead> {
    let freed = freed(tx, ask).await?;
    let (mut sequences, mut nonces, mut answered) = Default::default();
    if !ask.reserves.is_empty() {
        sequences = read_sequences(tx, ask).await?;
        answered = read_answered(tx, answered_places(ask, &sequences)).await?;
        nonces = read_nonces(tx, &ask.hashes()).await?;
    }
    // Last, because everybody wants them: they are locked from here to the end.
    let counters = counters(tx, &ask.counters(&freed)).await?;
    let taken = HashSet::new();
    Ok(OpenRead { freed, sequences, answered, nonces, counters, taken })
}

async fn freed(tx: &mut Tx, ask: &OpenAsk) -> Answer<Vec<Held>> {
    let mut freed = Vec::new();
    if !ask.releases.is_empty() {
        let ids: Vec<Vec<u8>> = ask.releases.iter().map(|(id, _)| id.0.to_vec()).collect();
        let rows = sqlx::query(concat!(
            "SELECT amount::text, ",
            held_columns!(),
            " FROM reservations WHERE id = ANY($1) ORDER BY id FOR UPDATE"
        ))
        .bind(ids)
        .fetch_all(&mut **tx)
        .await?;
        freed.extend(rows.iter().map(decode::held).collect::<Answer<Vec<_>>>()?);
    }
    if let Some((now_ms, limit)) = ask.expire {
        let rows = sqlx::query(concat!(
            "SELECT amount::text, ",
            held_columns!(),
            " FROM reservations WHERE expires_at_ms <= $1 ORDER BY id LIMIT $2 \
             FOR UPDATE SKIP LOCKED"
        ))
        .bind(now_ms)
        .bind(i64::from(limit))
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
    let keys: Vec<&str> = keys.iter().map(CounterKey::as_str).collect();
    let rows = sqlx::query(
        "SELECT key, charged::text FROM counters WHERE key = ANY($1) ORDER BY key COLLATE \"C\" \
         FOR UPDATE",
    )
    .bind(keys)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(counter).collect()
}

pub(super) fn counter(row: &impl Fields) -> Answer<(CounterKey, Wei)> {
    let key = CounterKey::from_books(row.text("key")?);
    Ok((key.ok_or(LedgerError::Corrupt("counter"))?, decode::parse(row, "charged")?))
}

async fn read_sequences(tx: &mut Tx, ask: &OpenAsk) -> Answer<HashMap<StateId, u64>> {
    let ids: Vec<&str> = ask.reserves.iter().map(|r| r.state_id.as_str()).collect();
    let rows = sqlx::query("SELECT state_id, sequence FROM sessions WHERE state_id = ANY($1)")
        .bind(ids)
        .fetch_all(&mut **tx)
        .await?;
    let pair = |row| Ok((decode::state_id(row)?, decode::unsigned(row, "sequence")?));
    rows.iter().map(pair).collect()
}

async fn read_nonces(tx: &mut Tx, hashes: &BTreeSet<B256>) -> Answer<HashMap<B256, u32>> {
    let hashes: Vec<&[u8]> = hashes.iter().map(|hash| hash.as_slice()).collect();
    let rows = sqlx::query(
        "SELECT recipient_rand_hash, last_nonce FROM nonces WHERE recipient_rand_hash = ANY($1) \
         ORDER BY recipient_rand_hash FOR UPDATE",
    )
    .bind(hashes)
    .fetch_all(&mut **tx)
    .await?;
    let pair = |row: &sqlx::postgres::PgRow| {
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
    let (ids, sequences) = columns_of(&places);
    let rows = sqlx::query(concat!(
        "SELECT ",
        stored_columns!(),
        " FROM UNNEST($1::text[], $2::bigint[]) AS j (state_id, sequence) \
         JOIN payments p ON p.state_id = j.state_id AND p.sequence = j.sequence \
         JOIN sessions s ON s.state_id = p.state_id"
    ))
    .bind(ids)
    .bind(sequences)
    .fetch_all(&mut **tx)
    .await?;
    let pair = |row| {
        let stored = decode::stored(row)?;
        Ok(((stored.state_id.clone(), stored.sequence), stored))
    };
    rows.iter().map(pair).collect()
}

pub(super) fn columns_of(places: &[(StateId, u64)]) -> (Vec<&str>, Vec<i64>) {
    places.iter().map(|(id, sequence)| (id.as_str(), signed(*sequence))).unzip()
}

pub async fn taken(tx: &mut Tx, ids: &[ReservationId]) -> Answer<HashSet<ReservationId>> {
    let ids: Vec<&[u8]> = ids.iter().map(|id| id.0.as_slice()).collect();
    let rows = sqlx::query("SELECT id FROM reservations WHERE id = ANY($1)")
        .bind(ids)
        .fetch_all(&mut **tx)
        .await?;
    rows.iter().map(|row| decode::reservation_id(row.blob("id")?)).collect()
}

/// All changes of a batch. Each part reports how many rows it changed. New rows are inserted in key
/// order; the select list runs the parts that may wait for others in the order of locks.
const APPLY: &str = "WITH \
 freed AS (DELETE FROM reservations WHERE id = ANY($1) RETURNING 1), \
 old_nonces AS (UPDATE nonces SET last_nonce = j.new FROM \
   UNNEST($2::bytea[], $3::bigint[], $4::bigint[]) AS j (hash, old, new) \
   WHERE recipient_rand_hash = j.hash AND last_nonce = j.old RETURNING 1), \
 new_nonces AS (INSERT INTO nonces (recipient_rand_hash, last_nonce) \
   SELECT * FROM UNNEST($5::bytea[], $6::bigint[]) ON CONFLICT DO NOTHING RETURNING 1), \
 old_counters AS (UPDATE counters SET charged = j.new FROM \
   (SELECT key, old::numeric, new::numeric FROM \
     UNNEST($7::text[], $8::text[], $9::text[]) AS u (key, old, new)) AS j \
   WHERE counters.key = j.key AND counters.charged = j.old RETURNING 1), \
 new_counters AS (INSERT INTO counters (key, charged) \
   SELECT key, charged::numeric FROM UNNEST($10::text[], $11::text[]) AS u (key, charged) \
   ON CONFLICT DO NOTHING RETURNING 1), \
 held AS (INSERT INTO reservations (id, state_id, sequence, account, auth_id, \
   recipient_rand_hash, first_nonce, last_nonce, amount, counters, reserved_at_ms, expires_at_ms) \
   SELECT id, state_id, sequence, account, auth_id, hash, first, last, amount::numeric, counters, \
   reserved, expires FROM UNNEST($12::bytea[], $13::text[], $14::bigint[], $15::text[], \
   $16::text[], $17::bytea[], $18::bigint[], $19::bigint[], $20::text[], $21::text[], \
   $22::bigint[], $23::bigint[]) AS u (id, state_id, sequence, account, auth_id, hash, first, \
   last, amount, counters, reserved, expires) ON CONFLICT DO NOTHING RETURNING 1), \
 recorded AS (INSERT INTO audit (chain_id, seq, at_ms, kind, digest, account, auth_id, reference, \
   hash) SELECT $24, u.* FROM UNNEST($25::bigint[], $26::bigint[], $27::text[], $28::bytea[], \
   $29::text[], $30::text[], $31::text[], $32::bytea[]) AS u RETURNING 1), \
 head AS (UPDATE audit_chains SET seq = $34, hash = $35 WHERE id = $24 AND seq = $33 RETURNING 1) \
 SELECT (SELECT count(*) FROM freed), \
   (SELECT count(*) FROM old_nonces) + (SELECT count(*) FROM new_nonces), \
   (SELECT count(*) FROM old_counters) + (SELECT count(*) FROM new_counters), \
   (SELECT count(*) FROM held), (SELECT count(*) FROM head), (SELECT count(*) FROM recorded)";

pub async fn apply(tx: &mut Tx, plan: &OpenPlan, before: &Head) -> Answer<Applied> {
    let freed: Vec<&[u8]> = plan.freed.iter().map(|id| id.0.as_slice()).collect();
    let mut nonces = (vec![], vec![], vec![], vec![], vec![]);
    for (hash, change) in &plan.nonces {
        match change.old {
            Some(old) => {
                nonces.0.push(hash.as_slice());
                nonces.1.push(i64::from(old));
                nonces.2.push(i64::from(change.new));
            }
            None => {
                nonces.3.push(hash.as_slice());
                nonces.4.push(i64::from(change.new));
            }
        }
    }
    let mut counters = (vec![], vec![], vec![], vec![], vec![]);
    for (key, change) in &plan.counters {
        match change.old {
            Some(old) => {
                counters.0.push(key.as_str());
                counters.1.push(old.to_string());
                counters.2.push(change.new.to_string());
            }
            None => {
                counters.3.push(key.as_str());
                counters.4.push(change.new.to_string());
            }
        }
    }
    let held = &plan.reservations;
    let audit = &plan.audit;
    let last = audit.last().map_or((before.seq, before.hash), |row| (row.seq, row.hash));
    let query = sqlx::query(APPLY)
        .bind(freed)
        .bind(nonces.0)
        .bind(nonces.1)
        .bind(nonces.2)
        .bind(nonces.3)
        .bind(nonces.4)
        .bind(counters.0)
        .bind(counters.1)
        .bind(counters.2)
        .bind(counters.3)
        .bind(counters.4)
        .bind(held.iter().map(|h| h.id.0.to_vec()).collect::<Vec<_>>())
        .bind(held.iter().map(|h| h.state_id.as_str()).collect::<Vec<_>>())
        .bind(held.iter().map(|h| signed(h.sequence)).collect::<Vec<_>>())
        .bind(held.iter().map(|h| h.account.as_str()).collect::<Vec<_>>())
        .bind(held.iter().map(|h| auth_text(h.auth_id.as_ref())).collect::<Vec<_>>())
        .bind(held.iter().map(|h| h.nonces.recipient_rand_hash.as_slice()).collect::<Vec<_>>())
        .bind(held.iter().map(|h| i64::from(h.nonces.first)).collect::<Vec<_>>())
        .bind(held.iter().map(|h| i64::from(h.nonces.last)).collect::<Vec<_>>())
        .bind(held.iter().map(|h| h.amount_wei.to_string()).collect::<Vec<_>>())
        .bind(held.iter().map(|h| counters_text(&h.counters)).collect::<Vec<_>>())
        .bind(held.iter().map(|h| h.reserved_at_ms).collect::<Vec<_>>())
        .bind(held.iter().map(|h| h.expires_at_ms).collect::<Vec<_>>())
        .bind(before.chain_id)
        .bind(audit.iter().map(|row| signed(row.seq)).collect::<Vec<_>>())
        .bind(audit.iter().map(|row| row.at_ms).collect::<Vec<_>>())
        .bind(audit.iter().map(|row| row.entry.kind.as_str()).collect::<Vec<_>>())
        .bind(audit.iter().map(|row| row.entry.digest.as_slice()).collect::<Vec<_>>())
        .bind(audit.iter().map(|row| row.entry.account.as_str()).collect::<Vec<_>>())
        .bind(audit.iter().map(|row| auth_text(row.entry.auth_id.as_ref())).collect::<Vec<_>>())
        .bind(audit.iter().map(|row| row.entry.reference.as_str()).collect::<Vec<_>>())
        .bind(audit.iter().map(|row| row.hash.as_slice()).collect::<Vec<_>>())
        .bind(signed(before.seq))
        .bind(signed(last.0))
        .bind(last.1.as_slice());
    let row = match query.fetch_one(&mut **tx).await {
        Ok(row) => row,
        Err(error) => return or_stale(error),
    };
    let expected =
        [plan.freed.len(), plan.nonces.len(), plan.counters.len(), held.len(), 1, audit.len()];
    for (column, expected) in expected.into_iter().enumerate() {
        let changed: i64 = row.try_get(column)?;
        if usize::try_from(changed).ok() != Some(expected) {
            return Ok(Applied::Stale);
        }
    }
    Ok(Applied::Done)
}
