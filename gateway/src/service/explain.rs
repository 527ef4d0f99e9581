//! Why a job went where it went: the decisions of the newest jobs, kept for a while so that any
//! replica can answer for all.
//!
//! Each job's decisions go into a small ring of this replica and, beside the job, into the store, where
//! they are cut down: of a job that went well, and that is an ordinary one, nothing is written at all.
//! What cannot be stored is only an explanation less.

use super::{
    Gateway,
    ai::pipeline::Pipeline,
    attempts::Plan,
    choose::{Ask, Considered, Tried},
    discovery::{ai_pool, plain_video_job, video_pool},
    error::JobError,
    failure::Cause,
};
use crate::{clock, front::caller::Caller, trace};
use bytes::Bytes;
use penstock_domain::{Capabilities, Capability, StreamId};
use penstock_selection::Reason;
use penstock_store::{DocKey, UnixMs, pack, stream_of_scope, unpack};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use utoipa::ToSchema;

/// How long an explanation is kept.
const TTL_MS: u64 = 600_000;
/// Jobs kept in this replica.
const RING: usize = 256;
/// Candidates told of one decision; counts cover all.
const MAX_TOLD: usize = 100;
/// Candidates of one decision that are stored: when all went well, and when a try failed.
const MAX_STORED: usize = 4;
const MAX_STORED_OF_FAILED: usize = 20;
/// The scope of a stream that begins: it knows nobody yet.
const NO_STREAM: &str = "stream:";
/// Explanations being written at a time; more are left out.
const MAX_WRITES: usize = 64;

/// What a job was decided on, by rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// What it is about: the job's trace id, a stream, or a pipeline and model.
    #[schema(example = "0af7651916cd43dd8448eb211c80319c")]
    pub about: String,
    /// The job in the gateway's own words, as in its log.
    #[schema(example = "show/17")]
    pub name: String,
    /// The pool of candidates.
    #[schema(example = "video")]
    pub pool: String,
    /// On whose account.
    pub auth_id: String,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// One per orchestrator that was chosen, and the last one if nobody was left.
    pub rounds: Vec<Round>,
}

/// One decision and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Round {
    /// How many were known.
    pub candidates: usize,
    /// In one sentence.
    #[schema(example = "7 of 12 excluded by price, 1 by suspended")]
    pub summary: String,
    /// How many were left out, by the word for why.
    pub excluded: BTreeMap<String, usize>,
    /// Who was chosen.
    pub chosen: Option<String>,
    /// Why that one: `sticky`, `best_known`, `untried`, `drawn`, `last_resort`, `above_price_limit`.
    #[schema(value_type = Option<String>)]
    pub reason: Option<String>,
    /// Why the try failed; absent while it runs and when it succeeded.
    pub failed: Option<String>,
    /// In the orchestrator's words.
    pub error: Option<String>,
    /// How long the try took, milliseconds; absent while it runs.
    pub ms: Option<u64>,
    /// The candidates: of a pipeline the first hundred, of a job or stream that is remembered the one that
    /// was chosen and three others, or twenty in all where a try failed.
    pub who: Vec<Told>,
}

/// One candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Told {
    /// Its service URI.
    pub orchestrator: String,
    /// Wei per unit, exact: `n` or `n/d`.
    pub price_wei_per_unit: Option<String>,
    /// From the discovery source.
    pub score: f64,
    /// Of its last job here; absent when untried.
    pub latency_score: Option<f64>,
    /// Milliseconds since it answered.
    pub heard_ms_ago: u64,
    /// `chosen`, `eligible`, or the word for why it was left out.
    #[schema(example = "price")]
    pub verdict: String,
    /// The whole sentence.
    pub why: Option<String>,
}

/// The same for the caller whose job it was: neither who else is known nor what they cost.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Outline {
    /// What it is about.
    pub about: String,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// One per try, and the last one if nobody was left.
    pub rounds: Vec<OutlineRound>,
}

/// One decision, without names and prices.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OutlineRound {
    /// How many were known.
    pub candidates: usize,
    /// In one sentence.
    #[schema(example = "7 of 12 excluded by price, 1 by suspended")]
    pub summary: String,
    /// How many were left out, by the word for why.
    pub excluded: BTreeMap<String, usize>,
    /// Whether somebody was chosen.
    pub chosen: bool,
    /// Why the try failed.
    pub failed: Option<String>,
    /// How long the try took, milliseconds.
    pub ms: Option<u64>,
}

