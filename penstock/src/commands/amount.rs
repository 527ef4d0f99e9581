//! Amounts as people read and write them: wei when small, ETH when large, always exact or marked.

use penstock_domain::{Rational, U256, Wei};
use thiserror::Error;

/// From here on (0.0001 ETH) an amount is shown in ETH.
const SHOW_AS_ETH: i128 = 100_000_000_000_000;
/// Wei in one ETH.
const WEI_PER_ETH: i128 = 1_000_000_000_000_000_000;
/// Wei in one gwei.
const WEI_PER_GWEI: i128 = 1_000_000_000;
/// Longest amount read: 78 digits, a dot, a unit.
const MAX_TEXT: usize = 100;

/// Shows an amount of wei, for example `2,500 wei`, `0.25 ETH`, `≈1.333 wei`. The sign ≈ stands
/// before what was rounded; the exact value is in the JSON output.
pub fn amount(wei: &Rational) -> String {
    let magnitude = if wei.is_negative() { -wei.clone() } else { wei.clone() };
    let (value, places, unit) = if magnitude >= Rational::from_int(SHOW_AS_ETH) {
        let eth = Rational::from_int(WEI_PER_ETH);
        (magnitude.checked_div(&eth).unwrap_or_default(), 9, "ETH")
    } else {
        (magnitude, 3, "wei")
    };
    let digits = value.to_fixed(places);
    let exact = Rational::from_decimal(&digits).is_ok_and(|shown| shown == value);
    let shown = group(digits.trim_end_matches('0').trim_end_matches('.'));
    let about = if exact { "" } else { "≈" };
    let sign = if wei.is_negative() { "-" } else { "" };
    format!("{about}{sign}{shown} {unit}")
}

/// Commas between thousands of the whole part.
fn group(number: &str) -> String {
    let (whole, part) = number.split_once('.').map_or((number, None), |(w, p)| (w, Some(p)));
    let mut out = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(part) = part {
        out.push('.');
        out.push_str(part);
    }
    out
}

/// The text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("expected an amount with its unit, for example 0.5eth, 20gwei or 1000wei")]
pub struct BadAmount;

/// Reads `0.5eth`, `20gwei` or `1000wei`. The unit is not optional, since a forgotten one is
/// eighteen zeros; the amount must be whole wei and below 2^256.
pub fn parse_amount(text: &str) -> Result<Wei, BadAmount> {
    let text = text.trim().to_ascii_lowercase();
    if text.len() > MAX_TEXT {
        return Err(BadAmount);
    }
    // "gwei" ends in "wei", so the longer unit is looked for first.
    let units = [("gwei", WEI_PER_GWEI), ("wei", 1), ("eth", WEI_PER_ETH)];
    let (number, scale) = units
        .iter()
        .find_map(|(unit, scale)| text.strip_suffix(unit).map(|number| (number, *scale)))
        .ok_or(BadAmount)?;
    let number = number.trim_end();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(BadAmount);
    }
    let exact = Rational::from_decimal(number).map_err(|_| BadAmount)? * Rational::from_int(scale);
    let wei: U256 = exact.floor_u256().ok_or(BadAmount)?;
    if Rational::from(Wei(wei)) != exact {
        return Err(BadAmount);
    }
    Ok(Wei(wei))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        amount(&text.parse().unwrap())
    }

    #[test]
    fn amounts_for_people() {
        assert_eq!(shown("0"), "0 wei");
        assert_eq!(shown("1234567"), "1,234,567 wei");
        assert_eq!(shown("99999999999999"), "99,999,999,999,999 wei");
        assert_eq!(shown("100000000000000"), "0.0001 ETH");
        assert_eq!(shown("2500000000000000000000"), "2,500 ETH");
        assert_eq!(shown("5/2"), "2.5 wei");
        assert_eq!(shown("4/3"), "≈1.333 wei");
        assert_eq!(shown("-4/3"), "≈-1.333 wei");
        assert_eq!(shown("1000000000000000001"), "≈1 ETH");
        assert_eq!(shown("-1000000000000000000"), "-1 ETH");
    }

    #[test]
    fn amounts_from_people() {
        assert_eq!(parse_amount("0.5eth"), Ok(Wei::from_u64(500_000_000_000_000_000)));
        assert_eq!(parse_amount("20 gwei"), Ok(Wei::from_u64(20_000_000_000)));
        assert_eq!(parse_amount("1000wei"), Ok(Wei::from_u64(1_000)));
        assert_eq!(parse_amount("1 ETH"), Ok(Wei::from_u64(1_000_000_000_000_000_000)));
        for bad in [
            "", "1", "eth", "-1eth", "+1eth", "1e3wei", "0.5wei", "1/2eth", ".eth", "1.2.3eth",
            "1 btc",
        ] {
            assert_eq!(parse_amount(bad), Err(BadAmount), "{bad}");
        }
        assert_eq!(parse_amount(&format!("{}wei", U256::MAX)), Ok(Wei(U256::MAX)));
        assert_eq!(parse_amount(&format!("{}eth", U256::MAX)), Err(BadAmount));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100_000, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_an_amount_or_not(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            const PIECES: &[&str] = &["0", "1", "9", ".", "e", "eth", "gwei", "wei", "-", " ", "é", "/"];
            let text: String =
                bytes.iter().map(|b| PIECES[usize::from(*b) % PIECES.len()]).collect();
            if let Ok(wei) = parse_amount(&text) {
                prop_assert_eq!(parse_amount(&format!("{wei}wei")), Ok(wei));
            }
        }
    }
}
