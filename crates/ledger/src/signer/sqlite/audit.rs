//! The audit's rows.

use super::{Answer, Tx, json::Rows};
use crate::signer::{
    AuditChain, AuditRecord,
    decode::{self, Fields, signed},
    engine::store::{Applied, Moved},
    plan::{AuditRow, Head},
};
use sqlx::SqlitePool;

pub async fn head(tx: &mut Tx, name: &str) -> Answer<Option<Head>> {
    let row =
        sqlx::query("SELECT id, name, started_at_ms, seq, hash FROM audit_chains WHERE name = ?")
            .bind(name)
            .fetch_optional(&mut **tx)
            .await?;
    let Some(row) = row else { return Ok(None) };
    let chain = decode::audit_chain(&row)?;
    let chain_id = row.int("id")?;
    Ok(Some(Head { chain_id, name: chain.name, seq: chain.seq, hash: chain.hash }))
}

pub async fn start_chain(tx: &mut Tx, name: &str, at_ms: i64) -> Answer<Head> {
    let hash = crate::signer::audit::GENESIS;
    let done = sqlx::query(
        "INSERT INTO audit_chains (name, started_at_ms, seq, hash) VALUES (?, ?, 0, ?)",
    )
    .bind(name)
    .bind(at_ms)
    .bind(hash.as_slice())
    .execute(&mut **tx)
    .await?;
    let chain_id = done.last_insert_rowid();
    Ok(Head { chain_id, name: name.to_owned(), seq: 0, hash })
}

pub async fn moved_chains(tx: &mut Tx, own: i64) -> Answer<Vec<Moved>> {
    let rows = sqlx::query(
        "SELECT c.id, c.name, c.started_at_ms, c.seq, c.hash FROM audit_chains c \
         LEFT JOIN audit_anchored a ON a.chain_id = c.id \
         WHERE c.id <> ? AND c.seq > coalesce(a.seq, 0) ORDER BY c.id",
    )
    .bind(own)
    .fetch_all(&mut **tx)
    .await?;
    let moved =
        |row: &_| Ok(Moved { chain_id: Fields::int(row, "id")?, chain: decode::audit_chain(row)? });
    rows.iter().map(moved).collect()
}

pub async fn note_anchored(tx: &mut Tx, moved: &[Moved]) -> Answer<()> {
    let mut rows = Rows::new();
    for other in moved {
        rows.row().int(other.chain_id).int(signed(other.chain.seq));
    }
    sqlx::query(
        "INSERT INTO audit_anchored (chain_id, seq) \
         SELECT value ->> 0, value ->> 1 FROM json_each(?) WHERE true \
         ON CONFLICT (chain_id) DO UPDATE SET seq = max(seq, excluded.seq)",
    )
    .bind(rows.finish())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Inserts the rows behind `before` and moves the head to the last of them.
pub async fn append(tx: &mut Tx, records: &[AuditRow], before: &Head) -> Answer<Applied> {
    let Some(last) = records.last() else { return Ok(Applied::Done) };
    let mut rows = Rows::new();
    for record in records {
        let entry = &record.entry;
        rows.row()
            .int(signed(record.seq))
            .int(record.at_ms)
            .plain(entry.kind)
            .hex(entry.digest.as_slice())
            .text(&entry.account)
            .text(entry.auth_id.as_ref().map_or("", |id| id.as_str()))
            .text(&entry.reference)
            .hex(record.hash.as_slice());
    }
    sqlx::query(
        "INSERT INTO audit (chain_id, seq, at_ms, kind, digest, account, auth_id, reference, hash) \
         SELECT ?2, value ->> 0, value ->> 1, value ->> 2, unhex(value ->> 3), value ->> 4, \
         value ->> 5, value ->> 6, unhex(value ->> 7) FROM json_each(?1)",
    )
    .bind(rows.finish())
    .bind(before.chain_id)
    .execute(&mut **tx)
    .await?;
    let moved = sqlx::query("UPDATE audit_chains SET seq = ?, hash = ? WHERE id = ? AND seq = ?")
        .bind(signed(last.seq))
        .bind(last.hash.as_slice())
        .bind(before.chain_id)
        .bind(signed(before.seq))
        .execute(&mut **tx)
        .await?;
    if moved.rows_affected() != 1 {
        return Ok(Applied::Stale);
    }
    Ok(Applied::Done)
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
