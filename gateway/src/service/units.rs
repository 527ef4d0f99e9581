//! How many units a job needs and how many to buy. Pure; exact integers and rationals only.

use penstock_domain::{PriceInfo, Rational, U256, VideoProfile};
use penstock_payments::{RenditionRate, estimated_pixels, padded_pixels, ticket_ev};
use penstock_wire::TicketParamsFields;

/// Most tickets that one payment should have: half of what a signer makes at once, since it rounds
/// in its own favour.
const TICKETS_PER_PURCHASE: u64 = 50;

/// As many jobs as must come while what is bought ahead lasts, for more to be bought before it is gone.
const MANY_JOBS: u64 = 4;

/// Pixels a segment is expected to cost: 1.02 × Σ width × height × frames per second × seconds, each
/// rounded up (payments.md section 12).
pub fn segment_units(profiles: &[VideoProfile], duration_ms: u32) -> u64 {
    let rates: Vec<_> = profiles
        .iter()
        .map(|p| RenditionRate { width: p.width, height: p.height, fps: p.fps, fps_den: p.fps_den })
        .collect();
    padded_pixels(estimated_pixels(&rates, duration_ms.into())).ceil_u64().unwrap_or(u64::MAX)
}

/// Most pixels that an orchestrator may report for a segment: four times the estimate, since a frame
/// rate that passes through and a duration are only what the caller said. Callers who say no duration
/// get the default of 2 s for whatever they send, so at least 5 s are counted.
pub fn most_segment_units(profiles: &[VideoProfile], duration_ms: u32) -> u64 {
    segment_units(profiles, duration_ms.max(5_000)).saturating_mul(4)
}

/// What a session's offer means for credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Units that one ticket's expected value buys, rounded up: the orchestrator wants as much
    /// balance before any job.
    pub floor_units: u64,
    /// Units that one payment may buy at most, by the number of tickets it would take.
    pub max_purchase_units: u64,
}

/// What a purchase is for, beyond the job that makes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Units that all jobs need that wait, this one included.
    pub waiting: u64,
    /// Units that later jobs will need.
    pub ahead: u64,
}

impl Terms {
    /// From an offer's price and ticket parameters. `None` for a price of 0 or numbers beyond
    /// reason: nothing can be bought on such terms.
    pub fn of(price: PriceInfo, params: &TicketParamsFields) -> Option<Self> {
        let ev = ticket_ev(params.face_value, params.win_prob);
        let per_ticket = ev.checked_div(&price.rational())?;
        if !per_ticket.is_positive() {
            return None;
        }
        let many = &per_ticket * &Rational::from(U256::from(TICKETS_PER_PURCHASE));
        // The signer takes units as a signed 64-bit number.
        let cap = i64::MAX.unsigned_abs();
        let floor_units = per_ticket.ceil_u64().filter(|u| *u <= cap)?;
        let most = many.floor_u256()?.min(U256::from(cap));
        Some(Self { floor_units, max_purchase_units: u64::try_from(most).ok()?.max(floor_units) })
    }

    /// Credit that must be there before a job that is estimated at so much.
    pub fn required(&self, estimate_units: u64) -> u64 {
        estimate_units.max(self.floor_units)
    }

    /// Whether so many payments can bring `have_units` to what the job needs.
    pub fn is_within_reach(&self, estimate_units: u64, have_units: i64, payments: u32) -> bool {
        let missing = i128::from(self.required(estimate_units)) - i128::from(have_units);
        missing <= i128::from(self.max_purchase_units) * i128::from(payments)
    }

    /// How much to buy when `have_units` are there: enough for the job, and for all that wait or for
    /// what is bought ahead, whichever is more, within what one payment may hold. Never 0. What is
    /// bought ahead is no more than one payment either: when nobody else waits, there is never more credit
    /// than the job needs and one payment can hold.
    pub fn purchase(&self, estimate_units: u64, wanted: Wanted, have_units: i64) -> u64 {
        let Wanted { waiting, ahead } = wanted;
        let ahead = ahead.min(self.max_purchase_units);
        let more = ahead.max(waiting.saturating_sub(estimate_units));
        let target = self.required(estimate_units).saturating_add(more);
        let target = i64::try_from(target).unwrap_or(i64::MAX);
        let short = target.saturating_sub(have_units).max(1).unsigned_abs();
        short.min(self.max_purchase_units)
    }

    /// Whether a job that left so much should have more bought while others go on: when less than half is
    /// left of what is bought ahead, beyond what a job needs. Where jobs are few none waits long enough
    /// to be worth it.
    pub fn is_running_out(&self, estimate_units: u64, ahead: u64, left_units: i64) -> bool {
        let many = ahead > 0 && ahead / MANY_JOBS >= estimate_units;
        many && left_units < self.enough_ahead(estimate_units, ahead)
    }

    /// With so much nothing is bought ahead.
    pub fn enough_ahead(&self, estimate_units: u64, ahead: u64) -> i64 {
        let half = ahead.min(self.max_purchase_units) / 2;
        let enough = self.required(estimate_units).saturating_add(half);
        i64::try_from(enough).unwrap_or(i64::MAX)
    }