impl From<Explanation> for Outline {
    fn from(e: Explanation) -> Self {
        let rounds = e.rounds.into_iter().map(|r| OutlineRound {
            candidates: r.candidates,
            summary: r.summary,
            excluded: r.excluded,
            chosen: r.chosen.is_some(),
            failed: r.failed,
            ms: r.ms,
        });
        Self { about: e.about, at_ms: e.at_ms, rounds: rounds.collect() }
    }
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// One job, by the trace id of its `traceparent`.
    Job(String),
    /// The newest segment of a stream.
    Stream(StreamId),
    /// What would be chosen now.
    Pipeline {
        /// `text-to-image`, …
        pipeline: String,
        /// The model; empty: the pipeline's default.
        model: String,
    },
    /// What would be chosen now for a plain video segment.
    Video,
}

/// The decisions of one job while it runs.
#[derive(Debug)]
pub struct Trail {
    name: String,
    pool: String,
    auth_id: String,
    stream: Option<String>,
    trace: Option<String>,
    /// The caller's trace says that it is being recorded.
    sampled: bool,
    at: UnixMs,
    rounds: Vec<(Considered, Option<Ended>)>,
}

#[derive(Debug)]
struct Ended {
    orchestrator: String,
    failed: Option<(Cause, String)>,
    took: Duration,
}

impl Trail {
    /// Of a job that begins.
    pub fn of(plan: &Plan<'_>) -> Self {
        // `00-{trace}-{span}-{flags}`
        let current = trace::current();
        let sampled = current.as_deref().is_some_and(trace::is_sampled);
        let trace = current.and_then(|t| t.split('-').nth(1).map(str::to_owned));
        Self {
            name: plan.name.clone(),
            pool: plan.pool.0.clone(),
            auth_id: plan.purpose.caller.auth_id.to_string(),
            stream: stream_of_scope(&plan.purpose.scope).map(|(id, _)| id.to_string()),
            trace,
            sampled,
            at: clock::now(),
            rounds: Vec::new(),
        }
    }

    /// Notes a decision.
    pub fn decided(&mut self, considered: Considered) {
        self.rounds.push((considered, None));
    }

    /// Notes what came of the newest one that chose this orchestrator: of two at once each has its own.
    pub fn ended(&mut self, orchestrator: &str, failed: Option<(Cause, &str)>, took: Duration) {
        let its = |(considered, ended): &(Considered, Option<Ended>)| {
            ended.is_none() && considered.chosen.as_ref().is_some_and(|c| c.uri == orchestrator)
        };
        let newest = self.rounds.iter().rposition(its);
        if let Some((_, ended)) = newest.and_then(|at| self.rounds.get_mut(at)) {
            let failed = failed.map(|(cause, text)| (cause, text.chars().take(200).collect()));
            *ended = Some(Ended { orchestrator: orchestrator.to_owned(), failed, took });
        }
    }

    /// Whether anything happened that a stream's earlier explanation does not say already.
    fn is_news(&self) -> bool {
        let stayed = |c: &Considered| {
            c.chosen.as_ref().is_some_and(|chosen| chosen.reason == Reason::Sticky)
        };
        self.stream.is_none() || self.rounds.len() != 1 || !self.rounds.iter().all(|r| stayed(&r.0))
    }

    /// Whether a try failed, or nobody was left.
    fn had_trouble(&self) -> bool {
        let went_well = |(considered, ended): &(Considered, Option<Ended>)| {
            considered.chosen.is_some() && ended.as_ref().is_none_or(|e| e.failed.is_none())
        };
        !self.rounds.iter().all(went_well)
    }

    /// Where it is written down.
    fn keys(&self) -> Vec<DocKey> {
        let job = self.trace.as_deref().filter(|_| self.sampled || self.had_trouble());
        [job.map(job_key), self.stream.as_deref().map(stream_key)].into_iter().flatten().collect()
    }

    fn told(self) -> Explanation {
        Explanation {
            about: self.trace.unwrap_or_default(),
            name: self.name,
            pool: self.pool,
            auth_id: self.auth_id,
            at_ms: self.at.0,
            rounds: self.rounds.iter().map(|(c, ended)| told(c, ended.as_ref())).collect(),
        }
    }
}

impl Explanation {
    /// What the store keeps of it: who was chosen and why, all counts, and a few of the candidates.
    fn cut_down(mut self) -> Self {
        let trouble = self.rounds.iter().any(|r| r.failed.is_some() || r.chosen.is_none());
        let most = if trouble { MAX_STORED_OF_FAILED } else { MAX_STORED };
        for round in &mut self.rounds {
            let chosen = round.chosen.clone();
            round.who.sort_by_key(|told| Some(&told.orchestrator) != chosen.as_ref());
            round.who.truncate(most);
        }
        self
    }
}

