//! Who is a live runner here: registrations, heartbeats, what runs out (live-runner.md sections 2, 4
//! and 5). Times are arguments.

use super::{
    args::{Bounds, Places, go_duration},
    ended::Ended,
    error::RunnerError,
    facts::Facts,
    ids::{self, Seed, is_secret},
    o2r::{self, Messages},
    runner::{Origin, Runner},
    state::State,
};
use crate::{live, release::Reason, runner_networks::RunnerNetworks};
use penstock_trickle::TrickleServer;
use penstock_wire::json::RunnerSaid;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;
use url::Url;

/// All live runners of a process.
pub struct Registry {
    /// How much there may be of everything.
    pub bounds: Bounds,
    /// Where things are found.
    pub places: Places,
    /// The channels.
    pub trickle: TrickleServer,
    /// Whether sessions are paid.
    paid: bool,
    /// Whether runners may register themselves.
    dynamic: bool,
    /// Where they may be.
    networks: Arc<RunnerNetworks>,
    state: Mutex<State>,
}

impl Registry {
    /// Without any.
    pub fn new(
        bounds: Bounds,
        places: Places,
        trickle: TrickleServer,
        paid: bool,
        dynamic: bool,
        networks: Arc<RunnerNetworks>,
    ) -> Self {
        let ended = Ended::new(bounds.ended);
        let state = Mutex::new(State { ended, ..State::default() });
        Self { bounds, places, trickle, paid, dynamic, networks, state }
    }

