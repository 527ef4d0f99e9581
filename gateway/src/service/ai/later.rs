//! image-to-video without waiting (ai-pipelines.md section 2.2). The job is a record in the session
//! store, its picture and its film are in the segment store: any replica can say how it stands.
//!
//! The replica that works on a job keeps a lease in the record and renews it. When a replica has died
//! the lease lapses, or the store has seen its process end (`watched`), and whoever asks next begins the job
//! anew; a replica that the store does not hear begins nothing more (`fence`). Every change is a
//! compare-and-swap, so a replica that was only slow finds its record another's and lets go: a job has
//! one result. What its lost try had been charged for is not known, and may be paid a second time.
//! It is begun anew when there is a place for it, as for any other job: of a replica that died many at
//! once, they come one after the other.
//!
//! Its client has its 202 and does not ask again, so what fails for the moment is tried again here
//! (module `persistence`), without a place while it waits. A replica that stops gives its jobs up in time:
//! that counts as no death.

use super::{
    AiError, AiRequest, Pipeline, Upload,
    persistence::{Given, Persistence},
};
use crate::{
    clock,
    front::{
        caller::Caller,
        hold::HOLD_MS,
        workload::{Permit, Workload},
    },
    service::{
        Gateway,
        error::JobError,
        fence::{self, Fence, Moment},
        held::Held,
    },
};
use bytes::Bytes;
use penstock_domain::SegmentFormat;
use penstock_store::{
    Cas, DocKey, DocStore, SegmentKey, StoreError, StoredSegment, UnixMs, Version,
};
use penstock_telemetry::trace::carried;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// A replica that has not been heard of for so long is taken for dead.
const LEASE_MS: u64 = HOLD_MS;
/// How often it says that it is there, and again when the store did not hear of it.
const BEAT: Duration = Duration::from_secs(1);
const BEAT_AGAIN: Duration = Duration::from_millis(100);
/// Times that a job is begun: one that dies with its replica so often is not begun again. More than once
/// a replica may die for a reason of its own.
const MAX_TRIES: u32 = 3;
/// A replica that stops gives its jobs up so long before its time is over, or in its last quarter.
const GIVE_UP_BEFORE: Duration = Duration::from_secs(5);
/// How often that is tried, and the pause between.
const GIVE_UP_TRIES: u32 = 10;
const GIVE_UP_PAUSE: Duration = Duration::from_millis(200);
/// How often the end of a job is stored again, and that it was taken over, and the pause between, when the
/// store is away.
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
    /// When it was asked for, milliseconds since 1970. It is tried for as long as results are kept.
    #[serde(default = "now_ms")]
    begun_ms: u64,
}

fn now_ms() -> u64 {
    clock::now().0
}

