//! Which orchestrator takes a job: the pool and what is remembered of its members, put before the
//! pure choice in `penstock-selection`. What was decided, and why, is kept for whoever asks
//! (`explain`).

use super::{Gateway, error::JobError, policy::models_of, pools::Snapshot, refresh::Old};
use crate::{clock, front::caller::Caller};
use bytes::Bytes;
use penstock_domain::Capabilities;
use penstock_selection::{
    Breakers, Candidate, Circuit, Decision, Facts, Fault, Policy, Reason, Speed, choose, circuit,
    suspension_ms,
};
use penstock_store::{
    Cas, DocKey, PoolKey, Standing, StoreError, UnixMs, Version, Versioned, scope_of,
    stream_of_scope,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How long the breakers of a pool are kept after the last change.
const BREAKERS_TTL_MS: u64 = 3_600_000;
/// Tries at contended breakers. Each loses only to another that won.
const CAS_TRIES: u32 = 16;

/// What one job has tried so far.
#[derive(Debug, Clone, Default)]
pub struct Tried(pub BTreeSet<String>);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// For whom.
    pub caller: &'a Caller,
    /// Among whom.
    pub pool: &'a PoolKey,
    /// For what.
    pub job: &'a Capabilities,
    /// The scope of the stream that it belongs to, if it does: what is known of speed is then of it alone.
    pub stream: Option<&'a str>,
    /// Preferred while it is fast enough.
    pub sticky: Option<&'a str>,
    /// Left out.
    pub tried: &'a Tried,
}

/// Where a job goes.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The service URI.
    pub uri: String,
    /// What it says of itself, for labels.
    pub facts: Arc<Facts>,
    /// It was named by another than itself: it may be reached at public addresses only.
    pub foreign: bool,
    /// Its circuit was not closed: a success is worth a note.
    pub doubted: bool,
    /// How fast it was last, for the same stream if the job is of one (see `Candidate`).
    pub latency_score: Option<f64>,
    /// Why this one.
    pub reason: Reason,
}

/// One decision with everything that led to it.
#[derive(Debug)]
pub struct Considered {
    /// When.
    pub at: UnixMs,
    /// The pool.
    pub pool: Arc<Snapshot>,
    /// Its members with what was remembered of them, in the same order.
    pub candidates: Vec<Candidate>,
    /// Who and why, and why not the others.
    pub decision: Decision,
    /// The outcome; `None`: nobody is left.
    pub chosen: Option<Chosen>,
}

impl Considered {
    /// "7 of 12 excluded by price", or that nobody is known.
    pub fn summary(&self) -> String {
        if self.candidates.is_empty() {
            return "no orchestrator answered discovery".to_owned();
        }
        self.decision.summary(self.candidates.len())
    }
}

impl Gateway {
    /// The next orchestrator for a job.
    pub async fn choose(&self, ask: &Ask<'_>) -> Result<Considered, JobError> {
        let policy = self.policy(ask.caller, ask.job)?;
        self.choose_among(None, ask, &policy).await
    }

    /// The next one of those that were found for this very job, or of its pool.
    pub async fn choose_among(
        &self,
        found: Option<&Arc<Snapshot>>,
        ask: &Ask<'_>,
        policy: &Policy,
    ) -> Result<Considered, JobError> {
        let mut tried = ask.tried.clone();
        loop {
            let considered = self.consider(found, &Ask { tried: &tried, ..*ask }, policy).await?;
            let Some(chosen) = &considered.chosen else {
                tracing::info!(pool = %ask.pool.0, why = considered.summary(),
                    "no orchestrator for a job");
                return Ok(considered);
            };
            // One job at a time tries out an orchestrator that failed; the others go elsewhere, if
            // there is anybody else.
            let probing = chosen.doubted && chosen.reason != Reason::LastResort;
            if !probing || self.begin_probe(ask.pool, &chosen.uri).await? {
                tracing::debug!(pool = %ask.pool.0, orchestrator = chosen.uri,
                    reason = ?chosen.reason, "chose an orchestrator");
                return Ok(considered);
            }
            tried.0.insert(chosen.uri.clone());
            let others = self.consider(found, &Ask { tried: &tried, ..*ask }, policy).await?;
            if others.chosen.is_none() {
                return Ok(considered);
            }
        }
    }

