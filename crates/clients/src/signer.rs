//! The client of a remote signer (remote-signer.md).

use crate::{
    call::{Answer, Bounds, Call, origin},
    error::{CallError, CallErrorKind, Operation},
    http::{HttpOptions, http},
    trust::{BuildError, Identity, Trust},
};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use penstock_domain::AuthId;
use penstock_wire::{
    WireError,
    json::{
        ByocJobRequest, DiscoveryEntry, LivePaymentAnswer, LivePaymentCall, PaymentState,
        SegmentCredentialsAnswer, SegmentCredentialsRequest, SignOrchestratorInfo, VerifyAnswer,
        parse_discovery,
    },
    limits, net,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use url::Url;

/// `/readyz` answers from what is known.
const READY_TIME: Duration = Duration::from_secs(3);
/// `/v1/verify` answers from memory, and every request may wait for it.
const VERIFY_TIME: Duration = Duration::from_secs(3);
/// Read of its answer.
const READY_BYTES: usize = 2_048;

/// How a signer is called.
#[derive(Clone)]
pub struct SignerOptions {
    /// Its URL; everything after host and port is dropped, and without a scheme it is https.
    pub url: String,
    /// Sent as `Authorization: Bearer …`.
    pub bearer_token: Option<String>,
    /// Sent with every call (`-remoteSignerHeaders`).
    pub headers: Vec<(String, String)>,
    /// Whose certificates are accepted.
    pub trust: Trust,
    /// The certificate shown to a signer that asks for one.
    pub identity: Option<Identity>,
    /// Each call, whole.
    pub timeout: Duration,
}

impl SignerOptions {
    /// A signer at this URL, with the reference's limit of 1 min a call.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            bearer_token: None,
            headers: Vec::new(),
            trust: Trust::System,
            identity: None,
            timeout: Duration::from_secs(60),
        }
    }
}

impl std::fmt::Debug for SignerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Headers may carry secrets as well as the token.
        f.debug_struct("SignerOptions").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What goes along with one payment request.
#[derive(Debug, Clone, Copy, Default)]
pub struct PaymentContext<'a> {
    /// On whose account (`Signer-Auth-Id`); only from a gateway that the signer trusts.
    pub auth_id: Option<&'a AuthId>,
    /// Makes a first request repeatable (architecture.md rule 3).
    pub idempotency_key: Option<&'a str>,
    /// W3C `traceparent` of the job.
    pub traceparent: Option<&'a str>,
}

/// A signer's answer to a payment request, and what its headers say of it.
#[derive(Debug, Clone)]
pub struct LivePayment {
    /// Tickets, credentials, the next state.
    pub answer: LivePaymentAnswer,
    /// Units that the payment is for (`Penstock-Billed-Units`): of an answer that had been given
    /// before, those of that time. `None`: a signer that does not say.
    pub billed_units: Option<u64>,
    /// The answer had been given before (`Penstock-Replayed`).
    pub replayed: bool,
}

/// The client of one signer. Clones share connections.
#[derive(Debug, Clone)]
pub struct SignerClient {
    http: reqwest::Client,
    base: Arc<Url>,
    origin: Arc<str>,
    headers: HeaderMap,
    timeout: Duration,
}