/// How a job stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaterState {
    /// Somebody works on it.
    Working {
        /// Which task of which replica.
        owner: String,
        /// How often it was begun.
        tries: u32,
        /// When its replica is taken for dead, milliseconds since 1970.
        lease_until_ms: u64,
        /// How its replica is seen at the store, if it is. Unknown to older versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen_as: Option<String>,
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

fn working(owner: &str, tries: u32, seen_as: Option<String>) -> LaterState {
    let lease_until_ms = clock::now().plus_ms(LEASE_MS).0;
    LaterState::Working { owner: owner.to_owned(), tries, lease_until_ms, seen_as }
}

/// What the first try of a job has in hand.
struct First {
    /// `None`: the stores know it.
    request: Option<AiRequest>,
    /// Its place, and the memory for its picture.
    _held: Box<dyn Send + Sync>,
}

/// A job that this replica holds.
struct HeldJob {
    id: String,
    job: LaterJob,
    record: Held,
    owner: String,
    tries: u32,
    ttl_ms: u64,
    /// How this replica is seen at the store.
    seen_as: Option<String>,
    /// Says what may still be begun for it.
    fence: Fence,
}

impl HeldJob {
    /// Stores the job as it is. `false`: another replica has taken it over.
    async fn write(&mut self, store: &dyn DocStore) -> Result<bool, JobError> {
        let (value, owner) = (self.job.encode()?, &self.owner);
        let ours = |value: &Bytes| {
            LaterJob::decode(value).is_ok_and(|job| match job.state {
                LaterState::Working { owner: stored, .. } => stored == *owner,
                LaterState::Done(_) | LaterState::Failed => false,
            })
        };
        Ok(self.record.write(store, &value, self.ttl_ms, ours).await?)
    }

    /// Renews the lease. `false`: another replica has taken the job over.
    async fn renew(&mut self, store: &dyn DocStore) -> Result<bool, JobError> {
        let began = Moment::now();
        self.job.state = working(&self.owner, self.tries, self.seen_as.clone());
        let is_ours = self.write(store).await?;
        if is_ours {
            self.fence.renewed(began);
        } else {
            self.fence.is_lost();
            tracing::warn!(job = self.id, "another replica took a job over");
        }
        Ok(is_ours)
    }

    /// Renews the lease while it is this replica's.
    async fn keep_renewing(
        &mut self,
        store: &dyn DocStore,
        seen_as: impl Fn() -> Option<String> + Sync,
    ) {
        let mut pause = BEAT;
        loop {
            tokio::time::sleep(pause).await;
            self.seen_as = seen_as();
            pause = match self.renew(store).await {
                Ok(true) => BEAT,
                Ok(false) => return,
                // The store may be back before the lease lapses.
                Err(error) => {
                    if pause == BEAT {
                        tracing::warn!(job = self.id, %error, "a lease was not renewed");
                    }
                    BEAT_AGAIN
                }
            };
        }
    }

    /// Stores the job's end, with patience: the work is done and paid for. `false`: it is another replica's.
    async fn write_end(&mut self, store: &dyn DocStore, end: LaterState) -> Result<bool, JobError> {
        self.job.state = end;
        let is_ours = self.write_patiently(store).await?;
        if !is_ours {
            tracing::warn!(job = self.id, "another replica had taken a job over");
        }
        Ok(is_ours)
    }

    /// Leaves the job to whoever asks next, as one that was not begun here.
    async fn give_up(&mut self, store: &dyn DocStore) {
        let tries = self.tries.saturating_sub(1);
        self.job.state = LaterState::Working {
            owner: self.owner.clone(),
            tries,
            lease_until_ms: 0,
            seen_as: None,
        };
        for _ in 0..GIVE_UP_TRIES {
            match self.write(store).await {
                Ok(_) => {
                    tracing::info!(
                        job = self.id,
                        "this replica stops: an asynchronous job is left to the next"
                    );
                    return;
                }
                Err(error) => tracing::warn!(job = self.id, %error, "a job was not given up"),
            }
            tokio::time::sleep(GIVE_UP_PAUSE).await;
        }
    }

    /// Stores the job as it is. A store that says nothing may have done it: that is looked at, and not
    /// left to a lease in the name of somebody who does nothing. A lease lasts from when it is written: one
    /// of the first try might be over when the last one succeeds, and the job another's at once.
    async fn write_patiently(&mut self, store: &dyn DocStore) -> Result<bool, JobError> {
        let mut tries = 0;
        loop {
            let written = match self.job.state {
                LaterState::Working { .. } => self.renew(store).await,
                LaterState::Done(_) | LaterState::Failed => self.write(store).await,
            };
            match written {
                Err(_) if tries < END_TRIES => tries += 1,
                done => return done,
            }
            tokio::time::sleep(END_PAUSE).await;
        }
    }
}

impl Gateway {
    /// Takes a job and answers with its name; the work goes on. `held` is kept until it is done.
    pub async fn begin_later(
        self: &Arc<Self>,
        caller: &Caller,
        request: AiRequest,
        held: impl Send + Sync + 'static,
    ) -> Result<String, AiError> {
        let job = self.prepare(caller, request).await?;
        let file = job.request.file.clone().ok_or(super::BadRequest::Missing("image"))?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let fields = job.request.to_form(&job.model);
        let owner = self.owner().0;
        let began = Moment::now();
        let record = LaterJob {
            auth_id: caller.auth_id.to_string(),
            state: working(&owner, 1, self.store.seen_as()),
            file_name: file.name,
            fields: fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect(),
            begun_ms: now_ms(),
        };
        let (now, ttl_ms) = (clock::now(), self.settings.ai.result_ttl_ms);
        let picture = StoredSegment { data: file.data, format: SegmentFormat::Mp4 };
        let place = picture_key(&id);
        let stored = self.segments.put(&place, picture, ttl_ms, now).await;
        stored.map_err(JobError::from)?;
        let Some(version) = self.write(&id, None, &record).await? else {
            return Err(JobError::Internal("a job's name was taken".to_owned()).into());
        };
        let held_job = self.held(&id, record, version, (owner, 1), Fence::new(began));
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
        let (tries, is_over) = match &record.state {
            LaterState::Done(result) => {
                return Ok(Standing::Complete(result.clone().into()));
            }
            LaterState::Failed => return Ok(Standing::Failed),
            LaterState::Working { tries, lease_until_ms, seen_as, .. } => {
                let is_over = clock::now().0 >= *lease_until_ms
                    || self.watched.has_ended(&*self.store, id, found.version, seen_as).await?;
                (*tries, is_over)
            }
        };
        if !is_over {
            return Ok(Standing::Processing);
        }
        let (again, owner) = (tries < MAX_TRIES, self.owner().0);
        let place = match again {
            true => self.workloads.enter_at_once(Workload::Ai, caller),
            false => None,
        };
        if again && place.is_none() {
            // Whoever asks next may find one.
            return Ok(Standing::Processing);
        }
        let (tries, seen_as) = (tries + 1, self.store.seen_as());
        record.state = if again { working(&owner, tries, seen_as) } else { LaterState::Failed };
        // What may be begun for it is known when the record is ours.
        let fence = Fence::new(Moment::now());
        let job = self.held(id, record, found.version, (owner, tries), fence);
        // In a task of its own: whoever asks may go while the record becomes ours.
        let (gateway, caller) = (Arc::clone(self), caller.clone());
        let taken = self.jobs.spawn(async move { gateway.take_over(caller, job, place).await });
        match taken.await {
            Ok(standing) => standing,
            Err(_) => Err(JobError::Internal("a job was not taken over".to_owned()).into()),
        }
    }

    /// Begins a job anew with the place that there is for it; without one it is given up.
    async fn take_over(
        self: Arc<Self>,
        caller: Caller,
        mut job: HeldJob,
        place: Option<Permit>,
    ) -> Result<Standing, AiError> {
        if !job.write_patiently(self.store.as_ref()).await? {
            // Somebody else was faster.
            return Ok(Standing::Processing);
        }
        if place.is_none() {
            return Ok(Standing::Failed);
        }
        tracing::warn!(job = job.id, "the replica of an asynchronous job has died; it begins anew");
        metrics::counter!("penstock_gateway_ai_jobs_taken_over_total").increment(1);
        self.work_on(caller, job, None, place);
        Ok(Standing::Processing)
    }

    fn held(
        &self,
        id: &str,
        job: LaterJob,
        version: Version,
        (owner, tries): (String, u32),
        fence: Fence,
    ) -> HeldJob {
        let record = Held { key: key(id), version };
        HeldJob {
            id: id.to_owned(),
            job,
            record,
            owner,
            tries,
            ttl_ms: self.settings.ai.result_ttl_ms,
            seen_as: self.store.seen_as(),
            fence,
        }
    }

    fn work_on(
        self: &Arc<Self>,
        caller: Caller,
        mut job: HeldJob,
        request: Option<AiRequest>,
        held: impl Send + Sync + 'static,
    ) {
        let gateway = Arc::clone(self);
        let first = First { request, _held: Box::new(held) };
        // The request's own trace, for as long as its first replica has the job.
        let work = async move {
            let done = gateway.work(&caller, &mut job, first).await;
            if let Err(error) = done {
                tracing::warn!(job = job.id, %error, "the end of an asynchronous job was not stored");
            }
        };
        self.jobs.spawn(carried(work));
    }

    async fn work(
        self: &Arc<Self>,
        caller: &Caller,
        job: &mut HeldJob,
        first: First,
    ) -> Result<(), JobError> {
        let (id, record, fence) = (job.id.clone(), job.job.clone(), job.fence.clone());
        let film = fence::scope(Some(fence), self.film(caller, &id, &record, first));
        let made = tokio::select! {
            made = film => made,
            () = job.keep_renewing(self.store.as_ref(), || self.store.seen_as()) => return Ok(()),
            () = self.time_to_give_up() => Err(Given::Up),
        };
        let end = match made {
            Ok(json) => LaterState::Done(String::from_utf8_lossy(&json).into_owned()),
            Err(Given::Up) => {
                job.give_up(self.store.as_ref()).await;
                return Ok(());
            }
            Err(Given::Failed(error)) => {
                tracing::warn!(job = job.id, %error, "an asynchronous job failed");
                LaterState::Failed
            }
        };
        if job.write_end(self.store.as_ref(), end).await? {
            // Nobody needs it any more; if it stays it expires.
            let _ = self.segments.remove(&picture_key(&job.id), clock::now()).await;
        }
        Ok(())
    }

    /// Shortly before this replica's end, if it is to stop.
    async fn time_to_give_up(&self) {
        self.draining.cancelled().await;
        let drain = self.settings.args.common.drain_timeout();
        let before = GIVE_UP_BEFORE.min(drain / 4);
        tokio::time::sleep(self.settings.front.drain_notice + drain.saturating_sub(before)).await;
    }

    /// The film's document. What fails for the moment is tried again, each time with a place of its own.
    async fn film(
        self: &Arc<Self>,
        caller: &Caller,
        id: &str,
        record: &LaterJob,
        first: First,
    ) -> Result<Bytes, Given> {
        let until = UnixMs(record.begun_ms).plus_ms(self.settings.ai.result_ttl_ms);
        let mut persistence = Persistence::until(until);
        let mut first = Some(first);
        let (made, _held) = loop {
            let First { request, _held } = match first.take() {
                Some(first) => first,
                None => match self.workloads.enter_at_once(Workload::Ai, caller) {
                    Some(place) => First { request: None, _held: Box::new(place) },
                    None => {
                        persistence.wait(&self.draining).await?;
                        continue;
                    }
                },
            };
            let made = async {
                let request = match request {
                    Some(request) => request,
                    None => self.asked(id, record).await?,
                };
                let ready = self.prepare(caller, request).await?;
                self.run_ai(&ready).await
            };
            match made.await {
                Ok(made) => break (made, _held),
                Err(error) => {
                    tracing::warn!(job = id, %error, "an asynchronous job has no result yet");
                    drop(_held);
                    persistence.after(error, &self.draining).await?;
                }
            }
        };
        // It is paid for, and must not be made again because it cannot be stored.
        loop {
            match self.deliver(made.clone(), "").await {
                Ok(document) => return Ok(document),
                Err(error) => persistence.after_work(error.into()).await?,
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::held::tests::{Mumbling, hold, stored};
    use std::sync::atomic::Ordering;

    async fn held(store: &Mumbling) -> HeldJob {
        let job = LaterJob {
            auth_id: "a:b".into(),
            state: working("me", 1, None),
            file_name: "cat.png".into(),
            fields: Vec::new(),
            begun_ms: now_ms(),
        };
        let record = hold(store, key("id"), job.encode().unwrap()).await;
        let owner = "me".to_owned();
        let fence = Fence::new(Moment::now());
        HeldJob {
            id: "id".into(),
            job,
            record,
            owner,
            tries: 1,
            ttl_ms: 60_000,
            seen_as: None,
            fence,
        }
    }

    async fn state(store: &Mumbling) -> LaterState {
        LaterJob::decode(&stored(store, &key("id")).await.unwrap()).unwrap().state
    }

    #[tokio::test]
    async fn a_lost_answer_of_the_store_does_not_lose_the_job() {
        let store = Mumbling::default();
        let mut job = held(&store).await;
        store.lose.store(1, Ordering::SeqCst);
        for beat in 0..3 {
            assert_eq!(job.renew(&store).await.is_err(), beat == 0, "beat {beat}");
        }
        store.lose.store(1, Ordering::SeqCst);
        assert!(job.renew(&store).await.is_err());
        job.write_end(&store, LaterState::Done("{}".into())).await.unwrap();
        assert!(matches!(state(&store).await, LaterState::Done(_)));
    }

    #[tokio::test]
    async fn a_lost_answer_at_the_end_is_repeated() {
        let store = Mumbling::default();
        let mut job = held(&store).await;
        store.lose.store(1, Ordering::SeqCst);
        job.write_end(&store, LaterState::Done("{}".into())).await.unwrap();
        assert!(matches!(state(&store).await, LaterState::Done(_)));
    }

    #[tokio::test]
    async fn a_lost_answer_when_a_job_is_taken_over_is_looked_at() {
        let store = Mumbling::default();
        let dead = held(&store).await;
        let (owner, job) =
            ("you".to_owned(), LaterJob { state: working("you", 2, None), ..dead.job });
        let mut taken = HeldJob { owner, job, tries: 2, ..dead };
        store.lose.store(1, Ordering::SeqCst);
        assert!(taken.write_patiently(&store).await.unwrap());
        assert!(taken.renew(&store).await.unwrap());
        assert!(matches!(state(&store).await, LaterState::Working { owner, .. } if owner == "you"));
    }

    #[tokio::test]
    async fn a_lease_lasts_from_when_it_was_written() {
        let store = Mumbling::default();
        let mut taken = held(&store).await;
        // The store was away for as long as that takes.
        taken.job.state = working("me", 1, None);
        if let LaterState::Working { lease_until_ms, .. } = &mut taken.job.state {
            *lease_until_ms = 1;
        }
        let before = clock::now().plus_ms(LEASE_MS).0;
        assert!(taken.write_patiently(&store).await.unwrap());
        let LaterState::Working { lease_until_ms, .. } = state(&store).await else { panic!() };
        assert!(lease_until_ms >= before, "{lease_until_ms}");
    }

    #[tokio::test]
    async fn what_is_given_up_was_not_begun() {
        let store = Mumbling::default();
        let mut job = held(&store).await;
        store.lose.store(1, Ordering::SeqCst);
        job.give_up(&store).await;
        let LaterState::Working { tries, lease_until_ms, .. } = state(&store).await else {
            panic!()
        };
        assert_eq!((tries, lease_until_ms), (0, 0));
    }

    #[tokio::test]
    async fn who_was_only_slow_lets_go() {
        let store = Mumbling::default();
        let mut slow = held(&store).await;
        let mut theirs = slow.record.clone();
        let job = LaterJob { state: working("you", 2, None), ..slow.job.clone() };
        assert!(theirs.write(&store, &job.encode().unwrap(), 60_000, |_| false).await.unwrap());
        assert!(slow.fence.lets(Moment::now()));
        assert!(!slow.renew(&store).await.unwrap());
        assert!(!slow.fence.lets(Moment::now()), "and begins nothing more");
        assert!(!slow.write_end(&store, LaterState::Failed).await.unwrap());
        assert!(matches!(state(&store).await, LaterState::Working { owner, .. } if owner == "you"));
    }

    #[tokio::test]
    async fn who_is_not_heard_begins_nothing_more() {
        let store = Mumbling::default();
        let mut job = held(&store).await;
        job.fence = Fence::new(Moment::long_ago());
        store.lose.store(1, Ordering::SeqCst);
        assert!(job.renew(&store).await.is_err());
        assert!(!job.fence.lets(Moment::now()));
        assert!(job.renew(&store).await.unwrap());
        assert!(job.fence.lets(Moment::now()));
    }
}
