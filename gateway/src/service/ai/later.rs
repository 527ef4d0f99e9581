//! image-to-video without waiting (ai-pipelines.md section 2.2). The job is a record in the session
//! store, its picture and its film are in the segment store: any replica can say how it stands.
//!
//! The replica that works on a job keeps a lease in the record and renews it. When a replica has died
//! the lease lapses, and whoever asks next begins the job anew, once. Every change is a
//! compare-and-swap, so a replica that was only slow finds its record changed and lets go: a job has
//! one result. What its lost try had been charged for is not known, and may be paid a second time.

use super::{AiError, AiRequest, Pipeline, Upload};
use crate::{
    clock,
    front::caller::Caller,
    service::{Gateway, error::JobError},
};
use bytes::Bytes;
use penstock_domain::SegmentFormat;
use penstock_store::{Cas, DocKey, SegmentKey, StoreError, StoredSegment, Version};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// A replica that has not been heard of for so long is taken for dead.
const LEASE_MS: u64 = 30_000;
/// How often it says that it is there.
const BEAT: Duration = Duration::from_millis(LEASE_MS / 3);
/// Times that a job is begun: one that dies with its replica twice is not begun a third time.
const MAX_TRIES: u32 = 2;
/// How often the end of a job is stored again, and the pause between, when the store is away.
const END_TRIES: u32 = 20;
const END_PAUSE: Duration = Duration::from_secs(1);

/// What the store knows of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaterJob {
    /// Whose it is.
    pub auth_id: String,
    /// How it stands.
    pub state: LaterState,
    /// The picture's file name.
    file_name: String,
    /// The other fields, the model among them.
    fields: Vec<(String, String)>,
}

/// How a job stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaterState {
    /// Somebody works on it.
    Working {
        /// How often it was begun.
        tries: u32,
        /// When its replica is taken for dead, milliseconds since 1970.
        lease_until_ms: u64,
    },
    /// Its result, with addresses that begin at the gateway's root.
    Done(String),
    /// It gave none.
    Failed,
}

/// What a poll is told.
#[derive(Debug)]
pub enum Standing {
    /// No such job, or not this caller's.
    Unknown,
    /// Not done yet.
    Processing,
    /// Done: its JSON result, with addresses that begin at the gateway's root.
    Complete(Bytes),
    /// No result.
    Failed,
}

/// The record's key.
pub fn key(id: &str) -> DocKey {
    DocKey::new("job", id)
}

fn picture_key(id: &str) -> SegmentKey {
    SegmentKey(format!("ai-jobs/{id}/image"))
}

impl LaterJob {
    fn encode(&self) -> Result<Bytes, JobError> {
        let text = serde_json::to_vec(self).map_err(|e| JobError::Internal(e.to_string()))?;
        Ok(text.into())
    }

    fn decode(bytes: &[u8]) -> Result<Self, JobError> {
        serde_json::from_slice(bytes).map_err(|e| JobError::Internal(format!("a job record: {e}")))
    }
}

fn working(tries: u32) -> LaterState {
    LaterState::Working { tries, lease_until_ms: clock::now().plus_ms(LEASE_MS).0 }
}

/// A job that this replica holds.
struct Held {
    id: String,
    record: LaterJob,
    version: Version,
    tries: u32,
}

impl Gateway {
    /// Takes a job and answers with its name; the work goes on. `held` is kept until it is done.
    pub async fn begin_later(
        self: &Arc<Self>,
        caller: &Caller,
        request: AiRequest,
        held: impl Send + 'static,
    ) -> Result<String, AiError> {
        let job = self.prepare(caller, request).await?;
        let file = job.request.file.clone().ok_or(super::BadRequest::Missing("image"))?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let fields = job.request.to_form(&job.model);
        let record = LaterJob {
            auth_id: caller.auth_id.to_string(),
            state: working(1),
            file_name: file.name,
            fields: fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect(),
        };
        let (now, ttl_ms) = (clock::now(), self.settings.ai.result_ttl_ms);
        let picture = StoredSegment { data: file.data, format: SegmentFormat::Mp4 };
        let place = picture_key(&id);
        let stored = self.segments.put(&place, picture, ttl_ms, now).await;
        stored.map_err(JobError::from)?;
        let Some(version) = self.write(&id, None, &record).await? else {
            return Err(JobError::Internal("a job's name was taken".to_owned()).into());
        };
        let held_job = Held { id: id.clone(), record, version, tries: 1 };
        self.work_on(caller.clone(), held_job, Some(job.request), held);
        Ok(id)
    }

