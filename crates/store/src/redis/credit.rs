//! Credit: one hash per account, with its holds (`h:…`) and the newest purchases booked.

use super::{RedisStore, args, codec, keep_ms, link::Keep, script};
use crate::{CreditKey, CreditStore, HoldId, MAX_CREDIT_UNITS, Reserve, StoreError, UnixMs};
use async_trait::async_trait;
use penstock_domain::keccak256;

/// Purchases remembered: one is repeated only while it is the session's newest.
const PURCHASES: usize = 16;
/// Fields of an account that are no hold.
const OTHER_FIELDS: usize = 3;

/// Holds that one command ends.
const AT_ONCE: usize = 256;

fn units(units: u64) -> String {
    units.min(MAX_CREDIT_UNITS.unsigned_abs()).to_string()
}

/// An id without line ends and of bounded length.
fn id(text: &str) -> String {
    let plain = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain { text.to_owned() } else { format!("~{:x}", keccak256(text.as_bytes())) }
}

fn hold_field(hold: &HoldId) -> String {
    format!("h:{}", id(&hold.0))
}

impl RedisStore {
    async fn credit_script<T: redis::FromRedisValue>(
        &self,
        script: &script::Script,
        key: &CreditKey,
        args: &[Vec<u8>],
    ) -> Result<T, StoreError> {
        self.link.run(script, &[self.keys.credit(key)], args, Keep::Here).await
    }
}

#[async_trait]
impl CreditStore for RedisStore {
    async fn credit(&self, key: &CreditKey, now: UnixMs) -> Result<i64, StoreError> {
        self.credit_script(&script::CREDIT, key, args![codec::time(now)]).await
    }

    async fn book_purchase(
        &self,
        key: &CreditKey,
        purchase_id: &str,
        bought: u64,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<i64, StoreError> {
        let args = args![
            id(purchase_id),
            units(bought),
            codec::time(now.plus_ms(ttl_ms)),
            codec::time(now),
            keep_ms(ttl_ms),
            MAX_CREDIT_UNITS.to_string(),
            PURCHASES.to_string(),
        ];
        self.credit_script(&script::BOOK, key, args).await
    }

    async fn reserve(
        &self,
        key: &CreditKey,
        hold: &HoldId,
        estimate_units: u64,
        floor_units: u64,
        now: UnixMs,
    ) -> Result<Reserve, StoreError> {
        let args = args![
            hold_field(hold),
            units(estimate_units),
            units(floor_units),
            codec::time(now),
            (self.limits.holds + OTHER_FIELDS).to_string(),
            codec::time(UnixMs(now.0.saturating_sub(HoldId::FORGOTTEN_AFTER_MS))),
        ];
        match self.credit_script(&script::RESERVE, key, args).await? {
            (0, have_units) => Ok(Reserve::Short { have_units }),
            (1, left_units) => Ok(Reserve::Granted { left_units }),
            (_, _) => Err(StoreError::Full("reservations of one account")),
        }
    }

    async fn settle(
        &self,
        key: &CreditKey,
        hold: &HoldId,
        used_units: u64,
        now: UnixMs,
    ) -> Result<i64, StoreError> {
        let most = MAX_CREDIT_UNITS.to_string();
        let args = args![hold_field(hold), units(used_units), codec::time(now), most];
        self.credit_script(&script::SETTLE, key, args).await
    }

    async fn end_holds(
        &self,
        key: &CreditKey,
        holds: &[HoldId],
        _now: UnixMs,
    ) -> Result<(), StoreError> {
        for some in holds.chunks(AT_ONCE) {
            let mut forget = redis::cmd("HDEL");
            forget.arg(self.keys.credit(key));
            for hold in some {
                forget.arg(hold_field(hold));
            }
            self.link.ask::<u64>(forget).await?;
        }
        Ok(())
    }

    async fn forfeit(&self, key: &CreditKey, _now: UnixMs) -> Result<(), StoreError> {
        self.credit_script::<u8>(&script::FORFEIT, key, &[]).await.map(drop)
    }
}
