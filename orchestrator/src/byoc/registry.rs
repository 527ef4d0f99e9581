//! The capabilities that were brought, and their room.

use super::error::ByocError;
use crate::{
    pricing::{
        around::percent,
        book::{OthersPrice, Prices},
        list::{Around, Work},
        unit::Unit,
    },
    release::{Kind, Reason, Taken},
    runner_networks::RunnerNetworks,
    standing::{Standing, Turn},
};
use penstock_config::Secret;
use penstock_domain::{Address, Capability, CurrencyPrice, Rational};
use penstock_payments::wire_price_floored;
use penstock_wire::{CapabilityPrice, json::ByocRegistration};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};
use tokio::time::Instant;
use url::Url;

/// What is remembered of a name, whoever registers it.
#[derive(Default)]
struct Past {
    /// Jobs under way, also those of earlier registrations.
    in_use: AtomicU32,
    /// How its worker has done lately.
    standing: Mutex<Standing>,
}

impl Past {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_out(&self, sender: Address) -> bool {
        self.standing().turn(Some(sender), Instant::now()) == Turn::Out
    }
}

/// A capability, as it was registered.
pub struct Brought {
    /// Its name.
    pub name: String,
    /// Where its worker is. For this process only.
    pub url: Url,
    /// Jobs at once, as its worker says: what clients are told. More are taken, as at the network's nodes.
    pub capacity: u32,
    /// What its worker wants for a second, in wei, where no rule of the operator's says otherwise.
    pub price: Rational,
    /// The card that does the work, in lower case, if its worker says so.
    gpu: Option<String>,
    /// For the worker.
    pub token: Option<Secret>,
    past: Arc<Past>,
}

/// The worker of a job that goes on, as it was when the job began.
pub struct Resumed {
    /// The capability's name.
    pub name: String,
    /// Where the worker is.
    pub url: Url,
    /// Wei a second.
    pub price: Rational,
    /// For the worker.
    pub token: Option<Secret>,
}

/// All of them, by name.
pub struct Registry {
    max: usize,
    max_jobs: u32,
    /// Jobs under way, of all of them.
    jobs: Arc<AtomicU32>,
    networks: Arc<RunnerNetworks>,
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    brought: BTreeMap<String, Arc<Brought>>,
    /// Jobs under way of those that are gone: should they come again, these count.
    left_behind: BTreeMap<String, Weak<Past>>,
}

impl All {
    fn remove(&mut self, name: &str) -> bool {
        let Some(gone) = self.brought.remove(name) else { return false };
        self.left_behind.retain(|_, past| past.strong_count() > 0);
        self.left_behind.insert(name.to_owned(), Arc::downgrade(&gone.past));
        true
    }

    /// The same for a job that may have begun before anybody registers the name.
    fn past_to_come(&mut self, name: &str) -> Arc<Past> {
        if let Some(known) = self.brought.get(name) {
            return Arc::clone(&known.past);
        }
        let past = self.past(name);
        self.left_behind.retain(|_, past| past.strong_count() > 0);
        self.left_behind.insert(name.to_owned(), Arc::downgrade(&past));
        past
    }

    /// What is known of a name.
    fn past(&mut self, name: &str) -> Arc<Past> {
        match self.brought.get(name) {
            Some(before) => Arc::clone(&before.past),
            None => {
                self.left_behind.remove(name).and_then(|left| left.upgrade()).unwrap_or_default()
            }
        }
    }
}

/// What brought work is paid by.
const UNIT: Unit = Unit::Seconds;

/// Room for one job; given back when dropped.
pub struct Slot {
    brought: Arc<Brought>,
    /// Jobs that were under way before it.
    before: u32,
    jobs: Arc<AtomicU32>,
    kind: Kind,
    sender: Address,
    taken: Taken,
}

impl Slot {
    /// Whose it is.
    pub fn capability(&self) -> &Arc<Brought> {
        &self.brought
    }

