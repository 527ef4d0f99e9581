//! From answers to the list (remote-signer.md section 10, "Building the list"). Pure.
//!
//! One difference, on purpose: an orchestrator that serves video and no model has no capability
//! name and is dropped by the reference; here it is listed (when nothing particular is wanted), so
//! that video can be found as well.

use super::{ask::Polled, reason::Reason};
use crate::service::prices::PriceLimits;
use penstock_domain::{Capabilities, Capability, CapabilitySet, Rational, U256};
use penstock_wire::{
    OrchestratorOffer,
    json::{DiscoveryEntry, Runner},
};
use std::collections::{BTreeSet, HashMap};

/// Always this, for the Go gateway's webhook reader: trusted.
const SCORE: f32 = 1.0;
/// Units that a runner's price may have.
const UNITS: [&str; 3] = ["seconds", "720p-pixel-seconds", "fixed"];
/// Most addresses listed: orchestrators name each other's in their runner lists.
const MAX_ENTRIES: usize = 4_096;

#[derive(Default)]
struct Merged {
    address: String,
    capabilities: BTreeSet<String>,
    video: bool,
    runners: Vec<Runner>,
    /// Places of `runners` by URL.
    by_url: HashMap<String, usize>,
}

/// Something that costs more than its limit allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TooDear {
    /// `pipeline/model`, or `video`.
    pub capability: String,
    /// Wei per unit.
    pub price: Rational,
    /// Wei per unit.
    pub limit: Rational,
}

/// What the limits leave of an offer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// `pipeline/model` names within their limits.
    pub capabilities: Vec<String>,
    /// Transcodes video at an acceptable price, and serves no model.
    pub video: bool,
    /// What the limits take away.
    pub too_dear: Vec<TooDear>,
}

impl Judged {
    /// Why the offer by itself puts nobody on the list.
    pub fn excluded(&self, offer: &OrchestratorOffer) -> Option<Reason> {
        if offer.transcoder.is_none() {
            Some(Reason::NoServiceUri)
        } else if self.video || !self.capabilities.is_empty() {
            None
        } else if self.too_dear.is_empty() {
            Some(Reason::NoCapability)
        } else {
            Some(Reason::Price)
        }
    }
}

/// Entries in the order of `polled`.
pub(super) fn build(polled: &[&Polled], limits: &PriceLimits) -> Vec<DiscoveryEntry> {
    let mut order: Vec<Merged> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for answer in polled {
        let judged = judge(&answer.offer, limits);
        let Some(address) = &answer.offer.transcoder else { continue };
        if judged.excluded(&answer.offer).is_some() {
            continue;
        }
        let Some(entry) = entry_of(&mut order, &mut places, address) else { continue };
        entry.capabilities.extend(judged.capabilities);
        entry.video |= judged.video;
    }
    for extra in polled.iter().flat_map(|p| &p.discovery) {
        // An address nobody would be listed for is not made for runners that do not count.
        let runners = extra.runners.iter().filter(|r| counts(r, limits));
        for runner in runners {
            let Some(entry) = entry_of(&mut order, &mut places, &extra.address) else { continue };
            merge(entry, runner);
        }
    }
    order
        .into_iter()
        .filter(|entry| entry.video || !entry.capabilities.is_empty())
        .map(|entry| DiscoveryEntry {
            address: entry.address,
            score: SCORE,
            capabilities: entry.capabilities.into_iter().collect(),
            runners: entry.runners,
            ..DiscoveryEntry::default()
        })
        .collect()
}

/// What is bonded to each, by service URI; where several answer for one, the most.
#[derive(Debug, Default)]
pub(super) struct Stakes(HashMap<String, U256>);

impl Stakes {
    /// What one who answered has.
    pub fn note(&mut self, polled: &Polled, stake_lptu: U256) {
        let Some(address) = &polled.offer.transcoder else { return };
        let known = self.0.entry(address.trim_end_matches('/').to_owned()).or_default();
        *known = (*known).max(stake_lptu);
    }

