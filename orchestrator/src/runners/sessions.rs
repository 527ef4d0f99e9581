//! Sessions from the outside: reserved, visited, released (live-runner.md section 5). What holds one
//! lets go of it when it is dropped, so nothing that breaks off half-way keeps room.

use super::{
    LiveRunners, error::RunnerError, facts::Mode, health::Probe, ids, path, price::Sold,
    registry::Registry, runner::Runner, session::Paid, state::State,
};
use crate::{release::Reason, signs::LastSign};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use url::Url;

/// For an answer under way when its runner ends the session.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a reservation would begin with.
pub struct Terms {
    /// The runner's id.
    pub runner: String,
    /// How clients find it.
    pub route: String,
    /// What it sells; `None` off-chain.
    pub sold: Option<Sold>,
    /// How to see whether it is there.
    pub probe: Probe,
}

/// A session that is nobody's yet: released when dropped, unless it was kept.
pub struct Reserved {
    runners: Arc<LiveRunners>,
    /// The runner's id.
    pub runner: String,
    /// Its route.
    pub route: String,
    /// The session's name.
    pub name: String,
    /// Which of that name.
    pub generation: u64,
    /// Whether anybody has called it.
    pub visited: Arc<AtomicBool>,
    /// Whether it has brought anything.
    pub delivery: Delivery,
    /// Units that it was charged for.
    pub units: Arc<AtomicU64>,
    /// When its runner was last known to be there.
    pub there: Arc<LastSign>,
    /// How to see whether it is.
    pub probe: Probe,
    /// Cancelled when it ends.
    pub ended: CancellationToken,
    why: Option<Reason>,
}

/// Whether a session has brought anything.
#[derive(Clone)]
pub struct Delivery {
    /// Cancelled when the first of it is delivered.
    pub first: CancellationToken,
    visits: TaskTracker,
    asked: Arc<AtomicU64>,
    why: Arc<OnceLock<Reason>>,
}

impl Delivery {
    /// Whether anything was delivered in all of a session that has ended for this reason. A runner that has ended it may
    /// be about to deliver the first of it.
    async fn in_all(&self) -> bool {
        if self.why() == Some(Reason::RunnerStopped) {
            self.visits.close();
            let said = async {
                tokio::select! {
                    () = self.visits.wait() => {}
                    () = self.first.cancelled() => {}
                }
            };
            let _ = tokio::time::timeout(LAST_WORDS * 2, said).await;
        }
        self.first.is_cancelled()
    }

    /// Why the session has ended.
    pub fn why(&self) -> Option<Reason> {
        self.why.get().copied()
    }

    /// Whether nothing is paid for a session that has ended: nothing of it was delivered, and its client would have gone
    /// on. A runner that ends a session in order has done its work where somebody asked for some, and hung up.
    pub async fn is_void(&self) -> bool {
        let Some(why) = self.why() else { return false };
        if self.in_all().await || !why.spares_client() {
            return false;
        }
        why != Reason::RunnerStopped || self.asked.load(Relaxed) == 0
    }
}

impl Reserved {
    /// Should it be dropped, this is why.
    pub fn because(&mut self, why: Reason) {
        self.why = Some(why);
    }

    /// It has begun, and ends by itself.
    pub fn keep(mut self) {
        self.why = None;
    }

    /// Who pays it, and how.
    pub fn set_paid(&self, paid: Paid) {
        let mut state = self.runners.registry.lock();
        if let Some(session) = this(&mut state, &self.runner, &self.name, self.generation) {
            session.paid = Some(paid);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(why) = self.why {
            let registry = &self.runners.registry;
            registry.release_this(&self.runner, &self.name, self.generation, why);
        }
    }
}

/// A request within a session.
pub struct Visit {
    runners: Arc<LiveRunners>,
    runner: String,
    /// The runner's route.
    pub route: String,
    /// The session's name.
    pub name: String,
    generation: u64,
    /// Below this, at the runner.
    pub target: Url,
    /// Shows the runner that the request comes from here, and lets it act for the session.
    pub token: String,
    /// Cancelled when the session ends.
    pub ended: CancellationToken,
    /// Cancelled when the first of it is delivered.
    pub delivered: CancellationToken,
    asked: Arc<AtomicU64>,
    is_asked: bool,
    why: Arc<OnceLock<Reason>>,
    /// When its runner was last known to be there.
    pub there: Arc<LastSign>,
    _under_way: TaskTrackerToken,
}

impl Visit {
    /// The runner is there.
    pub fn is_heard(&self) {
        self.there.note(Instant::now());
    }

