//! `Idempotency-Key`: the same request under the same key has one answer, at whichever replica it
//! arrives, and is done once (IETF draft; architecture.md rule 3).
//!
//! A record in the store says whose key it is, what was asked (a digest) and how far it is: under way,
//! held by a replica that renews its hold; or done, with the answer. A replica that dies stops renewing, is
//! not seen at the store any more, and the next repetition takes over. Keys are a caller's own.
//!
//! Segments need none of this: their stream, number and content are their key. Of answers that are
//! streamed module `streamed` keeps what was written.

use super::{
    access,
    caller::Caller,
    hold::{HOLD_MS, Hold, Kept, Record, Stage, WORKING_TTL_MS, claim_on, read, working, write},
    streamed::{self, ProperEnd, is_streamed},
    takeover::Watch,
    timing,
    workload::Workload,
};
use crate::{
    clock,
    error::GatewayError,
    routes::{Shared, body},
    service::{
        error::JobError,
        fence::{self, Fence, Moment},
        held::Held,
    },
};
use axum::{
    body::{Body, BodyDataStream},
    extract::Request,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request};
use penstock_domain::SegmentFormat;
use penstock_http_kit::layers::Next;
use penstock_store::{Cas, DocKey, DocStore, SegmentKey, StoredSegment, Version, Versioned};
use penstock_wire::json::JOB_HEADER;
use sha2::{Digest, Sha256};
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;
use tracing::Instrument;

/// How long a repetition waits for the first one's answer: longer than a dead replica's hold.
const WAIT: Duration = Duration::from_millis(HOLD_MS + 5_000);
const LOOK: Duration = Duration::from_millis(100);
/// Answers up to here are kept in the record, larger ones in the segment store.
const IN_RECORD: usize = 256 * 1024;
/// How long one may take to get there: with the time that its record may take, and since the last
/// renewal, shorter than a hold lasts.
const ASIDE: Duration = Duration::from_millis(1_500);
/// Larger ones are not kept.
const MAX_ANSWER: usize = 64 << 20;

/// Marks an answer that was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A key that cannot be used so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Another request had it.
    #[error("this Idempotency-Key was used for another request")]
    Reused,
    /// The first one is still at work.
    #[error("the first request with this Idempotency-Key is still under way")]
    UnderWay,
    /// It is done, and its answer is not there any more, or was too large to be kept.
    #[error("the request with this Idempotency-Key was done, but its answer is not kept")]
    AnswerGone,
}

/// Whether the layer is for this request.
fn applies(method: &Method, path: &str) -> bool {
    *method == Method::POST && access::costs(method, path) && !path.starts_with("/live/")
}

/// The layer, inside the front door.
pub async fn layer(gateway: Shared, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    let Some((caller, key)) = caller.and_then(|c| c.idempotency_key.clone().map(|k| (c, k))) else {
        return next.run(request).await;
    };
    if !applies(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    // In a task of its own: the answer is kept although the client may be gone.
    let jobs = gateway.jobs.clone();
    let work = async move { Once { gateway, caller, key }.answer(request, next).await };
    let work = timing::scope(timing::current(), work).in_current_span();
    match jobs.spawn(work).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => error.into_response(),
        Err(_) => GatewayError::Lost.into_response(),
    }
}

/// One request under a key.
struct Once {
    gateway: Shared,
    caller: Caller,
    key: String,
}

/// What the record says to do.
enum Claim {
    Ours(Hold),
    Answered(Response),
}

impl Once {
    async fn answer(self, request: Request, next: Next) -> Result<Response, GatewayError> {
        let (head, body) = request.into_parts();
        // Before the body: one caller's slow ones would take the memory from the others.
        let asking = self.gateway.workloads.ask(Workload::Ai, &self.caller)?;
        let memory = self.gateway.workloads.memory(Workload::Ai);
        let most = self.gateway.settings.args.max_body_bytes;
        let held = body::read_into(&memory, body::said_length(&head.headers), body, most).await?;
        let digest = digest(&head, &held.data).await?;
        let mut hold = match self.claim(digest).await? {
            Claim::Answered(response) => return Ok(response),
            Claim::Ours(hold) => hold,
        };
        let request = Request::from_parts(head, Body::from(held.data.clone()));
        // From here on it is a job, which has a place.
        drop(asking);
        let response = tokio::select! {
            response = fence::scope(Some(hold.fence.clone()), next.run(request)) => response,
            never = hold.keep_renewing(self.store(), || self.gateway.store.seen_as()) => {
                match never {}
            }
        };
        drop(held);
        self.keep(hold, response).await
    }

