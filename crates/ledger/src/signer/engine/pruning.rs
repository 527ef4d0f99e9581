//! Taking what is old out of the books, some rows in each transaction, one replica at a time: whoever
//! has the mark's row. Others find it taken and come back later.

use super::store::Store;
use crate::signer::{
    CounterKey, LedgerError, Pruned, ReadDigests,
    plan::fold,
    retention::{Mark, digests_left, shrink},
};
use std::sync::Arc;

/// Counters looked at in one step.
pub const COUNTERS: u32 = 1_000;
/// Most rows of one transaction.
const MOST: u32 = 10_000;

type Answer<T> = Result<T, LedgerError>;

/// How many payments were looked at; fewer than `limit`: there are no more, or it is another
/// replica's turn.
pub async fn shrink_answers<S: Store>(
    store: Arc<S>,
    before_ms: i64,
    limit: u32,
    read: ReadDigests,
) -> Answer<u64> {
    let mut tx = store.begin().await?;
    let Some(mark) = store.mark(&mut tx).await? else { return Ok(0) };
    let rows = store.answers_after(&mut tx, mark.answers, before_ms, limit.min(MOST)).await?;
    let Some(last) = rows.last() else {
        // Not left to be rolled back: another one may want the mark now.
        store.finish(tx).await?;
        return Ok(0);
    };
    let answers = (last.created_at_ms, last.id);
    let count = rows.len();
    let mut shrunk = Vec::with_capacity(count);
    for row in rows {
        if digests_left(&row.answer).is_some() {
            continue;
        }
        match read(&row.answer) {
            Some(digests) => shrunk.push((row.id, shrink(&digests))),
            None => tracing::warn!(payment = row.id, "its answer cannot be read and stays"),
        }
    }
    store.put_answers(&mut tx, &shrunk).await?;
    store.set_mark(&mut tx, &Mark { answers, ..mark }).await?;
    store.finish(tx).await?;
    Ok(u64::try_from(count).unwrap_or(u64::MAX))
}

/// How many payments were pruned; fewer than `limit`: as above.
pub async fn prune_payments<S: Store>(store: Arc<S>, before_ms: i64, limit: u32) -> Answer<u64> {
    let mut tx = store.begin().await?;
    let Some(mark) = store.mark(&mut tx).await? else { return Ok(0) };
    let old = store.payments_before(&mut tx, before_ms, limit.min(MOST)).await?;
    if old.is_empty() {
        store.finish(tx).await?;
        return Ok(0);
    }
    store.add_lines(&mut tx, &fold(&old)?).await?;
    store.drop_payments(&mut tx, &old, before_ms).await?;
    let count = u64::try_from(old.len()).unwrap_or(u64::MAX);
    let tickets = old.iter().map(|payment| u64::from(payment.tickets)).fold(0, u64::saturating_add);
    let pruned = Pruned {
        before_ms: mark.pruned.before_ms.max(before_ms),
        payments: mark.pruned.payments.saturating_add(count),
        tickets: mark.pruned.tickets.saturating_add(tickets),
    };
    store.set_mark(&mut tx, &Mark { pruned, ..mark }).await?;
    store.finish(tx).await?;
    Ok(count)
}

/// Takes these counters away; `false`: it is another replica's turn.
pub async fn drop_counters<S: Store>(store: Arc<S>, keys: Vec<CounterKey>) -> Answer<bool> {
    let mut tx = store.begin().await?;
    if store.mark(&mut tx).await?.is_none() {
        return Ok(false);
    }
    store.drop_counters(&mut tx, &keys).await?;
    store.finish(tx).await?;
    Ok(true)
}