    /// It is on its way to the runner.
    pub fn is_sent(&mut self) {
        self.is_asked = true;
        self.asked.fetch_add(1, Relaxed);
    }

    /// The runner has failed it: as if nobody had asked.
    pub fn has_failed(&mut self) {
        if std::mem::take(&mut self.is_asked) {
            self.asked.fetch_sub(1, Relaxed);
        }
    }

    /// The runner has failed: others are to go elsewhere for a while.
    pub fn broke(&self) {
        self.runners.registry.broke(&self.runner);
    }

    /// Waits until what is under way has to end with the session. A runner that ends it itself may finish
    /// what it was saying.
    pub async fn cut(&self) {
        self.ended.cancelled().await;
        if self.why() == Some(Reason::RunnerStopped) {
            tokio::time::sleep(LAST_WORDS).await;
        }
    }

    /// That the session is not there any more, and why.
    pub fn over(&self) -> RunnerError {
        RunnerError::NoSession(self.why())
    }

    /// Why the session has ended.
    pub fn why(&self) -> Option<Reason> {
        self.why.get().copied()
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut state = self.runners.registry.lock();
        state.requests = state.requests.saturating_sub(1);
        if let Some(session) = this(&mut state, &self.runner, &self.name, self.generation) {
            session.open = session.open.saturating_sub(1);
            session.touch(Instant::now());
        }
    }
}

/// Whom a proxy's request is for.
pub enum Behind {
    /// A session.
    Session(Box<Visit>),
    /// A single-shot runner, by its route.
    SingleShot(String),
}

fn session_of<'a>(
    state: &'a mut State,
    runner: &str,
    name: &str,
) -> Option<&'a mut super::session::Session> {
    state.runners.get_mut(runner)?.sessions.get_mut(name)
}

/// The same, if it is not a later one of that name.
fn this<'a>(
    state: &'a mut State,
    runner: &str,
    name: &str,
    generation: u64,
) -> Option<&'a mut super::session::Session> {
    session_of(state, runner, name).filter(|session| session.generation == generation)
}

impl Registry {
    /// What a session of this kind would begin with.
    pub fn terms(&self, route: &str, mode: Mode, now: Instant) -> Result<Terms, RunnerError> {
        let mut state = self.lock();
        let runner = state.by_route(route)?;
        if !runner.is_ready(now, self.bounds.ttl) {
            return Err(RunnerError::NoRunner);
        }
        runner.must_be(mode)?;
        Ok(Terms {
            runner: runner.id.clone(),
            route: runner.route.clone(),
            sold: runner.sold(),
            probe: Probe::of(&runner.origin, &runner.facts.url),
        })
    }

    /// The runner of a route, if it is there: one that has failed somebody a moment ago is.
    pub(super) fn there<'a>(
        &self,
        state: &'a mut State,
        route: &str,
        now: Instant,
    ) -> Result<&'a mut Runner, RunnerError> {
        let ttl = self.bounds.ttl;
        let runner = state.by_route(route)?;
        let there = runner.facts.ready && !runner.is_expired(now, ttl);
        if there { Ok(runner) } else { Err(RunnerError::NoRunner) }
    }

    /// Ends a session, and no later one of its name; nothing happens if it has ended.
    pub fn release_this(&self, runner: &str, name: &str, generation: u64, why: Reason) {
        let mut state = self.lock();
        if this(&mut state, runner, name, generation).is_some() {
            state.release(runner, name, why, &self.trickle);
        }
    }

    /// A client ends a session, which may be none.
    pub fn stop_session(&self, route: &str, name: &str, now: Instant) -> Result<(), RunnerError> {
        let mut state = self.lock();
        let runner = state.by_route(route)?;
        if runner.is_expired(now, self.bounds.ttl) {
            return Err(RunnerError::NoRunner);
        }
        let id = runner.id.clone();
        state.release(&id, name, Reason::ClientStopped, &self.trickle);
        Ok(())
    }

    /// How a session is paid.
    pub fn paying(
        &self,
        route: &str,
        name: &str,
        now: Instant,
    ) -> Result<Option<Paid>, RunnerError> {
        let mut state = self.lock();
        let runner = self.there(&mut state, route, now)?;
        match runner.sessions.get(name) {
            Some(session) => Ok(session.paid.clone()),
            None => Err(no_session(&state, route, name)),
        }
    }

    /// Somebody pays on.
    pub fn renew(&self, route: &str, name: &str, now: Instant) {
        let mut state = self.lock();
        let session = state.by_route(route).ok().and_then(|r| r.sessions.get_mut(name));
        if let Some(session) = session {
            session.touch(now);
        }
    }

    /// How the session of this name is paid, whosever runner's it is.
    pub fn paid_by_name(&self, name: &str) -> Option<Paid> {
        let state = self.lock();
        state.runners.values().find_map(|runner| runner.sessions.get(name)?.paid.clone())
    }

    /// Looks whether anything of a session that is there was delivered.
    pub fn look_for_output(&self, runner: &str, name: &str, generation: u64) {
        if let Some(session) = this(&mut self.lock(), runner, name, generation) {
            session.has_delivered();
        }
    }

    /// Whether time counts: the runner is there.
    pub fn is_there(&self, route: &str, now: Instant) -> bool {
        self.there(&mut self.lock(), route, now).is_ok()
    }

    fn is_heard(&self, runner: &str) {
        if let Some(runner) = self.lock().runners.get(runner) {
            runner.is_heard();
        }
    }

    fn broke(&self, runner: &str) {
        if let Some(runner) = self.lock().runners.get_mut(runner) {
            runner.broke(Instant::now());
            tracing::warn!(runner = runner.id, url = %runner.facts.url, "a live runner has failed");
        }
    }
}

