//! Sessions, leases and credit in memory.

use super::MemoryStore;
use crate::{
    CreditKey, CreditStore, Fence, HoldId, Lease, MAX_CREDIT_UNITS, OrchestratorSessionStore,
    OwnerId, Reserve, Saved, SessionKey, SessionRecord, StoreError, UnixMs,
};
use async_trait::async_trait;
use penstock_domain::ManifestId;
use std::collections::VecDeque;

/// How long a lease is remembered after it lapsed.
const GRACE_MS: u64 = 60_000;

#[derive(Debug, Default)]
pub(super) struct SessionSlot {
    record: Option<(SessionRecord, UnixMs)>,
    lease: Option<(OwnerId, UnixMs)>,
    fence: u64,
}

impl SessionSlot {
    fn live(&self, now: UnixMs) -> Option<&SessionRecord> {
        self.record.as_ref().filter(|(_, expiry)| *expiry > now).map(|(record, _)| record)
    }
}

#[async_trait]
impl OrchestratorSessionStore for MemoryStore {
    async fn session(
        &self,
        key: &SessionKey,
        now: UnixMs,
    ) -> Result<Option<SessionRecord>, StoreError> {
        Ok(self.lock().sessions.get(key, now).and_then(|slot| slot.live(now)).cloned())
    }

    async fn lease_session(
        &self,
        key: &SessionKey,
        owner: &OwnerId,
        lease_ms: u64,
        now: UnixMs,
    ) -> Result<Lease, StoreError> {
        let mut state = self.lock();
        let until = now.plus_ms(lease_ms);
        let next_fence = state.last_fence + 1;
        if let Some(slot) = state.sessions.get_mut(key, now) {
            match &slot.lease {
                // Whoever had it last, if nobody had it since.
                Some((holder, _)) if holder == owner => {}
                Some((_, ends)) if *ends > now => return Ok(Lease::Held { until: *ends }),
                _ => slot.fence = next_fence,
            }
            slot.lease = Some((owner.clone(), until));
            let fence = Fence(slot.fence);
            state.last_fence = state.last_fence.max(fence.0);
            state.sessions.extend(key, until.plus_ms(GRACE_MS));
            return Ok(Lease::Granted { fence, until });
        }
        let slot =
            SessionSlot { record: None, lease: Some((owner.clone(), until)), fence: next_fence };
        let ends = until.plus_ms(GRACE_MS);
        state.sessions.put_or_refuse(key, slot, ends, now, "orchestrator sessions")?;
        state.last_fence = next_fence;
        Ok(Lease::Granted { fence: Fence(next_fence), until })
    }

    async fn save_session(
        &self,
        key: &SessionKey,
        fence: Fence,
        record: &SessionRecord,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<Saved, StoreError> {
        record.check_size()?;
        let mut state = self.lock();
        let expiry = now.plus_ms(ttl_ms);
        let Some(slot) = state.sessions.get_mut(key, now).filter(|slot| slot.fence == fence.0)
        else {
            return Ok(Saved::Fenced);
        };
        slot.record = Some((record.clone(), expiry));
        state.sessions.extend(key, expiry);
        Ok(Saved::Yes)
    }

    async fn refresh_session_info(
        &self,
        key: &SessionKey,
        manifest_id: &ManifestId,
        info: &[u8],
        now: UnixMs,
    ) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let Some((record, expiry)) =
            state.sessions.get_mut(key, now).and_then(|slot| slot.record.as_mut())
        else {
            return Ok(false);
        };
        if *expiry <= now || record.manifest_id != *manifest_id {
            return Ok(false);
        }
        let mut fresh = record.clone();
        fresh.info = info.to_vec();
        fresh.info_at = now;
        fresh.check_size()?;
        *record = fresh;
        Ok(true)
    }

    async fn release_session(
        &self,
        key: &SessionKey,
        owner: &OwnerId,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let mut state = self.lock();
        let slot = state.sessions.get_mut(key, now);
        let theirs = |slot: &&mut SessionSlot| slot.lease.as_ref().is_some_and(|l| l.0 == *owner);
        if let Some(slot) = slot.filter(theirs) {
            slot.lease = None;
        }
        Ok(())
    }

    async fn remove_session(
        &self,
        key: &SessionKey,
        fence: Fence,
        now: UnixMs,
    ) -> Result<Saved, StoreError> {
        match self.lock().sessions.get_mut(key, now).filter(|slot| slot.fence == fence.0) {
            Some(slot) => {
                slot.record = None;
                Ok(Saved::Yes)
            }
            None => Ok(Saved::Fenced),
        }
    }
}

