//! What clients and operators are shown (live-runner.md section 4). Clients never see where a runner
//! is.

use super::{
    facts::Mode,
    path,
    price::{Sold, WeiPrice},
    registry::Registry,
    runner::Runner,
};
use crate::{
    live,
    pricing::book::{OthersPrice, Prices},
};
use penstock_domain::{Address, address_lower};
use serde_json::{Map, Value, json};
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;

impl Registry {
    /// `GET /discovery`, with what it costs a gateway now where work is paid.
    pub fn listing(&self, list: Option<&Prices>, gateway: Address, now: Instant) -> Value {
        let rows = self.ready(now, |runner| (self.row(runner), runner.sold()));
        let priced = rows.into_iter().map(|(mut row, sold)| {
            let price = sold.zip(list).and_then(|(sold, list)| sold.price(list, gateway).ok());
            if let Some(WeiPrice { wei, unit }) = price {
                let price = json!({ "price": wei, "currency": "wei", "unit": unit.as_str() });
                row.insert("price_info".to_owned(), price);
            }
            Value::Object(row)
        });
        let rows: Vec<_> = priced.collect();
        let mut entry = json!({ "address": self.places.service });
        if let (false, Some(map)) = (rows.is_empty(), entry.as_object_mut()) {
            map.insert("runners".to_owned(), Value::Array(rows));
        }
        json!([entry])
    }

    /// What those that are offered cost a gateway now, as it is charged. `null`: what an ether costs is not known.
    pub fn price_rows(&self, list: &Prices, gateway: Address, now: Instant) -> Vec<Value> {
        let rows = self.ready(now, |runner| (self.public_url(runner), runner.sold()));
        let row = |(url, sold): (String, Option<Sold>)| {
            let sold = sold?;
            let OthersPrice { said, wei } = sold.asked(list, gateway);
            let price = wei.ok().and_then(|wei| WeiPrice::of(&wei, sold.own.unit));
            Some(json!({
                "url": url,
                "app": sold.app,
                "price_per_unit": said.to_string(),
                "wei_per_unit": price.map(WeiPrice::rational),
                "unit": sold.own.unit.as_str(),
            }))
        };
        rows.into_iter().filter_map(row).collect()
    }

    /// Of those that clients can have. Prices are looked up without the lock: lists may be long.
    fn ready<T>(&self, now: Instant, of: impl Fn(&Runner) -> T) -> Vec<T> {
        let state = self.lock();
        let ready = state.runners.values().filter(|runner| runner.is_ready(now, self.bounds.ttl));
        ready.map(of).collect()
    }

    fn row(&self, runner: &Runner) -> Map<String, Value> {
        let facts = &runner.facts;
        let mut row = Map::new();
        row.insert("url".to_owned(), json!(self.public_url(runner)));
        if let Some(gpu) = &facts.gpu {
            row.insert("gpu".to_owned(), gpu.to_json());
        }
        row.insert("app".to_owned(), json!(facts.app));
        for (key, text) in [("version", &facts.version), ("metadata", &facts.metadata)] {
            if !text.is_empty() {
                row.insert(key.to_owned(), json!(text));
            }
        }
        row.insert("mode".to_owned(), json!(facts.mode.as_str()));
        let used = runner.sessions.len();
        row.insert("capacity".to_owned(), json!(facts.capacity));
        row.insert("capacity_used".to_owned(), json!(used));
        let free = i64::try_from(facts.capacity).unwrap_or(i64::MAX)
            - i64::try_from(used).unwrap_or(i64::MAX);
        row.insert("capacity_available".to_owned(), json!(free));
        row
    }

    /// Where clients begin.
    fn public_url(&self, runner: &Runner) -> String {
        match (runner.facts.mode, runner.facts.proxy) {
            (Mode::SingleShot, true) => self.places.template.url(&runner.route),
            (Mode::SingleShot, false) => format!("{}/app", self.app_url(&runner.route)),
            (Mode::Persistent, _) => format!("{}/session", self.app_url(&runner.route)),
        }
    }

    /// Of all that clients do with a runner.
    pub(super) fn app_url(&self, route: &str) -> String {
        format!("{}/apps/{}", self.places.service, path::segment(route))
    }

    /// Of a session: where clients end and pay it.
    pub fn control_url(&self, route: &str, session: &str) -> String {
        format!("{}/session/{}", self.app_url(route), path::segment(session))
    }

    /// Of a session: where its runner acts for it.
    pub fn runner_control_url(&self, route: &str, session: &str) -> String {
        let (runner, route) = (&self.places.runner, path::segment(route));
        format!("{runner}/runner/{route}/session/{}", path::segment(session))
    }

    /// Where a channel is, for clients and for runners.
    pub(super) fn channel_urls(&self, channel: &str) -> (String, String) {
        let at = |base: &str| format!("{base}{}/{channel}", live::PATH);
        (at(&self.places.service), at(&self.places.runner))
    }

    /// For the operator: all runners.
    pub fn view_runners(&self, now: Instant) -> Vec<Value> {
        let row = |runner: &Runner| {
            json!({
                "runner_id": runner.id,
                "route": runner.route,
                "label": runner.facts.label,
                "app": runner.facts.app,
                "url": runner.facts.url.as_str(),
                "static": runner.is_static(),
                "mode": runner.facts.mode.as_str(),
                "ready": runner.is_ready(now, self.bounds.ttl),
                "capacity": runner.facts.capacity,
                "sessions": runner.sessions.len(),
            })
        };
        self.lock().runners.values().map(row).collect()
    }