pub(super) fn no_session(state: &State, route: &str, name: &str) -> RunnerError {
    RunnerError::NoSession(state.ended.reason(route, name))
}

impl LiveRunners {
    /// Room for one session, under a name of the caller's or a new one.
    pub fn reserve(
        self: &Arc<Self>,
        terms: &Terms,
        name: Option<String>,
        now: Instant,
    ) -> Result<Reserved, RunnerError> {
        let registry = &self.registry;
        let name = match name {
            Some(name) => name,
            None => ids::session_id().map_err(|_| RunnerError::Internal)?,
        };
        let mut state = registry.lock();
        let sessions = state.sessions;
        let runner = state.runners.get(&terms.runner).ok_or(RunnerError::NoRunner)?;
        if !runner.is_ready(now, registry.bounds.ttl) {
            return Err(RunnerError::NoRunner);
        }
        if runner.sessions.contains_key(&name) {
            return Err(RunnerError::Exists);
        }
        runner.has_room()?;
        let there = Arc::clone(&runner.there);
        let most = registry.bounds.sessions;
        if sessions >= most {
            let (what, setting) = ("sessions of live runners", "--max-runner-sessions");
            return Err(RunnerError::TooMany { what, most, setting });
        }
        state.add_session(&terms.runner, &name, now);
        let session = session_of(&mut state, &terms.runner, &name).ok_or(RunnerError::Internal)?;
        let (units, visited) = (Arc::clone(&session.units), Arc::clone(&session.visited));
        let delivery = Delivery {
            first: session.delivered.clone(),
            visits: session.visits.clone(),
            asked: Arc::clone(&session.asked),
            why: Arc::clone(&session.why),
        };
        let (generation, ended) = (session.generation, session.ended.clone());
        drop(state);
        Ok(Reserved {
            runners: Arc::clone(self),
            runner: terms.runner.clone(),
            route: terms.route.clone(),
            name,
            generation,
            visited,
            delivery,
            units,
            there,
            probe: terms.probe.clone(),
            ended,
            why: Some(Reason::ClientGone),
        })
    }

    /// Whether the runner is there now; if not, others are told to go elsewhere for a while.
    pub async fn is_well(&self, terms: &Terms) -> bool {
        let well = terms.probe.is_well(&self.health).await;
        if well {
            self.registry.is_heard(&terms.runner);
        } else {
            self.registry.broke(&terms.runner);
        }
        well
    }

    /// Where clients of a session find the application.
    pub fn app_url(&self, reserved: &Reserved) -> Result<String, RunnerError> {
        let registry = &self.registry;
        let mut state = registry.lock();
        let runner = state.runners.get_mut(&reserved.runner).ok_or(RunnerError::NoRunner)?;
        if !runner.facts.proxy {
            return Ok(format!("{}/app", registry.control_url(&reserved.route, &reserved.name)));
        }
        let target = runner.facts.url.clone();
        let id = registry.add_proxy(&mut state, &reserved.runner, &reserved.name, target)?;
        Ok(registry.places.template.url(&id))
    }

