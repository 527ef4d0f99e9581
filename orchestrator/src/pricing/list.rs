//! The price list, and what it makes of a request: pure. Rules are looked at in order, and the first whose
//! conditions all hold is the price. What is not priced costs what pixels cost, or, where somebody brought it, what he
//! registered it with.

use super::unit::Unit;
use penstock_domain::{Address, Capabilities, Capability, CurrencyPrice, Rational};
use std::collections::BTreeSet;
use thiserror::Error;

/// The price is in dollars, and nobody knows what an ether costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the price of this work is in dollars, and what an ether costs is not known, or too old (--eth-usd, --eth-usd-max-age-ms)"
)]
pub struct NoEther;

/// What a rule is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Who {
    /// Segments and all pipelines. What others brought is counted in units of its own, and has to be named.
    #[default]
    Any,
    /// Segments.
    Transcoding,
    /// A pipeline, by its capability.
    Pipeline(u32),
    /// Brought capabilities, by the second.
    Brought,
    /// Live runners that are sold by this unit.
    Runner(Unit),
}

/// How soon an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latency {
    /// While it is sent: transcoding, live video, and sessions of live runners.
    Realtime,
    /// By a model that is loaded already: the request says so.
    Warm,
    /// When it is done.
    Batch,
}

/// The conditions of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct When {
    /// The pipeline.
    pub who: Who,
    /// The model; of what others brought the capability's name, or the runner's app.
    pub model: Option<String>,
    /// Who pays; empty is anybody.
    pub gateways: BTreeSet<Address>,
    /// How soon it is wanted.
    pub latency: Option<Latency>,
    /// A part of the name of a card that serves the model now; lower case.
    pub gpu: Option<String>,
    /// The region that it is for, which is this orchestrator's: for who reads the list.
    pub region: Option<String>,
    /// So many percent of the room for it, or more, are taken now.
    pub load_percent: Option<u32>,
    /// So many units a second, or more, of it have been done lately.
    pub units_per_second: Option<u64>,
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// When it holds.
    pub when: When,
    /// The price of a unit then.
    pub price: CurrencyPrice,
}

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceList {
    rules: Vec<Rule>,
}

/// Work that has one price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work<'a> {
    /// Segments.
    Transcoding,
    /// A model of a pipeline.
    Model {
        /// The pipeline's capability.
        capability: u32,
        /// The model.
        model: &'a str,
        /// Whether it has to be loaded.
        warm: bool,
    },
    /// A capability that somebody brought.
    Brought {
        /// Its name.
        name: &'a str,
    },
    /// A session of a live runner, or a call.
    Runner {
        /// What it runs.
        app: &'a str,
        /// What it is sold by.
        unit: Unit,
        /// Whether it is a session, which lasts.
        lasts: bool,
    },
}

/// What a price may depend on besides the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Around {
    /// Names of the cards that serve it, in lower case.
    pub cards: Vec<String>,
    /// How much of the room for it is taken.
    pub load_percent: u32,
    /// How fast it was done lately; 0 if that is not known.
    pub units_per_second: u64,
}

impl<'a> Work<'a> {
    /// `None`: it is not known when the price is asked for. A brought capability has one price for jobs, streams and
    /// training.
    fn latency(self) -> Option<Latency> {
        match self {
            Self::Transcoding => Some(Latency::Realtime),
            Self::Model { capability, .. } if capability == LIVE => Some(Latency::Realtime),
            Self::Model { warm: true, .. } => Some(Latency::Warm),
            Self::Model { warm: false, .. } => Some(Latency::Batch),
            Self::Brought { .. } => None,
            Self::Runner { lasts: true, .. } => Some(Latency::Realtime),
            Self::Runner { lasts: false, .. } => Some(Latency::Batch),
        }
    }

    /// Whose it is, and its name among theirs.
    fn who(self) -> (Who, Option<&'a str>) {
        match self {
            Self::Transcoding => (Who::Transcoding, None),
            Self::Model { capability, model, .. } => (Who::Pipeline(capability), Some(model)),
            Self::Brought { name } => (Who::Brought, Some(name)),
            Self::Runner { app, unit, .. } => (Who::Runner(unit), Some(app)),
        }
    }
}

impl Who {
    /// Whether it is what others brought, which no rule for everything reaches.
    pub fn is_others(self) -> bool {
        matches!(self, Self::Brought | Self::Runner(_))
    }
}

const LIVE: u32 = Capability::LiveVideoToVideo as u32;

impl When {
    /// Whether what the request says fits.
    fn fits(&self, gateway: Address, work: Work<'_>) -> bool {
        let (who, model) = work.who();
        (self.who == who || (self.who == Who::Any && !who.is_others()))
            && self.model.as_deref().is_none_or(|wanted| Some(wanted) == model)
            && (self.gateways.is_empty() || self.gateways.contains(&gateway))
            && self.latency.is_none_or(|latency| Some(latency) == work.latency())
    }

