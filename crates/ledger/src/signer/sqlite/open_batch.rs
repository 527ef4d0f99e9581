//! Reservations: the rows that a batch rests on, and its changes.

use super::{Answer, audit, hash_text};
use crate::signer::{
    CounterKey, ReservationId, StoredPayment,
    decode::{self, counters_text, held_columns, signed, stored_columns},
    engine::store::Applied,
    plan::{Change, Head, Held, OpenAsk, OpenPlan, OpenRead, answered_places},
};
use crate::sqlite::writer::{Tx, all, find};
use penstock_domain::{B256, StateId, Wei};
use rusqlite::params;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

pub fn read(tx: &Tx, ask: &OpenAsk) -> Answer<OpenRead> {
    let freed = freed(tx, ask)?;
    let counters = counters(tx, &ask.counters(&freed))?;
    let sequences = read_sequences(tx, ask)?;
    let nonces = read_nonces(tx, &ask.hashes())?;
    let answered = read_answered(tx, answered_places(ask, &sequences))?;
    let taken = HashSet::new();
    Ok(OpenRead { freed, sequences, answered, nonces, counters, taken })
}

fn freed(tx: &Tx, ask: &OpenAsk) -> Answer<Vec<Held>> {
    let released: BTreeSet<_> = ask.releases.iter().map(|(id, _)| *id).collect();
    let mut freed: Vec<_> = held(tx, released.iter())?.into_values().collect();
    freed.sort_unstable_by_key(|held| held.id);
    if let Some((now_ms, limit)) = ask.expire {
        let mut expired = tx.prepare_cached(concat!(
            "SELECT amount, ",
            held_columns!(),
            " FROM reservations WHERE expires_at_ms <= ? ORDER BY id LIMIT ?"
        ))?;
        freed.extend(all(&mut expired, params![now_ms, limit], |row| decode::held(row))?);
    }
    Ok(freed)
}

/// Those of these reservations that there are.
pub fn held<'a>(
    tx: &Tx,
    ids: impl Iterator<Item = &'a ReservationId>,
) -> Answer<HashMap<ReservationId, Held>> {
    let mut held = HashMap::new();
    let mut by_id = tx.prepare_cached(concat!(
        "SELECT amount, ",
        held_columns!(),
        " FROM reservations WHERE id = ?"
    ))?;
    for id in ids {
        if let Some(found) = find(&mut by_id, [id.0], |row| decode::held(row))? {
            held.insert(*id, found);
        }
    }
    Ok(held)
}

pub fn counters(tx: &Tx, keys: &BTreeSet<CounterKey>) -> Answer<HashMap<CounterKey, Wei>> {
    let mut counters = HashMap::new();
    let mut by_key = tx.prepare_cached("SELECT charged FROM counters WHERE key = ?")?;
    for key in keys {
        let charged = find(&mut by_key, [key.as_str()], |row| decode::parse(row, "charged"))?;
        if let Some(charged) = charged {
            counters.insert(key.clone(), charged);
        }
    }
    Ok(counters)
}

fn read_sequences(tx: &Tx, ask: &OpenAsk) -> Answer<HashMap<StateId, u64>> {
    let mut sequences = HashMap::new();
    let mut by_id = tx.prepare_cached("SELECT sequence FROM sessions WHERE state_id = ?")?;
    for id in ask.reserves.iter().map(|request| &request.state_id) {
        let sequence = find(&mut by_id, [id.as_str()], |row| decode::unsigned(row, "sequence"))?;
        if let Some(sequence) = sequence {
            sequences.insert(id.clone(), sequence);
        }
    }
    Ok(sequences)
}

fn read_nonces(tx: &Tx, hashes: &BTreeSet<B256>) -> Answer<HashMap<B256, u32>> {
    let mut nonces = HashMap::new();
    let mut by_hash =
        tx.prepare_cached("SELECT last_nonce FROM nonces WHERE recipient_rand_hash = ?")?;
    for hash in hashes {
        let key = [hash_text(hash)];
        if let Some(last) = find(&mut by_hash, key, |row| decode::unsigned(row, "last_nonce"))? {
            nonces.insert(*hash, last);
        }
    }
    Ok(nonces)
}