    /// What would be chosen now; asks around if nobody is known.
    async fn consider(
        &self,
        found: Option<&Arc<Snapshot>>,
        ask: &Ask<'_>,
        policy: &Policy,
    ) -> Result<Considered, JobError> {
        let pool = match found {
            Some(found) => Arc::clone(found),
            None => self.snapshot(ask.pool, ask.job).await?,
        };
        self.consider_among(pool, ask, policy).await
    }

    /// What would be chosen now among these. Changes nothing.
    pub async fn consider_among(
        &self,
        pool: Arc<Snapshot>,
        ask: &Ask<'_>,
        policy: &Policy,
    ) -> Result<Considered, JobError> {
        let at = clock::now();
        let known = |scope: String| async move {
            self.reputation.standings.get(&scope, self.store.standings(&scope, at)).await
        };
        let streams_own = async {
            match ask.stream {
                Some(stream) => known(stream.to_owned()).await,
                None => Ok(Arc::default()),
            }
        };
        let circuits = async { Ok(self.breakers(ask.pool, at).await?.1) };
        let (name, reputation) = (&ask.pool.0, &self.reputation);
        let soon = |old: fn(PoolKey) -> Old| move || self.refresh.soon(old(ask.pool.clone()));
        let pools = self.store.standings(name, at);
        let (standings, own, streams_own, breakers) = tokio::try_join!(
            reputation.standings.get_or_old(name, soon(Old::Standings), pools),
            known(callers_own(ask.pool, ask.caller)),
            streams_own,
            reputation.breakers.get_or_old(name, soon(Old::Breakers), circuits),
        )?;
        let mut candidates = candidates(&pool, &standings, &breakers, ask.tried);
        for candidate in &mut candidates {
            let uri = &candidate.facts.transcoder;
            let own = own.get(uri).and_then(|s| s.suspended_until);
            candidate.suspended_until_ms = candidate.suspended_until_ms.max(own.map(|t| t.0));
            if ask.stream.is_some() {
                candidate.latency_score = streams_own.get(uri).and_then(|s| s.latency_score);
            }
        }
        let speed = match ask.stream {
            Some(_) => Speed::STREAM,
            None => Speed::OfJobs { exponent: self.settings.selection.speed_exponent },
        };
        let policy = &Policy { speed, ..policy.clone() };
        // Who serves a stream may go a little above the limit before it is left.
        let max_price = self.tolerated_price(ask.caller, &models_of(ask.job))?;
        let staying = Policy { max_price, ..policy.clone() };
        // What is asked for of runners is asked here only: nodes would make nothing of it.
        let versions = &self.settings.selection.runner_versions;
        let strict = (!versions.is_empty()).then(|| versions.required(ask.job.clone()));
        let job = strict.as_ref().unwrap_or(ask.job);
        let decision = decide(&candidates, job, (policy, &staying), ask.sticky, at);
        let chosen = decision.chosen.and_then(|(index, reason)| {
            let (member, candidate) = (pool.members.get(index)?, candidates.get(index)?);
            Some(Chosen {
                uri: member.entry.transcoder.clone(),
                facts: Arc::clone(&candidate.facts),
                foreign: member.foreign,
                doubted: candidate.breaker.is_some(),
                latency_score: candidate.latency_score,
                reason,
            })
        });
        Ok(Considered { at, pool, candidates, decision, chosen })
    }

    /// Remembers how fast it was; of a stream's segment for that stream, and in the pool for whoever
    /// looks at it. It counts here at once, and at the other replicas in a moment.
    pub fn record_score(
        &self,
        key: &PoolKey,
        stream: Option<&str>,
        orchestrator: &str,
        score: f64,
    ) {
        for scope in [Some(key.0.as_str()), stream].into_iter().flatten() {
            self.learn(scope, orchestrator, |standing| standing.latency_score = Some(score));
            self.afterwards.took(scope, orchestrator, score);
        }
    }

    /// A success is what ends doubts about it.
    pub async fn end_doubts(&self, key: &PoolKey, chosen: &Chosen) {
        if chosen.doubted {
            self.close_circuits(key, std::slice::from_ref(&chosen.uri)).await;
        }
    }

