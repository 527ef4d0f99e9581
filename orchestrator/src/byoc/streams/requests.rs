//! What a gateway asks of a stream that runs (byoc.md section 8.3). It is its own, or none.

use super::{Untold, error::StreamError, life::RELEASE_TIME};
use crate::{
    byoc::{error::ByocError, registry::Brought, worker},
    error::JobError,
    node::Node,
};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use penstock_wire::json::{SignedByocJob, byoc_stream_id};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};

/// A stream that its gateway stops goes on, and is paid, until its worker has answered, but no longer than this.
const LINGER: Duration = Duration::from_secs(2);

/// What the worker said.
#[derive(Debug, Clone)]
pub struct Relayed {
    /// Its status.
    pub status: StatusCode,
    /// Its words.
    pub body: Bytes,
}

impl Node {
    /// Ends a stream. One that is not there has ended. Whether or not the worker answers, and somebody waits for that, the
    /// stream ends.
    pub async fn stop_stream(
        self: &Arc<Self>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Relayed, JobError> {
        let (job, id) = self.stream_job(headers)?;
        let nothing = Relayed { status: StatusCode::OK, body: Bytes::new() };
        let Some(entry) = self.byoc_streams.get(job.sender, &id) else { return Ok(nothing) };
        let body = self.bodies.read(body, self.limits.byoc_stream_body_bytes).await?;
        let patience = self.byoc_time(&job);
        // Whoever waits for less than a worker gets takes nothing from it.
        let until = Instant::now() + patience.max(RELEASE_TIME);
        let (node, brought) = (Arc::clone(self), Arc::clone(&entry.brought));
        let tell = || async move {
            node.tell_worker(until, &brought, "stop", &id, body.data.clone()).await
        };
        if !entry.has_begun() {
            // The worker may not know it yet, and is told again once it has begun.
            let telling = entry.tell_early(&self.jobs, tell);
            entry.stopped.cancel();
            return Ok(timeout(patience, telling)
                .await
                .ok()
                .and_then(Result::ok)
                .unwrap_or(nothing));
        }
        let telling = entry.tell(&self.jobs, tell);
        let (told, ending) = (telling.clone(), Arc::clone(&entry));
        self.jobs.spawn(async move {
            let _ = timeout(LINGER, told).await;
            ending.stopped.cancel();
        });
        let said = timeout(patience, telling).await.ok().and_then(Result::ok);
        Ok(said.unwrap_or(nothing))
    }

    /// Passes new parameters on.
    pub async fn update_stream(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Relayed, JobError> {
        let (job, id) = self.stream_job(headers)?;
        let entry = self.byoc_streams.get(job.sender, &id).ok_or(StreamError::NotFound)?;
        let body = self.bodies.read(body, self.limits.byoc_stream_body_bytes).await?;
        let until = Instant::now() + self.byoc_time(&job);
        let told = self.tell_worker(until, &entry.brought, "params", &id, body.data.clone());
        let said = told.await.map_err(|_| StreamError::Worker)?;
        if said.status.is_success() {
            entry.note_answer();
        }
        Ok(said)
    }

    /// Takes a payment for a stream; what is left of the balance, whole wei.
    pub async fn pay_stream(&self, headers: &HeaderMap) -> Result<String, JobError> {
        let refused = StreamError::Payment;
        let job = self.signed_byoc(headers).map_err(refused)?;
        let id = byoc_stream_id(&job.request).unwrap_or_default();
        let running = self.byoc_streams.get(job.sender, &id);
        let running = running.filter(|running| running.brought.name == job.capability);
        // A worker that has left may be paid for what it still does.
        let (brought, price) = match &running {
            Some(running) => (Arc::clone(&running.brought), Some(&running.price)),
            None => (self.byoc.get(&job.capability).ok_or(refused(ByocError::NoCapacity))?, None),
        };
        let left = self.pay_byoc(&brought, job.sender, price, headers).await.map_err(refused)?;
        Ok(left.to_fixed(0))
    }

    /// Who asks, and for which stream. No money is asked for: who has none may end what it pays for.
    fn stream_job(&self, headers: &HeaderMap) -> Result<(SignedByocJob, String), StreamError> {
        let job = self.signed_byoc(headers).map_err(StreamError::Request)?;
        let id = byoc_stream_id(&job.request);
        let id = id.map_err(|_| StreamError::Request(ByocError::Credentials))?;
        Ok((job, id))
    }

    async fn tell_worker(
        &self,
        until: Instant,
        brought: &Arc<Brought>,
        what: &str,
        id: &str,
        body: Bytes,
    ) -> Result<Relayed, Untold> {
        let sent = worker::stream(&self.byoc_http, brought, what, id, body);
        let sent = timeout_at(until, sent).await.map_err(|_| Untold::Late)?;
        let answer = sent.map_err(|_| Untold::Broken)?;
        let (status, body) = self.worker_said(brought, answer, until).await;
        Ok(Relayed { status, body })
    }

    /// A worker's status and words. One that does not know us any more loses its registration, and so
    /// does its gateway see a failure of ours.
    pub(in crate::byoc) async fn worker_said(
        &self,
        brought: &Arc<Brought>,
        answer: reqwest::Response,
        until: Instant,
    ) -> (StatusCode, Bytes) {
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED {
            self.byoc.withdraw(brought);
            let words = Bytes::from_static(b"Orchestrator worker failure");
            return (StatusCode::INTERNAL_SERVER_ERROR, words);
        }
        let body = Body::from_stream(answer.bytes_stream());
        let read = self.bodies.read_slowly(body, self.limits.byoc_answer_bytes, self.byoc_timeout);
        match timeout_at(until, read).await {
            Ok(Ok(held)) => (status, held.data),
            _ => {
                let words = Bytes::from_static(b"Error reading response body");
                (StatusCode::INTERNAL_SERVER_ERROR, words)
            }
        }
    }
}