    /// For the operator: the sessions, and those that ended last with the reason.
    pub fn view_sessions(&self) -> Vec<Value> {
        let state = self.lock();
        let mut rows = Vec::new();
        for runner in state.runners.values() {
            for (name, session) in &runner.sessions {
                let paid = session.paid.as_ref();
                rows.push(json!({
                    "session_id": name,
                    "route": runner.route,
                    "app": runner.facts.app,
                    "begun_ms": session.begun_ms,
                    "open_requests": session.open,
                    "channels": session.channels.len(),
                    "sender": paid.map(|paid| address_lower(&paid.payer)),
                    "price_wei": paid.map(|paid| paid.price.clone()),
                    "unit": paid.map(|paid| paid.unit.as_str()),
                    "units_charged": session.units(),
                }));
            }
        }
        rows.extend(state.ended.newest().map(|ended| {
            json!({
                "session_id": ended.session,
                "route": ended.route,
                "ended_ms": ended.at_ms,
                "reason": ended.reason.as_str(),
                "units_charged": ended.units.load(Relaxed),
            })
        }));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SECRET, registry, said};
    use super::*;
    use crate::pricing::{
        list::{Latency, PriceList, Rule, When, Who},
        unit::Unit,
    };
    use penstock_domain::CurrencyPrice;
    use penstock_wire::json::RunnerSaid;

    #[tokio::test]
    async fn what_clients_see() {
        let registry = registry(&[]);
        let now = Instant::now();
        let own = Prices::fixed(PriceList::default(), 2_000);
        let listing = |list: &Prices| registry.listing(Some(list), Address::ZERO, now);
        assert_eq!(listing(&own), json!([{ "address": "https://service:1" }]));
        let shot = |id: &str, proxy| RunnerSaid {
            mode: "single-shot".into(),
            proxy,
            capacity: 3,
            ..said(id)
        };
        for said in [said("a"), shot("b", false), shot("c", true)] {
            registry.heartbeat(said, SECRET, true, now).unwrap();
        }
        let not_ready = RunnerSaid { status: "loading".into(), ..said("d") };
        registry.heartbeat(not_ready, SECRET, true, now).unwrap();
        registry.lock().add_session("b", "s", now);
        let list = listing(&own);
        assert!(!list.to_string().contains("10.0.0.2"), "{list}");
        let rows = list[0]["runners"].as_array().unwrap();
        let url = |n: usize| rows[n]["url"].as_str().unwrap();
        assert_eq!(rows.len(), 3);
        assert_eq!(url(0), "https://service:1/apps/a/session");
        assert_eq!(url(1), "https://service:1/apps/b/app");
        assert_eq!(url(2), "https://service:1/run/c");
        assert_eq!(
            (&rows[1]["capacity"], &rows[1]["capacity_used"], &rows[1]["capacity_available"]),
            (&json!(3), &json!(1), &json!(2))
        );
        // 0.0072 dollars an hour, an ether for 2,000.
        let price = json!({ "price": 1_000_000_000, "currency": "wei", "unit": "seconds" });
        assert_eq!(rows[0]["price_info"], price);
        let prices = registry.price_rows(&own, Address::ZERO, now);
        assert_eq!(prices.len(), 3);
        let first = json!({
            "url": url(0), "app": rows[0]["app"], "price_per_unit": "1/500000 usd",
            "wei_per_unit": "1000000000", "unit": "seconds",
        });
        assert_eq!(prices[0], first);
        // A rule of the operator's goes before that, for whom and for what it is for.
        let rule = |price: &str, when: When| {
            let when = When { who: Who::Runner(Unit::Seconds), model: Some("echo".into()), ..when };
            Rule { when, price: CurrencyPrice::parse(price, "1").unwrap() }
        };
        let named = Address::repeat_byte(1);
        let rules = Prices::fixed(
            PriceList::new(vec![
                rule("0.7", When { gateways: [named].into(), ..When::default() }),
                rule("9.7", When { latency: Some(Latency::Batch), ..When::default() }),
                rule("8", When { load_percent: Some(100), ..When::default() }),
            ]),
            2_000,
        );
        let of = |gateway, n: usize| {
            let row = registry.price_rows(&rules, gateway, now).remove(n);
            (row["price_per_unit"].as_str().unwrap().to_owned(), row["wei_per_unit"].clone())
        };
        assert_eq!(of(Address::ZERO, 0), ("1/500000 usd".into(), json!("1000000000")));
        assert_eq!(of(Address::ZERO, 1), ("97/10 wei".into(), json!("9")), "single calls");
        // Less than a wei is no price, whatever the runner registered.
        assert_eq!(of(named, 0), ("7/10 wei".into(), Value::Null));
        registry.lock().add_session("a", "s", now);
        assert_eq!(of(Address::ZERO, 0), ("8 wei".into(), json!("8")), "it is full");
        assert_eq!(listing(&rules)[0]["runners"][0]["price_info"]["price"], 8);
        let body = list.to_string();
        let read = penstock_wire::json::parse_discovery(body.as_bytes()).unwrap();
        assert_eq!(read[0].runners.len(), 3);
    }
}