    /// What to ask for after the signer said that so much needs no ticket yet: its own balance
    /// covers it. That is below two tickets' value, so two tickets' worth always needs one.
    pub fn after_no_tickets(&self, units: u64) -> u64 {
        let two = self.floor_units.saturating_mul(2);
        units.saturating_mul(2).max(two).min(i64::MAX.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::Wei;
    use proptest::prelude::*;

    fn params(face_value: u64, one_in: u64) -> TicketParamsFields {
        TicketParamsFields {
            face_value: Wei::from_u64(face_value),
            win_prob: U256::MAX / U256::from(one_in),
            recipient: penstock_domain::Address::ZERO,
            recipient_rand_hash: penstock_domain::B256::ZERO,
            seed: U256::ZERO,
            expiration_block: U256::ZERO,
            expiration_params: penstock_wire::ExpirationFields::default(),
        }
    }

    fn price(n: i64, d: i64) -> PriceInfo {
        PriceInfo::new(n, d).unwrap()
    }

    #[test]
    fn estimates() {
        let defaults = VideoProfile::defaults();
        // (320×240×30 + 640×360×30) × 2 s × 1.02, the double.
        assert_eq!(segment_units(&defaults, 2_000), 18_800_641);
        assert_eq!(segment_units(&defaults, 1_001), 18_800_641);
        assert_eq!(segment_units(&[], 2_000), 0);
        assert_eq!(most_segment_units(&defaults, 0), 4 * segment_units(&defaults, 5_000));
        assert_eq!(most_segment_units(&defaults, 9_000), 4 * segment_units(&defaults, 9_000));
    }

    #[test]
    fn terms() {
        let t = Terms::of(price(3, 2), &params(3_000, 10)).unwrap();
        // EV just below 300 wei at 1.5 wei a unit: just below 200 units.
        assert_eq!((t.floor_units, t.max_purchase_units), (200, 9_999));
        assert_eq!(Terms::of(price(0, 1), &params(3_000, 10)), None);
        assert_eq!(Terms::of(price(1, 1), &params(0, 1)), None);
        let buy =
            |estimate, waiting, ahead, have| t.purchase(estimate, Wanted { waiting, ahead }, have);
        assert_eq!(buy(50, 50, 0, 0), 200);
        assert_eq!(buy(50, 50, 0, 150), 50);
        assert_eq!(buy(50, 50, 150, 150), 200);
        assert_eq!(buy(50, 1_000, 150, 150), 1_000, "for all who wait");
        assert_eq!(buy(50, 1_000, 3_000, 150), 3_050, "or for those who come");
        assert_eq!(buy(5_000, 5_000, 5_000, -100), 9_999, "within one payment");
        assert_eq!(buy(50, 50, u64::MAX, 5_000), 5_199, "and never more than one is there");
        assert_eq!(buy(50, 50, u64::MAX, 20_000), 1);
        assert_eq!(t.after_no_tickets(1), 400);
        assert!(t.is_within_reach(9_999, 0, 1) && !t.is_within_reach(10_000, 0, 1));
        assert!(t.is_within_reach(10_000, 1, 1) && !t.is_within_reach(9_999, -1, 1));
        assert!(!t.is_within_reach(u64::MAX, i64::MIN, u32::MAX));
        assert_eq!(t.after_no_tickets(1_000), 2_000);
    }

    #[test]
    fn credit_runs_out_when_half_of_what_is_bought_ahead_is_left() {
        let t = Terms { floor_units: 200, max_purchase_units: 9_999 };
        let out = |estimate, ahead, left| t.is_running_out(estimate, ahead, left);
        assert!(out(50, 1_000, 699) && !out(50, 1_000, 700), "beyond what must be there for a job");
        assert!(out(250, 1_000, 749) && !out(250, 1_000, 750));
        assert!(!out(251, 1_000, 0), "few jobs");
        assert!(!out(0, 0, 0) && !out(50, 0, i64::MIN));
        assert!(out(50, u64::MAX, 5_198) && !out(50, u64::MAX, 5_199), "half a payment");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn purchases_are_sane(n in 1i64.., d in 1i64.., face in 1u64.., one_in in 1u64..1_000_000,
            estimate in any::<u64>(), waiting in any::<u64>(), ahead in any::<u64>(), have in any::<i64>()) {
            if let Some(t) = Terms::of(price(n, d), &params(face, one_in)) {
                let units = t.purchase(estimate, Wanted { waiting, ahead }, have);
                prop_assert!(units >= 1 && units <= t.max_purchase_units && units <= i64::MAX as u64);
                let least = t.purchase(estimate, Wanted::default(), have);
                prop_assert!(least <= units);
                let alone = i128::from(t.purchase(estimate, Wanted { waiting: 0, ahead }, have));
                let most = i128::from(t.required(estimate)) + i128::from(t.max_purchase_units);
                prop_assert!(i128::from(have) + alone <= most.max(i128::from(have) + 1));
                prop_assert!(t.after_no_tickets(units) >= units.min(i64::MAX as u64 / 2));
                prop_assert!(t.required(estimate) >= t.floor_units);
            }
        }
    }
}