    /// Whether it depends on more than the request.
    fn moves(&self) -> bool {
        self.gpu.is_some() || self.load_percent.is_some() || self.units_per_second.is_some()
    }

    fn fits_around(&self, around: &Around) -> bool {
        self.gpu.as_ref().is_none_or(|gpu| around.cards.iter().any(|card| card.contains(gpu)))
            && self.load_percent.is_none_or(|percent| around.load_percent >= percent)
            && self.units_per_second.is_none_or(|units| around.units_per_second >= units)
    }
}

impl PriceList {
    /// These rules, in this order.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// Whether any price is for this gateway.
    pub fn names(&self, gateway: Address) -> bool {
        self.rules.iter().any(|rule| rule.when.gateways.contains(&gateway))
    }

    /// All of it, in its order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether any price depends on the price of an ether.
    pub fn has_dollars(&self) -> bool {
        self.rules.iter().any(|rule| rule.price.is_dollars())
    }

    /// Those that may be the price, as far as the request says: the first that does not depend on more ends them.
    fn candidates<'a>(
        &'a self,
        gateway: Address,
        work: Work<'a>,
    ) -> impl Iterator<Item = &'a Rule> {
        let mut over = false;
        self.rules.iter().filter(move |rule| rule.when.fits(gateway, work)).take_while(
            move |rule| {
                let first_beyond = over;
                over |= !rule.when.moves();
                !first_beyond
            },
        )
    }

    /// The price of one kind of work; `None` if the list has none.
    pub fn of<'a>(
        &'a self,
        gateway: Address,
        work: Work<'a>,
        around: &impl Fn(Work<'_>) -> Around,
    ) -> Option<&'a CurrencyPrice> {
        let mut known = None;
        self.candidates(gateway, work)
            .find(|rule| {
                !rule.when.moves()
                    || rule.when.fits_around(known.get_or_insert_with(|| around(work)))
            })
            .map(|rule| &rule.price)
    }

    /// Whether rules name this app, and all of them count in another unit: they never hold for it.
    pub fn counts_otherwise(&self, app: &str, unit: Unit) -> bool {
        let mut of_it = self.rules.iter().filter_map(|rule| match rule.when.who {
            Who::Runner(unit) if rule.when.model.as_deref() == Some(app) => Some(unit),
            _ => None,
        });
        let first = of_it.next();
        first.is_some_and(|first| first != unit) && of_it.all(|other| other != unit)
    }

    /// The price of a job: the sum over its models that carry a capacity, that of pixels if it is nothing.
    pub fn price(
        &self,
        gateway: Address,
        job: Option<&Capabilities>,
        around: &impl Fn(Work<'_>) -> Around,
        micro_usd_per_eth: Option<&Rational>,
    ) -> Result<Rational, NoEther> {
        let one = |work| {
            self.of(gateway, work, around)
                .map_or(Ok(Rational::ZERO), |price| price.wei(micro_usd_per_eth).ok_or(NoEther))
        };
        let mut sum = Rational::ZERO;
        for work in works(job) {
            sum += &one(work)?;
        }
        if sum.is_zero() { one(Work::Transcoding) } else { Ok(sum) }
    }

    /// The lowest price that the job may have had, whatever was around; `None` without the price of an ether.
    pub fn lowest(
        &self,
        gateway: Address,
        job: Option<&Capabilities>,
        micro_usd_per_eth: Option<&Rational>,
    ) -> Option<Rational> {
        // The lowest of what it may cost, and whether it may be without a price.
        let one = |work| {
            let (mut lowest, mut open): (Option<Rational>, bool) = (None, true);
            for rule in self.candidates(gateway, work) {
                let wei = rule.price.wei(micro_usd_per_eth)?;
                lowest = Some(lower(lowest, wei));
                open = rule.when.moves();
            }
            Some((lowest, open))
        };
        let (mut sum, mut least) = (Rational::ZERO, None);
        for work in works(job) {
            let (lowest, open) = one(work)?;
            let Some(lowest) = lowest else { continue };
            if !open {
                sum += &lowest;
            }
            if lowest.is_positive() {
                least = Some(lower(least, lowest));
            }
        }
        if sum.is_positive() {
            return Some(sum);
        }
        // It may come to nothing, and then costs what pixels do.
        let pixels = match one(Work::Transcoding)? {
            (Some(lowest), false) => lowest,
            (_, _) => Rational::ZERO,
        };
        Some(lower(least, pixels))
    }

    /// Models that the list names, with their capability.
    pub fn named_models(&self) -> BTreeSet<(u32, &str)> {
        let named = self.rules.iter().filter_map(|rule| match (rule.when.who, &rule.when.model) {
            (Who::Pipeline(capability), Some(model)) => Some((capability, model.as_str())),
            _ => None,
        });
        named.collect()
    }
}

