//! Answers that come in pieces, `text/event-stream`: handed on as they arrive.

use super::{AiBody, OrchestratorClient, PaidHeaders};
use crate::{
    call::{Bounds, Call, lost},
    error::{CallError, CallErrorKind, Operation},
};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use penstock_domain::Capability;
use penstock_wire::{WireError, worker_upload::AI_WORKER_AUTHORIZATION};
use std::time::Duration;

/// Limits of one streamed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Until the answer begins.
    pub head: Duration,
    /// Longest silence between two pieces.
    pub idle: Duration,
    /// Until its end.
    pub whole: Duration,
}

/// An answer that has begun. Dropping it ends the call, which the peer notices.
#[derive(Debug)]
pub struct AiStream {
    operation: Operation,
    origin: String,
    answer: reqwest::Response,
    idle: Duration,
}

impl AiStream {
    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name)?.to_str().ok()
    }

    /// Whether it is a stream of events.
    pub fn is_events(&self) -> bool {
        self.header("content-type").is_some_and(is_events)
    }

    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        let kind = match tokio::time::timeout(self.idle, self.answer.chunk()).await {
            Ok(Ok(chunk)) => return Ok(chunk),
            Err(_) => CallErrorKind::BodyTimeout,
            Ok(Err(error)) => lost(&error, CallErrorKind::BodyTimeout),
        };
        Err(Call { operation: self.operation, origin: &self.origin }.error(kind))
    }
}

impl OrchestratorClient {
    /// Begins a batch AI job whose answer is a stream. Anything but status 200 with events is an
    /// error.
    pub async fn ai_stream(
        &self,
        transcoder: &str,
        capability: Capability,
        headers: &PaidHeaders,
        body: AiBody,
        limits: StreamLimits,
    ) -> Result<AiStream, CallError> {
        let operation = Operation::AiJob;
        let (url, origin) = self.route(operation, transcoder, &capability.pipeline())?;
        let call = Call { operation, origin: &origin };
        let map = headers.to_map().map_err(|kind| call.error(kind))?;
        let request = self.http.post(url).headers(map);
        let request = request.header(AUTHORIZATION, AI_WORKER_AUTHORIZATION);
        let request = body.onto(request).await;
        let stream = self.stream(operation, origin.clone(), request, limits).await?;
        if stream.is_events() {
            return Ok(stream);
        }
        let wrong = WireError::Invalid { what: "result", reason: "must be a stream of events" };
        Err(call.error(CallErrorKind::Answer(wrong)))
    }

    /// Sends, and hands out the answer as soon as its head is there.
    pub(super) async fn stream(
        &self,
        operation: Operation,
        origin: String,
        request: reqwest::RequestBuilder,
        limits: StreamLimits,
    ) -> Result<AiStream, CallError> {
        let bounds = Bounds { head: limits.head, whole: limits.whole, max_bytes: u64::MAX };
        let call = Call { operation, origin: &origin };
        let answer = call.begin(request, bounds, Some(&self.pins)).await?;
        Ok(AiStream { operation, origin, answer, idle: limits.idle })
    }
}

/// Whether a content type says that events follow.
pub(super) fn is_events(kind: &str) -> bool {
    kind.to_ascii_lowercase().contains("text/event-stream")
}