    fn record_key(&self) -> DocKey {
        let mut hash = Sha256::new();
        // Neither part has a zero byte.
        hash.update(self.caller.auth_id.as_str());
        hash.update([0]);
        hash.update(&self.key);
        DocKey::new("idem", hex::encode(hash.finalize()))
    }

    fn store(&self) -> &dyn DocStore {
        self.gateway.store.as_ref()
    }

    async fn claim(&self, digest: String) -> Result<Claim, GatewayError> {
        let (key, holder) = (&self.record_key(), self.gateway.owner().0);
        let deadline = Instant::now() + WAIT;
        let mut watch = None;
        // Most keys are new: that is tried before it is asked.
        let mut is_new = true;
        loop {
            let now = clock::now();
            let found = match std::mem::take(&mut is_new) {
                true => None,
                false => self.store().doc(key, now).await.map_err(JobError::from)?,
            };
            let mut expected = None;
            if let Some(Versioned { version, value }) = found {
                let (record, bytes) = read(&value)?;
                if record.digest != digest {
                    return Err(KeyError::Reused.into());
                }
                match record.stage {
                    Stage::Done { status, headers, body } => {
                        let answer = self.replay(status, headers, &body, bytes).await?;
                        return Ok(Claim::Answered(answer));
                    }
                    Stage::Working { until, seen_as, .. } => {
                        let over = until <= now
                            || self.has_ended(&mut watch, version, seen_as.as_deref()).await?;
                        if !over {
                            if Instant::now() >= deadline {
                                return Err(KeyError::UnderWay.into());
                            }
                            tokio::time::sleep(LOOK).await;
                            continue;
                        }
                        // Whoever held it is gone.
                        expected = Some(version);
                    }
                }
            }
            let fence = Fence::new(Moment::now());
            let text = working(&digest, &holder, self.gateway.store.seen_as(), now)?;
            let by = &self.gateway.give_backs;
            let claim = claim_on(self.gateway.store.clone(), key, &holder, by);
            let put = self.store().put_doc(key, expected, text, WORKING_TTL_MS, now).await;
            match put.map_err(JobError::from)? {
                Cas::Stored(version) => {
                    let record = Held { key: key.clone(), version };
                    return Ok(Claim::Ours(Hold { record, digest, holder, fence, claim }));
                }
                Cas::Conflict(_) => claim.is_over(),
            }
        }
    }

    /// Whether the replica that holds the record has ended, as far as this one who waits has seen.
    async fn has_ended(
        &self,
        watch: &mut Option<Watch>,
        version: Version,
        seen_as: Option<&str>,
    ) -> Result<bool, GatewayError> {
        let watch = watch.get_or_insert_with(|| Watch::new(version, Instant::now()));
        let is_due = watch.is_due(version, Instant::now());
        let Some(name) = seen_as.filter(|_| is_due) else { return Ok(false) };
        let sight = self.gateway.store.sight(name).await.map_err(JobError::from)?;
        let ended = watch.has_ended(sight, Instant::now());
        if ended {
            metrics::counter!("penstock_gateway_keys_taken_over_total").increment(1);
            tracing::info!(replica = name, "the replica that had a request has ended");
        }
        Ok(ended)
    }

