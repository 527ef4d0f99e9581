//! What is offered for a unit of gas (EIP-1559): pure decisions.

use core::fmt;

/// A replacement offers so much more, in percent. Nodes ask for at least 10 (on-chain.md section 8.1).
const BUMP_PERCENT: u128 = 11;

/// An offer, in wei for a unit of gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fees {
    /// At most, the base fee included.
    pub max: u128,
    /// Of it for whoever makes the block.
    pub tip: u128,
}

/// Gas costs more than the operator pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooDear {
    needed: u128,
    limit: u128,
}

impl fmt::Display for TooDear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, limit } = self;
        write!(
            f,
            "a unit of gas costs {needed} wei, and {limit} are paid at most (--eth-max-gas-price-wei; \
             a ninth less for redemptions)"
        )
    }
}

impl Fees {
    /// The first offer: twice the base fee and the tip, so that it still holds when blocks fill up, and not more
    /// than the limit.
    pub fn first(base_fee: u128, tip: u128, limit: u128) -> Result<Self, TooDear> {
        let max = base_fee.saturating_mul(2).saturating_add(tip);
        if base_fee > limit {
            return Err(TooDear { needed: base_fee, limit });
        }
        let max = max.min(limit);
        Ok(Self { max, tip: tip.min(max) })
    }

    /// The offer that replaces this one: both numbers higher by so much that nodes take it, and not below what a first
    /// offer would be now.
    pub fn replacement(self, now: Self, limit: u128) -> Result<Self, TooDear> {
        let max = bumped(self.max).max(now.max);
        if max > limit {
            return Err(TooDear { needed: max, limit });
        }
        Ok(Self { max, tip: bumped(self.tip).max(now.tip).min(max) })
    }
}

/// The limit of what may have to be called off: one replacement more is within the operator's.
pub fn limit_that_leaves_one_more(limit: u128) -> u128 {
    limit / 9 * 8
}

/// Rounded up, and always more than before.
fn bumped(wei: u128) -> u128 {
    let more = wei.saturating_mul(BUMP_PERCENT).div_ceil(100).max(1);
    wei.saturating_add(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_offer_has_room_for_full_blocks() {
        assert_eq!(Fees::first(100, 7, u128::MAX), Ok(Fees { max: 207, tip: 7 }));
        assert_eq!(Fees::first(100, 7, 150), Ok(Fees { max: 150, tip: 7 }));
        assert_eq!(Fees::first(3, 9, 5), Ok(Fees { max: 5, tip: 5 }));
        assert_eq!(Fees::first(0, 0, u128::MAX), Ok(Fees { max: 0, tip: 0 }));
        let dear = Fees::first(151, 7, 150).unwrap_err();
        assert!(dear.to_string().contains("--eth-max-gas-price-wei"));
        assert_eq!(Fees::first(u128::MAX, 1, u128::MAX).map(|f| f.max), Ok(u128::MAX));
    }

    #[test]
    fn replacements_offer_enough_more_until_the_limit() {
        let (offer, now) = (Fees { max: 200, tip: 1 }, Fees { max: 150, tip: 1 });
        let next = offer.replacement(now, u128::MAX).unwrap();
        assert_eq!(next, Fees { max: 222, tip: 2 });
        let risen = Fees { max: 900, tip: 30 };
        assert_eq!(offer.replacement(risen, u128::MAX), Ok(risen));
        assert!(offer.replacement(now, 221).is_err());
        let free = Fees { max: 0, tip: 0 };
        assert_eq!(free.replacement(free, u128::MAX), Ok(Fees { max: 1, tip: 1 }));
        for max in [1_u128, 9, 10, 99, 1_000_000_007] {
            let next = Fees { max, tip: max }.replacement(free, u128::MAX).unwrap();
            assert!(next.max * 100 >= max * 110 && next.tip * 100 >= max * 110, "{next:?}");
        }
    }

    #[test]
    fn what_redeems_can_be_called_off_within_the_limit() {
        for limit in [18, 1_000, 4_000_000_000, u128::MAX] {
            let dearest = Fees { max: limit_that_leaves_one_more(limit), tip: 0 };
            let now = Fees { max: 1, tip: 1 };
            assert!(dearest.replacement(now, limit).is_ok(), "{limit}");
        }
    }
}
