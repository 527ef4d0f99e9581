//! The price list in force, what an ether costs, and what was offered lately. A price that was offered holds for as
//! long as its ticket parameters, so lists and prices of an ether are remembered until no offer of theirs is valid.

use super::{
    around::Surroundings,
    list::{Around, NoEther, PriceList, Work, is_pixels},
    lowest_offer,
    published::{Published, shown},
    sources::{Set, Sources},
    told::Told,
    unit::Unit,
};
use crate::limits::Limits;
use bytes::Bytes;
use penstock_clients::EthUsd;
use penstock_config::ConfigError;
use penstock_domain::{Address, Capabilities, CurrencyPrice, PriceInfo, Rational, address_lower};
use penstock_payments::{OFFER_LIFETIME_BLOCKS, wire_price_floored};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

/// Lists and prices of an ether remembered. The oldest goes first: who pays at its prices pays today's.
const MOST_REMEMBERED: usize = 256;
/// An offer may be made with a block that this book has not heard of yet.
const SLACK_BLOCKS: u64 = 2;
/// Prices set while the process runs.
const MOST_SET: usize = 10_000;
/// Apps that the operator is warned about.
const MOST_WARNINGS: usize = 100;

/// Prices as they stand at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stand {
    /// The list.
    pub list: Arc<PriceList>,
    /// Millionths of a dollar for an ether.
    pub micro_usd_per_eth: Option<Rational>,
}

/// The operator's prices.
pub struct Prices {
    sources: Sources,
    ether: Arc<EthUsd>,
    around: OnceLock<Surroundings>,
    auto_adjust: bool,
    now: RwLock<Stand>,
    /// What held before, and the last block of an offer by it.
    past: Mutex<VecDeque<(Stand, u64)>>,
    set: Mutex<Set>,
    told: Mutex<Told>,
    published: Mutex<Published>,
    /// Why the files of now are not in force.
    trouble: Mutex<Option<String>>,
    /// Apps whose rules never hold, since they are sold by another unit.
    otherwise: Mutex<BTreeMap<String, Unit>>,
    block: AtomicU64,
}

/// What is asked for work that somebody brought: by a rule of the list, or as he registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OthersPrice {
    /// For one unit, as it was said.
    pub said: CurrencyPrice,
    /// The same in wei, before overhead.
    pub wei: Result<Rational, NoEther>,
}

/// What became of a price that was to be set.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The files are bad, or dollars have no price.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There are too many.
    #[error("no more than {MOST_SET} prices can be set")]
    TooMany,
}

impl Prices {
    /// Reads the sources for the first time.
    pub fn open(
        sources: Sources,
        ether: Arc<EthUsd>,
        auto_adjust: bool,
        limits: &Limits,
    ) -> Result<Self, ConfigError> {
        let list = Arc::new(sources.read(&Set::new())?);
        check(&list, &ether)?;
        Ok(Self::with((list, sources), ether, auto_adjust, limits))
    }

    fn with(
        (list, sources): (Arc<PriceList>, Sources),
        ether: Arc<EthUsd>,
        auto_adjust: bool,
        limits: &Limits,
    ) -> Self {
        let stand = Stand { list, micro_usd_per_eth: ether.micro_usd_per_eth() };
        Self {
            sources,
            ether,
            around: OnceLock::new(),
            auto_adjust,
            now: RwLock::new(stand),
            past: Mutex::default(),
            set: Mutex::default(),
            told: Mutex::new(Told::new(limits.priced_gateways)),
            published: Mutex::new(Published::new(limits.price_answers)),
            trouble: Mutex::default(),
            otherwise: Mutex::default(),
            block: AtomicU64::new(0),
        }
    }

    /// These rules, which nobody changes, at so many dollars for an ether.
    #[cfg(test)]
    pub fn fixed(list: PriceList, usd_per_eth: u64) -> Self {
        let source = penstock_clients::PriceSource::Fixed(usd_per_eth.into());
        let settings = penstock_clients::EthUsdSettings { source, ..Default::default() };
        let ether = Arc::new(EthUsd::new(settings).unwrap());
        Self::with((Arc::new(list), Sources::default()), ether, true, &Limits::default())
    }

    /// Whether anybody says what an ether costs.
    pub fn knows_ether(&self) -> bool {
        self.ether.is_set()
    }

    /// Whom to ask for what prices depend on besides the request; told once.
    pub fn surround(&self, around: Surroundings) {
        let _ = self.around.set(around);
    }