    /// These work again.
    pub async fn close_circuits(&self, key: &PoolKey, orchestrators: &[String]) {
        if orchestrators.is_empty() {
            return;
        }
        let closed = self.change_breakers(key, |all| {
            orchestrators.iter().filter(|orchestrator| all.succeeded(orchestrator)).count()
        });
        if let Err(error) = closed.await {
            tracing::warn!(%error, "circuits were not closed");
        }
    }

    /// Keeps several out at once, each with its reason.
    pub async fn suspend_all(&self, key: &PoolKey, fault: Fault, those: &[(String, String)]) {
        if those.is_empty() {
            return;
        }
        let now = clock::now();
        let opened = self.change_breakers(key, |all| {
            those.iter().map(|(uri, _)| all.failed(uri, fault, now.0)).collect::<Vec<_>>()
        });
        let times_ms = opened.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "circuits were not opened");
            vec![suspension_ms(fault, 1); those.len()]
        });
        tracing::info!(pool = %key.0, ?fault, count = those.len(), "suspended");
        let stored = those.iter().zip(times_ms).map(|((uri, because), ms)| {
            self.store_suspension(&key.0, uri, because, now.plus_ms(ms))
        });
        futures::future::join_all(stored).await;
    }

    /// Keeps an orchestrator out for a while, longer with each failure in a row.
    pub async fn suspend(&self, key: &PoolKey, orchestrator: &str, fault: Fault, because: &str) {
        let now = clock::now();
        let opened = self.change_breakers(key, |all| all.failed(orchestrator, fault, now.0));
        let ms = opened.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a circuit was not opened");
            suspension_ms(fault, 1)
        });
        tracing::info!(pool = %key.0, orchestrator, ?fault, because, ms, "suspended");
        metrics::counter!("penstock_gateway_suspensions_total", "fault" => format!("{fault:?}"))
            .increment(1);
        let until = now.plus_ms(ms);
        self.store_suspension(&key.0, orchestrator, because, until).await;
    }

    async fn store_suspension(
        &self,
        scope: &str,
        orchestrator: &str,
        because: &str,
        until: UnixMs,
    ) {
        let stored = self.store.suspend(scope, orchestrator, because, until, clock::now());
        if let Err(error) = stored.await {
            tracing::warn!(%error, "a suspension was not stored");
        }
        // It counts here in any case.
        self.learn(scope, orchestrator, |standing| standing.suspended_until = Some(until));
    }

    fn learn(&self, scope: &str, orchestrator: &str, change: impl FnOnce(&mut Standing)) {
        self.reputation.standings.learn(scope, |all| {
            change(all.entry(orchestrator.to_owned()).or_default());
        });
    }

    /// Keeps an orchestrator from one caller for a while.
    pub async fn suspend_for(
        &self,
        caller: &Caller,
        key: &PoolKey,
        orchestrator: &str,
        fault: Fault,
        because: &str,
    ) {
        let (now, ms) = (clock::now(), suspension_ms(fault, 1));
        tracing::info!(pool = %key.0, orchestrator, ?fault, because, ms, caller = %caller.auth_id,
            "suspended for one caller");
        let until = now.plus_ms(ms);
        self.store_suspension(&callers_own(key, caller), orchestrator, because, until).await;
    }

    async fn begin_probe(&self, key: &PoolKey, orchestrator: &str) -> Result<bool, StoreError> {
        let now = clock::now();
        self.change_breakers(key, |all| all.begin_probe(orchestrator, now.0)).await
    }

    /// The circuits of a pool that are not closed, and their version.
    pub async fn breakers(
        &self,
        key: &PoolKey,
        now: UnixMs,
    ) -> Result<(Option<Version>, Breakers), StoreError> {
        let Some(Versioned { version, value }) = self.store.doc(&breakers_key(key), now).await?
        else {
            return Ok((None, Breakers::default()));
        };
        // What cannot be read begins anew.
        Ok((Some(version), serde_json::from_slice(&value).unwrap_or_default()))
    }

    async fn change_breakers<T>(
        &self,
        key: &PoolKey,
        change: impl Fn(&mut Breakers) -> T,
    ) -> Result<T, StoreError> {
        let doc = breakers_key(key);
        let mut tries = 0;
        loop {
            let now = clock::now();
            let (version, before) = self.breakers(key, now).await?;
            let mut all = before.clone();
            let answer = change(&mut all);
            tries += 1;
            if all == before || tries > CAS_TRIES {
                return Ok(answer);
            }
            let value = Bytes::from(serde_json::to_vec(&all).unwrap_or_default());
            let put = self.store.put_doc(&doc, version, value, BREAKERS_TTL_MS, now);
            if let Cas::Stored(_) = put.await? {
                self.reputation.breakers.learn(&key.0, |known| *known = all);
                return Ok(answer);
            }
        }
    }
}