    /// Puts them into the list. What lists of others say of stakes counts for nothing.
    pub fn tell(&self, list: &mut [DiscoveryEntry]) {
        for entry in list {
            let stake = self.0.get(entry.address.trim_end_matches('/')).copied();
            entry.stake_lptu = stake.unwrap_or_default();
        }
    }
}

/// Addresses are the same with and without trailing slashes; the first spelling stays.
fn entry_of<'a>(
    order: &'a mut Vec<Merged>,
    places: &mut HashMap<String, usize>,
    address: &str,
) -> Option<&'a mut Merged> {
    let key = address.trim_end_matches('/').to_owned();
    if order.len() >= MAX_ENTRIES && !places.contains_key(&key) {
        return None;
    }
    let place = *places.entry(key).or_insert_with(|| {
        order.push(Merged { address: address.to_owned(), ..Merged::default() });
        order.len().saturating_sub(1)
    });
    order.get_mut(place)
}

/// Every model whose price is known, and video where no model is served.
pub(super) fn judge(offer: &OrchestratorOffer, limits: &PriceLimits) -> Judged {
    let mut judged = Judged::default();
    let models = offer.capabilities.iter().flat_map(|c: &Capabilities| &c.models);
    for (number, models) in models {
        let Some(capability) = Capability::from_number(*number) else { continue };
        for model in models.keys().filter(|m| !m.is_empty()) {
            let Some(price) = price_of(offer, *number, model) else { continue };
            let name = format!("{}/{model}", capability.pipeline());
            match above(&price, limits.for_model(*number, model)) {
                None => judged.capabilities.push(name),
                Some(limit) => judged.too_dear.push(TooDear { capability: name, price, limit }),
            }
        }
    }
    if let Some(price) = offer.price.filter(|_| is_transcoder(offer)) {
        let price = price.rational();
        match above(&price, limits.for_request(None)) {
            None => judged.video = true,
            Some(limit) => {
                judged.too_dear.push(TooDear { capability: "video".to_owned(), price, limit });
            }
        }
    }
    judged
}

fn price_of(offer: &OrchestratorOffer, capability: u32, model: &str) -> Option<Rational> {
    let own = offer
        .capabilities_prices
        .iter()
        .find(|p| p.capability == capability && p.constraint == model)
        .map(|p| p.price);
    own.or(offer.price).map(|price| price.rational())
}

/// No model at all, but what transcoding needs.
fn is_transcoder(offer: &OrchestratorOffer) -> bool {
    let Some(capabilities) = &offer.capabilities else { return false };
    let transcodes = CapabilitySet::of([Capability::H264, Capability::MpegTs]);
    capabilities.models.values().all(|m| m.is_empty()) && transcodes.is_subset(&capabilities.set)
}

/// The limit that a price is above, if it is.
fn above(price: &Rational, limit: Option<Rational>) -> Option<Rational> {
    limit.filter(|limit| price > limit)
}

/// Step 3; the wire layer has checked url, app and metadata. Limits by capability do not apply.
fn counts(runner: &Runner, limits: &PriceLimits) -> bool {
    let Some(price) = &runner.price_info else { return false };
    price.price.is_positive()
        && price.currency.trim().eq_ignore_ascii_case("wei")
        && UNITS.iter().any(|unit| price.unit.trim().eq_ignore_ascii_case(unit))
        && above(&price.price, limits.for_request(None)).is_none()
}

