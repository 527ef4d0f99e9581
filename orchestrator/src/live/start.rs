//! The start of a session: room, credentials, channels, payment, runner, in the order of live-video.md
//! section 6, except that channels and the runner's health come before the payment, so that nobody
//! pays where nobody is there. A runner that is well and then refuses is replaced by another; where there is
//! none, the session has been paid for.

use super::{
    channels::{self, Channels},
    error::LiveError,
    session::Session,
    sessions::Entry,
};
use crate::{
    clock,
    error::JobError,
    node::Node,
    secrets,
    service::{
        credentials::{Admission, Work},
        holds::Hold,
    },
};
use http::HeaderMap;
use penstock_domain::{Capabilities, Capability};
use penstock_ledger::orchestrator::AccountKey;
use penstock_wire::json::LiveVideoStart;
use serde_json::Value;
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A session that has begun. Dropped before its answer was sent, it ends.
pub struct Started {
    /// The gateway's answer.
    pub answer: Value,
    unheard: DropGuard,
}

impl Started {
    /// The gateway hears of it.
    pub fn heard(self) -> Value {
        drop(self.unheard.disarm());
        self.answer
    }
}

impl Node {
    /// Begins a session.
    pub async fn start_live(
        self: &Arc<Self>,
        start: LiveVideoStart,
        headers: &HeaderMap,
    ) -> Result<Started, JobError> {
        let live = &self.live;
        if !live.sessions.has_room() || !live.runners.has_room(&start.model_id) {
            return Err(LiveError::Capacity.into());
        }
        let admission = self.admit(headers, Work::Ai)?;
        let mut slot = live.runners.reserve(&start.model_id, &[]).await?;
        // 128 bits: whoever knows a channel's name may use it.
        let name = hex::encode(secrets::random::<16>().map_err(|_| LiveError::Random)?);
        let work = Capabilities::ai_job(Capability::LiveVideoToVideo, &start.model_id, false);
        let units = Arc::default();
        let entry = Entry {
            sender: admission.sender,
            model: start.model_id.clone(),
            work: work.clone(),
            gateway_request_id: start.gateway_request_id.clone(),
            stream_id: start.stream_id.clone(),
            begun_ms: clock::now_ms(),
            units: Arc::clone(&units),
        };
        let place = live.sessions.enter(&name, entry)?;
        let channels = Channels::make(&live.trickle, &name).map_err(LiveError::Channels)?;
        let hold = self.collect_live(&name, &work, admission).await?;
        let host = live.settings.trickle_host.as_deref();
        let for_runner = channels::for_runner(self.service_uri(), &name, host);
        let request = for_runner.runner_request(&name, &start);
        let mut tried = Vec::new();
        while let Err(error) = slot.runner().api.start(&request).await {
            slot.runner().broke();
            metrics::counter!("orchestrator_live_starts_failed_total").increment(1);
            tracing::warn!(session = super::shown(&name), runner = %slot.runner().api.url(), %error,
                "a live runner did not start");
            tried.push(slot);
            // One that may have begun has the channels: no other may share them.
            let next = match error.began_nothing() {
                true => live.runners.reserve(&start.model_id, &tried).await.ok(),
                false => None,
            };
            slot = next.ok_or(LiveError::Runner(error))?;
        }
        drop(tried);
        tracing::info!(
            session = super::shown(&name),
            model = start.model_id,
            stream = start.stream_id,
            request = start.gateway_request_id,
            "live video begins"
        );
        let answer = channels::for_gateway(self.service_uri(), &name).answer(&name);
        let unheard = CancellationToken::new();
        let guard = unheard.clone().drop_guard();
        let session = Session { name, channels, slot, place, hold, units, unheard };
        self.jobs.spawn(session.run(Arc::clone(self)));
        Ok(Started { answer, unheard: guard })
    }

    /// Takes the first payment into the session's own account. `None` off-chain.
    async fn collect_live(
        &self,
        name: &str,
        work: &Capabilities,
        admission: Admission,
    ) -> Result<Option<Hold>, JobError> {
        let Some(cashier) = &self.cashier else { return Ok(None) };
        let account = AccountKey::new(admission.sender, name)
            .map_err(|error| JobError::BadRequest(error.to_string()))?;
        let taken = cashier.take_for(&account, Some(work), admission.payment).await;
        taken.map_err(JobError::Payment)?;
        // Charged by the time that passes; to begin, a ticket's worth is enough.
        let hold = cashier.begin_for(&account, Some(work), 0).await.map_err(JobError::Payment)?;
        hold.map(Some).ok_or(JobError::InsufficientBalance)
    }
}