fn told(c: &Considered, ended: Option<&Ended>) -> Round {
    let why: BTreeMap<usize, _> = c.decision.excluded.iter().map(|(i, e)| (*i, e)).collect();
    let mut excluded = BTreeMap::new();
    for exclusion in why.values() {
        *excluded.entry(exclusion.label().to_owned()).or_default() += 1;
    }
    let index = c.decision.chosen.map(|(index, _)| index);
    let who = c.candidates.iter().enumerate().map(|(i, candidate)| {
        let verdict = match why.get(&i) {
            _ if index == Some(i) => "chosen",
            Some(exclusion) => exclusion.label(),
            None => "eligible",
        };
        Told {
            orchestrator: candidate.facts.transcoder.clone(),
            price_wei_per_unit: candidate.facts.price.as_ref().map(ToString::to_string),
            score: candidate.facts.score,
            latency_score: candidate.latency_score,
            heard_ms_ago: c.at.0.saturating_sub(candidate.facts.heard_ms),
            verdict: verdict.to_owned(),
            why: why.get(&i).map(ToString::to_string),
        }
    });
    Round {
        candidates: c.candidates.len(),
        summary: c.summary(),
        excluded,
        chosen: ended
            .map(|e| e.orchestrator.clone())
            .or_else(|| c.chosen.as_ref().map(|chosen| chosen.uri.clone())),
        reason: c.chosen.as_ref().map(|chosen| word(chosen.reason).to_owned()),
        failed: ended.and_then(|e| e.failed.as_ref()).map(|(cause, _)| cause.label().to_owned()),
        error: ended.and_then(|e| e.failed.as_ref()).map(|(_, text)| text.clone()),
        ms: ended.map(|e| u64::try_from(e.took.as_millis()).unwrap_or(u64::MAX)),
        who: who.take(MAX_TOLD).collect(),
    }
}

fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Sticky => "sticky",
        Reason::BestKnown => "best_known",
        Reason::Untried => "untried",
        Reason::Drawn => "drawn",
        Reason::LastResort => "last_resort",
        Reason::AbovePriceLimit => "above_price_limit",
    }
}

/// The newest decisions of this replica.
#[derive(Debug)]
pub struct Explained {
    ring: Mutex<VecDeque<Explanation>>,
    writes: std::sync::Arc<tokio::sync::Semaphore>,
}

impl Default for Explained {
    fn default() -> Self {
        let writes = std::sync::Arc::new(tokio::sync::Semaphore::new(MAX_WRITES));
        Self { ring: Mutex::default(), writes }
    }
}

impl Explained {
    /// The newest jobs here, newest first.
    pub fn newest(&self) -> Vec<Explanation> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().rev().cloned().collect()
    }

    fn keep(&self, explanation: Explanation) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() >= RING {
            ring.pop_front();
        }
        ring.push_back(explanation);
    }
}

fn job_key(trace: &str) -> DocKey {
    DocKey::new("explain", format!("job:{trace}"))
}

fn stream_key(stream: &str) -> DocKey {
    DocKey::new("explain", format!("stream:{stream}"))
}

impl Gateway {
    /// Keeps what a job was decided on, beside the job.
    pub(super) fn note(&self, trail: Trail) {
        let workload = if trail.stream.is_some() { "video" } else { "ai" };
        for (considered, _) in &trail.rounds {
            let mut counts = BTreeMap::<&'static str, u64>::new();
            for (_, exclusion) in &considered.decision.excluded {
                *counts.entry(exclusion.label()).or_default() += 1;
            }
            for (why, n) in counts {
                metrics::counter!("penstock_gateway_exclusions_total",
                    "workload" => workload, "why" => why)
                .increment(n);
            }
        }
        if !trail.is_news() {
            return;
        }
        let Ok(place) = std::sync::Arc::clone(&self.explained.writes).try_acquire_owned() else {
            return;
        };
        let keys = trail.keys();
        let explanation = trail.told();
        if keys.is_empty() {
            self.explained.keep(explanation);
            return;
        }
        self.explained.keep(explanation.clone());
        let Ok(value) = pack(&explanation.cut_down(), "explanation") else { return };
        let value = Bytes::from(value);
        let store = std::sync::Arc::clone(&self.store);
        tokio::spawn(async move {
            let _place = place;
            for key in keys {
                let now = clock::now();
                let version = match store.doc(&key, now).await {
                    Ok(known) => known.map(|known| known.version),
                    Err(_) => return,
                };
                if let Err(error) = store.put_doc(&key, version, value.clone(), TTL_MS, now).await {
                    tracing::debug!(%error, "an explanation was not kept");
                }
            }
        });
    }

