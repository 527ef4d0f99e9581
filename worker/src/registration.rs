//! Keeps the worker registered: one stream for segments, one for AI jobs, each for ever; `live` has a third.

use crate::{
    ai::{
        offer::Offer,
        pool::{Pool, State},
        work::AiWork,
    },
    link::{
        backoff::Backoff,
        stream::{self, End},
    },
    status::{Status, Work},
    video::work::VideoWork,
};
use penstock_config::Secret;
use penstock_wire::{
    capabilities,
    hardware::{GPU_NAMES, write_gpu_names},
    net::{self, ai_worker_client::AiWorkerClient, transcoder_client::TranscoderClient},
    worker_upload::WORKER_INSTANCE,
};
use std::{sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Request, transport::Channel};
use uuid::Uuid;

/// A registration that lived this long was not refused for its kind.
const SETTLED: Duration = Duration::from_secs(10);

/// The orchestrator will never take this worker.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the orchestrator refuses this worker for {}: {reason}; see --secret-file", work.name())]
pub struct Refused {
    /// For which work.
    pub work: Work,
    /// Its words.
    pub reason: String,
}

/// What both registrations need.
#[derive(Debug, Clone)]
pub struct Registrar {
    /// To the orchestrator.
    pub channel: Channel,
    /// Shared with it.
    pub secret: Secret,
    /// Hears how it goes.
    pub status: Arc<Status>,
    /// This process, among all workers.
    pub instance: Uuid,
    /// Largest message of the orchestrator.
    pub notice_bytes: usize,
}

impl Registrar {
    /// Stays registered for segments until `stop`. `cards` names those that work now.
    pub async fn transcode(
        &self,
        work: Arc<VideoWork>,
        capacity: u16,
        cards: impl Fn() -> Vec<String>,
        stop: CancellationToken,
    ) -> Result<(), Refused> {
        let mut backoff = backoff();
        loop {
            let started = Instant::now();
            let request = net::RegisterRequest {
                secret: self.secret.expose().to_owned(),
                capacity: i64::from(capacity),
                capabilities: Some(capabilities::write(&work.capabilities)),
            };
            let mut request = Request::new(request);
            let names = cards();
            let names = write_gpu_names(names.iter().map(String::as_str));
            if let (false, Ok(names)) = (names.is_empty(), names.parse()) {
                request.metadata_mut().insert(GPU_NAMES, names);
            }
            let mut client = TranscoderClient::new(self.channel.clone())
                .max_decoding_message_size(self.notice_bytes);
            let end = stream::serve(
                client.register_transcoder(request),
                |notice| work.handle(notice),
                || self.status.registered(Work::Transcoding, true),
                &stop,
            )
            .await;
            self.status.registered(Work::Transcoding, false);
            if self.settle(Work::Transcoding, end, started, &mut backoff, &stop).await? {
                return Ok(());
            }
        }
    }

    /// Stays registered for AI jobs with whatever models work, until `stop`. When the models
    /// change, the new registration opens before the old one, done with its jobs, goes.
    pub async fn ai(
        &self,
        work: Arc<AiWork>,
        pool: Arc<Pool>,
        node_version: String,
        stop: CancellationToken,
    ) -> Result<(), Refused> {
        let mut states = pool.watch();
        let mut backoff = backoff();
        let offer_now = |states: &[State]| Offer::of(pool.members(), states, &node_version);
        // The newest session and those that finish their jobs; all end when this set is dropped.
        let mut sessions: JoinSet<(u64, End)> = JoinSet::new();
        let mut newest = 0;
        'register: loop {
            if offer_now(&states.borrow()).is_empty() {
                self.status.registered(Work::Ai, false);
            }
            let offer = tokio::select! {
                states = states.wait_for(|s| !offer_now(s).is_empty()) => match states {
                    Ok(states) => offer_now(&states),
                    Err(_) => break,
                },
                () = stop.cancelled() => break,
            };
            newest += 1;
            let (number, started, retire) = (newest, Instant::now(), stop.child_token());
            let session = self.clone().ai_session(work.clone(), offer.clone(), retire.clone());
            sessions.spawn(async move { (number, session.await) });
            loop {
                let end = tokio::select! {
                    Some(ended) = sessions.join_next() => match ended {
                        Ok((number, end)) if number == newest => end,
                        Ok(_) => continue,
                        Err(error) => End::Lost(error.to_string()),
                    },
                    _ = states.wait_for(|s| offer.differs_from(&offer_now(s))) => {
                        tracing::info!("the models that work have changed, registering anew");
                        retire.cancel();
                        continue 'register;
                    }
                };
                self.status.registered(Work::Ai, false);
                if self.settle(Work::Ai, end, started, &mut backoff, &stop).await? {
                    break 'register;
                }
                continue 'register;
            }
        }
        // Jobs finish, for as long as the process lets them.
        while sessions.join_next().await.is_some() {}
        self.status.registered(Work::Ai, false);
        Ok(())
    }

    async fn ai_session(self, work: Arc<AiWork>, offer: Offer, stop: CancellationToken) -> End {
        let mut request = Request::new(net::RegisterAiWorkerRequest {
            secret: self.secret.expose().to_owned(),
            capabilities: Some(capabilities::write(&offer.capabilities)),
            hardware: offer.hardware.iter().map(Into::into).collect(),
        });
        // Ours takes this for the worker's newest word, so that its places are not counted twice.
        if let Ok(name) = self.instance.simple().to_string().parse() {
            request.metadata_mut().insert(WORKER_INSTANCE, name);
        }
        let mut client =
            AiWorkerClient::new(self.channel.clone()).max_decoding_message_size(self.notice_bytes);
        stream::serve(
            client.register_ai_worker(request),
            |notice| work.handle(notice),
            || self.status.registered(Work::Ai, true),
            &stop,
        )
        .await
    }

    /// What a session's end means: `true` is over for good, else the wait is behind us.
    pub(crate) async fn settle(
        &self,
        work: Work,
        end: End,
        started: Instant,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> Result<bool, Refused> {
        let reason = match end {
            End::Stopped => return Ok(true),
            End::Refused(reason) => return Err(Refused { work, reason }),
            End::Lost(reason) => reason,
        };
        if started.elapsed() > SETTLED {
            backoff.reset();
        }
        let wait = backoff.next(rand::random());
        tracing::warn!(work = work.name(), reason, retry_ms = wait.as_millis(), "not registered");
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(false),
            () = stop.cancelled() => Ok(true),
        }
    }
}

pub(crate) fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(500), Duration::from_secs(60))
}
