//! The start of a session: room, credentials, payment, channels, runner, in the order of live-video.md
//! section 6, except that the runner's health comes before the payment, so that nobody pays where nobody is
//! there. A runner that is well and then does not start is replaced by another; where there is none, what was
//! paid is the sender's next session's, as is what is left of a session at its end.

use super::{
    billing,
    channels::{self, Channels, Shape},
    error::LiveError,
    paid_start::{Means, random_name},
    runners::{Runner, Slot},
    session::{self, Session},
    sessions::Entry,
};
use crate::{
    clock,
    error::JobError,
    node::Node,
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
use tokio::sync::oneshot;

/// Runners that are asked to begin one session. Gateways do not wait for more.
const MOST_TRIES: usize = 4;

/// A session that has begun, and waits for its answer to be heard: dropped before, it ends.
pub struct Started {
    /// The gateway's answer.
    pub answer: Value,
    heard: oneshot::Sender<()>,
}

impl Started {
    /// The gateway hears of it.
    pub fn heard(self) -> Value {
        // It waits for that.
        let _ = self.heard.send(());
        self.answer
    }
}

/// Where a session runs: channels of its own, and who does the work.
struct Stage {
    /// Its channels' name.
    name: String,
    channels: Channels,
    slot: Slot,
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
        let admission = self.admit_served(headers, Work::Ai).await?;
        let pays = !admission.payment.tickets.is_empty();
        let slot = live.runners.reserve(&start.model_id, admission.sender, &[]).await?;
        let (paid, name) = self.start_with(admission.sender, pays).await?;
        let means = Means::Start(paid.clone());
        let begun = self.begin_live(means, name, start, Some(admission), slot).await;
        if begun.is_err() {
            self.end_start(paid).await;
        }
        begun
    }

    /// Takes what was paid, if anything was asked for, and has a runner begin.
    pub(super) async fn begin_live(
        self: &Arc<Self>,
        means: Means,
        name: String,
        start: LiveVideoStart,
        admission: Option<Admission>,
        slot: Slot,
    ) -> Result<Started, JobError> {
        let (live, account, shape) = (&self.live, means.account(), means.shape());
        let (sender, manifest) = (account.sender(), account.session());
        let work = Capabilities::ai_job(Capability::LiveVideoToVideo, &start.model_id, false);
        let units = Arc::default();
        let entry = Entry {
            sender,
            model: start.model_id.clone(),
            work: work.clone(),
            gateway_request_id: start.gateway_request_id.clone(),
            stream_id: start.stream_id.clone(),
            begun_ms: clock::now_ms(),
            units: Arc::clone(&units),
        };
        let mut place = live.sessions.enter(manifest, entry)?;
        let paid = match admission {
            Some(admission) => self.collect_live(&means, &work, admission).await,
            None => Ok(None),
        };
        let hold = paid.inspect_err(|error| place.because(error.reason()))?;
        penstock_failpoint::hit("orchestrator.before_live_start");
        let stage = self.find_runner(shape, account, name, &start, slot).await;
        let stage = stage.map_err(JobError::from);
        let stage = stage.inspect_err(|error| place.because(error.reason()))?;
        penstock_failpoint::hit("orchestrator.after_live_start");
        tracing::info!(
            session = super::shown(manifest),
            model = start.model_id,
            stream = start.stream_id,
            request = start.gateway_request_id,
            "live video begins"
        );
        let answer = channels::for_gateway(self.service_uri(), &stage.name, shape);
        let answer = answer.answer(manifest);
        let (tell, heard) = oneshot::channel();
        let Stage { channels, slot, .. } = stage;
        let session = Session { means, channels, slot, place, hold, units };
        self.jobs.spawn(session.run(Arc::clone(self), heard));
        Ok(Started { answer, heard: tell })
    }

    /// Has one runner after the other begin, until one does. One that may have begun without saying so has the
    /// names of its channels: they are closed, which ends it, and the next one gets others.
    async fn find_runner(
        self: &Arc<Self>,
        shape: Shape,
        account: &AccountKey,
        name: String,
        start: &LiveVideoStart,
        slot: Slot,
    ) -> Result<Stage, LiveError> {
        let (live, sender, manifest) = (&self.live, account.sender(), account.session());
        let host = live.settings.trickle_host.as_deref();
        let mut stage = self.stage(shape, name, slot)?;
        let mut tried: Vec<Arc<Runner>> = Vec::new();
        loop {
            let urls = channels::for_runner(self.service_uri(), &stage.name, shape, host);
            let request = urls.runner_request(manifest, start);
            let Err(error) = stage.slot.runner().api.start(&request).await else {
                stage.slot.runner().began(sender);
                return Ok(stage);
            };
            let Stage { name, channels, slot } = stage;
            slot.runner().did_not_begin(sender, !error.is_requests_fault());
            metrics::counter!("orchestrator_live_starts_failed_total").increment(1);
            tracing::warn!(session = super::shown(manifest), runner = slot.runner().api.place(), %error,
                "a live runner did not start");
            tried.push(slot.shared());
            let next_name = if error.began_nothing() {
                drop((channels, slot));
                name
            } else {
                drop(channels);
                self.jobs.spawn(session::let_go(slot, live.settings.health_interval));
                random_name()?
            };
            if tried.len() >= MOST_TRIES {
                return Err(error.into());
            }
            let Ok(slot) = live.runners.reserve(&start.model_id, sender, &tried).await else {
                return Err(error.into());
            };
            stage = self.stage(shape, next_name, slot)?;
        }
    }

    fn stage(&self, shape: Shape, name: String, slot: Slot) -> Result<Stage, LiveError> {
        let channels = Channels::make(&self.live.trickle, &name, shape);
        let channels = channels.map_err(LiveError::Channels)?;
        Ok(Stage { name, channels, slot })
    }

    /// Takes the first payment into the session's own account. `None` off-chain.
    async fn collect_live(
        &self,
        means: &Means,
        work: &Capabilities,
        admission: Admission,
    ) -> Result<Option<Hold>, JobError> {
        let Some(cashier) = &self.cashier else { return Ok(None) };
        let has_paid = match means {
            Means::Start(start) => {
                let taken = cashier.take_for_start(start, work, admission.payment).await;
                // What an earlier start has paid is for who pays again: see `start_with`.
                taken.map_err(JobError::Payment)?.credited_tickets > 0
            }
            Means::Own(account) => {
                let taken = cashier.take_for(account, Some(work), admission.payment).await;
                taken.map_err(JobError::Payment)?;
                true
            }
        };
        // The first charge comes when an interval is over: it has to be there. Gateways and signers of the network
        // pay a minute ahead.
        let units = billing::units_of(self.live.settings.payment_interval_ms);
        let hold = cashier.begin_lasting(means.account(), Some(work), units, has_paid).await;
        hold.map_err(JobError::Payment)?.map(Some).map_err(|short| LiveError::Short(short).into())
    }
}