    /// Explains; `None` when nothing is known of that job or stream (any more).
    pub async fn explain(
        &self,
        caller: &Caller,
        about: &About,
    ) -> Result<Option<Explanation>, JobError> {
        match about {
            About::Job(trace) => self.explained_doc(&job_key(trace)).await,
            About::Stream(stream) => self.explained_doc(&stream_key(stream.as_str())).await,
            About::Video => {
                let job = plain_video_job();
                Ok(Some(self.explain_now(caller, "video", &video_pool(), &job).await?))
            }
            About::Pipeline { pipeline, model } => {
                let Some(capability) = Capability::from_pipeline(pipeline) else { return Ok(None) };
                let known = Pipeline::ALL.into_iter().find(|p| p.capability() == capability);
                let Some(known) = known else { return Ok(None) };
                let model =
                    self.settings.ai.model(known, Some(model.as_str()).filter(|m| !m.is_empty()));
                let job = Capabilities::ai_job(capability, &model, false);
                let pool = ai_pool(capability, &model);
                let name = format!("{pipeline}/{model}");
                Ok(Some(self.explain_now(caller, &name, &pool, &job).await?))
            }
        }
    }

    async fn explained_doc(&self, key: &DocKey) -> Result<Option<Explanation>, JobError> {
        let Some(doc) = self.store.doc(key, clock::now()).await? else { return Ok(None) };
        Ok(unpack(&doc.value, "explanation").ok())
    }

    async fn explain_now(
        &self,
        caller: &Caller,
        name: &str,
        pool: &penstock_store::PoolKey,
        job: &Capabilities,
    ) -> Result<Explanation, JobError> {
        let policy = self.policy(caller, job)?;
        let tried = Tried::default();
        let ask = Ask {
            caller,
            pool,
            job,
            stream: (*pool == video_pool()).then_some(NO_STREAM),
            sticky: None,
            tried: &tried,
        };
        let known = self.known_snapshot(pool).await?;
        let considered = self.consider_among(known, &ask, &policy).await?;
        let mut round = told(&considered, None);
        if considered.candidates.is_empty() {
            // Nobody was asked just now, so nothing is said of who would answer.
            round.summary = "no orchestrator is known for it: no job has asked lately".to_owned();
        }
        Ok(Explanation {
            about: name.to_owned(),
            name: name.to_owned(),
            pool: pool.0.clone(),
            auth_id: caller.auth_id.to_string(),
            at_ms: considered.at.0,
            rounds: vec![round],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(n: usize) -> Told {
        Told {
            orchestrator: format!("https://orchestrator-{n:03}.example.net:8935"),
            price_wei_per_unit: Some("1200000/7".to_owned()),
            score: 1.0,
            latency_score: Some(0.123_456_789),
            heard_ms_ago: 12_345,
            verdict: "price".to_owned(),
            why: Some("price 1200000/7 wei per unit is above the limit 1000".to_owned()),
        }
    }

    fn explanation(rounds: usize, failed: bool) -> Explanation {
        let round = |n: usize| Round {
            candidates: 100,
            summary: "99 of 100 excluded by price".to_owned(),
            excluded: BTreeMap::from([("price".to_owned(), 99)]),
            chosen: Some(told(70 + n).orchestrator),
            reason: Some("best_known".to_owned()),
            failed: failed.then(|| "failed".to_owned()),
            error: failed.then(|| "x".repeat(200)),
            ms: Some(1_234),
            who: (0..100).map(told).collect(),
        };
        Explanation {
            about: "0af7651916cd43dd8448eb211c80319c".to_owned(),
            name: "31_openai/whisper-tiny.en".to_owned(),
            pool: "31_openai/whisper-tiny.en".to_owned(),
            auth_id: "acme:studio-17".to_owned(),
            at_ms: 1_700_000_000_000,
            rounds: (0..rounds).map(round).collect(),
        }
    }

    /// As docs/session-store.md says.
    #[test]
    fn what_is_stored_is_small() {
        let size = |e: Explanation| pack(&e, "explanation").unwrap().len();
        let well = explanation(1, false).cut_down();
        assert_eq!(well.rounds[0].who.len(), MAX_STORED);
        assert_eq!(well.rounds[0].who[0].orchestrator, told(70).orchestrator, "who was chosen");
        assert!(size(well.clone()) < 640, "{}", size(well));
        let failed = explanation(2, true).cut_down();
        assert_eq!(failed.rounds[1].who.len(), MAX_STORED_OF_FAILED);
        assert_eq!(failed.rounds[1].who[0].orchestrator, told(71).orchestrator);
        assert_eq!(failed.rounds[1].excluded["price"], 99, "counts are of all");
        assert!(size(failed.clone()) < 2_048, "{}", size(failed));
    }
}