    /// How a job stands. Takes it over if its replica has died.
    pub async fn later(self: &Arc<Self>, caller: &Caller, id: &str) -> Result<Standing, AiError> {
        let found = match self.store.doc(&key(id), clock::now()).await {
            Ok(found) => found,
            // A name that nobody was ever given.
            Err(StoreError::TooLarge { .. }) => None,
            Err(error) => return Err(JobError::from(error).into()),
        };
        let Some(found) = found else { return Ok(Standing::Unknown) };
        let mut record = LaterJob::decode(&found.value)?;
        if record.auth_id != caller.auth_id.as_str() {
            return Ok(Standing::Unknown);
        }
        let (tries, lease_until_ms) = match &record.state {
            LaterState::Done(result) => {
                return Ok(Standing::Complete(result.clone().into()));
            }
            LaterState::Failed => return Ok(Standing::Failed),
            LaterState::Working { tries, lease_until_ms } => (*tries, *lease_until_ms),
        };
        if clock::now().0 < lease_until_ms {
            return Ok(Standing::Processing);
        }
        let again = tries < MAX_TRIES;
        record.state = if again { working(tries + 1) } else { LaterState::Failed };
        let Some(version) = self.write(id, Some(found.version), &record).await? else {
            // Somebody else was faster.
            return Ok(Standing::Processing);
        };
        if !again {
            return Ok(Standing::Failed);
        }
        tracing::warn!(job = id, "the replica of an asynchronous job has died; it begins anew");
        metrics::counter!("penstock_gateway_ai_jobs_taken_over_total").increment(1);
        let held = Held { id: id.to_owned(), record, version, tries: tries + 1 };
        self.work_on(caller.clone(), held, None, ());
        Ok(Standing::Processing)
    }

    fn work_on(
        self: &Arc<Self>,
        caller: Caller,
        mut job: Held,
        request: Option<AiRequest>,
        held: impl Send + 'static,
    ) {
        let gateway = Arc::clone(self);
        self.jobs.spawn(async move {
            let done = gateway.work(&caller, &mut job, request).await;
            if let Err(error) = done {
                tracing::warn!(job = job.id, %error, "the end of an asynchronous job was not stored");
            }
            drop(held);
        });
    }

    async fn work(
        self: &Arc<Self>,
        caller: &Caller,
        job: &mut Held,
        request: Option<AiRequest>,
    ) -> Result<(), JobError> {
        let (id, record) = (job.id.clone(), job.record.clone());
        let film = async {
            let request = match request {
                Some(request) => request,
                None => self.asked(&id, &record).await?,
            };
            let ready = self.prepare(caller, request).await?;
            let made = self.run_ai(&ready).await?;
            Ok::<_, AiError>(self.deliver(made, "").await?)
        };
        tokio::pin!(film);
        let made = loop {
            tokio::select! {
                made = &mut film => break made,
                () = tokio::time::sleep(BEAT) => {
                    job.record.state = working(job.tries);
                    match self.write(&job.id, Some(job.version), &job.record).await {
                        Ok(Some(version)) => job.version = version,
                        Ok(None) => {
                            tracing::warn!(job = job.id, "another replica took a job over");
                            return Ok(());
                        }
                        // The store may be back before the lease lapses.
                        Err(error) => tracing::warn!(job = job.id, %error, "a lease was not renewed"),
                    }
                }
            }
        };
        job.record.state = match made {
            Ok(json) => LaterState::Done(String::from_utf8_lossy(&json).into_owned()),
            Err(error) => {
                tracing::warn!(job = job.id, %error, "an asynchronous job failed");
                LaterState::Failed
            }
        };
        self.write_end(job).await?;
        // Nobody needs it any more; if it stays it expires.
        let _ = self.segments.remove(&picture_key(&job.id), clock::now()).await;
        Ok(())
    }

    /// Stores a job's end, with patience: the work is done and paid for.
    async fn write_end(&self, job: &Held) -> Result<(), JobError> {
        let mut tries = 0;
        loop {
            match self.write(&job.id, Some(job.version), &job.record).await {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => {
                    tracing::warn!(job = job.id, "another replica had taken a job over");
                    return Ok(());
                }
                Err(error) if tries >= END_TRIES => return Err(error),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(END_PAUSE).await;
        }
    }

    /// The request, from what the stores know of it.
    async fn asked(&self, id: &str, record: &LaterJob) -> Result<AiRequest, AiError> {
        let found = self.segments.get(&picture_key(id), clock::now()).await;
        let picture = found.map_err(JobError::from)?;
        let picture =
            picture.ok_or_else(|| JobError::Internal("a job's picture is gone".to_owned()))?;
        let file = Upload { name: record.file_name.clone(), data: picture.data };
        Ok(AiRequest::from_form(Pipeline::ImageToVideo, &record.fields, Some(file))?)
    }

    /// The new version, or `None` if the record is another one by now.
    async fn write(
        &self,
        id: &str,
        expected: Option<Version>,
        record: &LaterJob,
    ) -> Result<Option<Version>, JobError> {
        let ttl_ms = self.settings.ai.result_ttl_ms;
        let value = record.encode()?;
        match self.store.put_doc(&key(id), expected, value, ttl_ms, clock::now()).await? {
            Cas::Stored(version) => Ok(Some(version)),
            Cas::Conflict(_) => Ok(None),
        }
    }
}
