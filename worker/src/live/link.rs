//! The stream to the orchestrator: our live runners out, calls to them in, a sign of life now and then. A lost
//! stream is opened again under the same name, and sessions go on.

use super::roster::Roster;
use crate::{
    ai::{
        client::{RunnerClient, Unheard},
        pool::Pool,
    },
    link::{
        channel::MAX_NOTICE_BYTES,
        stream::{self, End},
    },
    registration::{Refused, Registrar, backoff},
    status::Work,
};
use penstock_wire::live_worker::{
    LiveAnswer, LiveCall, LiveRunner, LiveRunners, live_worker_client::LiveWorkerClient,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

/// Between signs of life until the orchestrator has named its lease, which has room for four.
const FIRST_BEAT: Duration = Duration::from_secs(1);
const BEATS: u32 = 4;
/// How long any of our own calls may take.
const QUICK: Duration = Duration::from_secs(5);
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
    pub http: reqwest::Client,
    worker_id: String,
    roster: Roster,
}

impl LiveVideo {
    /// Under a name made up now, for the life of the process.
    pub fn new(pool: Arc<Pool>, http: reqwest::Client) -> Self {
        let worker_id = uuid::Uuid::new_v4().simple().to_string();
        Self { pool, http, worker_id, roster: Roster::default() }
    }
}

/// One connection's needs.
#[derive(Clone)]
struct Link {
    video: Arc<LiveVideo>,
    registrar: Registrar,
}

impl Registrar {
    /// Keeps the orchestrator told of the live runners until `stop`, and then until the last session is over.
    pub async fn live(
        &self,
        video: Arc<LiveVideo>,
        stop: CancellationToken,
    ) -> Result<(), Refused> {
        let mut backoff = backoff();
        let link = Link { video, registrar: self.clone() };
        loop {
            let started = Instant::now();
            let end = link.serve(&stop).await;
            self.status.registered(Work::Live, false);
            if self.settle(Work::Live, end, started, &mut backoff, &stop).await? {
                return Ok(());
            }
        }
    }
}

impl Link {
    fn client(&self) -> LiveWorkerClient<Channel> {
        LiveWorkerClient::new(self.registrar.channel.clone())
            .max_decoding_message_size(MAX_NOTICE_BYTES)
    }

    fn said(&self, runners: Vec<LiveRunner>) -> LiveRunners {
        let secret = self.registrar.secret.expose().to_owned();
        LiveRunners { secret, worker_id: self.video.worker_id.clone(), runners }
    }

    fn now(&self) -> Vec<LiveRunner> {
        let states = self.video.pool.watch();
        let states = states.borrow();
        self.video.roster.of(self.video.pool.members(), &states)
    }

    async fn serve(&self, stop: &CancellationToken) -> End {
        let runners = self.now();
        let mut client = self.client();
        // Ended by us only between sessions, see `tell`.
        let never = CancellationToken::new();
        let serving = stream::serve(
            client.serve(self.said(runners.clone())),
            |call| self.clone().pass_on(call),
            || self.registrar.status.registered(Work::Live, true),
            &never,
        );
        tokio::select! {
            end = serving => end,
            end = self.tell(runners, stop) => end,
        }
    }

    /// Passes a call on to its runner, and the answer back.
    async fn pass_on(self, call: LiveCall) {
        let is_start = !call.start.is_empty();
        let limit = Duration::from_millis(call.limit_ms).min(LONGEST_CALL);
        let answer = match self.video.roster.find(call.runner_id) {
            Some(live) => {
                let client = RunnerClient::new(self.video.http.clone(), live.endpoint.clone());
                client.live(call.start, limit).await
            }
            None => Err(Unheard { no_connection: true, why: "no connection" }),
        };
        if is_start {
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
        match tokio::time::timeout(QUICK, client.answer(answer)).await {
            Ok(Ok(_)) => {}
            Ok(Err(status)) => tracing::warn!(why = status.message(), "an answer was not taken"),
            Err(_) => tracing::warn!("an answer was not taken in time"),
        }
    }

    /// Says what there is, at every change and now and then. Once we are to stop: that there is nothing, so that no
    /// session begins; it returns when the last one is over.
    async fn tell(&self, mut told: Vec<LiveRunner>, stop: &CancellationToken) -> End {
        let mut states = self.video.pool.watch();
        let (mut client, mut beat) = (self.client(), FIRST_BEAT);
        let (mut lost, mut known) = (0, false);
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
                () = tokio::time::sleep(beat) => {}
                () = changed => {}
                () = stop.cancelled() => break,
            }
            told = self.now();
            match tokio::time::timeout(QUICK, client.update(self.said(told.clone()))).await {
                Ok(Ok(lease)) => {
                    (lost, known) = (0, true);
                    let lease = Duration::from_millis(lease.into_inner().lease_ms);
                    beat = (lease / BEATS).max(Duration::from_millis(1));
                }
                // It began anew, or has given us up.
                Ok(Err(status)) if known && status.code() == Code::NotFound => {
                    return End::Lost(status.message().to_owned());
                }
                failed => {
                    let why = match failed {
                        Ok(Err(status)) => status.message().to_owned(),
                        _ => "no answer in time".to_owned(),
                    };
                    lost += 1;
                    if lost >= BEATS {
                        return End::Lost(why);
                    }
                    tracing::warn!(why, "the orchestrator did not hear of the live runners");
                }
            }
        }
        self.drain(client, beat).await
    }

    async fn drain(&self, mut client: LiveWorkerClient<Channel>, beat: Duration) -> End {
        let mut next_word = Instant::now();
        loop {
            if Instant::now() >= next_word {
                let word = client.update(self.said(Vec::new()));
                if !matches!(tokio::time::timeout(QUICK, word).await, Ok(Ok(_))) {
                    return End::Stopped;
                }
                next_word = Instant::now() + beat;
            }
            if !self.has_sessions().await {
                return End::Stopped;
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }

    async fn has_sessions(&self) -> bool {
        for live in self.video.roster.all() {
            let client = RunnerClient::new(self.video.http.clone(), live.endpoint.clone());
            if client.is_idle().await == Some(false) {
                return true;
            }
        }
        false
    }
}
