//! The audit's rows.

use super::Answer;
use crate::signer::{
    AuditChain, AuditRecord,
    decode::{self, Fields, signed},
    engine::store::{Applied, Moved},
    plan::{AuditRow, Head},
};
use crate::sqlite::writer::{Tx, all, find};
use rusqlite::params;
use sqlx::SqlitePool;

pub fn head(tx: &Tx, name: &str) -> Answer<Option<Head>> {
    let mut by_name = tx.prepare_cached(
        "SELECT id, name, started_at_ms, seq, hash FROM audit_chains WHERE name = ?",
    )?;
    find(&mut by_name, [name], |row| {
        let chain = decode::audit_chain(row)?;
        let chain_id = row.int("id")?;
        Ok(Head { chain_id, name: chain.name, seq: chain.seq, hash: chain.hash })
    })
}

pub fn start_chain(tx: &Tx, name: &str, at_ms: i64) -> Answer<Head> {
    let hash = crate::signer::audit::GENESIS;
    tx.prepare_cached(
        "INSERT INTO audit_chains (name, started_at_ms, seq, hash) VALUES (?, ?, 0, ?)",
    )?
    .execute(params![name, at_ms, hash.as_slice()])?;
    Ok(Head { chain_id: tx.last_insert_rowid(), name: name.to_owned(), seq: 0, hash })
}

pub fn moved_chains(tx: &Tx, own: i64) -> Answer<Vec<Moved>> {
    let mut moved = tx.prepare_cached(
        "SELECT c.id, c.name, c.started_at_ms, c.seq, c.hash FROM audit_chains c \
         LEFT JOIN audit_anchored a ON a.chain_id = c.id \
         WHERE c.id <> ? AND c.seq > coalesce(a.seq, 0) ORDER BY c.id",
    )?;
    all(&mut moved, [own], |row| {
        Ok(Moved { chain_id: row.int("id")?, chain: decode::audit_chain(row)? })
    })
}

pub fn note_anchored(tx: &Tx, moved: &[Moved]) -> Answer<()> {
    let mut note = tx.prepare_cached(
        "INSERT INTO audit_anchored (chain_id, seq) VALUES (?, ?) \
         ON CONFLICT (chain_id) DO UPDATE SET seq = max(seq, excluded.seq)",
    )?;
    for other in moved {
        note.execute(params![other.chain_id, signed(other.chain.seq)])?;
    }
    Ok(())
}

/// Inserts the rows behind `before` and moves the head to the last of them.
pub fn append(tx: &Tx, records: &[AuditRow], before: &Head) -> Answer<Applied> {
    let Some(last) = records.last() else { return Ok(Applied::Done) };
    let mut insert = tx.prepare_cached(
        "INSERT INTO audit (chain_id, seq, at_ms, kind, digest, account, auth_id, reference, hash) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for record in records {
        let entry = &record.entry;
        insert.execute(params![
            before.chain_id,
            signed(record.seq),
            record.at_ms,
            entry.kind.as_str(),
            entry.digest.as_slice(),
            entry.account,
            entry.auth_id.as_ref().map_or("", |id| id.as_str()),
            entry.reference,
            record.hash.as_slice(),
        ])?;
    }
    let mut move_head =
        tx.prepare_cached("UPDATE audit_chains SET seq = ?, hash = ? WHERE id = ? AND seq = ?")?;
    let moved = move_head.execute(params![
        signed(last.seq),
        last.hash.as_slice(),
        before.chain_id,
        signed(before.seq),
    ])?;
    Ok(if moved == 1 { Applied::Done } else { Applied::Stale })
}

pub async fn chains(readers: &SqlitePool) -> Answer<Vec<AuditChain>> {
    let rows = sqlx::query("SELECT name, started_at_ms, seq, hash FROM audit_chains ORDER BY id")
        .fetch_all(readers)
        .await?;
    rows.iter().map(decode::audit_chain).collect()
}

pub async fn records(
    readers: &SqlitePool,
    chain: &str,
    from_seq: u64,
    limit: u32,
) -> Answer<Vec<AuditRecord>> {
    let rows = sqlx::query(
        "SELECT seq, at_ms, kind, digest, account, auth_id, reference, hash FROM audit \
         WHERE chain_id = (SELECT id FROM audit_chains WHERE name = ?) AND seq >= ? \
         ORDER BY seq LIMIT ?",
    )
    .bind(chain)
    .bind(signed(from_seq))
    .bind(limit)
    .fetch_all(readers)
    .await?;
    rows.iter().map(|row| decode::audit_record(row, chain)).collect()
}
