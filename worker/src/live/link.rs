//! The stream to the orchestrator: our live runners out, calls to them in, a sign of life now and then. A lost
//! stream is opened again under the same name, and sessions go on: all that long before the orchestrator gives
//! this worker up, and also while the worker stops and waits for its last session.

use super::{pace::Pace, roster::Roster};
use crate::{
    ai::{
        client::{RunnerClient, RunnerHttp, Unheard},
        pool::{Live, Pool, State},
    },
    link::{
        channel,
        stream::{self, End},
    },
    registration::{Refused, Registrar, backoff},
    status::Work,
};
use penstock_wire::live_worker::{
    LiveAnswer, LiveCall, LiveRunner, LiveRunners, live_worker_client::LiveWorkerClient,
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};
use url::Url;

/// How long an answer of a runner may take to be delivered.
const DELIVERY: Duration = Duration::from_secs(5);
/// A call to a runner takes no longer, whatever is asked for.
const LONGEST_CALL: Duration = Duration::from_secs(60);
/// Between looks whether the last session is over.
const DRAIN_POLL: Duration = Duration::from_millis(250);

/// What live video needs of the worker.
#[derive(Debug)]
pub struct LiveVideo {
    /// Has the runners.
    pub pool: Arc<Pool>,
    /// To them.
    pub http: RunnerHttp,
    orchestrator: Url,
    worker_id: String,
    roster: Roster,
    /// As the orchestrator's lease has it.
    pace: Mutex<Option<Pace>>,
    /// Starts that are being passed on.
    starts: AtomicUsize,
}

impl LiveVideo {
    /// Under a name made up now, for the life of the process.
    pub fn new(pool: Arc<Pool>, http: RunnerHttp, orchestrator: Url) -> Self {
        let worker_id = uuid::Uuid::new_v4().simple().to_string();
        let (roster, pace, starts) = (Roster::default(), Mutex::default(), AtomicUsize::new(0));
        Self { pool, http, orchestrator, worker_id, roster, pace, starts }
    }

    fn pace(&self) -> Option<Pace> {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any runner has a session, or may have one: what is not known is taken for one.
    async fn is_busy(&self) -> bool {
        if self.starts.load(SeqCst) > 0 {
            return true;
        }
        for live in self.roster.all() {
            let client = RunnerClient::new(self.http.clone(), live.endpoint.clone());
            let is_busy = match client.is_idle().await {
                Ok(is_idle) => !is_idle,
                Err(unheard) => !unheard.no_connection || self.is_there(&live),
            };
            if is_busy {
                return true;
            }
        }
        false
    }

    /// Whether a runner is there, as far as its keeper knows.
    fn is_there(&self, live: &Arc<Live>) -> bool {
        let states = self.pool.watch();
        let is_it = |state: &State| matches!(state, State::Live(l) if Arc::ptr_eq(l, live));
        states.borrow().iter().any(is_it)
    }
}

/// A start under way; it is over when this is dropped.
struct Starting(Arc<LiveVideo>);

impl Starting {
    fn begin(video: &Arc<LiveVideo>) -> Self {
        video.starts.fetch_add(1, SeqCst);
        Self(Arc::clone(video))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.starts.fetch_sub(1, SeqCst);
    }
}

/// One connection's needs.
#[derive(Clone)]
struct Link {
    video: Arc<LiveVideo>,
    registrar: Registrar,
    channel: Channel,
    /// Nothing begins any more.
    stop: CancellationToken,
    /// Cancelled when the orchestrator was told so, or could not be.
    said_so: CancellationToken,
}

impl Registrar {
    /// Keeps the orchestrator told of the live runners until `stop`, and then until the last session is over.
    pub async fn live(
        &self,
        video: Arc<LiveVideo>,
        stop: CancellationToken,
    ) -> Result<(), Refused> {
        let mut backoff = backoff();
        loop {
            let started = Instant::now();
            let link = Link::new(&video, self, &stop);
            let end = link.serve().await;
            self.status.registered(Work::Live, false);
            if let Some(pace) = video.pace() {
                backoff = backoff.at_most(pace.pause());
            }
            // A lost stream is opened again for as long as there may be sessions.
            let never = CancellationToken::new();
            let is_over = tokio::select! {
                biased;
                over = self.settle(Work::Live, end, started, &mut backoff, &never) => over?,
                () = link.drained() => true,
            };
            if is_over {
                return Ok(());
            }
        }
    }
}

impl Link {
    /// By a connection of its own: of one that stands still nobody hears for long.
    fn new(video: &Arc<LiveVideo>, registrar: &Registrar, stop: &CancellationToken) -> Self {
        let channel = channel::grpc(&video.orchestrator);
        let channel = channel.unwrap_or_else(|_| registrar.channel.clone());
        let (video, registrar) = (Arc::clone(video), registrar.clone());
        Self { video, registrar, channel, stop: stop.clone(), said_so: CancellationToken::new() }
    }

    fn client(&self) -> LiveWorkerClient<Channel> {
        LiveWorkerClient::new(self.channel.clone())
            .max_decoding_message_size(self.registrar.notice_bytes)
    }

