//! All live runners and their sessions, and how a session leaves. Behind one lock, which is never
//! held while anything is waited for.

use super::{
    ended::{Ended, EndedSession},
    error::RunnerError,
    ids,
    runner::Runner,
    session::Session,
};
use crate::{
    clock,
    release::{Kind, Reason, released},
};
use penstock_trickle::TrickleServer;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use tokio::time::Instant;

/// The runners.
#[derive(Default)]
pub struct State {
    /// By id.
    pub runners: BTreeMap<String, Runner>,
    /// Ids by route.
    pub routes: HashMap<String, String>,
    /// Runner's id and session of each proxy.
    pub proxies: HashMap<String, (String, String)>,
    /// Sessions in all.
    pub sessions: usize,
    /// Open requests in all, those included whose session has ended under them.
    pub requests: usize,
    /// Sessions that there have been.
    pub generations: u64,
    /// Those that ended.
    pub ended: Ended,
}

impl State {
    /// The runner of a route.
    pub fn by_route(&mut self, route: &str) -> Result<&mut Runner, RunnerError> {
        let id = self.routes.get(route).ok_or(RunnerError::NoRunner)?;
        self.runners.get_mut(id).ok_or(RunnerError::NoRunner)
    }

    /// Adds a runner, or moves it to its new route.
    pub fn put(&mut self, runner: Runner) {
        self.routes.retain(|route, id| *id != runner.id || *route == runner.route);
        self.routes.insert(runner.route.clone(), runner.id.clone());
        self.runners.insert(runner.id.clone(), runner);
        gauge("orchestrator_live_runners", self.runners.len());
    }

    /// Takes a runner away, and releases its sessions.
    pub fn remove(&mut self, id: &str, reason: Reason, trickle: &TrickleServer) {
        self.release_all(id, reason, trickle);
        if let Some(runner) = self.runners.remove(id) {
            self.routes.remove(&runner.route);
            tracing::info!(
                runner = id,
                app = runner.facts.app,
                reason = reason.as_str(),
                "live runner removed"
            );
        }
        gauge("orchestrator_live_runners", self.runners.len());
    }

    /// A session has begun.
    pub fn add_session(&mut self, id: &str, name: &str, now: Instant) {
        let Some(runner) = self.runners.get_mut(id) else { return };
        for proxy in runner.sessions.get(name).iter().flat_map(|there| there.proxies.keys()) {
            self.proxies.remove(proxy);
        }
        self.generations = self.generations.wrapping_add(1);
        let session = Session::new(self.generations, now, clock::now_ms());
        if runner.sessions.insert(name.to_owned(), session).is_none() {
            self.sessions += 1;
        }
        if let Some(messages) = &runner.messages {
            messages.reserved(name);
        }
        let (app, session) = (&runner.facts.app, ids::shown(name));
        tracing::info!(runner = id, session, app, "live runner session reserved");
        gauge("orchestrator_runner_sessions", self.sessions);
    }

    /// Ends a session; false if there is none.
    pub fn release(&mut self, id: &str, name: &str, why: Reason, trickle: &TrickleServer) -> bool {
        let Some(runner) = self.runners.get_mut(id) else { return false };
        let Some(session) = runner.sessions.remove(name) else { return false };
        self.sessions = self.sessions.saturating_sub(1);
        if let Some(messages) = &runner.messages {
            messages.released(name, why);
        }
        // First: who waits for the end asks for the reason.
        let _ = session.why.set(why);
        session.end(trickle);
        for proxy in session.proxies.keys() {
            self.proxies.remove(proxy);
        }
        let (reason, units) = (why.as_str(), session.units());
        tracing::info!(
            runner = id,
            session = ids::shown(name),
            reason,
            units,
            "live runner session released"
        );
        released(Kind::LiveRunner, why);
        gauge("orchestrator_runner_sessions", self.sessions);
        self.ended.add(EndedSession {
            route: runner.route.clone(),
            session: name.to_owned(),
            reason: why,
            at_ms: clock::now_ms(),
            units: Arc::clone(&session.units),
        });
        true
    }

    /// Ends all sessions of a runner.
    pub fn release_all(&mut self, id: &str, reason: Reason, trickle: &TrickleServer) {
        let names: Vec<_> = match self.runners.get(id) {
            Some(runner) => runner.sessions.keys().cloned().collect(),
            None => return,
        };
        for name in names {
            self.release(id, &name, reason, trickle);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
fn gauge(name: &'static str, value: usize) {
    metrics::gauge!(name).set(value as f64);
}
