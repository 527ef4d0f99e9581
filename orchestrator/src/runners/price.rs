//! What a live runner's work costs: dollars as its operator says them, wei as they are charged
//! (live-runner.md section 2.1).

use penstock_domain::{PriceInfo, Rational};
use penstock_payments::LV2V_PIXELS_PER_SECOND;
use penstock_wire::json::SaidPrice;
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// A challenge's price holds for as long as its token does, and a little longer.
const OFFERS_HOLD: Duration = Duration::from_secs(31 * 60);
/// Prices kept of that time. The oldest goes first: whoever pays at that one gets a new challenge.
const MOST_PRICES: usize = 256;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds that a session lasts.
    Seconds,
    /// Pixels of live video that the same time stands for.
    PixelSeconds,
    /// Sessions, or calls.
    Fixed,
}

impl Unit {
    /// As discovery calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::PixelSeconds => "720p-pixel-seconds",
            Self::Fixed => "fixed",
        }
    }

    /// Units that pass in a second; `None` where time does not count.
    pub fn per_second(self) -> Option<u64> {
        match self {
            Self::Seconds => Some(1),
            Self::PixelSeconds => Some(LV2V_PIXELS_PER_SECOND),
            Self::Fixed => None,
        }
    }

    /// Units in what the operator priced.
    fn in_said(self) -> u64 {
        match self {
            Self::Seconds => 3600,
            Self::PixelSeconds => 3600 * LV2V_PIXELS_PER_SECOND,
            Self::Fixed => 1,
        }
    }
}

/// A price in dollars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DollarPrice {
    /// Dollars for what the operator priced: an hour, or one.
    usd: Rational,
    /// What is counted.
    pub unit: Unit,
}

impl DollarPrice {
    /// Checked; the errors are the documented texts.
    pub fn new(said: &SaidPrice) -> Result<Self, &'static str> {
        if said.price.is_empty() {
            return Err("price_info.price is required");
        }
        let usd = said.amount().filter(Rational::is_positive);
        let usd = usd.ok_or("price_info.price must be a positive decimal")?;
        match said.currency.trim().to_ascii_lowercase().as_str() {
            "" | "usd" => {}
            _ => return Err("price_info.currency must be usd"),
        }
        let unit = match said.unit.trim().to_ascii_lowercase().as_str() {
            "" | "hour" => Unit::Seconds,
            "720p" => Unit::PixelSeconds,
            "fixed" => Unit::Fixed,
            _ => return Err("price_info.unit must be hour, 720p, or fixed"),
        };
        Ok(Self { usd, unit })
    }

    /// Dollars a unit.
    pub fn usd_per_unit(&self) -> Rational {
        let units = Rational::from(self.unit.in_said());
        self.usd.checked_div(&units).unwrap_or(Rational::ZERO)
    }

    /// Whole wei a unit, at so many millionths of a dollar for an ether; `None` below one wei and
    /// beyond the wire's numbers.
    pub fn wei(&self, micro_usd_per_eth: &Rational) -> Option<i64> {
        let micro_usd = &self.usd * &Rational::from(1_000_000_u64);
        let wei_per_eth = Rational::from(1_000_000_000_000_000_000_u64);
        let of_all = (&micro_usd * &wei_per_eth).checked_div(micro_usd_per_eth)?;
        let wei = of_all.checked_div(&Rational::from(self.unit.in_said()))?.floor_i64()?;
        (wei >= 1).then_some(wei)
    }
}

/// A price as it is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeiPrice {
    /// Wei a unit, at least 1.
    pub wei: i64,
    /// What is counted.
    pub unit: Unit,
}

impl WeiPrice {
    /// As challenges state it.
    pub fn rational(self) -> Rational {
        Rational::from_int(self.wei.into())
    }
}

/// The prices that a runner had, as far back as offers hold.
#[derive(Debug, Clone, Default)]
pub struct Trail(VecDeque<(Instant, i64)>);

impl Trail {
    /// It costs so much from now on.
    pub fn note(&mut self, wei: i64, now: Instant) {
        // A price held until the next one came, so the newest is never too old.
        while self.0.get(1).is_some_and(|(next, _)| now.duration_since(*next) > OFFERS_HOLD) {
            self.0.pop_front();
        }
        if self.0.back().is_some_and(|(_, last)| *last == wei) {
            return;
        }
        if self.0.len() >= MOST_PRICES {
            self.0.pop_front();
        }
        self.0.push_back((now, wei));
    }

    /// The lowest that may have been offered.
    pub fn lowest(&self) -> Option<i64> {
        self.0.iter().map(|(_, wei)| *wei).min()
    }

    /// Nothing of before counts: it was the price of something else.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// What a payment says does not fit what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoesNotFit {
    /// Wei a unit that are asked at least.
    pub asked: i64,
}

