//! The audit's rows.

use super::{Answer, Tx};
use crate::postgres::bounded_pool::Lent;
use crate::signer::{
    AuditChain, AuditRecord,
    decode::{self, Fields, signed},
    engine::store::Moved,
    plan::Head,
};

pub async fn head(tx: &mut Tx, name: &str) -> Answer<Option<Head>> {
    let row =
        sqlx::query("SELECT id, name, started_at_ms, seq, hash FROM audit_chains WHERE name = $1")
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
    let chain_id: i64 = sqlx::query_scalar(
        "INSERT INTO audit_chains (name, started_at_ms, seq, hash) VALUES ($1, $2, 0, $3) \
         RETURNING id",
    )
    .bind(name)
    .bind(at_ms)
    .bind(hash.as_slice())
    .fetch_one(&mut **tx)
    .await?;
    Ok(Head { chain_id, name: name.to_owned(), seq: 0, hash })
}

pub async fn moved_chains(tx: &mut Tx, own: i64) -> Answer<Vec<Moved>> {
    let rows = sqlx::query(
        "SELECT c.id, c.name, c.started_at_ms, c.seq, c.hash FROM audit_chains c \
         LEFT JOIN audit_anchored a ON a.chain_id = c.id \
         WHERE c.id <> $1 AND c.seq > coalesce(a.seq, 0) ORDER BY c.id",
    )
    .bind(own)
    .fetch_all(&mut **tx)
    .await?;
    let moved = |row: &sqlx::postgres::PgRow| {
        Ok(Moved { chain_id: row.int("id")?, chain: decode::audit_chain(row)? })
    };
    rows.iter().map(moved).collect()
}

pub async fn note_anchored(tx: &mut Tx, moved: &[Moved]) -> Answer<()> {
    let (ids, seqs): (Vec<i64>, Vec<i64>) =
        moved.iter().map(|other| (other.chain_id, signed(other.chain.seq))).unzip();
    sqlx::query(
        "INSERT INTO audit_anchored AS a (chain_id, seq) \
         SELECT * FROM UNNEST($1::bigint[], $2::bigint[]) \
         ON CONFLICT (chain_id) DO UPDATE SET seq = greatest(a.seq, excluded.seq)",
    )
    .bind(ids)
    .bind(seqs)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn chains(mut reader: Lent) -> Answer<Vec<AuditChain>> {
    let rows = sqlx::query("SELECT name, started_at_ms, seq, hash FROM audit_chains ORDER BY id")
        .fetch_all(&mut *reader)
        .await?;
    rows.iter().map(decode::audit_chain).collect()
}

pub async fn records(
    mut reader: Lent,
    chain: &str,
    from_seq: u64,
    limit: u32,
) -> Answer<Vec<AuditRecord>> {
    let rows = sqlx::query(
        "SELECT seq, at_ms, kind, digest, account, auth_id, reference, hash FROM audit \
         WHERE chain_id = (SELECT id FROM audit_chains WHERE name = $1) AND seq >= $2 \
         ORDER BY seq LIMIT $3",
    )
    .bind(chain)
    .bind(signed(from_seq))
    .bind(i64::from(limit))
    .fetch_all(&mut *reader)
    .await?;
    rows.iter().map(|row| decode::audit_record(row, chain)).collect()
}