fn lower(one: Option<Rational>, other: Rational) -> Rational {
    match one {
        Some(one) => one.min(other),
        None => other,
    }
}

/// Whether a job costs what pixels do, whatever the list says.
pub fn is_pixels(job: Option<&Capabilities>) -> bool {
    works(job).next().is_none()
}

/// What of a job has a price of its own.
fn works(job: Option<&Capabilities>) -> impl Iterator<Item = Work<'_>> {
    job.into_iter().flat_map(|job| {
        let priced = job.models.iter().filter(|(number, _)| job.capacities.contains_key(number));
        priced.flat_map(|(number, models)| {
            models.iter().map(|(model, said)| Work::Model {
                capability: *number,
                model,
                warm: said.warm,
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn r(text: &str) -> Rational {
        text.parse().unwrap()
    }

    fn rule(price: &str, when: When) -> Rule {
        Rule { when, price: CurrencyPrice::parse(price, "1").unwrap() }
    }

    fn of(pipeline: u32, model: &str) -> When {
        When { who: Who::Pipeline(pipeline), model: Some(model.into()), ..When::default() }
    }

    fn pixels() -> When {
        When { who: Who::Transcoding, ..When::default() }
    }

    fn nothing(_: Work<'_>) -> Around {
        Around::default()
    }

    #[test]
    fn jobs() {
        let gateway = Address::repeat_byte(1);
        let list = PriceList::new(vec![
            rule("2", When { gateways: [gateway].into(), ..pixels() }),
            rule("4", of(31, "m")),
            rule("0.5", of(33, "n")),
            rule("7", pixels()),
        ]);
        let price =
            |sender, job: Option<&Capabilities>| list.price(sender, job, &nothing, None).unwrap();
        let job = |c, m| Capabilities::ai_job(c, m, false);
        let audio = job(Capability::AudioToText, "m");
        assert_eq!(price(Address::ZERO, None), r("7"));
        assert_eq!(price(gateway, None), r("2"));
        assert_eq!(price(Address::ZERO, Some(&audio)), r("4"));
        assert_eq!(price(gateway, Some(&job(Capability::AudioToText, "x"))), r("2"));
        assert_eq!(price(Address::ZERO, Some(&Capabilities::default())), r("7"));
        let mut both = audio.clone();
        both.models.insert(33, [("n".to_owned(), Default::default())].into());
        assert_eq!(price(Address::ZERO, Some(&both)), r("4"), "without a capacity it has no price");
        both.capacities.insert(33, 1);
        assert_eq!(price(Address::ZERO, Some(&both)), r("9/2"));
        assert_eq!(list.named_models().into_iter().collect::<Vec<_>>(), [(31, "m"), (33, "n")]);
    }

    #[test]
    fn the_first_rule_that_fits() {
        let when = |change: &dyn Fn(&mut When)| {
            let mut when = When { who: Who::Pipeline(27), ..When::default() };
            change(&mut when);
            when
        };
        let list = PriceList::new(vec![
            rule("90", when(&|w| w.load_percent = Some(80))),
            rule("50", when(&|w| w.gpu = Some("h100".into()))),
            rule("20", when(&|w| w.latency = Some(Latency::Warm))),
            rule("10", when(&|_| {})),
            rule("1", when(&|_| {})),
            rule("3", When::default()),
        ]);
        let ask = |warm, card: &str, load_percent| {
            let around = |_: Work<'_>| Around {
                cards: vec![card.into()],
                load_percent,
                ..Around::default()
            };
            let work = Work::Model { capability: 27, model: "m", warm };
            list.of(Address::ZERO, work, &around).unwrap().to_string()
        };
        assert_eq!(ask(false, "nvidia a100", 0), "10 wei");
        assert_eq!(ask(true, "nvidia a100", 79), "20 wei");
        assert_eq!(ask(true, "nvidia h100 80gb", 79), "50 wei");
        assert_eq!(ask(true, "nvidia h100 80gb", 80), "90 wei");
        let other = Work::Model { capability: 30, model: "m", warm: false };
        assert_eq!(list.of(Address::ZERO, other, &nothing).unwrap().to_string(), "3 wei");
        // What was offered may have been any of those above the first that asks for nothing.
        let lowest = |warm| {
            let job = Capabilities::ai_job(Capability::TextToImage, "m", warm);
            list.lowest(Address::ZERO, Some(&job), None)
        };
        assert_eq!((lowest(false), lowest(true)), (Some(r("10")), Some(r("20"))));
    }

    #[test]
    fn dollars() {
        let list = PriceList::new(vec![rule("0.01usd", of(33, "m")), rule("0usd", pixels())]);
        let job = Capabilities::ai_job(Capability::Llm, "m", false);
        let price = |job, ether: Option<&Rational>| list.price(Address::ZERO, job, &nothing, ether);
        assert!(list.has_dollars());
        assert_eq!(price(Some(&job), None), Err(NoEther));
        assert_eq!(price(None, None), Ok(Rational::ZERO), "free is free");
        assert_eq!(price(Some(&job), Some(&r("3000000000"))), Ok(r("10000000000000/3")));
    }

    #[test]
    fn what_others_brought_has_to_be_named() {
        let (gateway, app) = (Address::repeat_byte(1), "demo/echo");
        let named = |who, name: &str| When { who, model: Some(name.into()), ..When::default() };
        let sessions = Who::Runner(Unit::Seconds);
        let list = PriceList::new(vec![
            rule("9", When { load_percent: Some(80), ..named(Who::Brought, "flux") }),
            rule("3", When { gateways: [gateway].into(), ..named(Who::Brought, "flux") }),
            rule("4", named(Who::Brought, "flux")),
            rule("5", When { who: Who::Brought, ..When::default() }),
            rule("6", When { latency: Some(Latency::Batch), ..named(sessions, app) }),
            rule("7", When { gpu: Some("h100".into()), ..named(sessions, app) }),
            rule("1", When::default()),
        ]);
        let around = |load_percent, card: &str| Around {
            cards: vec![card.into()],
            load_percent,
            ..Around::default()
        };
        let ask = |gateway, work: Work<'_>, around: Around| {
            list.of(gateway, work, &|_| around.clone()).map(ToString::to_string)
        };
        let of = |gateway, load, name| ask(gateway, Work::Brought { name }, around(load, ""));
        assert_eq!(of(Address::ZERO, 79, "flux").unwrap(), "4 wei");
        assert_eq!(of(gateway, 79, "flux").unwrap(), "3 wei");
        assert_eq!(of(gateway, 80, "flux").unwrap(), "9 wei");
        assert_eq!(of(gateway, 80, "other").unwrap(), "5 wei");
        let runner =
            |unit, lasts, card| ask(gateway, Work::Runner { app, unit, lasts }, around(0, card));
        assert_eq!(runner(Unit::Seconds, true, "nvidia h100"), Some("7 wei".into()));
        assert_eq!(runner(Unit::Seconds, false, "nvidia h100"), Some("6 wei".into()));
        assert_eq!(runner(Unit::Seconds, true, "nvidia t4"), None, "what it registered with holds");
        assert_eq!(runner(Unit::Fixed, true, "nvidia h100"), None, "in another unit");
        assert!(list.counts_otherwise(app, Unit::Fixed));
        assert!(!list.counts_otherwise(app, Unit::Seconds));
        assert!(!list.counts_otherwise("demo/other", Unit::Fixed), "nobody named it");
        // They are none of what else is sold, either.
        let llm = Work::Model { capability: 33, model: "flux", warm: false };
        assert_eq!(ask(gateway, llm, around(99, "h100")).unwrap(), "1 wei");
        assert_eq!(ask(gateway, Work::Transcoding, around(99, "")).unwrap(), "1 wei");
        assert!(list.named_models().is_empty());
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let when = (0..3u8, 0..3u8, any::<bool>(), 0..4u8, 0..4u8).prop_map(
            |(who, model, gateway, gpu, load)| When {
                who: [Who::Any, Who::Transcoding, Who::Pipeline(33)][usize::from(who)],
                model: (model == 0).then(|| "m".to_owned()),
                gateways: if gateway { [Address::ZERO].into() } else { BTreeSet::new() },
                gpu: (gpu == 0).then(|| "h100".to_owned()),
                load_percent: (load == 0).then_some(50),
                units_per_second: (load == 1).then_some(1_000),
                ..When::default()
            },
        );
        (when, 1..1000u32).prop_map(|(when, price)| rule(&price.to_string(), when))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        /// Whatever is around, no price is below the lowest.
        #[test]
        fn none_is_below_the_lowest(
            rules in prop::collection::vec(any_rule(), 0..8),
            load_percent in 0..100u32, units_per_second in 0..2_000u64, card in any::<bool>(),
            job in any::<bool>(),
        ) {
            let list = PriceList::new(rules);
            let cards = if card { vec!["h100".to_owned()] } else { vec![] };
            let around = |_: Work<'_>| Around { cards: cards.clone(), load_percent, units_per_second };
            let work = Capabilities::ai_job(Capability::Llm, "m", false);
            let job = job.then_some(&work);
            let price = list.price(Address::ZERO, job, &around, None).unwrap();
            let lowest = list.lowest(Address::ZERO, job, None).unwrap();
            prop_assert!(price >= lowest, "{price} {lowest}");
        }
    }
}