/// The scope of a stream, if this is one.
pub fn stream_scope(scope: &str) -> Option<&str> {
    stream_of_scope(scope).map(|_| scope)
}

/// What is remembered for one caller alone.
fn callers_own(key: &PoolKey, caller: &Caller) -> String {
    scope_of(&key.0, &caller.auth_id)
}

fn breakers_key(key: &PoolKey) -> DocKey {
    DocKey::new("breakers", key.0.clone())
}

fn candidates(
    pool: &Snapshot,
    standings: &BTreeMap<String, Standing>,
    breakers: &Breakers,
    tried: &Tried,
) -> Vec<Candidate> {
    pool.members
        .iter()
        .map(|member| {
            let uri = &member.entry.transcoder;
            let standing = standings.get(uri);
            Candidate {
                facts: Arc::clone(&member.facts),
                latency_score: standing.and_then(|s| s.latency_score),
                suspended_until_ms: standing.and_then(|s| s.suspended_until).map(|t| t.0),
                breaker: breakers.get(uri).copied(),
                tried: tried.0.contains(uri),
            }
        })
        .collect()
}

/// The sticky one if it is eligible and fast enough, else the choice among all.
fn decide(
    candidates: &[Candidate],
    job: &Capabilities,
    (policy, staying): (&Policy, &Policy),
    sticky: Option<&str>,
    now: UnixMs,
) -> Decision {
    let mut rng = rand::rng();
    if let Some((at, kept)) =
        sticky.and_then(|s| candidates.iter().enumerate().find(|(_, c)| c.facts.transcoder == s))
    {
        let alone = choose(std::slice::from_ref(kept), job, staying, now.0, &mut rng);
        let fast = policy.speed.is_enough(kept.latency_score);
        let closed =
            circuit(kept.breaker.as_ref(), kept.suspended_until_ms, now.0) == Circuit::Closed;
        if let (Some((_, Reason::BestKnown | Reason::Untried)), true) =
            (alone.chosen, fast && closed)
        {
            return Decision { chosen: Some((at, Reason::Sticky)), excluded: Vec::new() };
        }
    }
    choose(candidates, job, policy, now.0, &mut rng)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{CapabilitySet, Rational};

    fn candidate(name: &str, score: Option<f64>, suspended: bool) -> Candidate {
        let facts = Facts {
            transcoder: name.into(),
            score: 1.0,
            capabilities: Some(Capabilities::of_set(CapabilitySet::default_video())),
            discovery_latency_ms: 1,
            ..Facts::default()
        };
        Candidate {
            facts: Arc::new(facts.priced(Some(Rational::ONE))),
            latency_score: score,
            suspended_until_ms: suspended.then_some(u64::MAX),
            ..Candidate::default()
        }
    }

    #[test]
    fn a_stream_stays_where_it_is_while_that_is_fast() {
        let job = Capabilities::default();
        let policy = Policy::default();
        let chosen = |all: &[Candidate], sticky| {
            let (at, _) = decide(all, &job, (&policy, &policy), sticky, UnixMs(0)).chosen.unwrap();
            all[at].facts.transcoder.clone()
        };
        let mut all =
            vec![candidate("fast", Some(0.1), false), candidate("kept", Some(0.9), false)];
        assert_eq!(chosen(&all, Some("kept")), "kept");
        assert_eq!(chosen(&all, Some("gone")), "fast");
        all[1].latency_score = Some(1.1);
        assert_eq!(chosen(&all, Some("kept")), "fast", "slower than real time");
        all[1] = candidate("kept", None, true);
        assert_eq!(chosen(&all, Some("kept")), "fast", "suspended");
    }
}