/// The price at which a payment is taken: for fixed prices the one of now, for others any that was
/// offered lately, since the dollar moves between a challenge and its payment.
pub fn agree(
    now: WeiPrice,
    lowest_offered: Option<i64>,
    said: Option<PriceInfo>,
) -> Result<Rational, DoesNotFit> {
    let asked = match now.unit {
        Unit::Fixed => now.wei,
        Unit::Seconds | Unit::PixelSeconds => lowest_offered.unwrap_or(now.wei).min(now.wei),
    };
    let no = DoesNotFit { asked };
    let said = said.ok_or(no)?;
    let fits = match now.unit {
        Unit::Fixed => said.price_per_unit() == now.wei && said.pixels_per_unit() == 1,
        Unit::Seconds | Unit::PixelSeconds => said.rational() >= Rational::from_int(asked.into()),
    };
    if fits { Ok(said.rational()) } else { Err(no) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(price: &str, currency: &str, unit: &str) -> SaidPrice {
        SaidPrice { price: price.into(), currency: currency.into(), unit: unit.into() }
    }

    #[test]
    fn what_may_be_said() {
        let of = |p, c, u| DollarPrice::new(&said(p, c, u)).map(|price| price.unit);
        assert_eq!(of("1", "", ""), Ok(Unit::Seconds));
        assert_eq!(of("1e-3", " USD", "720P "), Ok(Unit::PixelSeconds));
        assert_eq!(of("0.5", "usd", "fixed"), Ok(Unit::Fixed));
        assert_eq!(of("", "usd", "fixed"), Err("price_info.price is required"));
        for bad in ["0", "-1", "x", "NaN"] {
            assert_eq!(of(bad, "", ""), Err("price_info.price must be a positive decimal"));
        }
        assert_eq!(of("1", "eur", ""), Err("price_info.currency must be usd"));
        assert_eq!(of("1", "", "day"), Err("price_info.unit must be hour, 720p, or fixed"));
    }

    #[test]
    fn dollars_become_wei() {
        let micro = Rational::from(2_000_000_000_u64); // 2,000 dollars
        let wei = |p, u| DollarPrice::new(&said(p, "", u)).unwrap().wei(&micro);
        assert_eq!(wei("0.0072", "hour"), Some(1_000_000_000));
        assert_eq!(wei("1", "fixed"), Some(500_000_000_000_000));
        // 3600 × 1280 × 720 × 30 pixels an hour.
        assert_eq!(wei("0.36", "720p"), Some(180_000_000_000_000 / 99_532_800_000));
        assert_eq!(wei("0.000000000000000000001", "fixed"), None, "less than a wei");
        assert_eq!(wei("1e30", "fixed"), None, "beyond the wire");
    }

    #[tokio::test(start_paused = true)]
    async fn an_offered_price_holds_and_a_made_up_one_does_not() {
        let mut trail = Trail::default();
        trail.note(10, Instant::now());
        trail.note(10, Instant::now());
        trail.note(12, Instant::now());
        let now = WeiPrice { wei: 12, unit: Unit::Seconds };
        let pays = |wei, units| PriceInfo::new(wei, units).ok();
        let agreed = |trail: &Trail, said| agree(now, trail.lowest(), said);
        assert_eq!(agreed(&trail, pays(10, 1)), Ok(Rational::from_int(10)));
        assert_eq!(agreed(&trail, pays(19, 2)), Err(DoesNotFit { asked: 10 }));
        assert_eq!(agreed(&trail, None), Err(DoesNotFit { asked: 10 }));
        tokio::time::advance(OFFERS_HOLD + Duration::from_secs(1)).await;
        trail.note(12, Instant::now());
        assert_eq!(agreed(&trail, pays(10, 1)), Err(DoesNotFit { asked: 12 }));
        let fixed = WeiPrice { wei: 12, unit: Unit::Fixed };
        assert!(agree(fixed, Some(10), pays(12, 1)).is_ok());
        for other in [pays(10, 1), pays(13, 1), pays(24, 2), None] {
            assert!(agree(fixed, Some(10), other).is_err(), "{other:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn never_below_a_wei_and_never_more_than_was_said(
            price in "[0-9]{1,6}(\\.[0-9]{1,9})?", micro in 1_000_000_u64..10_000_000_000_000
        ) {
            let Ok(price) = DollarPrice::new(&said(&price, "usd", "hour")) else { return Ok(()) };
            let micro = Rational::from(micro);
            if let Some(wei) = price.wei(&micro) {
                prop_assert!(wei >= 1);
                let back = &(&Rational::from_int(wei.into()) * &micro) * &Rational::from(3600_u64);
                let most = &price.usd * &Rational::from_int(1_000_000_000_000_000_000_000_000);
                prop_assert!(back <= most);
            }
        }
    }
}