impl SignerClient {
    /// With these options.
    pub fn new(options: &SignerOptions) -> Result<Self, BuildError> {
        let bad = |reason: String| BuildError::Setting { setting: "signer url", reason };
        let text = options.url.trim();
        let with_scheme =
            if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&with_scheme).map_err(|e| bad(e.to_string()))?;
        let origin = origin(&url).ok_or_else(|| bad("expected http or https".into()))?;
        let base = Url::parse(&origin).map_err(|e| bad(e.to_string()))?;
        let http = http(&HttpOptions {
            trust: options.trust.clone(),
            identity: options.identity.clone(),
            total_timeout: Some(options.timeout),
            ..HttpOptions::default()
        })?;
        let headers = fixed_headers(options)?;
        Ok(Self {
            http,
            base: Arc::new(base),
            origin: origin.into(),
            headers,
            timeout: options.timeout,
        })
    }

    /// `scheme://host:port` of the signer.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Who pays, with the constant signature that `GetOrchestrator` wants.
    pub async fn sign_orchestrator_info(&self) -> Result<SignOrchestratorInfo, CallError> {
        let operation = Operation::SignOrchestratorInfo;
        let answer =
            self.post(operation, "/sign-orchestrator-info", &json!({}), HeaderMap::new()).await?;
        self.read(operation, SignOrchestratorInfo::parse(&answer.body))
    }

    /// Tickets and credentials for a job. The same state presented twice gives the same answer,
    /// so a call whose answer was lost is simply repeated.
    pub async fn generate_live_payment(
        &self,
        call: &LivePaymentCall<'_>,
        context: PaymentContext<'_>,
    ) -> Result<LivePayment, CallError> {
        let operation = Operation::GeneratePayment;
        let headers = self.context_headers(operation, context)?;
        let path = "/generate-live-payment";
        let answer = self.post(operation, path, &call.to_json(), headers).await?;
        let said = |name: &str| answer.headers.get(name)?.to_str().ok();
        Ok(LivePayment {
            billed_units: said("penstock-billed-units").and_then(|units| units.parse().ok()),
            replayed: said("penstock-replayed") == Some("true"),
            answer: self.read(operation, LivePaymentAnswer::parse(&answer.body))?,
        })
    }

    /// The signed credential of one video segment: a ready value of `Livepeer-Segment`.
    pub async fn sign_segment_credentials(
        &self,
        state: &PaymentState,
        unsigned: &net::SegData,
        context: PaymentContext<'_>,
    ) -> Result<String, CallError> {
        let operation = Operation::SignSegment;
        let headers = self.context_headers(operation, context)?;
        let body = SegmentCredentialsRequest::body(state, unsigned);
        let answer = self.post(operation, "/sign-segment-credentials", &body, headers).await?;
        let parsed = SegmentCredentialsAnswer::parse(&answer.body);
        Ok(self.read(operation, parsed)?.seg_creds)
    }

    /// Whose a credential is that a caller showed us. Only for gateways that the signer trusts to
    /// name subjects.
    pub async fn verify(&self, token: &str) -> Result<VerifyAnswer, CallError> {
        let operation = Operation::Verify;
        let request = self
            .http
            .post(self.url("/v1/verify"))
            .headers(self.headers.clone())
            .json(&VerifyAnswer::question(token));
        let bounds = Bounds {
            head: VERIFY_TIME,
            whole: VERIFY_TIME,
            max_bytes: VerifyAnswer::MAX_BYTES as u64,
        };
        let call = Call { operation, origin: &self.origin };
        let answer = call.send(request, bounds, None).await?;
        self.read(operation, VerifyAnswer::parse(&answer.body))
    }

    /// Who pays for a brought job, and the signature that proves it: address and `0x` hex, as they go
    /// into the job request.
    pub async fn sign_byoc_job(
        &self,
        job: &ByocJobRequest,
        context: PaymentContext<'_>,
    ) -> Result<(String, String), CallError> {
        let operation = Operation::SignByocJob;
        let headers = self.context_headers(operation, context)?;
        let id = if job.id.trim().is_empty() { "job" } else { &job.id };
        let body = json!({
            "id": id, "capability": job.capability, "request": job.request,
            "parameters": job.parameters, "timeout_seconds": job.timeout_seconds,
        });
        let answer = self.post(operation, "/sign-byoc-job", &body, headers).await?;
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let text = |name: &str| said.get(name)?.as_str().map(str::to_owned);
        let signed = text("sender").zip(text("signature"));
        self.read(operation, signed.ok_or(WireError::Missing("signature")))
    }

    /// Orchestrators that have one of these capabilities (`pipeline/model`), or all.
    pub async fn discover_orchestrators(
        &self,
        caps: &[&str],
    ) -> Result<Vec<DiscoveryEntry>, CallError> {
        let operation = Operation::DiscoverOrchestrators;
        let mut url = self.url("/discover-orchestrators");
        for cap in caps {
            url.query_pairs_mut().append_pair("caps", cap);
        }
        let request = self.http.get(url).headers(self.headers.clone());
        let call = Call { operation, origin: &self.origin };
        let answer = call.send(request, self.bounds(limits::DISCOVERY_BYTES), None).await?;
        self.read(operation, parse_discovery(&answer.body))
    }

    /// What the signer's `/readyz` says is missing. `None` when it is ready, and when it tells
    /// nothing: the reference's signer has no such page, and one that cannot be reached is noticed
    /// by every other call.
    pub async fn not_ready(&self) -> Option<String> {
        let request = self.http.get(self.url("/readyz")).headers(self.headers.clone());
        let mut answer = request.timeout(READY_TIME).send().await.ok()?;
        if answer.status() != http::StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        let mut text = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            text.extend(chunk.iter().take(READY_BYTES.saturating_sub(text.len())));
            if text.len() >= READY_BYTES {
                break;
            }
        }
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    fn url(&self, path: &str) -> Url {
        let mut url = Url::clone(&self.base);
        url.set_path(path);
        url
    }

    fn bounds(&self, max_bytes: usize) -> Bounds {
        Bounds { head: self.timeout, whole: self.timeout, max_bytes: max_bytes as u64 }
    }

    async fn post(
        &self,
        operation: Operation,
        path: &str,
        body: &Value,
        headers: HeaderMap,
    ) -> Result<Answer, CallError> {
        let request = self
            .http
            .post(self.url(path))
            .headers(self.headers.clone())
            .headers(headers)
            .json(body);
        let call = Call { operation, origin: &self.origin };
        call.send(request, self.bounds(LivePaymentAnswer::MAX_BYTES), None).await
    }

    fn read<T>(&self, operation: Operation, read: Result<T, WireError>) -> Result<T, CallError> {
        let call = Call { operation, origin: &self.origin };
        read.map_err(|e| call.error(CallErrorKind::Answer(e)))
    }

    fn context_headers(
        &self,
        operation: Operation,
        context: PaymentContext<'_>,
    ) -> Result<HeaderMap, CallError> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("signer-auth-id", context.auth_id.map(AuthId::as_str)),
            ("idempotency-key", context.idempotency_key),
            ("traceparent", context.traceparent),
        ] {
            let Some(text) = value else { continue };
            let value = HeaderValue::from_str(text).map_err(|_| {
                let kind = CallErrorKind::Request(format!("{name} cannot be a header"));
                Call { operation, origin: &self.origin }.error(kind)
            })?;
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

fn fixed_headers(options: &SignerOptions) -> Result<HeaderMap, BuildError> {
    let setting = "signer headers";
    let mut headers = HeaderMap::new();
    for (name, value) in &options.headers {
        let bad =
            |e: &dyn std::fmt::Display| BuildError::Setting { setting, reason: e.to_string() };
        let name = HeaderName::try_from(name).map_err(|e| bad(&e))?;
        let mut value = HeaderValue::try_from(value).map_err(|e| bad(&e))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    if let Some(token) = &options.bearer_token {
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
            BuildError::Setting { setting: "signer token", reason: "cannot be a header".into() }
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_keep_their_origin_only() {
        let origin = |u: &str| SignerClient::new(&SignerOptions::new(u)).map(|c| c.origin().into());
        let of = |u: &str| -> String { origin(u).unwrap() };
        assert_eq!(of("http://127.0.0.1:7936/path?x=1"), "http://127.0.0.1:7936");
        assert_eq!(of("signer.example"), "https://signer.example:443");
        assert!(origin("unix:///x").is_err());
        assert!(origin("").is_err());
    }
}
