//! Brought capabilities: tokens and jobs (byoc.md sections 3 to 5).

use super::{AiStream, OrchestratorClient, StreamLimits};
use crate::{
    call::{Bounds, Call},
    error::{CallError, CallErrorKind, Operation},
};
use bytes::Bytes;
use http::HeaderValue;
use penstock_domain::Address;
use penstock_wire::json::{ByocToken, JOB_HEADER, eth_address_header};
use std::time::Duration;

/// A token is small.
const TOKEN_BYTES: u64 = 64 * 1024;

/// A job on its way. What it costs has been paid before.
#[derive(Debug, Clone)]
pub struct ByocJob {
    /// After `/process/request/`.
    pub path: String,
    /// Value of `Livepeer`: the signed job request.
    pub job: String,
    /// Value of `Livepeer-Capability`.
    pub capability: String,
    /// W3C `traceparent`.
    pub traceparent: Option<String>,
    /// `Content-Type` of the body, if it has one.
    pub content_type: Option<HeaderValue>,
    /// The client's body.
    pub body: Bytes,
}

impl OrchestratorClient {
    /// What an orchestrator offers for a capability. `signature` is the constant one of `sender`.
    pub async fn byoc_token(
        &self,
        orchestrator: &str,
        capability: &str,
        sender: Address,
        signature: &[u8],
        timeout: Duration,
    ) -> Result<ByocToken, CallError> {
        let operation = Operation::ByocToken;
        let (url, origin) = self.route(operation, orchestrator, "process/token")?;
        let call = Call { operation, origin: &origin };
        let request = self
            .http
            .get(url)
            .header("Livepeer-Eth-Address", eth_address_header(sender, signature))
            .header("Livepeer-Capability", capability);
        let bounds = Bounds { head: timeout, whole: timeout, max_bytes: TOKEN_BYTES };
        let answer = call.send(request, bounds, Some(&self.pins)).await?;
        ByocToken::parse(&answer.body).map_err(|e| call.error(CallErrorKind::Answer(e)))
    }

    /// Sends a job; its answer, whatever it is, is read by the caller as it comes.
    pub async fn byoc_job(
        &self,
        orchestrator: &str,
        job: ByocJob,
        limits: StreamLimits,
    ) -> Result<AiStream, CallError> {
        let operation = Operation::ByocJob;
        let path = format!("process/request/{}", job.path);
        let (url, origin) = self.route(operation, orchestrator, &path)?;
        let mut request = self
            .http
            .post(url)
            .header(JOB_HEADER, job.job)
            .header("Livepeer-Capability", job.capability)
            .body(job.body);
        if let Some(kind) = job.content_type {
            request = request.header(http::header::CONTENT_TYPE, kind);
        }
        if let Some(trace) = job.traceparent {
            request = request.header("traceparent", trace);
        }
        self.stream(operation, origin, request, limits).await
    }
}
