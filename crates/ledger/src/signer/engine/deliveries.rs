//! Events out of the outbox: who may deliver them, and that they were delivered.

use super::store::{Applied, Lease, Store};
use crate::signer::{Fence, LedgerError, TakenEvents};
use std::sync::Arc;
use uuid::Uuid;

/// Most events given out at a time.
const MAX_EVENTS: u32 = 10_000;

type Answer<T> = Result<T, LedgerError>;
type Holder = [u8; 16];

/// Who wants to deliver, and for how long.
#[derive(Clone, Copy)]
pub struct Terms {
    pub holder: Holder,
    pub now_ms: i64,
    pub lease_ms: i64,
}

pub async fn take<S: Store>(
    store: Arc<S>,
    terms: Terms,
    limit: u32,
) -> Answer<Option<TakenEvents>> {
    let mut tx = store.begin().await?;
    let old = store.lease(&mut tx).await?;
    let Some(new) = next_lease(old.as_ref(), &terms.holder, terms.now_ms, terms.lease_ms) else {
        return Ok(None);
    };
    if old.as_ref() != Some(&new)
        && store.set_lease(&mut tx, old.as_ref(), &new).await? == Applied::Stale
    {
        return Ok(None);
    }
    let events = store.events(&mut tx, limit.min(MAX_EVENTS)).await?;
    store.finish(tx).await?;
    Ok(Some(TakenEvents { fence: Fence(new.fence), lease_until_ms: new.until_ms, events }))
}

pub async fn delivered<S: Store>(
    store: Arc<S>,
    holder: Holder,
    fence: Fence,
    ids: Vec<Uuid>,
) -> Answer<bool> {
    let mut tx = store.begin().await?;
    let lease = store.lease(&mut tx).await?;
    if lease.is_none_or(|lease| lease.fence != fence.0 || lease.holder != holder) {
        return Ok(false);
    }
    store.drop_events(&mut tx, &ids).await?;
    store.finish(tx).await?;
    Ok(true)
}

pub async fn release<S: Store>(store: Arc<S>, holder: Holder, fence: Fence) -> Answer<bool> {
    let mut tx = store.begin().await?;
    let Some(old) = store.lease(&mut tx).await? else { return Ok(false) };
    if old.fence != fence.0 || old.holder != holder {
        return Ok(false);
    }
    // Over since ever, and nobody's: whoever asks next gets a new fence, this handle as well.
    let over = Lease { holder: Vec::new(), fence: old.fence, until_ms: i64::MIN };
    let set = store.set_lease(&mut tx, Some(&old), &over).await?;
    store.finish(tx).await?;
    Ok(set == Applied::Done)
}

/// The lease after taking or renewing; `None` while another holder's is running. A lease that has
/// more than half of its time left is not written again.
fn next_lease(old: Option<&Lease>, holder: &[u8], now_ms: i64, lease_ms: i64) -> Option<Lease> {
    let until_ms = now_ms.saturating_add(lease_ms);
    match old {
        Some(lease) if lease.holder == holder => {
            let half = now_ms.saturating_add(lease_ms / 2);
            if lease.until_ms > half {
                return Some(lease.clone());
            }
            Some(Lease { until_ms, ..lease.clone() })
        }
        Some(lease) if lease.until_ms > now_ms => None,
        old => {
            let fence = old.map_or(0, |lease| lease.fence).saturating_add(1);
            Some(Lease { holder: holder.to_vec(), fence, until_ms })
        }
    }
}
