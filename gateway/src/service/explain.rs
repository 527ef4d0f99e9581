//! Why a job went where it went: the decisions of the newest jobs, kept for a while so that any
//! replica can answer for all.
//!
//! Each job's decisions go into a small ring of this replica and, beside the job, into the store, where
//! they are cut down: of a job that went well, and that is an ordinary one, nothing is written at all.
//! What cannot be stored is only an explanation less. Of a stream that stays where it is the old explanation is
//! kept for as long as it does.

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
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use utoipa::ToSchema;

/// How long an explanation is kept.
const TTL_MS: u64 = 600_000;
/// How often that of a stream which stays where it is is stored anew: twice before it ends, also when the stream
/// moves to another replica between.
const RENEW_MS: u64 = TTL_MS / 3;
/// Streams whose explanation is renewed here.
const MAX_STREAMS: usize = 20_000;
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
    /// The stream, if it is of one.
    #[serde(skip)]
    stream: Option<String>,
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
        let current = trace::current();
        let sampled = current.is_some_and(|at| at.is_sampled());
        let trace = current.map(|at| at.trace_id_hex());
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
            stream: self.stream,
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
    /// When the explanation of a stream was last stored from here.
    streams: Mutex<HashMap<String, UnixMs>>,
    writes: std::sync::Arc<tokio::sync::Semaphore>,
}

impl Default for Explained {
    fn default() -> Self {
        let writes = std::sync::Arc::new(tokio::sync::Semaphore::new(MAX_WRITES));
        Self { ring: Mutex::default(), streams: Mutex::default(), writes }
    }
}