/// Credit with one orchestrator session. Holds and purchases are remembered by id, so that a
/// repeated call is recognised; both lists are bounded.
#[derive(Debug, Default)]
pub(super) struct Account {
    units: i64,
    /// Reservations that were not settled: id, estimate, and since when.
    holds: VecDeque<(HoldId, i64, UnixMs)>,
    /// Ids of the newest purchases booked.
    purchases: VecDeque<String>,
}

fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX).min(MAX_CREDIT_UNITS)
}

/// The sum of amounts that [`signed`] bounded, bounded.
fn bounded(units: i64) -> i64 {
    units.clamp(-MAX_CREDIT_UNITS, MAX_CREDIT_UNITS)
}

#[async_trait]
impl CreditStore for MemoryStore {
    async fn credit(&self, key: &CreditKey, now: UnixMs) -> Result<i64, StoreError> {
        Ok(self.lock().accounts.get(key, now).map_or(0, |account| account.units))
    }

    async fn book_purchase(
        &self,
        key: &CreditKey,
        purchase_id: &str,
        units: u64,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<i64, StoreError> {
        let expiry = now.plus_ms(ttl_ms);
        let max = self.limits.per_account;
        let mut state = self.lock();
        if state.accounts.get(key, now).is_none() {
            state.accounts.put_or_refuse(
                key,
                Account::default(),
                expiry,
                now,
                "credit accounts",
            )?;
        }
        state.accounts.extend(key, expiry);
        let Some(account) = state.accounts.get_mut(key, now) else { return Ok(0) };
        if !account.purchases.iter().any(|id| id == purchase_id) {
            account.units = bounded(account.units + signed(units));
            account.purchases.push_back(purchase_id.to_owned());
            while account.purchases.len() > max {
                account.purchases.pop_front();
            }
        }
        Ok(account.units)
    }

    async fn reserve(
        &self,
        key: &CreditKey,
        hold: &HoldId,
        estimate_units: u64,
        floor_units: u64,
        now: UnixMs,
    ) -> Result<Reserve, StoreError> {
        let max = self.limits.per_account;
        let mut state = self.lock();
        let Some(account) = state.accounts.get_mut(key, now) else {
            // Without an account there is no credit; a free job needs none.
            let free = estimate_units == 0 && floor_units == 0;
            return Ok(if free {
                Reserve::Granted { left_units: 0 }
            } else {
                Reserve::Short { have_units: 0 }
            });
        };
        if account.holds.iter().any(|(id, ..)| id == hold) {
            return Ok(Reserve::Granted { left_units: account.units });
        }
        let estimate = signed(estimate_units);
        if account.units < estimate.max(signed(floor_units)) {
            return Ok(Reserve::Short { have_units: account.units });
        }
        if account.holds.len() >= max {
            let dead = |at: &UnixMs| now.since_ms(*at) > HoldId::FORGOTTEN_AFTER_MS;
            account.holds.retain(|(_, _, at)| !dead(at));
        }
        if account.holds.len() >= max {
            return Err(StoreError::Full("reservations of one account"));
        }
        account.units = bounded(account.units - estimate);
        account.holds.push_back((hold.clone(), estimate, now));
        Ok(Reserve::Granted { left_units: account.units })
    }

    async fn settle(
        &self,
        key: &CreditKey,
        hold: &HoldId,
        used_units: u64,
        now: UnixMs,
    ) -> Result<i64, StoreError> {
        let mut state = self.lock();
        let Some(account) = state.accounts.get_mut(key, now) else { return Ok(0) };
        if let Some(at) = account.holds.iter().position(|(id, ..)| id == hold)
            && let Some((_, estimate, _)) = account.holds.remove(at)
        {
            account.units = bounded(account.units + estimate - signed(used_units));
        }
        Ok(account.units)
    }

    async fn end_holds(
        &self,
        key: &CreditKey,
        holds: &[HoldId],
        now: UnixMs,
    ) -> Result<(), StoreError> {
        if let Some(account) = self.lock().accounts.get_mut(key, now) {
            account.holds.retain(|(id, ..)| !holds.contains(id));
        }
        Ok(())
    }

    async fn forfeit(&self, key: &CreditKey, now: UnixMs) -> Result<(), StoreError> {
        if let Some(account) = self.lock().accounts.get_mut(key, now) {
            account.units = 0;
            // Estimates still out must not come back as credit that is not there.
            account.holds.clear();
        }
        Ok(())
    }
}