    /// A request within a session.
    pub fn visit(
        self: &Arc<Self>,
        route: &str,
        name: &str,
        mode: Mode,
        now: Instant,
    ) -> Result<Visit, RunnerError> {
        let mut state = self.registry.lock();
        let runner = self.registry.there(&mut state, route, now)?;
        // A single call is one request, not a session for as long as it lasts.
        runner.must_be(mode)?;
        let (id, target) = (runner.id.clone(), runner.facts.url.clone());
        self.enter(&mut state, &id, name, target)
    }

    fn enter(
        self: &Arc<Self>,
        state: &mut State,
        id: &str,
        name: &str,
        target: Url,
    ) -> Result<Visit, RunnerError> {
        let all = state.requests;
        let runner = state.runners.get_mut(id).ok_or(RunnerError::NoRunner)?;
        let (route, token) = (runner.route.clone(), runner.seed.session_token(name));
        let there = Arc::clone(&runner.there);
        let Some(session) = runner.sessions.get_mut(name) else {
            return Err(no_session(state, &route, name));
        };
        // It is being paid for.
        if self.registry.is_paid() && session.paid.is_none() {
            return Err(RunnerError::NoSession(None));
        }
        let most = self.registry.bounds.requests;
        if session.open >= most {
            let (what, setting) = ("requests of this session", "--max-runner-requests");
            return Err(RunnerError::TooMany { what, most, setting });
        }
        if all >= self.registry.bounds.all_requests {
            let (what, setting) = ("requests to live runners", "--max-open-runner-requests");
            return Err(RunnerError::TooMany {
                what,
                most: self.registry.bounds.all_requests,
                setting,
            });
        }
        session.open += 1;
        session.visited.store(true, Relaxed);
        let (ended, name) = (session.ended.clone(), name.to_owned());
        let delivered = session.delivered.clone();
        let (runner, generation) = (id.to_owned(), session.generation);
        let (under_way, asked) = (session.visits.token(), Arc::clone(&session.asked));
        let why = Arc::clone(&session.why);
        state.requests += 1;
        let runners = Arc::clone(self);
        Ok(Visit {
            runners,
            runner,
            route,
            name,
            generation,
            target,
            token,
            ended,
            delivered,
            asked,
            is_asked: false,
            why,
            there,
            _under_way: under_way,
        })
    }

    /// Whom a proxy's request is for.
    pub fn behind(self: &Arc<Self>, proxy: &str, now: Instant) -> Result<Behind, RunnerError> {
        let mut state = self.registry.lock();
        if let Some((id, name)) = state.proxies.get(proxy).cloned() {
            let runner = state.runners.get(&id).ok_or(RunnerError::NoProxy)?;
            if !runner.facts.ready || runner.is_expired(now, self.registry.bounds.ttl) {
                return Err(RunnerError::NoProxy);
            }
            let target = runner.sessions.get(&name).and_then(|s| s.proxies.get(proxy)).cloned();
            let target = target.ok_or(RunnerError::NoProxy)?;
            return self
                .enter(&mut state, &id, &name, target)
                .map(|visit| Behind::Session(Box::new(visit)));
        }
        let is_open = |runner: &Runner| runner.facts.proxy && runner.facts.mode == Mode::SingleShot;
        // A host's name comes in small letters, however the label was written.
        let is_it = |route: &&String| route.eq_ignore_ascii_case(proxy);
        let mut alike = state.routes.keys().filter(is_it);
        let route = match (alike.next(), alike.next()) {
            (Some(only), None) => only.clone(),
            _ => proxy.to_owned(),
        };
        match state.by_route(&route) {
            Ok(runner) if is_open(runner) => Ok(Behind::SingleShot(runner.route.clone())),
            _ => Err(RunnerError::NoProxy),
        }
    }

    /// For redirects: where a visit's target is, as its client sees it.
    pub fn public_base(&self, visit: &Visit, single_shot: bool) -> String {
        let registry = &self.registry;
        if single_shot {
            format!("{}/app", registry.app_url(&visit.route))
        } else {
            format!("{}/app", registry.control_url(&visit.route, &visit.name))
        }
    }
}

