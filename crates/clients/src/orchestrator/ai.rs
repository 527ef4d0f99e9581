//! Batch AI jobs: `POST {service URI}/{pipeline}` (ai-pipelines.md section 3).

use super::{OrchestratorClient, PaidHeaders};
use crate::{
    call::{Bounds, Call},
    error::{CallError, CallErrorKind, Operation},
};
use bytes::Bytes;
use futures::{TryStreamExt, stream};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use penstock_domain::Capability;
use penstock_wire::{WireError, worker_upload::AI_WORKER_AUTHORIZATION};
use reqwest::{Body, RequestBuilder, multipart::Form};
use std::time::Duration;

/// Forms with files up to here are put together before they are sent: as one piece they are fewer frames of
/// the connection, which cost more than a copy.
const GATHERED_BYTES: u64 = 128 * 1024;

/// What is sent.
#[derive(Debug)]
pub enum AiBody {
    /// A JSON document.
    Json(Bytes),
    /// Fields and files, the file first.
    Multipart {
        /// All of it.
        form: Form,
        /// How long its files are together.
        file_bytes: u64,
    },
}

impl AiBody {
    /// The request with this body.
    pub(super) async fn onto(self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Json(json) => request.header(CONTENT_TYPE, "application/json").body(json),
            Self::Multipart { form, file_bytes } if file_bytes <= GATHERED_BYTES => {
                let kind = format!("multipart/form-data; boundary={}", form.boundary());
                let pieces: Result<Vec<Bytes>, _> = form.into_stream().try_collect().await;
                match pieces {
                    Ok(pieces) => request.header(CONTENT_TYPE, kind).body(pieces.concat()),
                    // Said when the request is sent.
                    Err(error) => {
                        let failed = stream::once(async move { Err::<Bytes, _>(error) });
                        request.header(CONTENT_TYPE, kind).body(Body::wrap_stream(failed))
                    }
                }
            }
            Self::Multipart { form, .. } => request.multipart(form),
        }
    }
}

/// Limits of one job. The reference has none; jobs of minutes are normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AiLimits {
    /// Until the result is there. The answer's head comes only with it.
    pub timeout: Duration,
    /// Largest result.
    pub max_bytes: u64,
}

impl Default for AiLimits {
    /// 15 min, as an orchestrator waits for its worker; 64 MiB.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(900), max_bytes: 64 * 1024 * 1024 }
    }
}

/// A result: JSON that is not looked into.
#[derive(Debug, Clone)]
pub struct AiAnswer {
    /// The document.
    pub body: Bytes,
    /// From the start of the call until the result was read.
    pub elapsed: Duration,
}

impl OrchestratorClient {
    /// Has a batch AI job done. Anything but status 200 with JSON is an error.
    pub async fn ai_job(
        &self,
        transcoder: &str,
        capability: Capability,
        headers: &PaidHeaders,
        body: AiBody,
        limits: AiLimits,
    ) -> Result<AiAnswer, CallError> {
        let operation = Operation::AiJob;
        let target = self.route(operation, transcoder, &capability.pipeline())?;
        let origin = target.1.clone();
        let start = tokio::time::Instant::now();
        let prepare = |request: RequestBuilder| {
            body.onto(request.header(AUTHORIZATION, AI_WORKER_AUTHORIZATION))
        };
        let bounds =
            Bounds { head: limits.timeout, whole: limits.timeout, max_bytes: limits.max_bytes };
        let answer = self.post_paid(operation, target, headers, prepare, bounds).await?;
        let is_json = answer
            .headers
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.to_ascii_lowercase().contains("json"));
        if !is_json {
            let wrong = WireError::Invalid { what: "result", reason: "must be JSON" };
            return Err(Call { operation, origin: &origin }.error(CallErrorKind::Answer(wrong)));
        }
        Ok(AiAnswer { body: answer.body, elapsed: start.elapsed() })
    }
}