    /// What a job costs now, wei per unit, before overhead.
    pub fn base(&self, sender: Address, job: Option<&Capabilities>) -> Result<Rational, NoEther> {
        if let Some(told) = self.told(sender, job) {
            return Ok(told);
        }
        let stand = self.stand();
        let ether = self.young(&stand);
        stand.list.price(sender, job, &|work| self.around(work), ether)
    }

    /// What a gateway is asked now for work that somebody brought and registered at `own`: the first rule that fits is
    /// the price, with what is `around` that work now.
    pub fn of_others(
        &self,
        gateway: Address,
        work: Work<'_>,
        around: &Around,
        own: &CurrencyPrice,
    ) -> OthersPrice {
        let stand = self.stand();
        let rule = stand.list.of(gateway, work, &|_| around.clone());
        if let (None, Work::Runner { app, unit, .. }) = (rule, work) {
            self.see_unit(&stand, app, unit);
        }
        let said = rule.unwrap_or(own);
        let ether = self.young(&stand);
        OthersPrice { said: said.clone(), wei: said.wei(ether).ok_or(NoEther) }
    }

    /// Tells the operator of an app whose rules count in another unit than the app.
    fn see_unit(&self, stand: &Stand, app: &str, unit: Unit) {
        if !stand.list.counts_otherwise(app, unit) {
            return;
        }
        let mut all = lock(&self.otherwise);
        if all.len() < MOST_WARNINGS && all.insert(app.to_owned(), unit) != Some(unit) {
            let unit = unit.as_str();
            tracing::warn!(
                app,
                unit,
                "no price rule for this app holds: its runner is sold by another unit"
            );
        }
    }

    /// The lowest price that an offer for such a job may carry which is still valid.
    pub fn floor(&self, sender: Address, job: Option<&Capabilities>) -> Rational {
        let block = self.block.load(SeqCst);
        let mut past = lock(&self.past);
        while past.front().is_some_and(|(_, last)| *last < block) {
            past.pop_front();
        }
        let now = self.stand();
        let all = past.iter().map(|(stand, _)| stand).chain([&now]);
        let lowest = all
            .filter_map(|stand| stand.list.lowest(sender, job, stand.micro_usd_per_eth.as_ref()))
            .min();
        let listed = lowest_offer(&lowest.unwrap_or(Rational::ZERO), self.auto_adjust);
        match lock(&self.told).lowest(sender, block).filter(|_| is_pixels(job)) {
            Some(told) => listed.min(told),
            None => listed,
        }
    }

    /// A gateway was offered its pixels at a price of its own, as the operator's webhook says.
    pub fn tell(&self, gateway: Address, price: &Rational) {
        let block = self.block.load(SeqCst);
        let last = block.saturating_add(OFFER_LIFETIME_BLOCKS + SLACK_BLOCKS);
        lock(&self.told).offer(gateway, price, block, last);
    }

    /// That price, for as long as an offer by it may be valid, if this is such work. Nothing is added to it.
    pub fn told(&self, gateway: Address, job: Option<&Capabilities>) -> Option<Rational> {
        let told = lock(&self.told).newest(gateway, self.block.load(SeqCst));
        told.filter(|_| is_pixels(job))
    }

    /// What the full menu says: each model that the list names, or that is offered and has a price of its own.
    pub fn menu(&self, sender: Address, offered: &Capabilities) -> Vec<(u32, String, PriceInfo)> {
        let stand = self.stand();
        let ether = self.young(&stand);
        let offered = offered
            .models
            .iter()
            .flat_map(|(number, models)| models.keys().map(move |model| (*number, model.as_str())));
        let all: BTreeSet<_> = stand.list.named_models().into_iter().chain(offered).collect();
        let priced = all.into_iter().filter_map(|(capability, model)| {
            let work = Work::Model { capability, model, warm: false };
            let price = stand.list.of(sender, work, &|work| self.around(work))?;
            let price = wire_price_floored(&price.wei(ether)?).ok()?;
            Some((capability, model.to_owned(), price))
        });
        priced.collect()
    }

    /// The chain is at this block.
    pub fn see_block(&self, block: u64) {
        self.block.fetch_max(block, SeqCst);
    }

    /// What an ether costs was read again.
    pub fn see_ether(&self) {
        // One that is too old stays, for what was offered at it.
        if let Some(price) = self.ether.micro_usd_per_eth() {
            self.put(|stand| Stand { micro_usd_per_eth: Some(price), ..stand });
        }
    }

