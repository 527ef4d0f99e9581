//! What the operator sees of discovery: everybody that is asked, and why some are not listed.

use super::{
    Discovery,
    book::{Known, RegisteredKey, payee},
    candidates::Found,
    list::{Judged, judge},
    reason::Reason,
};
use serde::Serialize;
use std::{collections::BTreeMap, time::Instant};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

/// `GET /v1/discovery`
#[derive(Debug, Serialize, ToSchema)]
pub struct DiscoveryReport {
    /// Where candidates come from.
    source: Found,
    /// Why the source could not be read at the last poll; the candidates of before stay.
    source_error: Option<String>,
    /// The last whole poll; absent while the first one runs.
    last_poll: Option<PollView>,
    /// Entries of the list, those included that other orchestrators name.
    listed: usize,
    /// How many orchestrators are not listed, by reason.
    excluded: BTreeMap<Reason, usize>,
    /// Everybody that is asked, those that answered first come first.
    orchestrators: Vec<OrchestratorView>,
}

/// One poll of everybody.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PollView {
    /// RFC 3339, UTC.
    pub(super) began_at: String,
    pub(super) duration_ms: u64,
    /// Good answers.
    pub(super) answered: usize,
    /// Everything else.
    pub(super) failed: usize,
}

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Health {
    /// The last poll went well.
    Ok,
    /// The last poll went badly; what it said before still counts.
    Failing,
    /// It has not answered well for longer than the list remembers.
    Silent,
    /// It has not been asked yet.
    New,
}

/// One orchestrator.
#[derive(Debug, Serialize, ToSchema)]
struct OrchestratorView {
    /// The URI that is asked.
    uri: String,
    found: Found,
    /// Whether its own offer puts it on the list. One that is not may still be listed for runners.
    listed: bool,
    /// Why not.
    excluded_because: Option<Reason>,
    health: Health,
    /// What was wrong at the last poll.
    failure: Option<FailureView>,
    failures_in_a_row: u32,
    /// Time of the last good answer, RFC 3339, UTC. What follows is from that answer.
    last_seen: Option<String>,
    last_asked: Option<String>,
    latency_ms: Option<u64>,
    /// What it calls itself.
    service_uri: Option<String>,
    version: Option<String>,
    /// Its own key's address.
    address: Option<String>,
    /// Whom tickets would pay.
    payee: Option<String>,
    /// Whether the chain registers the payee for this URI.
    registered_key: RegisteredKey,
    registered_addresses: Vec<String>,
    /// Base price, wei per unit, `n` or `n/d`.
    price_wei: Option<String>,
    /// `pipeline/model` names within the price limits.
    capabilities: Vec<String>,
    too_dear: Vec<TooDearView>,
    runners: usize,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
struct FailureView {
    reason: Reason,
    message: String,
}

/// Something above its price limit. Wei per unit, `n` or `n/d`.
#[derive(Debug, Serialize, ToSchema)]
struct TooDearView {
    capability: String,
    price_wei: String,
    limit_wei: String,
}

impl Discovery {
    /// Everything, as it is now.
    pub fn report(&self) -> DiscoveryReport {
        let now = Instant::now();
        let state = self.lock();
        let orchestrators: Vec<OrchestratorView> =
            state.book.all().into_iter().map(|known| self.view(known, now)).collect();
        let mut excluded = BTreeMap::new();
        for reason in orchestrators.iter().filter_map(|o| o.excluded_because) {
            let count: &mut usize = excluded.entry(reason).or_default();
            *count = count.saturating_add(1);
        }
        DiscoveryReport {
            source: self.candidates.source(),
            source_error: state.source_error.clone(),
            last_poll: state.last_poll.clone(),
            listed: self.current().len(),
            excluded,
            orchestrators,
        }
    }

    /// Why somebody is not listed, and what the limits leave of the offer.
    pub(super) fn verdict(&self, known: &Known, now: Instant) -> (Option<Reason>, Judged) {
        let Some(polled) = known.current(now, self.settings.ttl) else {
            return (Some(known.why_silent()), Judged::default());
        };
        let judged = judge(&polled.offer, &self.limits);
        let reason = if self.refuses(known) {
            Some(Reason::RegisteredKey)
        } else {
            judged.excluded(&polled.offer)
        };
        (reason, judged)
    }

    fn view(&self, known: &Known, now: Instant) -> OrchestratorView {
        let (excluded_because, judged) = self.verdict(known, now);
        let failure = known.asked.as_ref().and_then(|(_, failure)| failure.as_ref());
        let current = known.current(now, self.settings.ttl).is_some();
        let health = match (&known.asked, failure) {
            (None, _) => Health::New,
            (Some(_), None) if current => Health::Ok,
            (Some(_), _) if current => Health::Failing,
            (Some(_), _) => Health::Silent,
        };
        let good = known.good.as_ref();
        let polled = good.map(|(polled, _)| polled.as_ref());
        let offer = polled.map(|polled| &polled.offer);
        OrchestratorView {
            uri: known.uri.clone(),
            found: known.found,
            listed: excluded_because.is_none(),
            excluded_because,
            health,
            failure: failure.map(|f| FailureView { reason: f.reason, message: f.message.clone() }),
            failures_in_a_row: known.failures_in_a_row,
            last_seen: good.map(|(_, at)| rfc3339(at.unix_ms)),
            last_asked: known.asked.as_ref().map(|(at, _)| rfc3339(at.unix_ms)),
            latency_ms: polled.map(|p| u64::try_from(p.latency.as_millis()).unwrap_or(u64::MAX)),
            service_uri: offer.and_then(|o| o.transcoder.clone()),
            version: offer
                .and_then(|o| o.capabilities.as_ref())
                .map(|c| c.version.clone())
                .filter(|v| !v.is_empty()),
            address: offer.and_then(|o| o.address).map(|a| a.to_string()),
            payee: polled.and_then(payee).map(|a| a.to_string()),
            registered_key: known.key,
            registered_addresses: known
                .registered
                .iter()
                .map(|who| who.address.to_string())
                .collect(),
            price_wei: offer.and_then(|o| o.price).map(|p| p.rational().to_string()),
            capabilities: judged.capabilities,
            too_dear: judged
                .too_dear
                .into_iter()
                .map(|dear| TooDearView {
                    capability: dear.capability,
                    price_wei: dear.price.to_string(),
                    limit_wei: dear.limit.to_string(),
                })
                .collect(),
            runners: polled.map_or(0, |p| p.discovery.iter().map(|e| e.runners.len()).sum()),
        }
    }
}

/// RFC 3339, UTC.
pub(super) fn rfc3339(unix_ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms).saturating_mul(1_000_000))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}
