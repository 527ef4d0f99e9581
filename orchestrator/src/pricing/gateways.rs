//! Prices of transcoding per gateway, in the Go node's form (operator.md section 3, `pricePerGateway`).

use super::list::{Rule, When, Who};
use penstock_domain::{CurrencyPrice, parse_address};
use serde::Deserialize;
use serde_json::Number;

/// Unknown keys are a mistake in money.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    broadcasters: Vec<Entry>,
    #[serde(default)]
    gateways: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    ethaddress: String,
    priceperunit: Number,
    pixelsperunit: Number,
    #[serde(default)]
    currency: String,
}

/// The rules. A later entry for an address replaces an earlier one, and `gateways` come after `broadcasters`.
pub fn read(json: &str) -> Result<Vec<Rule>, String> {
    if !json.trim_start().starts_with('{') {
        return Err("must be a JSON object".into());
    }
    let said: Said = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let entries = said.broadcasters.iter().chain(&said.gateways);
    let rules = entries.map(|entry| {
        let address = parse_address(&entry.ethaddress)
            .ok_or_else(|| format!("{:?} is no address in hex", entry.ethaddress))?;
        let (number, units) = (entry.priceperunit.to_string(), entry.pixelsperunit.to_string());
        let price = CurrencyPrice::new(&number, &entry.currency, &units)
            .map_err(|error| format!("{}: {error}", entry.ethaddress))?;
        let gateways = [address].into();
        Ok(Rule { when: When { who: Who::Transcoding, gateways, ..When::default() }, price })
    });
    let mut rules = rules.collect::<Result<Vec<_>, String>>()?;
    // The first rule that fits is the price.
    rules.reverse();
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::list::{Around, PriceList, Work};
    use penstock_domain::Address;

    #[test]
    fn the_go_nodes_form() {
        let address = |n: u8| format!("{}", Address::repeat_byte(n));
        let text = format!(
            r#"{{"gateways":[{{"ethaddress":"{}","priceperunit":0.5,"currency":"USD","pixelsperunit":1000}}],
                 "broadcasters":[{{"ethaddress":"{}","priceperunit":3,"pixelsperunit":2}},
                                 {{"ethaddress":"{}","priceperunit":9,"pixelsperunit":1}}]}}"#,
            address(1),
            address(2).to_lowercase(),
            address(1)
        );
        let list = PriceList::new(read(&text).unwrap());
        let of = |n: u8| {
            let price = list.of(Address::repeat_byte(n), Work::Transcoding, &|_| Around::default());
            price.map(ToString::to_string)
        };
        assert_eq!((of(1), of(2)), (Some("1/2000 usd".into()), Some("3/2 wei".into())));
        assert_eq!(of(3), None);
        for bad in [
            "",
            "[]",
            r#"{"gateway":[]}"#,
            r#"{"gateways":[{"ethaddress":"0x1","priceperunit":1,"pixelsperunit":1}]}"#,
            &format!(r#"{{"gateways":[{{"ethaddress":"{}","priceperunit":1}}]}}"#, address(1)),
            &format!(
                r#"{{"gateways":[{{"ethaddress":"{}","priceperunit":"1","pixelsperunit":1}}]}}"#,
                address(1)
            ),
            &format!(
                r#"{{"gateways":[{{"ethaddress":"{}","priceperunit":1,"pixelsperunit":0}}]}}"#,
                address(1)
            ),
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
