//! A spend limit, in wei or in dollars; as text `25 usd`, `0.5 eth`, `10 gwei`, `1000000 wei`.

use core::{fmt, str::FromStr};
use penstock_domain::{Rational, U256, Wei};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

/// Decimals of a micro-dollar amount.
const MICRO: usize = 6;
/// From here on (0.0001 ETH) a budget is shown in ether, exactly.
const SHOW_AS_ETH: U256 = U256::from_limbs([100_000_000_000_000, 0, 0, 0]);

/// Most that may be spent in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// Wei.
    Wei(Wei),
    /// Millionths of a US dollar, at the ether price of the moment.
    MicroUsd(u64),
}

/// Not a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("expected an amount and its unit, such as \"25 usd\", \"0.5 eth\" or \"1000000 wei\"")]
pub struct BadBudget;

impl Budget {
    /// The limit in wei, rounded down. `micro_usd_per_eth` is the price of an ether in millionths of a dollar.
    /// `None` if there is no such price (or it is zero) and the budget is in dollars.
    pub fn in_wei(&self, micro_usd_per_eth: Option<&Rational>) -> Option<Wei> {
        match self {
            Self::Wei(wei) => Some(*wei),
            Self::MicroUsd(micro_usd) => {
                let price = micro_usd_per_eth.filter(|p| p.is_positive())?;
                let wei = &Rational::from(*micro_usd) * &wei_per_eth();
                wei.checked_div(price)?.floor_u256().map(Wei)
            }
        }
    }
}

pub(super) fn wei_per_eth() -> Rational {
    Rational::from(1_000_000_000_000_000_000_u64)
}

impl FromStr for Budget {
    type Err = BadBudget;

    fn from_str(text: &str) -> Result<Self, BadBudget> {
        let text = text.trim();
        if text.len() > 96 {
            return Err(BadBudget);
        }
        let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or(BadBudget)?;
        let (number, unit) = text.split_at(split);
        let number = number.trim();
        if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(BadBudget);
        }
        let number = Rational::from_decimal(number).map_err(|_| BadBudget)?;
        let whole = |factor: u64| -> Result<U256, BadBudget> {
            let n = &number * &Rational::from(factor);
            if n.floor() == n { n.floor_u256().ok_or(BadBudget) } else { Err(BadBudget) }
        };
        match unit.to_ascii_lowercase().as_str() {
            "wei" => Ok(Self::Wei(Wei(whole(1)?))),
            "gwei" => Ok(Self::Wei(Wei(whole(1_000_000_000)?))),
            "eth" => Ok(Self::Wei(Wei(whole(1_000_000_000_000_000_000)?))),
            "usd" => u64::try_from(whole(1_000_000)?).map(Self::MicroUsd).map_err(|_| BadBudget),
            _ => Err(BadBudget),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wei(wei) if wei.0 >= SHOW_AS_ETH => {
                let one = wei_per_eth();
                let wei = Rational::from_u256(wei.0, U256::from(1u8)).unwrap_or_default();
                let eth = wei.checked_div(&one).unwrap_or_default().to_fixed(18);
                write!(f, "{} eth", eth.trim_end_matches('0').trim_end_matches('.'))
            }
            Self::Wei(wei) => write!(f, "{wei} wei"),
            Self::MicroUsd(micro) => {
                let digits = format!("{:0width$}", micro, width = MICRO + 1);
                let (whole, part) = digits.split_at(digits.len().saturating_sub(MICRO));
                match part.trim_end_matches('0') {
                    "" => write!(f, "{whole} usd"),
                    part => write!(f, "{whole}.{part:0<2} usd"),
                }
            }
        }
    }
}

impl Serialize for Budget {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_with_units() {
        let wei = |n: u64| Budget::Wei(Wei::from_u64(n));
        for (text, budget, shown) in [
            ("12 wei", wei(12), "12 wei"),
            ("12wei", wei(12), "12 wei"),
            ("0.5 gwei", wei(500_000_000), "500000000 wei"),
            ("1.5 ETH", wei(1_500_000_000_000_000_000), "1.5 eth"),
            ("25 usd", Budget::MicroUsd(25_000_000), "25 usd"),
            ("0.5 usd", Budget::MicroUsd(500_000), "0.50 usd"),
            ("0.000001 USD", Budget::MicroUsd(1), "0.000001 usd"),
        ] {
            assert_eq!(text.parse(), Ok(budget), "{text}");
            assert_eq!(budget.to_string(), shown);
        }
        for bad in ["", "5", "usd", "-1 wei", "0.5 wei", "1e3 wei", "0.0000001 usd", "1 btc"] {
            assert_eq!(bad.parse::<Budget>(), Err(BadBudget), "{bad}");
        }
        assert!("99999999999999999999 usd".parse::<Budget>().is_err());
    }

    #[test]
    fn dollars_need_a_price() {
        let dollars = Budget::MicroUsd(25_000_000);
        assert_eq!(dollars.in_wei(None), None);
        assert_eq!(dollars.in_wei(Some(&Rational::default())), None);
        let price = Rational::from(2_500_000_000_u64);
        assert_eq!(dollars.in_wei(Some(&price)), Some(Wei::from_u64(10_000_000_000_000_000)));
        assert_eq!(Budget::Wei(Wei::from_u64(7)).in_wei(None), Some(Wei::from_u64(7)));
    }

    proptest! {
        // Ten texts a case: 100,000 for the parser.
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn reads_back_what_it_shows(n: u64, usd: bool, mut junk: u128) {
            let budget = if usd { Budget::MicroUsd(n) } else { Budget::Wei(Wei::from_u64(n)) };
            prop_assert_eq!(budget.to_string().parse(), Ok(budget));
            // What budgets are made of, in any order.
            const PIECES: [&str; 16] = [
                "0", "1", "25", "999999999999999999999", ".", ".", " ", "\0", "-", "e", "é", "wei",
                "gwei", "eth", "usd", "USD",
            ];
            for _ in 0..10 {
                let text: String = (0..6).map(|i| PIECES[((junk >> (4 * i)) & 15) as usize]).collect();
                if let Ok(budget) = text.parse::<Budget>() {
                    prop_assert_eq!(budget.to_string().parse(), Ok(budget), "{}", text);
                }
                junk = junk.rotate_left(12);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn dollars_are_never_more_wei_than_they_buy(usd: u64, price in 1u64..) {
            let wei = Budget::MicroUsd(usd).in_wei(Some(&Rational::from(price))).unwrap();
            let back = |w: Wei| Rational::from_u256(w.0, U256::from(1)).unwrap() * Rational::from(price);
            let worth = Rational::from(usd) * wei_per_eth();
            prop_assert!(back(wei) <= worth);
            prop_assert!(back(Wei(wei.0 + U256::from(1))) > worth);
        }
    }
}