    /// What its price depends on besides the request: as it was for whoever asked before it had this room.
    pub fn around(&self) -> Around {
        self.brought.around_with(self.before)
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Should it be given back now, this is why.
    pub fn because(&mut self, why: Reason) {
        self.taken.because(why);
    }

    /// Its worker did not do what it was asked for.
    pub fn failed(&self) {
        self.brought.past.standing().failed_for(self.sender, Instant::now());
    }

    /// It did.
    pub fn went_well(&self) {
        self.brought.past.standing().went_well_for(self.sender);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.brought.past.in_use.fetch_sub(1, SeqCst);
        self.jobs.fetch_sub(1, SeqCst);
    }
}

impl Registry {
    /// At most `max` capabilities, with `max_jobs` jobs, streams and training jobs together, at workers in these
    /// networks.
    pub fn new(max: usize, max_jobs: u32, networks: Arc<RunnerNetworks>) -> Self {
        Self { max, max_jobs, jobs: Arc::default(), networks, all: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one, or replaces the one of that name; its jobs under way go on counting.
    pub fn register(&self, said: &ByocRegistration) -> Result<(), ByocError> {
        let refused = |why: &str| ByocError::Registration(why.to_owned());
        let url = Url::parse(&said.url).map_err(|error| refused(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refused("url must be http or https"));
        }
        if !self.networks.allows(&url) {
            return Err(refused("no worker may be at the url's address (--runner-networks)"));
        }
        let price = Rational::new(said.price_per_unit.into(), said.price_scaling.into());
        let price = price.ok_or_else(|| refused("invalid price"))?;
        let mut all = self.lock();
        if !all.brought.contains_key(&said.name) && all.brought.len() >= self.max {
            return Err(refused("too many capabilities"));
        }
        let past = all.past(&said.name);
        let token = Some(said.token.clone()).filter(|token| !token.is_empty()).map(Secret::new);
        let (name, capacity) = (said.name.clone(), said.capacity);
        let gpu = said.gpu.as_ref().map(|gpu| gpu.name.to_lowercase());
        let brought = Brought { name: name.clone(), url, capacity, price, gpu, token, past };
        all.brought.insert(name, Arc::new(brought));
        tracing::info!(capability = said.name, capacity, "capability registered");
        Ok(())
    }

    /// Whether a worker may be there, by the settings of this process.
    pub fn allows(&self, url: &Url) -> bool {
        matches!(url.scheme(), "http" | "https") && self.networks.allows(url)
    }

    /// Whether the worker of that name has come here, and is there.
    pub fn has_at(&self, name: &str, url: &Url) -> bool {
        self.lock().brought.get(name).is_some_and(|known| known.url == *url)
    }

    /// Jobs that there is room for.
    pub fn free_jobs(&self) -> u32 {
        self.max_jobs.saturating_sub(self.jobs.load(SeqCst))
    }

    /// Room for a job that began in another process, or in another life, at this worker, whether anybody has
    /// registered it here or not. It is not refused: it counts for those that come next.
    pub fn resume(&self, worker: Resumed, sender: Address, kind: Kind) -> Slot {
        let Resumed { name, url, price, token } = worker;
        let mut all = self.lock();
        // A worker that has come again may have a new secret.
        let known = all.brought.get(&name).filter(|known| known.url == url);
        let token = known.map_or(token, |known| known.token.clone());
        let past = all.past_to_come(&name);
        drop(all);
        let brought = Brought { name, url, capacity: 0, price, gpu: None, token, past };
        self.jobs.fetch_add(1, SeqCst);
        let before = brought.past.in_use.fetch_add(1, SeqCst);
        let (brought, jobs) = (Arc::new(brought), Arc::clone(&self.jobs));
        Slot { brought, before, jobs, kind, sender, taken: Taken::by(kind) }
    }

    /// Removes one; that it is not there is no error.
    pub fn unregister(&self, name: &str) {
        if self.lock().remove(name) {
            tracing::info!(capability = name, "capability unregistered");
        }
    }

    /// Removes a registration, if nobody has replaced it meanwhile.
    pub fn withdraw(&self, brought: &Arc<Brought>) {
        let mut all = self.lock();
        if all.brought.get(&brought.name).is_some_and(|there| Arc::ptr_eq(there, brought)) {
            all.remove(&brought.name);
            tracing::warn!(capability = brought.name, "its worker failed: capability removed");
        }
    }

    /// One of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Brought>> {
        self.lock().brought.get(name).cloned()
    }

    /// Room for one job, stream or training job. A capability that is full takes it as well (byoc.md section
    /// 5.1): its terms have said so, and its worker knows best. One that has failed this sender in a row takes
    /// none of its jobs for a while.
    pub fn reserve(&self, name: &str, sender: Address, kind: Kind) -> Result<Slot, ByocError> {
        let brought = self.get(name).ok_or(ByocError::NoCapacity)?;
        if brought.past.is_out(sender) {
            return Err(ByocError::NoCapacity);
        }
        let most = self.max_jobs;
        let more = |jobs| (jobs < most).then_some(jobs + 1);
        self.jobs.fetch_update(SeqCst, SeqCst, more).map_err(|_| ByocError::Full { most })?;
        let before = brought.past.in_use.fetch_add(1, SeqCst);
        let jobs = Arc::clone(&self.jobs);
        Ok(Slot { brought, before, jobs, kind, sender, taken: Taken::by(kind) })
    }

    fn all(&self) -> Vec<Arc<Brought>> {
        self.lock().brought.values().cloned().collect()
    }

    /// What each one costs a gateway now, for offers that name no job.
    pub fn prices(&self, list: &Prices, gateway: Address) -> Vec<CapabilityPrice> {
        let row = |brought: Arc<Brought>| {
            let price = brought.asked(list, gateway, &brought.around()).wei.ok()?;
            let price = wire_price_floored(&price).ok()?;
            let (capability, constraint) = (Capability::Byoc.number(), brought.name.clone());
            Some(CapabilityPrice { capability, constraint, price })
        };
        self.all().into_iter().filter_map(row).collect()
    }

    /// For clients: names, room and, where work is paid, what it costs a gateway now. A name stands for one model.
    pub fn listing(&self, list: Option<&Prices>, gateway: Address) -> Vec<Value> {
        let row = |brought: Arc<Brought>| {
            let (name, capacity) = (&brought.name, brought.capacity);
            match list {
                Some(list) => {
                    let asked = brought.asked(list, gateway, &brought.around());
                    json!({
                        "name": name, "model_id": name, "capacity": capacity,
                        "wei_per_unit": asked.wei.ok(), "unit": UNIT.as_str(),
                    })
                }
                None => json!({ "name": name, "model_id": name, "capacity": capacity }),
            }
        };
        self.all().into_iter().map(row).collect()
    }

    /// For clients: what each one costs a gateway now, exact; in wei `null` while what an ether costs is not known.
    pub fn price_rows(&self, list: &Prices, gateway: Address) -> Vec<Value> {
        let row = |brought: Arc<Brought>| {
            let OthersPrice { said, wei } = brought.asked(list, gateway, &brought.around());
            json!({
                "capability": brought.name, "price_per_unit": said.to_string(),
                "wei_per_unit": wei.ok(), "unit": UNIT.as_str(),
            })
        };
        self.all().into_iter().map(row).collect()
    }

    /// For the operator.
    pub fn view(&self) -> Vec<Value> {
        let row = |brought: &Arc<Brought>| {
            json!({
                "name": brought.name,
                "url": brought.url.as_str(),
                "capacity": brought.capacity,
                "in_use": brought.past.in_use.load(SeqCst),
                "gpu": brought.gpu,
                "price_wei_per_second": brought.price,
            })
        };
        self.lock().brought.values().map(row).collect()
    }
}

/// What offers for a capability say that they are for. No model of a pipeline is called like this.
pub fn work(capability: &str) -> String {
    format!("brought {capability}")
}

impl Brought {
    /// What a second of it costs a gateway, before overhead, with this around it.
    pub fn asked(&self, list: &Prices, gateway: Address, around: &Around) -> OthersPrice {
        let own = CurrencyPrice::Wei(self.price.clone());
        list.of_others(gateway, Work::Brought { name: &self.name }, around, &own)
    }