/// Step 4: unique by URL, the first wins.
fn merge(entry: &mut Merged, runner: &Runner) {
    entry.capabilities.insert(runner.app.clone());
    let place = entry.by_url.get(&runner.url).copied();
    let Some(first) = place.and_then(|place| entry.runners.get(place)) else {
        entry.by_url.insert(runner.url.clone(), entry.runners.len());
        entry.runners.push(runner.clone());
        return;
    };
    let usage_aside = Runner {
        capacity_used: first.capacity_used,
        capacity_available: first.capacity_available,
        ..runner.clone()
    };
    if usage_aside != *first {
        tracing::debug!(runner = runner.url, "the runner is described twice; the first stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{ModelConstraint, PriceInfo};
    use penstock_wire::{
        CapabilityPrice,
        json::{RunnerPrice, parse_discovery},
    };

    fn polled(address: &str, models: &[(u32, &str)], price: i64) -> Polled {
        let mut capabilities =
            Capabilities { set: CapabilitySet::default_video(), ..Capabilities::default() };
        for (number, model) in models {
            let of = capabilities.models.entry(*number).or_default();
            of.insert((*model).to_owned(), ModelConstraint::default());
        }
        let bare = penstock_wire::net::OrchestratorInfo::default();
        let offer = OrchestratorOffer {
            transcoder: Some(address.to_owned()),
            capabilities: Some(capabilities),
            price: Some(PriceInfo::new(price, 1).unwrap()),
            ..OrchestratorOffer::try_from(&bare).unwrap()
        };
        Polled { offer, discovery: vec![], latency: std::time::Duration::ZERO }
    }

    fn runner(url: &str, app: &str, price: &str) -> Runner {
        Runner {
            url: url.into(),
            app: app.into(),
            price_info: Some(RunnerPrice {
                price: Rational::from_decimal(price).unwrap(),
                currency: " WEI".into(),
                unit: "Seconds".into(),
            }),
            ..Runner::default()
        }
    }

    fn runners(address: &str, runners: Vec<Runner>) -> DiscoveryEntry {
        DiscoveryEntry { address: address.into(), runners, ..DiscoveryEntry::default() }
    }

    fn limit(price: &str) -> PriceLimits {
        PriceLimits { general: Some(price.parse().unwrap()), ..PriceLimits::default() }
    }

    #[test]
    fn names_prices_and_limits() {
        let mut a =
            polled("https://a:1", &[(31, "w/tiny"), (31, "w/big"), (27, "sd"), (99, "x")], 10);
        a.offer.capabilities_prices = vec![CapabilityPrice {
            capability: 31,
            constraint: "w/big".into(),
            price: PriceInfo::new(100, 1).unwrap(),
        }];
        let all = build(&[&a], &PriceLimits::default());
        assert_eq!(
            all[0].capabilities,
            ["audio-to-text/w/big", "audio-to-text/w/tiny", "text-to-image/sd"]
        );
        assert_eq!(all[0].score, 1.0);
        let cheap = build(&[&a], &limit("50"));
        assert_eq!(cheap[0].capabilities, ["audio-to-text/w/tiny", "text-to-image/sd"]);
        assert!(build(&[&a], &limit("5")).is_empty(), "nothing kept: skipped");
        let judged = judge(&a.offer, &limit("50"));
        assert_eq!(judged.excluded(&a.offer), None);
        let [dear] = judged.too_dear.as_slice() else { panic!("{judged:?}") };
        let said = (dear.capability.as_str(), dear.price.to_string(), dear.limit.to_string());
        assert_eq!(said, ("audio-to-text/w/big", "100".to_owned(), "50".to_owned()));
        assert_eq!(judge(&a.offer, &limit("5")).excluded(&a.offer), Some(Reason::Price));
        let nothing = polled("https://n:1", &[(99, "x")], 1);
        let judged = judge(&nothing.offer, &PriceLimits::default());
        assert_eq!(judged.excluded(&nothing.offer), Some(Reason::NoCapability));
    }

    #[test]
    fn video_alone_is_listed_when_nothing_is_wanted() {
        let video = polled("https://v:1", &[], 10);
        let all = build(&[&video], &limit("10"));
        assert_eq!((all.len(), all[0].capabilities.len()), (1, 0));
        assert!(build(&[&video], &limit("9")).is_empty());
        let judged = judge(&video.offer, &limit("9"));
        assert_eq!(judged.excluded(&video.offer), Some(Reason::Price));
        assert_eq!(judged.too_dear[0].capability, "video");
    }

    #[test]
    fn slashes_merge_and_runners_bring_back() {
        let mut a = polled("https://a:1/", &[(31, "m")], 10);
        a.discovery = vec![
            runners(
                "https://a:1",
                vec![runner("https://a:1/r", "app1", "1"), runner("https://a:1/r", "app1", "1")],
            ),
            runners("https://b:1", vec![runner("https://b:1/r", "app2", "1")]),
            runners("https://c:1", vec![runner("https://c:1/r", "app3", "0")]),
        ];
        let mut b = polled("https://b:1", &[(31, "m")], 1000);
        b.discovery = vec![runners("https://b:1//", vec![runner("https://b:1/s", "app1", "1")])];
        let all = build(&[&a, &b], &limit("10"));
        let addresses: Vec<_> = all.iter().map(|e| e.address.as_str()).collect();
        assert_eq!(addresses, ["https://a:1/", "https://b:1"], "c has no runner that counts");
        assert_eq!(all[0].capabilities, ["app1", "audio-to-text/m"]);
        assert_eq!(all[0].runners.len(), 1);
        assert_eq!(
            all[1].capabilities,
            ["app1", "app2"],
            "too dear for its model, back by its runners"
        );
    }

    #[test]
    fn stakes_go_to_whom_they_are_bonded() {
        let (a, mut b) =
            (polled("https://a:1/", &[(31, "m")], 1), polled("https://b:1", &[(31, "m")], 1));
        b.discovery = vec![DiscoveryEntry {
            stake_lptu: U256::MAX,
            ..runners("https://b:1", vec![runner("https://b:1/r", "app", "1")])
        }];
        let mut list = build(&[&a, &b], &PriceLimits::default());
        let mut stakes = Stakes::default();
        for (of, stake) in [(&a, 5_u64), (&a, 7), (&a, 0)] {
            stakes.note(of, U256::from(stake));
        }
        stakes.tell(&mut list);
        let told: Vec<_> = list.iter().map(|entry| entry.stake_lptu).collect();
        assert_eq!(told, [U256::from(7), U256::ZERO], "nobody says his own");
    }

    #[test]
    fn runners_that_do_not_count() {
        let with = |change: fn(&mut Runner)| {
            let mut r = runner("https://a:1/r", "app", "1");
            change(&mut r);
            counts(&r, &limit("1"))
        };
        assert!(with(|_| {}));
        assert!(!with(|r| r.price_info = None));
        assert!(!with(|r| r.price_info.as_mut().unwrap().price = Rational::from(2u64)));
        assert!(!with(|r| r.price_info.as_mut().unwrap().currency = "usd".into()));
        assert!(!with(|r| r.price_info.as_mut().unwrap().unit = "hour".into()));
    }

    #[test]
    fn a_usage_change_is_no_conflict_and_unknown_fields_are_gone() {
        let body = br#"[{"address":"https://a:1","secret":1,"runners":[
            {"url":"https://a:1/r","app":"x","capacity_used":1,"secret":2,
             "price_info":{"price":0.5,"currency":"wei","unit":"seconds"}},
            {"url":"https://a:1/r","app":"x","capacity_used":9,
             "price_info":{"price":0.5,"currency":"wei","unit":"seconds"}}]}]"#;
        let mut a = polled("https://a:1", &[(31, "m")], 1);
        a.discovery = parse_discovery(body).unwrap();
        let all = build(&[&a], &PriceLimits::default());
        assert_eq!(all[0].runners.len(), 1);
        assert_eq!(all[0].runners[0].capacity_used, 1);
        let text = all[0].to_json().to_string();
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains("\"price\":0.5"), "{text}");
    }
}