    fn said(&self, runners: Vec<LiveRunner>) -> LiveRunners {
        let secret = self.registrar.secret.expose().to_owned();
        LiveRunners { secret, worker_id: self.video.worker_id.clone(), runners }
    }

    /// What is offered. Once we are to stop that is nothing; those that were there stay known until they are idle.
    fn now(&self) -> Vec<LiveRunner> {
        if self.stop.is_cancelled() {
            return Vec::new();
        }
        let states = self.video.pool.watch();
        let states = states.borrow();
        self.video.roster.of(self.video.pool.members(), &states)
    }

    async fn serve(&self) -> End {
        let runners = self.now();
        let mut client = self.client();
        // Ended by us only when the last session is over.
        let never = CancellationToken::new();
        let serving = stream::serve(
            client.serve(self.said(runners.clone())),
            |call| self.clone().pass_on(call),
            || self.registrar.status.registered(Work::Live, true),
            &never,
        );
        let drained = async {
            self.said_so.cancelled().await;
            self.drained().await;
        };
        tokio::select! {
            end = serving => end,
            end = self.tell(runners) => end,
            () = drained => End::Stopped,
        }
    }

    /// Passes a call on to its runner, and the answer back.
    async fn pass_on(self, call: LiveCall) {
        let starting = (!call.start.is_empty()).then(|| Starting::begin(&self.video));
        let limit = Duration::from_millis(call.limit_ms).min(LONGEST_CALL);
        // A start that has crossed our word that nothing begins any more: another runner is asked.
        let is_too_late = starting.is_some() && self.stop.is_cancelled();
        let answer = match self.video.roster.find(call.runner_id) {
            Some(live) if !is_too_late => {
                let client = RunnerClient::new(self.video.http.clone(), live.endpoint.clone());
                client.live(call.start, limit).await
            }
            _ => Err(Unheard { no_connection: true, why: "no connection" }),
        };
        if starting.is_some() {
            let result = if matches!(answer, Ok((200, _))) { "ok" } else { "failed" };
            metrics::counter!("penstock_worker_live_starts_total", "result" => result).increment(1);
        }
        let secret = self.registrar.secret.expose().to_owned();
        let worker_id = self.video.worker_id.clone();
        let to = LiveAnswer { secret, worker_id, call_id: call.call_id, ..LiveAnswer::default() };
        let answer = match answer {
            Ok((status, body)) => LiveAnswer { status: status.into(), body, ..to },
            Err(Unheard { no_connection, why }) => {
                LiveAnswer { no_connection, failure: why.to_owned(), ..to }
            }
        };
        let mut client = self.client();
        match tokio::time::timeout(DELIVERY, client.answer(answer)).await {
            Ok(Ok(_)) => {}
            Ok(Err(status)) => tracing::warn!(why = status.message(), "an answer was not taken"),
            Err(_) => tracing::warn!("an answer was not taken in time"),
        }
    }

    /// Says what there is, at every change and now and then, until nobody hears it.
    async fn tell(&self, mut told: Vec<LiveRunner>) -> End {
        let mut states = self.video.pool.watch();
        let mut client = self.client();
        let mut pace = self.video.pace().unwrap_or(Pace::FIRST);
        let mut wait = pace.beat.min(Pace::FIRST.beat);
        let (mut unheard, mut known, mut left_out) = (0, false, 0);
        let mut is_stopping = self.stop.is_cancelled();
        loop {
            let changed = async {
                loop {
                    if states.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                    if self.now() != told {
                        return;
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed => {}
                () = self.stop.cancelled(), if !is_stopping => {}
            }
            told = self.now();
            is_stopping = self.stop.is_cancelled();
            let word = client.update(self.said(told.clone()));
            let why = match tokio::time::timeout(pace.answer, word).await {
                Ok(Ok(lease)) => {
                    let lease = lease.into_inner();
                    pace = Pace::of(Duration::from_millis(lease.lease_ms));
                    *self.video.pace.lock().unwrap_or_else(PoisonError::into_inner) = Some(pace);
                    if lease.left_out > left_out {
                        let left_out = lease.left_out;
                        tracing::warn!(
                            left_out,
                            "the orchestrator has no room for more live runners"
                        );
                    }
                    (unheard, known, wait, left_out) = (0, true, pace.beat, lease.left_out);
                    None
                }
                // It began anew, or has given us up.
                Ok(Err(status)) if known && status.code() == Code::NotFound => {
                    return End::Lost(status.message().to_owned());
                }
                Ok(Err(status)) => Some(status.message().to_owned()),
                Err(_) => Some("no answer in time".to_owned()),
            };
            if is_stopping {
                self.said_so.cancel();
            }
            if let Some(why) = why {
                unheard += 1;
                if unheard >= Pace::MOST_UNHEARD {
                    return End::Lost(why);
                }
                tracing::warn!(why, "the orchestrator did not hear of the live runners");
                wait = pace.pause();
            }
        }
    }

    /// Returns once we are to stop and the last session is over.
    async fn drained(&self) {
        self.stop.cancelled().await;
        while self.video.is_busy().await {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }
}