    /// Whether requests may be sent to a URL that a runner, or an operator's list, says.
    pub(super) fn check_place(&self, url: &Url) -> Result<(), RunnerError> {
        if self.networks.allows(url) { Ok(()) } else { Err(RunnerError::Place) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests to runners that are open, in all sessions.
    pub fn open_requests(&self) -> usize {
        self.lock().requests
    }

    /// Whether sessions are paid.
    pub fn is_paid(&self) -> bool {
        self.paid
    }

    /// A runner says that it is there. `knows_secret` is whether `auth` is what registrations need.
    pub fn heartbeat(
        &self,
        mut said: RunnerSaid,
        auth: &str,
        knows_secret: bool,
        now: Instant,
    ) -> Result<Value, RunnerError> {
        said.runner_id = said.runner_id.trim().to_owned();
        if said.runner_id.is_empty() {
            said.runner_id = ids::runner_id().map_err(|_| RunnerError::Internal)?;
        }
        let facts = Facts::new(&said, self.paid)?;
        self.check_place(&facts.url)?;
        let mut state = self.lock();
        let Some(id) = state.routes.get(&said.runner_id).cloned() else {
            return self.register(&mut state, said.runner_id, facts, knows_secret, now);
        };
        let runner = state.runners.get_mut(&id).ok_or(RunnerError::NoRunner)?;
        if runner.is_static() {
            // It has no secret of its own, so that none is right.
            let refused = if auth.is_empty() {
                RunnerError::StaticHeartbeat
            } else {
                RunnerError::HeartbeatSecret
            };
            return Err(refused);
        }
        if runner.is_expired(now, self.bounds.ttl) {
            return Err(RunnerError::NoRunner);
        }
        if !is_secret(auth, &runner.seed.heartbeat_secret()) {
            return Err(RunnerError::HeartbeatSecret);
        }
        runner.facts = facts;
        runner.origin = Origin::Dynamic { heard: now };
        runner.is_heard();
        Ok(self.answer(runner, None))
    }

    fn register(
        &self,
        state: &mut State,
        id: String,
        facts: Facts,
        knows_secret: bool,
        now: Instant,
    ) -> Result<Value, RunnerError> {
        if !self.dynamic {
            return Err(RunnerError::RegistrationOff);
        }
        if !knows_secret {
            return Err(RunnerError::RegistrationSecret);
        }
        if !ids::is_runner_id(&id) {
            let why = "runner_id may have 128 letters, digits and -._~:@";
            return Err(RunnerError::Senseless(why.to_owned()));
        }
        if state.runners.contains_key(&id) {
            let why = "runner_id is that of a runner with a label";
            return Err(RunnerError::Senseless(why.to_owned()));
        }
        self.has_place(state, 1)?;
        let seed = Seed::new().map_err(|_| RunnerError::Internal)?;
        let secret = seed.heartbeat_secret();
        let channel = format!("{id}-{}-{}", seed.channel_secret(), o2r::NAME);
        let messages = Messages::open(&self.trickle, channel, self.bounds.messages)
            .map_err(|refusal| RunnerError::Channels(refusal, "the limits of trickle"))?;
        tracing::info!(runner = id, app = facts.app, url = %facts.url, "live runner registered");
        let origin = Origin::Dynamic { heard: now };
        let mut runner = Runner::new(id.clone(), id, facts, origin, seed);
        runner.messages = Some(messages);
        let answer = self.answer(&runner, Some(secret));
        state.put(runner);
        Ok(answer)
    }

    /// Whether so many more runners may be.
    pub(super) fn has_place(&self, state: &State, more: usize) -> Result<(), RunnerError> {
        let most = self.bounds.runners;
        if state.runners.len().saturating_add(more) > most {
            let (what, setting) = ("live runners", "--max-live-runners");
            return Err(RunnerError::TooMany { what, most, setting });
        }
        Ok(())
    }

    fn answer(&self, runner: &Runner, secret: Option<String>) -> Value {
        let mut answer = json!({
            "runner_id": runner.id,
            "orchestrator": self.places.runner,
            "heartbeat_interval": go_duration(self.bounds.ttl / 4),
            "heartbeat_ttl": go_duration(self.bounds.ttl),
            "session_ids": runner.session_ids(),
        });
        if let (Some(secret), Some(messages), Some(map)) =
            (secret, &runner.messages, answer.as_object_mut())
        {
            map.insert("heartbeat_secret".to_owned(), json!(secret));
            let channel = messages.channel();
            let o2r = json!({
                "name": o2r::NAME,
                "channel_name": channel,
                "url": format!("{}{}/{channel}", self.places.runner, live::PATH),
                "mime_type": o2r::MIME,
            });
            map.insert("o2r".to_owned(), o2r);
        }
        answer
    }

    /// A runner takes itself away.
    pub fn unregister(&self, id: &str, auth: &str, now: Instant) -> Result<(), RunnerError> {
        let mut state = self.lock();
        let runner = state.by_route(id)?;
        if runner.is_expired(now, self.bounds.ttl) {
            return Err(RunnerError::NoRunner);
        }
        if runner.is_static() {
            return Err(RunnerError::StaticUnregister);
        }
        if !is_secret(auth, &runner.seed.heartbeat_secret()) {
            return Err(RunnerError::Token);
        }
        let id = runner.id.clone();
        state.remove(&id, Reason::RunnerUnregistered, &self.trickle);
        Ok(())
    }

    /// Removes who was not heard of, and releases what nobody uses.
    pub fn sweep(&self, now: Instant) {
        let mut state = self.lock();
        let gone: Vec<_> = state
            .runners
            .values()
            .filter(|runner| runner.is_expired(now, self.bounds.ttl))
            .map(|runner| runner.id.clone())
            .collect();
        for id in gone {
            state.remove(&id, Reason::RunnerExpired, &self.trickle);
        }
        let lease = self.bounds.lease;
        let mut abandoned = Vec::new();
        for runner in state.runners.values_mut() {
            for (name, session) in &mut runner.sessions {
                if session.is_abandoned(now, lease) {
                    abandoned.push((runner.id.clone(), name.clone()));
                }
            }
        }
        for (id, name) in abandoned {
            state.release(&id, &name, Reason::LeaseExpired, &self.trickle);
        }
    }

    /// The process stops.
    pub fn stop(&self) {
        let mut state = self.lock();
        let all: Vec<_> = state.runners.keys().cloned().collect();
        for id in all {
            state.release_all(&id, Reason::Stopping, &self.trickle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SECRET, registry, said};
    use super::*;
    use std::time::Duration;

    fn beat(registry: &Registry, id: &str, auth: &str) -> Result<Value, RunnerError> {
        registry.heartbeat(said(id), auth, auth == SECRET, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn registered_heard_of_and_gone() {
        let registry = registry(&[]);
        let first = beat(&registry, "", SECRET).unwrap();
        let (id, secret) =
            (first["runner_id"].as_str().unwrap(), first["heartbeat_secret"].as_str().unwrap());
        assert_eq!((id.len(), secret.len()), (15, 52));
        assert_eq!(
            (&first["heartbeat_interval"], &first["heartbeat_ttl"]),
            (&json!("5s"), &json!("20s"))
        );
        assert_eq!(first["session_ids"], json!([]));
        let channel = first["o2r"]["channel_name"].as_str().unwrap();
        assert!(channel.starts_with(id) && channel.ends_with("-o2r"), "{channel}");
        assert_eq!(first["o2r"]["url"], format!("http://internal:1/ai/trickle/{channel}"));
        let again = beat(&registry, id, secret).unwrap();
        assert_eq!((again.get("heartbeat_secret"), again.get("o2r")), (None, None));
        for wrong in ["", SECRET, "x"] {
            assert!(matches!(beat(&registry, id, wrong), Err(RunnerError::HeartbeatSecret)));
        }
        // Late, not yet swept; then swept: a stale secret is a registration without the right one.
        tokio::time::advance(Duration::from_secs(21)).await;
        assert!(matches!(beat(&registry, id, secret), Err(RunnerError::NoRunner)));
        assert!(matches!(
            registry.unregister(id, secret, Instant::now()),
            Err(RunnerError::NoRunner)
        ));
        registry.sweep(Instant::now());
        assert!(!registry.trickle.exists(channel));
        assert!(matches!(beat(&registry, id, secret), Err(RunnerError::RegistrationSecret)));
        let anew = beat(&registry, id, SECRET).unwrap();
        assert_eq!(anew["runner_id"], id);
        assert_ne!(anew["heartbeat_secret"], secret);
        let secret = anew["heartbeat_secret"].as_str().unwrap();
        assert!(matches!(registry.unregister(id, "x", Instant::now()), Err(RunnerError::Token)));
        registry.unregister(id, secret, Instant::now()).unwrap();
        assert!(matches!(
            registry.unregister(id, secret, Instant::now()),
            Err(RunnerError::NoRunner)
        ));
    }

    #[tokio::test]
    async fn bounded_and_without_the_secret_nobody() {
        let few = registry(&["--max-live-runners", "1"]);
        beat(&few, "a", SECRET).unwrap();
        let full = beat(&few, "b", SECRET).unwrap_err().to_string();
        assert_eq!(full, "no capacity available: 1 of 1 live runners (--max-live-runners)");
        assert!(matches!(beat(&few, "b", "x"), Err(RunnerError::RegistrationSecret)));
        for id in ["a/b", "..", "x y"] {
            assert!(matches!(beat(&registry(&[]), id, SECRET), Err(RunnerError::Senseless(_))));
        }
        let own = registry(&["--live-runner-config", "x"]);
        assert!(matches!(beat(&own, "a", SECRET), Err(RunnerError::RegistrationOff)));
    }
}