    /// What its price depends on besides the request, now.
    pub fn around(&self) -> Around {
        self.around_with(self.past.in_use.load(SeqCst))
    }

    fn around_with(&self, in_use: u32) -> Around {
        Around {
            cards: self.gpu.iter().cloned().collect(),
            load_percent: percent((in_use.into(), self.capacity.into())),
            units_per_second: 0,
        }
    }

    /// Jobs of a sender's that there is room for.
    pub fn available(&self, sender: Address) -> u32 {
        if self.past.is_out(sender) {
            return 0;
        }
        self.capacity.saturating_sub(self.past.in_use.load(SeqCst))
    }
}

/// One of that name, at no worker.
#[cfg(test)]
pub fn brought(name: &str) -> Arc<Brought> {
    Arc::new(Brought {
        name: name.to_owned(),
        url: Url::parse("http://127.0.0.1:1").unwrap(),
        capacity: 1,
        price: Rational::ZERO,
        gpu: None,
        token: None,
        past: Arc::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::list::{PriceList, Rule, When, Who};
    use penstock_wire::json::RunnerGpu;

    const ONE: Address = Address::repeat_byte(1);

    fn said(name: &str, url: &str, capacity: u32) -> ByocRegistration {
        ByocRegistration {
            name: name.to_owned(),
            description: String::new(),
            url: url.to_owned(),
            capacity,
            price_per_unit: 3,
            price_scaling: 2,
            token: String::new(),
            gpu: None,
        }
    }

    #[test]
    fn room_survives_a_registration_and_numbers_are_bounded() {
        let registry = Registry::new(2, 10, Arc::default());
        registry.register(&said("a", "http://w:1", 1)).unwrap();
        let slot = registry.reserve("a", ONE, Kind::ByocJob).unwrap();
        assert_eq!(registry.get("a").unwrap().available(ONE), 0);
        registry.register(&said("a", "http://w:2", 2)).unwrap();
        assert_eq!(registry.get("a").unwrap().available(ONE), 1, "the job under way counts");
        registry.withdraw(slot.capability());
        assert!(registry.get("a").is_some(), "it was registered anew");
        // Nor is the job forgotten when it is taken away and comes again, as after its worker's restart.
        registry.unregister("a");
        registry.register(&said("a", "http://w:2", 2)).unwrap();
        assert_eq!(registry.get("a").unwrap().available(ONE), 1);
        registry.withdraw(&registry.get("a").unwrap());
        registry.register(&said("a", "http://w:2", 2)).unwrap();
        assert_eq!(registry.get("a").unwrap().available(ONE), 1);
        drop(slot);
        assert_eq!(registry.get("a").unwrap().available(ONE), 2);
        registry.register(&said("b", "http://w:1", 1)).unwrap();
        assert!(registry.register(&said("c", "http://w:1", 1)).is_err());
        for url in ["", "ftp://w", "w", "file:///etc", "http://169.254.169.254", "http://[fe80::1]"]
        {
            assert!(registry.register(&said("a", url, 1)).is_err(), "{url}");
        }
        registry.unregister("a");
        registry.unregister("a");
        assert!(matches!(registry.reserve("a", ONE, Kind::ByocJob), Err(ByocError::NoCapacity)));
        let list = Prices::fixed(PriceList::default(), 2_000);
        assert_eq!(registry.prices(&list, ONE).len(), 1);
        let row = json!({
            "capability": "b", "price_per_unit": "3/2 wei", "wei_per_unit": "3/2", "unit": "seconds",
        });
        assert_eq!(registry.price_rows(&list, ONE), [row]);
        let (free, paid) = (registry.listing(None, ONE), registry.listing(Some(&list), ONE));
        assert_eq!(free, [json!({ "name": "b", "model_id": "b", "capacity": 1 })]);
        assert_eq!(
            (&paid[0]["wei_per_unit"], &paid[0]["unit"]),
            (&json!("3/2"), &json!("seconds"))
        );
        registry.unregister("b");
        assert!(!registry.lock().left_behind.contains_key("a"), "its job is over");
    }

    #[test]
    fn rules_go_before_what_a_worker_wants() {
        let rule = |price: &str, when: When| {
            let when = When { who: Who::Brought, ..when };
            Rule { when, price: CurrencyPrice::parse(price, "1").unwrap() }
        };
        let list = Prices::fixed(
            PriceList::new(vec![
                rule("9", When { load_percent: Some(50), ..When::default() }),
                rule("5", When { gateways: [ONE].into(), ..When::default() }),
                rule("0.002usd", When { gpu: Some("h100".into()), ..When::default() }),
            ]),
            2_000,
        );
        let registry = Registry::new(2, 10, Arc::default());
        registry.register(&said("a", "http://w:1", 2)).unwrap();
        let asked = |gateway| {
            let price = registry.prices(&list, gateway)[0].price;
            (price.price_per_unit(), price.pixels_per_unit())
        };
        let other = Address::repeat_byte(2);
        assert_eq!((asked(ONE), asked(other)), ((5, 1), (1, 1)), "its worker's own, whole wei");
        let name = "NVIDIA H100 80GB".to_owned();
        let gpu = Some(RunnerGpu { name, ..RunnerGpu::default() });
        registry.register(&ByocRegistration { gpu, ..said("a", "http://w:1", 2) }).unwrap();
        assert_eq!(asked(other), (1_000_000_000_000, 1));
        let rows = registry.price_rows(&list, other);
        assert_eq!(rows[0]["price_per_unit"], "1/500 usd");
        // A job's own room is no load for itself.
        let first = registry.reserve("a", ONE, Kind::ByocJob).unwrap();
        let of = |slot: &Slot| slot.capability().asked(&list, ONE, &slot.around()).said.to_string();
        assert_eq!((of(&first), asked(ONE)), ("5 wei".into(), (9, 1)));
        let second = registry.reserve("a", ONE, Kind::ByocJob).unwrap();
        assert_eq!(of(&second), "9 wei");
        drop((first, second));
        assert_eq!(asked(ONE), (5, 1));
    }

    #[test]
    fn a_full_capability_takes_more_and_the_process_only_so_many() {
        let registry = Registry::new(2, 3, Arc::default());
        registry.register(&said("a", "http://w:1", 1)).unwrap();
        registry.register(&said("b", "http://w:1", 1)).unwrap();
        let reserve = |name| registry.reserve(name, ONE, Kind::ByocJob);
        let slots: Vec<_> = ["a", "a", "b"].map(|name| reserve(name).unwrap()).into();
        assert_eq!(registry.get("a").unwrap().available(ONE), 0);
        let full = reserve("b").err().unwrap();
        assert!(matches!(full, ByocError::Full { most: 3 }), "{full}");
        assert!(full.to_string().ends_with("(--max-byoc-jobs)"), "{full}");
        drop(slots);
        assert!(reserve("b").is_ok());
    }

    #[test]
    fn a_job_of_another_life_counts_before_and_after_its_worker_comes_again() {
        let registry = Registry::new(2, 2, Arc::default());
        let resume = |token: &str| {
            let worker = Resumed {
                name: "a".to_owned(),
                url: Url::parse("http://w:1").unwrap(),
                price: Rational::ONE,
                token: Some(Secret::new(token)),
            };
            registry.resume(worker, ONE, Kind::ByocTraining)
        };
        let slot = resume("old");
        assert!(registry.get("a").is_none(), "nobody has registered it");
        assert_eq!(registry.free_jobs(), 1);
        registry
            .register(&ByocRegistration { token: "new".into(), ..said("a", "http://w:1", 3) })
            .unwrap();
        assert_eq!(registry.get("a").unwrap().available(ONE), 2);
        let secret = |slot: &Slot| slot.capability().token.as_ref().unwrap().expose().to_owned();
        let second = resume("old");
        assert_eq!([secret(&slot), secret(&second)], ["old", "new"]);
        assert_eq!((registry.free_jobs(), registry.get("a").unwrap().available(ONE)), (0, 1));
        assert!(registry.reserve("a", ONE, Kind::ByocJob).is_err(), "it counts");
        drop((slot, second));
        assert_eq!((registry.free_jobs(), registry.get("a").unwrap().available(ONE)), (2, 3));
    }

    #[test]
    fn a_worker_that_fails_again_and_again_is_left_out_for_whom_it_fails() {
        let registry = Registry::new(2, 10, Arc::default());
        registry.register(&said("a", "http://w:1", 2)).unwrap();
        let other = Address::repeat_byte(2);
        let reserve = |sender| registry.reserve("a", sender, Kind::ByocJob);
        let first = reserve(ONE).unwrap();
        (0..2).for_each(|_| first.failed());
        assert!(reserve(ONE).is_ok());
        first.failed();
        assert!(reserve(ONE).is_err(), "the third leaves it out");
        // Also when it is registered anew, and whatever it does for others.
        registry.register(&said("a", "http://w:2", 2)).unwrap();
        reserve(other).unwrap().went_well();
        assert!(matches!(reserve(ONE), Err(ByocError::NoCapacity)));
        let room = |sender| registry.get("a").unwrap().available(sender);
        assert_eq!((room(ONE), room(other)), (0, 1));
        first.went_well();
        assert!(reserve(ONE).is_ok() && room(ONE) == 1);
    }
}