impl Registry {
    /// One more way to a session, leading to `target`.
    pub(super) fn add_proxy(
        &self,
        state: &mut State,
        runner: &str,
        name: &str,
        target: Url,
    ) -> Result<String, RunnerError> {
        let most = self.bounds.proxies;
        let session = session_of(state, runner, name).ok_or(RunnerError::NoSession(None))?;
        if session.proxies.len() >= most {
            let (what, setting) = ("proxies of this session", "--max-runner-proxies");
            return Err(RunnerError::TooMany { what, most, setting });
        }
        let id = ids::proxy_id().map_err(|_| RunnerError::Internal)?;
        session.proxies.insert(id.clone(), target);
        state.proxies.insert(id.clone(), (runner.to_owned(), name.to_owned()));
        Ok(id)
    }

    /// A runner wants one more way to a session of its own.
    pub fn create_proxy(
        &self,
        route: &str,
        name: &str,
        said: &str,
        now: Instant,
    ) -> Result<(String, String), RunnerError> {
        let mut state = self.lock();
        let runner = self.there(&mut state, route, now)?;
        let (id, target) = (runner.id.clone(), path::proxy_target(&runner.facts.url, said)?);
        let proxy = self.add_proxy(&mut state, &id, name, target)?;
        let url = self.places.template.url(&proxy);
        Ok((proxy, url))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{SECRET, registry, said},
        *,
    };
    use crate::pricing::unit::Unit;
    use penstock_domain::{Address, Rational};
    use penstock_wire::json::RunnerSaid;

    fn runners() -> Arc<LiveRunners> {
        penstock_http_kit::tls::install_crypto_provider();
        let client = || crate::runners::health::client(&Arc::default()).unwrap();
        let (health, http) = (client(), client());
        let runners =
            Arc::new(LiveRunners { registry: registry(&[]), health, http, hands: Arc::default() });
        runners.registry.heartbeat(said("r"), SECRET, true, Instant::now()).unwrap();
        runners
    }

    fn reserve(runners: &Arc<LiveRunners>) -> Reserved {
        let now = Instant::now();
        let terms = runners.registry.terms("r", Mode::Persistent, now).unwrap();
        runners.reserve(&terms, Some("s".into()), now).unwrap()
    }

    fn visit(runners: &Arc<LiveRunners>) -> Result<Visit, RunnerError> {
        runners.visit("r", "s", Mode::Persistent, Instant::now())
    }

    fn pay(reserved: &Reserved) {
        let (payer, price) = (Address::repeat_byte(1), Rational::from_int(1));
        reserved.set_paid(Paid { payer, price, unit: Unit::Fixed });
    }

    #[tokio::test]
    async fn nobody_enters_before_it_is_paid() {
        let runners = runners();
        let reserved = reserve(&runners);
        assert!(matches!(visit(&runners), Err(RunnerError::NoSession(None))));
        assert!(!reserved.visited.load(Relaxed));
        pay(&reserved);
        assert!(visit(&runners).is_ok() && reserved.visited.load(Relaxed));
    }

    #[tokio::test]
    async fn a_label_in_a_host_is_found_whatever_its_case() {
        let runners = runners();
        let single = RunnerSaid { mode: "single-shot".into(), proxy: true, ..said("My-App") };
        runners.registry.heartbeat(single, SECRET, true, Instant::now()).unwrap();
        let behind = |id: &str| match runners.behind(id, Instant::now()) {
            Ok(Behind::SingleShot(route)) => Some(route),
            _ => None,
        };
        assert_eq!(behind("my-app"), Some("My-App".to_owned()));
        assert_eq!(behind("my-apps"), None);
        let other = RunnerSaid { mode: "single-shot".into(), proxy: true, ..said("my-app") };
        runners.registry.heartbeat(other, SECRET, true, Instant::now()).unwrap();
        assert_eq!(behind("my-app"), Some("my-app".to_owned()), "written so");
    }

    #[tokio::test]
    async fn what_is_left_of_a_session_does_nothing_to_the_next_of_its_name() {
        let runners = runners();
        let first = reserve(&runners);
        pay(&first);
        let late = visit(&runners).unwrap();
        runners.registry.stop_session("r", "s", Instant::now()).unwrap();
        let next = reserve(&runners);
        pay(&next);
        let open = visit(&runners).unwrap();
        let requests = || {
            let mut state = runners.registry.lock();
            session_of(&mut state, "r", "s").map(|session| session.open)
        };
        drop(late);
        assert_eq!(requests(), Some(1));
        drop(first);
        assert_eq!(requests(), Some(1), "it is there");
        drop(open);
        drop(next);
        assert_eq!(requests(), None);
    }
}