impl Explained {
    /// The newest jobs here, newest first.
    pub fn newest(&self) -> Vec<Explanation> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().rev().cloned().collect()
    }

    /// The newest one here that is meant.
    fn newest_of(&self, is_it: impl Fn(&Explanation) -> bool) -> Option<Explanation> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().rev().find(|e| is_it(e)).cloned()
    }

    /// A stream's explanation is stored now.
    fn stored(&self, stream: &str, now: UnixMs) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.len() >= MAX_STREAMS {
            streams.retain(|_, at| now.since_ms(*at) < RENEW_MS);
        }
        if streams.len() < MAX_STREAMS {
            streams.insert(stream.to_owned(), now);
        }
    }

    /// Whether a stream's explanation is to be stored anew. One that has just come here need not be.
    fn is_due(&self, stream: &str, now: UnixMs) -> bool {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let at = streams.get(stream).copied();
        drop(streams);
        let is_due = at.is_some_and(|at| now.since_ms(at) >= RENEW_MS);
        if is_due || at.is_none() {
            self.stored(stream, now);
        }
        is_due
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
        self.note_at(trail, clock::now());
    }

    fn note_at(&self, trail: Trail, now: UnixMs) {
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
        let is_news = trail.is_news();
        match trail.stream.as_deref() {
            Some(stream) if is_news => self.explained.stored(stream, now),
            Some(stream) if self.explained.is_due(stream, now) => {}
            Some(_) => return,
            None => {}
        }
        let Ok(place) = std::sync::Arc::clone(&self.explained.writes).try_acquire_owned() else {
            return;
        };
        let keys = trail.keys();
        let explanation = trail.told();
        if is_news {
            self.explained.keep(explanation.clone());
        }
        if keys.is_empty() {
            return;
        }
        let Ok(value) = pack(&explanation.cut_down(), "explanation") else { return };
        let value = Bytes::from(value);
        let store = std::sync::Arc::clone(&self.store);
        tokio::spawn(async move {
            let _place = place;
            for key in keys {
                let (version, known) = match store.doc(&key, now).await {
                    Ok(Some(known)) => (Some(known.version), Some(known.value)),
                    Ok(None) => (None, None),
                    Err(_) => return,
                };
                // That it stays is no news: why it is there is what is kept.
                let value = known.filter(|_| !is_news).unwrap_or_else(|| value.clone());
                if let Err(error) = store.put_doc(&key, version, value, TTL_MS, now).await {
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
            // What is known here is told with all candidates.
            About::Job(trace) => match self.explained.newest_of(|e| e.about == *trace) {
                Some(here) => Ok(Some(here)),
                None => self.explained_doc(&job_key(trace)).await,
            },
            About::Stream(stream) => {
                let name = Some(stream.as_str());
                let here = self.explained.newest_of(|e| e.stream.as_deref() == name);
                // Another replica may have had newer segments.
                match self.explained_doc(&stream_key(stream.as_str())).await {
                    Ok(Some(stored)) if here.as_ref().is_none_or(|h| h.at_ms < stored.at_ms) => {
                        Ok(Some(stored))
                    }
                    Err(error) if here.is_none() => Err(error),
                    _ => Ok(here),
                }
            }
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
            stream: None,
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
    use crate::{config::Settings, service::choose::Chosen};
    use penstock_selection::Decision;
    use penstock_store::{DocStore, MemorySegments, MemoryStore};
    use penstock_testkit::until;

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
            stream: None,
            name: "31_openai/whisper-tiny.en".to_owned(),
            pool: "31_openai/whisper-tiny.en".to_owned(),
            auth_id: "acme:studio-17".to_owned(),
            at_ms: 1_700_000_000_000,
            rounds: (0..rounds).map(round).collect(),
        }
    }

    /// A segment of a stream: where it was (`stays`), or somewhere new.
    fn segment(stays: bool) -> Trail {
        let reason = if stays { Reason::Sticky } else { Reason::BestKnown };
        let considered = Considered {
            at: UnixMs(0),
            pool: std::sync::Arc::default(),
            candidates: Vec::new(),
            decision: Decision::default(),
            chosen: Some(Chosen {
                uri: "https://o:1".to_owned(),
                facts: std::sync::Arc::default(),
                foreign: false,
                doubted: false,
                latency_score: None,
                reason,
            }),
        };
        Trail {
            name: "show/1".to_owned(),
            pool: "video".to_owned(),
            auth_id: "a:b".to_owned(),
            stream: Some("show".to_owned()),
            trace: None,
            sampled: false,
            at: UnixMs(1),
            rounds: vec![(considered, None)],
        }
    }

    #[tokio::test]
    async fn a_stream_that_stays_where_it_is_can_be_explained_for_as_long() {
        penstock_http_kit::tls::install_crypto_provider();
        let argv = ["penstock-gateway", "--signer-url=http://127.0.0.1:9"].map(str::to_owned);
        let settings = Settings::from_args(penstock_config::try_parse_from(argv).unwrap()).unwrap();
        let store = std::sync::Arc::new(MemoryStore::default());
        let segments = std::sync::Arc::new(MemorySegments::new(1 << 20));
        let gateway = Gateway::new(settings, store.clone(), segments).unwrap();
        let key = stream_key("show");
        let kept_at = async |ms| {
            let found = store.doc(&key, UnixMs(ms)).await.unwrap()?;
            Some(unpack::<Explanation>(&found.value, "explanation").unwrap())
        };
        let begun = UnixMs(1_000);
        gateway.note_at(segment(false), begun);
        until("it is stored", || async { kept_at(begun.0).await.is_some() }).await;
        for n in 1..=4 {
            // Just before it would end, had nobody renewed it.
            let now = begun.plus_ms(n * RENEW_MS);
            gateway.note_at(segment(true), now);
            until("it is renewed", || async { kept_at(now.0 + TTL_MS - 1).await.is_some() }).await;
            gateway.note_at(segment(true), now.plus_ms(RENEW_MS - 1));
        }
        let kept = kept_at(begun.0 + 4 * RENEW_MS).await.unwrap();
        assert_eq!(kept.rounds[0].reason.as_deref(), Some("best_known"), "why it is there");
        assert_eq!(gateway.explained.newest().len(), 1);
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