fn read_answered(
    tx: &Tx,
    places: Vec<(StateId, u64)>,
) -> Answer<HashMap<(StateId, u64), StoredPayment>> {
    let mut answered = HashMap::new();
    let mut by_place = tx.prepare_cached(concat!(
        "SELECT ",
        stored_columns!(),
        " FROM payments p JOIN sessions s ON s.state_id = p.state_id \
         WHERE p.state_id = ? AND p.sequence = ?"
    ))?;
    for (state_id, sequence) in places {
        let key = params![state_id.as_str(), signed(sequence)];
        if let Some(stored) = find(&mut by_place, key, |row| decode::stored(row))? {
            answered.insert((state_id, sequence), stored);
        }
    }
    Ok(answered)
}

pub fn taken(tx: &Tx, ids: &[ReservationId]) -> Answer<HashSet<ReservationId>> {
    Ok(held(tx, ids.iter())?.into_keys().collect())
}

pub fn apply(tx: &Tx, plan: &OpenPlan, before: &Head) -> Answer<Applied> {
    let mut complete = end_reservations(tx, plan.freed.iter())?;
    complete &= set_nonces(tx, &plan.nonces)?;
    set_counters(tx, &plan.counters)?;
    complete &= insert_reservations(tx, &plan.reservations)?;
    complete &= audit::append(tx, &plan.audit, before)? == Applied::Done;
    Ok(if complete { Applied::Done } else { Applied::Stale })
}

/// Whether all of them were there.
pub fn end_reservations<'a>(tx: &Tx, ids: impl Iterator<Item = &'a ReservationId>) -> Answer<bool> {
    let mut complete = true;
    let mut delete = tx.prepare_cached("DELETE FROM reservations WHERE id = ?")?;
    for id in ids {
        complete &= delete.execute([id.0])? == 1;
    }
    Ok(complete)
}

/// The transaction excludes other writers; that a nonce only grows is asked for all the same.
fn set_nonces(tx: &Tx, nonces: &BTreeMap<B256, Change<u32>>) -> Answer<bool> {
    let mut complete = true;
    let mut set = tx.prepare_cached(
        "INSERT INTO nonces (recipient_rand_hash, last_nonce) VALUES (?, ?) \
         ON CONFLICT (recipient_rand_hash) DO UPDATE SET last_nonce = excluded.last_nonce \
         WHERE nonces.last_nonce < excluded.last_nonce",
    )?;
    for (hash, change) in nonces {
        complete &= set.execute(params![hash_text(hash), change.new])? == 1;
    }
    Ok(complete)
}

pub fn set_counters(tx: &Tx, counters: &BTreeMap<CounterKey, Change<Wei>>) -> Answer<()> {
    let mut set = tx.prepare_cached(
        "INSERT INTO counters (key, charged) VALUES (?, ?) \
         ON CONFLICT (key) DO UPDATE SET charged = excluded.charged",
    )?;
    for (key, change) in counters {
        set.execute(params![key.as_str(), change.new.to_string()])?;
    }
    Ok(())
}

fn insert_reservations(tx: &Tx, reservations: &[Held]) -> Answer<bool> {
    let mut complete = true;
    let mut insert = tx.prepare_cached(
        "INSERT INTO reservations (id, state_id, sequence, account, auth_id, recipient_rand_hash, \
         first_nonce, last_nonce, amount, counters, reserved_at_ms, expires_at_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    )?;
    for held in reservations {
        let inserted = insert.execute(params![
            held.id.0,
            held.state_id.as_str(),
            signed(held.sequence),
            held.account,
            held.auth_id.as_ref().map_or("", |id| id.as_str()),
            hash_text(&held.nonces.recipient_rand_hash),
            held.nonces.first,
            held.nonces.last,
            held.amount_wei.to_string(),
            counters_text(&held.counters),
            held.reserved_at_ms,
            held.expires_at_ms,
        ])?;
        complete &= inserted == 1;
    }
    Ok(complete)
}