    /// Reads the sources again; whether anything has changed. A list that cannot be used leaves the one
    /// in force.
    pub fn reload(&self) -> Result<bool, ConfigError> {
        // Held all the while: what is read last is in force last.
        let set = lock(&self.set);
        let read = self.sources.read(&set).and_then(|list| {
            check(&list, &self.ether)?;
            Ok(list)
        });
        let mut trouble = lock(&self.trouble);
        match read {
            Ok(list) => {
                *trouble = None;
                let changed = *self.stand().list != list;
                if changed {
                    tracing::info!(rules = list.rules().len(), "new prices are in force");
                    lock(&self.otherwise).clear();
                    self.put(|stand| Stand { list: Arc::new(list), ..stand });
                }
                Ok(changed)
            }
            Err(error) => {
                let why = error.to_string();
                if trouble.as_ref() != Some(&why) {
                    tracing::error!(why, "new prices cannot be used; those of before hold");
                    metrics::counter!("orchestrator_price_list_errors_total").increment(1);
                }
                *trouble = Some(why);
                Err(error)
            }
        }
    }

    /// Whether the sources may change by themselves.
    pub fn may_change(&self) -> bool {
        self.sources.may_change()
    }

    /// Sets what transcoding costs a gateway, or everybody, until the process ends.
    pub fn set(&self, gateway: Option<Address>, price: CurrencyPrice) -> Result<(), Refused> {
        let before = {
            let mut set = lock(&self.set);
            if set.len() >= MOST_SET && !set.contains_key(&gateway) {
                return Err(Refused::TooMany);
            }
            set.insert(gateway, price)
        };
        let done = self.reload();
        if done.is_err() {
            let mut set = lock(&self.set);
            match before {
                Some(price) => set.insert(gateway, price),
                None => set.remove(&gateway),
            };
        }
        done.map(drop).map_err(Refused::from)
    }

    /// What a gateway may know of the list, in JSON; `Address::ZERO` has not said who it is.
    pub fn published(&self, gateway: Address) -> Bytes {
        let stand = self.stand();
        let ether = self.young(&stand).cloned();
        let stand = Stand { micro_usd_per_eth: ether, ..stand };
        let told = self.told(gateway, None);
        let around = (self.auto_adjust, self.sources.region());
        lock(&self.published).answer(&stand, gateway, told, around)
    }

    /// For operators.
    pub fn view(&self) -> Value {
        let stand = self.stand();
        let rules = stand.list.rules().iter().map(|rule| {
            let mut row = shown(rule, self.young(&stand));
            if let Some(row) = row.as_object_mut() {
                let gateways: Vec<_> = rule.when.gateways.iter().map(address_lower).collect();
                row.insert("gateways".to_owned(), json!(gateways));
            }
            row
        });
        let otherwise = lock(&self.otherwise).clone().into_iter().map(|(app, unit)| {
            json!({ "app": app, "sold_by": unit.as_str(), "why": "its rules count in another unit, and never hold" })
        });
        json!({
            "prices": rules.collect::<Vec<_>>(),
            "micro_usd_per_eth": self.young(&stand),
            "auto_adjust": self.auto_adjust,
            "error": *lock(&self.trouble),
            "warnings": otherwise.collect::<Vec<_>>(),
        })
    }

    fn stand(&self) -> Stand {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What an ether costs, unless that is too old.
    fn young<'a>(&self, stand: &'a Stand) -> Option<&'a Rational> {
        self.ether.micro_usd_per_eth().and(stand.micro_usd_per_eth.as_ref())
    }

    fn put(&self, next: impl FnOnce(Stand) -> Stand) {
        let mut past = lock(&self.past);
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let next = next(now.clone());
        let same_offers = next.list == now.list
            && (next.micro_usd_per_eth == now.micro_usd_per_eth || !next.list.has_dollars());
        let before = std::mem::replace(&mut *now, next);
        if same_offers {
            return;
        }
        if past.len() >= MOST_REMEMBERED {
            past.pop_front();
        }
        let last = self.block.load(SeqCst).saturating_add(OFFER_LIFETIME_BLOCKS + SLACK_BLOCKS);
        past.push_back((before, last));
    }

    fn around(&self, work: Work<'_>) -> Around {
        self.around.get().map_or_else(Around::default, |around| around.of(work))
    }
}

/// Dollars need somebody who says what an ether costs.
fn check(list: &PriceList, ether: &EthUsd) -> Result<(), ConfigError> {
    if list.has_dollars() && !ether.is_set() {
        let why =
            "prices in dollars need --eth-usd, --eth-usd-file, --eth-usd-url or --eth-usd-feed-url";
        return Err(ConfigError::value("--eth-usd", why));
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