    async fn replay(
        &self,
        status: u16,
        headers: Vec<(String, String)>,
        body: &Kept,
        here: Bytes,
    ) -> Result<Response, GatewayError> {
        let bytes = match body {
            Kept::Here => here,
            Kept::Nowhere => return Err(KeyError::AnswerGone.into()),
            Kept::There(at) => {
                let found = self.gateway.segments.get(at, clock::now()).await;
                found.map_err(JobError::from)?.ok_or(KeyError::AnswerGone)?.data
            }
        };
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() =
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in headers {
            let name = HeaderName::try_from(name);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                response.headers_mut().append(name, value);
            }
        }
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        metrics::counter!("penstock_gateway_idempotent_replays_total").increment(1);
        Ok(response)
    }

    /// Keeps an answer that is final; gives the key back for any other.
    async fn keep(self, hold: Hold, response: Response) -> Result<Response, GatewayError> {
        // Who is told to come again is not answered for good.
        let is_later = response.headers().contains_key(header::RETRY_AFTER);
        if !is_final(response.status()) || is_later {
            hold.claim.give_back().await;
            return Ok(response);
        }
        if is_streamed(&response) {
            return Ok(self.keep_as_it_comes(hold, response));
        }
        let (head, body) = response.into_parts();
        let (bytes, rest) = collect(body).await;
        let whole = rest.is_none().then_some(&bytes);
        self.put_done(hold, head.status, &head.headers, whole).await?;
        let body = match rest {
            None => Body::from(bytes),
            Some(rest) => {
                let first = futures::stream::iter([Ok(bytes)]);
                Body::from_stream(first.chain(rest))
            }
        };
        Ok(Response::from_parts(head, body))
    }

    /// A streamed answer goes on in a task of its own.
    fn keep_as_it_comes(self, mut hold: Hold, response: Response) -> Response {
        let (head, body) = response.into_parts();
        let end = head.extensions.get::<ProperEnd>().cloned().unwrap_or_default();
        let (status, headers) = (head.status, head.headers.clone());
        let (mut client, theirs) = streamed::client();
        let jobs = self.gateway.jobs.clone();
        let work = async move {
            let came = tokio::select! {
                came = streamed::hand_on(body.into_data_stream(), &mut client) => came,
                never = hold.keep_renewing(self.store(), || self.gateway.store.seen_as()) => {
                    match never {}
                }
            };
            match came.filter(|_| end.is_reached()) {
                // Broken off: a repetition begins anew.
                None => hold.claim.give_back().await,
                Some(whole) => {
                    let kept = self.put_done(hold, status, &headers, whole.as_ref()).await;
                    if let Err(error) = kept {
                        tracing::warn!(%error, "a streamed answer was not kept");
                    }
                }
            }
            // Only now its client is told that it is over: a repetition finds it.
            drop(client);
        };
        jobs.spawn(work.in_current_span());
        Response::from_parts(head, theirs)
    }

    /// Puts the answer in the hold's place. `None`: its body is too large to be kept.
    async fn put_done(
        &self,
        hold: Hold,
        status: StatusCode,
        headers: &HeaderMap,
        whole: Option<&Bytes>,
    ) -> Result<(), GatewayError> {
        let headers = headers.iter().filter(|(name, _)| is_kept(name));
        let headers = headers
            .filter_map(|(n, v)| Some((n.as_str().to_owned(), v.to_str().ok()?.to_owned())))
            .collect();
        let body = match whole {
            None => Kept::Nowhere,
            Some(small) if small.len() <= IN_RECORD => Kept::Here,
            Some(large) => self.put_aside(&hold.record.key, large).await,
        };
        let here = whole.filter(|_| body == Kept::Here).map_or(&[][..], |bytes| bytes);
        let stage = Stage::Done { status: status.as_u16(), headers, body };
        let text = write(&Record { digest: hold.digest.clone(), stage }, here)?;
        let ttl_ms = self.gateway.settings.front.idempotency_ttl_ms;
        hold.put_done(self.store(), &text, ttl_ms).await;
        Ok(())
    }

    async fn put_aside(&self, key: &DocKey, bytes: &Bytes) -> Kept {
        let at = SegmentKey(format!("idem/{}", key.id));
        // The port is for media; it looks at the format as little as at the bytes.
        let stored = StoredSegment { data: bytes.clone(), format: SegmentFormat::Mp4 };
        let ttl = self.gateway.settings.front.idempotency_ttl_ms;
        let put = self.gateway.segments.put(&at, stored, ttl, clock::now());
        match tokio::time::timeout(ASIDE, put).await {
            Ok(Ok(())) => Kept::There(at),
            Ok(Err(error)) => {
                tracing::warn!(%error, "an answer was not kept");
                Kept::Nowhere
            }
            Err(_) => {
                tracing::warn!("an answer was not kept: the segment store takes too long");
                Kept::Nowhere
            }
        }
    }
}

/// Whether the same request would be answered so again: it was done, or can never be.
fn is_final(status: StatusCode) -> bool {
    status.is_success() || matches!(status.as_u16(), 400 | 404 | 413 | 415 | 422)
}

/// Headers of the answer itself, rather than of one way that it was given.
fn is_kept(name: &HeaderName) -> bool {
    let way = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::DATE,
        timing::SERVER_TIMING,
    ];
    !way.contains(name) && !name.as_str().starts_with("ratelimit-")
}

/// The whole body, or as much as may be kept and the rest of it.
async fn collect(body: Body) -> (Bytes, Option<BodyDataStream>) {
    let mut chunks = body.into_data_stream();
    let mut all = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        // A body that breaks is not kept; what comes of it is passed on, and ends.
        let Ok(chunk) = chunk else { return (all.freeze(), Some(chunks)) };
        all.extend_from_slice(&chunk);
        if all.len() > MAX_ANSWER {
            return (all.freeze(), Some(chunks));
        }
    }
    (all.freeze(), None)
}

