//! What a live runner's work costs: dollars as it registers them, where the operator's price list says nothing else, and
//! wei as they are charged (live-runner.md section 2.1).

use super::error::RunnerError;
use crate::pricing::{
    book::{OthersPrice, Prices},
    list::{Around, Work},
    unit::Unit,
};
use penstock_domain::{Address, CurrencyPrice, PriceInfo, Rational};
use penstock_wire::json::SaidPrice;

/// What a runner registered: dollars for a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPrice {
    /// For one unit.
    pub per_unit: CurrencyPrice,
    /// What is counted.
    pub unit: Unit,
}

impl OwnPrice {
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
            "" => Unit::of_runner("hour"),
            said => Unit::of_runner(said),
        };
        let (unit, units) = unit.ok_or("price_info.unit must be hour, 720p, or fixed")?;
        let per_unit = usd.checked_div(&Rational::from(units)).unwrap_or(Rational::ZERO);
        Ok(Self { per_unit: CurrencyPrice::Usd(per_unit), unit })
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
    /// So much in whole wei, rounded down; `None` below one and beyond the wire's numbers.
    pub fn of(wei: &Rational, unit: Unit) -> Option<Self> {
        wei.floor_i64().filter(|wei| *wei >= 1).map(|wei| Self { wei, unit })
    }

    /// As challenges state it.
    pub fn rational(self) -> Rational {
        Rational::from_int(self.wei.into())
    }
}

/// What a runner sells, and what that costs.
#[derive(Debug, Clone)]
pub struct Sold {
    /// What it runs.
    pub app: String,
    /// What it registered.
    pub own: OwnPrice,
    /// Whether it sells sessions, which last, or single calls.
    pub lasts: bool,
    /// What rules may depend on: its card and its room.
    pub around: Around,
}

impl Sold {
    /// What a unit costs a gateway now, exact: by the operator's list, or as it registered.
    pub fn asked(&self, list: &Prices, gateway: Address) -> OthersPrice {
        let work = Work::Runner { app: &self.app, unit: self.own.unit, lasts: self.lasts };
        list.of_others(gateway, work, &self.around, &self.own.per_unit)
    }

    /// The same as it is charged.
    pub fn price(&self, list: &Prices, gateway: Address) -> Result<WeiPrice, RunnerError> {
        let wei = self.asked(list, gateway).wei.map_err(|_| {
            RunnerError::NoPrice(
                "what an ether costs is not known, or too old (--eth-usd, --eth-usd-max-age-ms)",
            )
        })?;
        WeiPrice::of(&wei, self.own.unit).ok_or(RunnerError::NoPrice(
            "converted live runner price must be at least one wei, and fit 64 bits",
        ))
    }

    /// What offers for it say that they are for: what it sells at this route, by this unit.
    pub fn work(&self, route: &str) -> String {
        format!("runner {route:?} {:?} {}", self.app, self.own.unit.as_str())
    }
}

/// What a payment says does not fit what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoesNotFit {
    /// Wei a unit that are asked at least.
    pub asked: i64,
}

/// The price at which a payment is taken: what its offer was made at for this work (`was_asked`), whatever that costs by
/// now, or the price of now.
pub fn agree(
    now: WeiPrice,
    was_asked: bool,
    said: Option<PriceInfo>,
) -> Result<Rational, DoesNotFit> {
    let no = DoesNotFit { asked: now.wei };
    let said = said.ok_or(no)?;
    let fits = match now.unit {
        _ if was_asked => true,
        Unit::Fixed => said.price_per_unit() == now.wei && said.pixels_per_unit() == 1,
        Unit::Seconds | Unit::PixelSeconds => said.rational() >= now.rational(),
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
        let of = |p, c, u| OwnPrice::new(&said(p, c, u)).map(|price| price.unit);
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
        let wei = |p, u| {
            let own = OwnPrice::new(&said(p, "", u)).unwrap();
            let wei = own.per_unit.wei(Some(&micro)).unwrap();
            WeiPrice::of(&wei, own.unit).map(|price| price.wei)
        };
        assert_eq!(wei("0.0072", "hour"), Some(1_000_000_000));
        assert_eq!(wei("1", "fixed"), Some(500_000_000_000_000));
        // 3600 × 1280 × 720 × 30 pixels an hour.
        assert_eq!(wei("0.36", "720p"), Some(180_000_000_000_000 / 99_532_800_000));
        assert_eq!(wei("0.000000000000000000001", "fixed"), None, "less than a wei");
        assert_eq!(wei("1e30", "fixed"), None, "beyond the wire");
    }

    #[test]
    fn an_offered_price_holds_and_a_made_up_one_does_not() {
        let pays = |wei, units| PriceInfo::new(wei, units).ok();
        let agreed = |unit, was_asked, said| agree(WeiPrice { wei: 12, unit }, was_asked, said);
        let no = Err(DoesNotFit { asked: 12 });
        for unit in [Unit::Seconds, Unit::PixelSeconds, Unit::Fixed] {
            assert_eq!(agreed(unit, true, pays(19, 2)), Ok(Rational::new(19, 2).unwrap()));
            assert_eq!(agreed(unit, false, pays(11, 1)), no);
            assert_eq!(agreed(unit, false, pays(12, 1)), Ok(Rational::from_int(12)));
            assert_eq!(agreed(unit, true, None), no);
        }
        assert_eq!(agreed(Unit::Seconds, false, pays(13, 1)), Ok(Rational::from_int(13)));
        for other in [pays(13, 1), pays(24, 2)] {
            assert_eq!(agreed(Unit::Fixed, false, other), no);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn never_below_a_wei_and_never_more_than_was_said(
            price in "[0-9]{1,6}(\\.[0-9]{1,9})?", micro in 1_000_000_u64..10_000_000_000_000
        ) {
            let Ok(price) = OwnPrice::new(&said(&price, "usd", "hour")) else { return Ok(()) };
            let micro = Rational::from(micro);
            let exact = price.per_unit.wei(Some(&micro)).unwrap();
            if let Some(WeiPrice { wei, .. }) = WeiPrice::of(&exact, price.unit) {
                prop_assert!(wei >= 1);
                let CurrencyPrice::Usd(usd) = &price.per_unit else { panic!("no dollars") };
                let back = &Rational::from_int(wei.into()) * &micro;
                let most = usd * &Rational::from_int(1_000_000_000_000_000_000_000_000);
                prop_assert!(back <= most);
            }
        }
    }
}
