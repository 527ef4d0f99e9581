//! What an ether costs, by a price feed on a chain (a Chainlink aggregator; on-chain.md section 11): asked by JSON-RPC of
//! one endpoint for what it is a price of, how many decimals it has, and its latest round.

use super::{micro, sane};
use penstock_domain::{Address, Rational, U256, keccak256};
use reqwest::Client;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use url::Url;

/// A feed on Arbitrum says a new price after a day at the latest, however little it changes. Older ones stand still.
const OLDEST: Duration = Duration::from_secs(26 * 3_600);
/// How far its clock may be ahead of this machine's.
const NEWEST: Duration = Duration::from_secs(300);
/// Decimals that a feed may have.
const MAX_DECIMALS: u64 = 36;
/// Longest description.
const MAX_DESCRIPTION: usize = 256;

/// Where a feed is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// A JSON-RPC endpoint of its chain.
    pub url: Url,
    /// Its contract.
    pub address: Address,
}

/// A price, and when the feed said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Round {
    /// Millionths of a dollar for an ether.
    pub(super) micro_usd: Rational,
    /// Seconds since 1970.
    pub(super) updated_s: u64,
}

/// Millionths of a dollar for an ether, as the feed's latest round has it. The error says what is wrong with the
/// endpoint or the feed; it does not name the endpoint, whose path may be a secret.
pub(super) async fn read(client: &Client, feed: &Feed) -> Result<Round, String> {
    let description = text(&ask(client, feed, "description()").await?)?;
    let decimals = *ask_words(client, feed, "decimals()").await?.first().ok_or("no decimals")?;
    let round = ask_words(client, feed, "latestRoundData()").await?;
    let (usd, updated_s) = price(&description, decimals, &round, now_s())?;
    Ok(Round { micro_usd: micro(&usd), updated_s })
}

/// Dollars for an ether, and when it was said.
fn price(
    description: &str,
    decimals: U256,
    round: &[U256],
    now_s: u64,
) -> Result<(Rational, u64), String> {
    // roundId, answer, startedAt, updatedAt, answeredInRound
    let &[_, answer, _, updated_s, _] = round else {
        return Err("latestRoundData() says something else".to_owned());
    };
    let decimals = u64::try_from(decimals).ok().filter(|n| *n <= MAX_DECIMALS);
    let decimals = decimals.ok_or("decimals() is not 0 to 36")?;
    // A signed number: half of them are below 0.
    if answer.is_zero() || answer.bit(255) {
        return Err("the price is not above 0".to_owned());
    }
    let oldest = now_s.saturating_sub(OLDEST.as_secs());
    let newest = now_s.saturating_add(NEWEST.as_secs());
    let updated_s = u64::try_from(updated_s).ok().filter(|at| *at <= newest);
    let updated_s = updated_s.ok_or("the feed's time is ahead of this machine's clock")?;
    if updated_s < oldest {
        return Err(format!("the feed stands still since {updated_s} (seconds since 1970)"));
    }
    let one = U256::from(10).pow(U256::from(decimals));
    let (answer, one) = (Rational::from(answer), Rational::from(one));
    let (base, quote) = description.split_once('/').unwrap_or_default();
    let is = |text: &str, name: &str| text.trim().eq_ignore_ascii_case(name);
    let usd = match () {
        () if is(base, "ETH") && is(quote, "USD") => answer.checked_div(&one),
        () if is(base, "USD") && is(quote, "ETH") => one.checked_div(&answer),
        () => return Err(format!("the feed is of {description:?}, not of ETH / USD")),
    };
    Ok((sane(usd.unwrap_or_default())?, updated_s))
}

fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map(|since| since.as_secs()).unwrap_or_default()
}

async fn ask_words(client: &Client, feed: &Feed, signature: &str) -> Result<Vec<U256>, String> {
    Ok(words(&ask(client, feed, signature).await?))
}

fn words(bytes: &[u8]) -> Vec<U256> {
    bytes.chunks_exact(32).map(U256::from_be_slice).collect()
}

/// A contract's answer that is one text.
fn text(bytes: &[u8]) -> Result<String, String> {
    let bad = "description() is no text";
    let length = words(bytes).get(1).and_then(|length| usize::try_from(*length).ok()).ok_or(bad)?;
    let text = bytes.get(64..).and_then(|rest| rest.get(..length.min(MAX_DESCRIPTION)));
    Ok(String::from_utf8_lossy(text.ok_or(bad)?).into_owned())
}

async fn ask(client: &Client, feed: &Feed, signature: &str) -> Result<Vec<u8>, String> {
    let selector = keccak256(signature);
    let data = format!("0x{}", hex::encode(selector.get(..4).unwrap_or_default()));
    let call = json!({ "to": feed.address.to_string(), "data": data });
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [call, "latest"],
    });
    let request = client.post(feed.url.clone()).json(&body);
    let answer: Value =
        serde_json::from_slice(&super::body_of(request).await?).map_err(|e| e.to_string())?;
    if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
        let said = error.get("message").and_then(Value::as_str).unwrap_or("an error");
        return Err(format!("{signature}: {}", said.chars().take(200).collect::<String>()));
    }
    let digits = answer.get("result").and_then(Value::as_str).unwrap_or_default();
    let bytes = hex::decode(digits.trim_start_matches("0x")).map_err(|e| e.to_string())?;
    if bytes.is_empty() {
        return Err(format!("there is no price feed at {} on that chain", feed.address));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    fn of(description: &str, decimals: u64, answer: U256, age_s: u64) -> Result<Rational, String> {
        let round = [U256::from(7), answer, U256::ZERO, U256::from(NOW - age_s), U256::from(7)];
        price(description, U256::from(decimals), &round, NOW).map(|(usd, _)| usd)
    }

    #[test]
    fn the_price_is_exact_and_either_way_round() {
        let r = |text: &str| text.parse::<Rational>().unwrap();
        let answer = U256::from(312_345_678_901_u64);
        assert_eq!(of("ETH / USD", 8, answer, 0), Ok(r("312345678901/100000000")));
        assert_eq!(of("eth/usd", 8, answer, 86_400), Ok(r("312345678901/100000000")));
        assert_eq!(of("USD / ETH", 4, U256::from(4), 0), Ok(r("2500")));
    }

    #[test]
    fn what_is_no_price_is_refused() {
        let answer = U256::from(312_345_678_901_u64);
        let at = |updated_s| {
            let round = [U256::from(7), answer, U256::ZERO, updated_s, U256::from(7)];
            price("ETH / USD", U256::from(8), &round, NOW).map(|(usd, _)| usd)
        };
        at(U256::from(NOW + 300)).unwrap();
        for bad in [
            of("BTC / USD", 8, answer, 0),
            of("ETH USD", 8, answer, 0),
            of("ETH / USD", 37, answer, 0),
            of("ETH / USD", 8, U256::ZERO, 0),
            of("ETH / USD", 8, U256::MAX, 0),
            of("ETH / USD", 8, answer, 27 * 3_600),
            of("ETH / USD", 20, answer, 0),
            price("ETH / USD", U256::from(8), &[answer], NOW).map(|(usd, _)| usd),
            at(U256::from(NOW + 301)),
            at(U256::MAX),
        ] {
            bad.unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), decimals in any::<u64>()) {
            let description = text(&bytes).unwrap_or_else(|_| "ETH / USD".to_owned());
            let _ = price(&description, U256::from(decimals), &words(&bytes), NOW);
            let _ = price("USD / ETH", U256::from(decimals % 37), &words(&bytes), NOW);
        }
    }
}
