//! The price list as clients are shown it (`GET /prices`): the rules that hold for whoever asks, in their order, with
//! exact numbers. Who proves to be a gateway that the list names sees its own as well; nobody sees whom else it names.

use super::{
    book::Stand,
    list::{Rule, When, Who},
    unit::Unit,
};
use bytes::Bytes;
use penstock_domain::{Address, Capability, Rational, address_lower};
use serde_json::{Value, json};
use std::collections::HashMap;

/// What the list's rows call live runners, which are no pipeline.
const RUNNERS: &str = "live-runner";

/// For whom an answer is: a gateway that the list names, and what the operator's webhook said of it.
type For = (Option<Address>, Option<Rational>);

/// Answers, as long as nothing changes.
#[derive(Debug)]
pub struct Published {
    of: Option<Stand>,
    answers: HashMap<For, Bytes>,
    /// Answers remembered, each of up to some megabytes. Gateways that the list does not name share one.
    most: usize,
}

impl Published {
    /// None yet.
    pub fn new(most: usize) -> Self {
        Self { of: None, answers: HashMap::new(), most }
    }

    /// What a gateway is shown of these prices; `told` is what its pixels cost by the operator's webhook. The list is
    /// `stand` with the price of an ether, if that is known now.
    pub fn answer(
        &mut self,
        stand: &Stand,
        gateway: Address,
        told: Option<Rational>,
        (auto_adjust, region): (bool, &str),
    ) -> Bytes {
        if self.of.as_ref() != Some(stand) {
            self.of = Some(stand.clone());
            self.answers.clear();
        }
        let is_named = told.is_some() || stand.list.names(gateway);
        let whom = (is_named.then_some(gateway), told);
        if let Some(known) = self.answers.get(&whom) {
            return known.clone();
        }
        let ether = stand.micro_usd_per_eth.as_ref();
        let own = whom.1.iter().map(|wei| {
            json!({ "pipeline": "transcoding", "price_per_unit": format!("{wei} wei"), "wei_per_unit": wei })
        });
        let holds = |rule: &&Rule| {
            let gateways = &rule.when.gateways;
            gateways.is_empty() || (is_named && gateways.contains(&gateway))
        };
        let listed = stand.list.rules().iter().filter(holds);
        let rules: Vec<_> = own.chain(listed.map(|rule| shown(rule, ether))).collect();
        let answer = json!({
            "gateway": whom.0.as_ref().map(address_lower),
            "region": region,
            "prices": rules,
            "micro_usd_per_eth": ether,
            "auto_adjust": auto_adjust,
        });
        let answer = Bytes::from(answer.to_string());
        if self.answers.len() >= self.most {
            self.answers.clear();
        }
        self.answers.insert(whom, answer.clone());
        answer
    }
}