/// What a request asks: method, path, query, job request and content. Of a form its parts count, not how they are
/// put together: clients choose a new boundary for each try.
async fn digest(head: &request::Parts, body: &Bytes) -> Result<String, GatewayError> {
    let mut hash = Sha256::new();
    let mut part = |text: &[u8]| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    part(head.method.as_str().as_bytes());
    part(head.uri.path().as_bytes());
    part(head.uri.query().unwrap_or_default().as_bytes());
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let kind = kind.unwrap_or_default();
    // Of a brought capability's job the body is only half of what is asked.
    part(head.headers.get(JOB_HEADER).map(HeaderValue::as_bytes).unwrap_or_default());
    let essence = kind.split(';').next().unwrap_or_default().trim();
    part(essence.to_ascii_lowercase().as_bytes());
    match multer::parse_boundary(kind) {
        Err(_) => part(body),
        Ok(boundary) => {
            let chunks = futures::stream::iter([Ok::<_, std::convert::Infallible>(body.clone())]);
            let mut form = multer::Multipart::new(chunks, boundary);
            let bad = |e: multer::Error| GatewayError::Form(e.to_string());
            while let Some(field) = form.next_field().await.map_err(bad)? {
                part(field.name().unwrap_or_default().as_bytes());
                part(field.file_name().unwrap_or_default().as_bytes());
                part(&field.bytes().await.map_err(bad)?);
            }
        }
    }
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(path: &str, kind: &str) -> request::Parts {
        let request = http::Request::post(path).header("content-type", kind).body(()).unwrap();
        request.into_parts().0
    }

    async fn of(path: &str, kind: &str, body: &str) -> String {
        digest(&head(path, kind), &Bytes::from(body.to_owned())).await.unwrap()
    }

    #[tokio::test]
    async fn the_digest_is_of_what_is_asked() {
        let form = |boundary: &str, text: &str| {
            let part = format!(
                "--{boundary}\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n{text}\r\n"
            );
            let kind = format!("multipart/form-data; boundary={boundary}");
            (kind, format!("{part}--{boundary}--\r\n"))
        };
        let ((k1, b1), (k2, b2), (k3, b3)) = (form("x", "1"), form("yy", "1"), form("x", "2"));
        let one = of("/a", &k1, &b1).await;
        assert_eq!(one, of("/a", &k2, &b2).await, "another boundary");
        assert_ne!(one, of("/a", &k3, &b3).await, "another value");
        assert_ne!(one, of("/b", &k1, &b1).await, "another route");
        let json = of("/a", "application/json", "{}").await;
        assert_eq!(json, of("/a", "Application/JSON; charset=utf-8", "{}").await);
        assert_ne!(json, of("/a?x=1", "application/json", "{}").await);
        assert_ne!(json, of("/a", "application/json", "{ }").await);
        let mut other = head("/a", "application/json");
        other.headers.insert("livepeer", HeaderValue::from_static("e30="));
        assert_ne!(json, digest(&other, &Bytes::from_static(b"{}")).await.unwrap());
        let broken = digest(&head("/a", &k1), &Bytes::from_static(b"--x")).await;
        assert!(matches!(broken, Err(GatewayError::Form(_))));
    }

    #[test]
    fn what_is_kept() {
        for (status, kept) in
            [(200, true), (201, true), (400, true), (422, true), (401, false), (429, false)]
        {
            assert_eq!(is_final(StatusCode::from_u16(status).unwrap()), kept, "{status}");
        }
        assert!(!is_final(StatusCode::SERVICE_UNAVAILABLE));
        assert!(applies(&Method::POST, "/llm") && !applies(&Method::GET, "/llm"));
        assert!(!applies(&Method::POST, "/live/a/0.ts"), "a segment is its own key");
        assert!(is_kept(&header::CONTENT_TYPE) && !is_kept(&header::DATE));
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_is_passed_on_whole() {
        let chunk = Bytes::from(vec![7; MAX_ANSWER / 2 + 1]);
        let chunks = [chunk.clone(), chunk.clone(), chunk].map(Ok::<_, std::io::Error>);
        let (first, rest) = collect(Body::from_stream(futures::stream::iter(chunks))).await;
        let rest: usize =
            rest.unwrap().map(|c| c.unwrap().len()).collect::<Vec<_>>().await.iter().sum();
        assert_eq!(first.len() + rest, 3 * (MAX_ANSWER / 2 + 1));
    }
}