/// A rule, but for the gateways that it names.
pub fn shown(rule: &Rule, ether: Option<&Rational>) -> Value {
    let When { who, model, gateways: _, latency, gpu, region, load_percent, units_per_second } =
        &rule.when;
    let (pipeline, model, own) = match who {
        Who::Any => (None, model, None),
        Who::Transcoding => (Some("transcoding".to_owned()), model, None),
        Who::Pipeline(number) => {
            (Capability::from_number(*number).map(Capability::pipeline), model, None)
        }
        // Clients that know pipelines only must not take it for the price of any.
        Who::Brought => {
            (Some(Capability::Byoc.pipeline()), &None, Some(("capability", Unit::Seconds)))
        }
        Who::Runner(unit) => (Some(RUNNERS.to_owned()), &None, Some(("app", *unit))),
    };
    let mut row = json!({
        "pipeline": pipeline,
        "model": model,
        "latency": latency.map(|latency| format!("{latency:?}").to_lowercase()),
        "gpu": gpu,
        "region": region,
        "load_percent": load_percent,
        "units_per_second": units_per_second,
        "price_per_unit": rule.price.to_string(),
        "wei_per_unit": rule.price.wei(ether),
    });
    if let (Some((key, unit)), Some(row)) = (own, row.as_object_mut()) {
        row.insert(key.to_owned(), json!(rule.when.model.as_deref().unwrap_or("*")));
        row.insert("unit".to_owned(), json!(unit.as_str()));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::list::PriceList;
    use penstock_domain::CurrencyPrice;
    use std::sync::Arc;

    fn stand(rules: usize, ether: Option<i128>) -> Stand {
        let named = Address::repeat_byte(1);
        let rule = |n: usize| {
            let gateways = if n == 0 { [named].into() } else { [].into() };
            let price = CurrencyPrice::parse(&format!("{}usd", n + 1), "3").unwrap();
            Rule { when: When { who: Who::Pipeline(33), gateways, ..When::default() }, price }
        };
        let list = Arc::new(PriceList::new((0..rules).map(rule).collect()));
        Stand { list, micro_usd_per_eth: ether.map(Rational::from_int) }
    }

    #[test]
    fn who_is_named_sees_its_own_and_nobody_sees_whom() {
        let mut published = Published::new(16);
        let stand = stand(2, Some(3_000_000));
        let mut ask = |gateway, told| {
            let answer = published.answer(&stand, gateway, told, (true, "eu"));
            (serde_json::from_slice::<Value>(&answer).unwrap(), answer)
        };
        let (named, other) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let (own, _) = ask(named, None);
        assert_eq!(own["prices"].as_array().unwrap().len(), 2);
        assert_eq!(own["gateway"], address_lower(&named).as_str());
        let (all, first) = ask(other, None);
        assert_eq!((&all["gateway"], &all["region"]), (&Value::Null, &json!("eu")));
        let row = &all["prices"][0];
        assert_eq!((&row["pipeline"], &row["price_per_unit"]), (&json!("llm"), &json!("2/3 usd")));
        // An ether for three dollars: two thirds of a dollar are two ninths of it.
        assert_eq!(row["wei_per_unit"], "2000000000000000000/9");
        assert!(!all.to_string().contains("0x01"), "{all}");
        assert_eq!(
            ask(Address::ZERO, None).1.as_ptr(),
            first.as_ptr(),
            "one answer for all others"
        );
        let (told, _) = ask(other, Some(Rational::new(7, 2).unwrap()));
        assert_eq!(told["prices"][0]["wei_per_unit"], "7/2");
        assert_eq!(told["prices"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_others_brought_has_a_name_and_a_unit() {
        let row = |who, model: Option<&str>| {
            let when = When { who, model: model.map(str::to_owned), ..When::default() };
            let price = CurrencyPrice::parse("7", "1").unwrap();
            shown(&Rule { when, price }, None)
        };
        let brought = row(Who::Brought, Some("flux"));
        assert_eq!((&brought["pipeline"], &brought["model"]), (&json!("byoc"), &Value::Null));
        assert_eq!((&brought["capability"], &brought["unit"]), (&json!("flux"), &json!("seconds")));
        let runner = row(Who::Runner(Unit::Fixed), None);
        assert_eq!((&runner["pipeline"], &runner["app"]), (&json!("live-runner"), &json!("*")));
        assert_eq!((&runner["unit"], runner.get("capability")), (&json!("fixed"), None));
        assert_eq!(row(Who::Pipeline(33), None).get("unit"), None);
    }

    #[test]
    fn answers_are_forgotten_when_prices_change_and_never_many() {
        let mut published = Published::new(16);
        let whom = |n: u8| Some(Rational::from_int(n.into()));
        for n in 1..100 {
            published.answer(&stand(1, None), Address::repeat_byte(n), whom(n), (true, ""));
            assert!(published.answers.len() <= 16);
        }
        let before = published.answer(&stand(2, None), Address::ZERO, None, (true, ""));
        assert_eq!(published.answers.len(), 1);
        let after = published.answer(&stand(2, Some(1)), Address::ZERO, None, (true, ""));
        assert_ne!(before, after, "dollars have a price in wei now");
    }
}
