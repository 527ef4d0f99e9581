//! A job on its way: to the worker, back, and what it cost (byoc.md section 5.2).

use super::{admission::Admitted, error::ByocError, events, registry::Slot, worker};
use crate::{node::Node, service::holds::Hold};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use penstock_domain::Rational;
use penstock_wire::json::SignedByocJob;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Header that workers may set for clients.
const METADATA: &str = "x-metadata";

/// A request for a job.
pub struct Incoming {
    /// What its header says, checked.
    pub job: SignedByocJob,
    /// Its headers.
    pub headers: HeaderMap,
    /// Path below the worker's, as it came.
    pub rest: String,
    /// What the worker is sent.
    pub body: Bytes,
}

/// What the client is answered.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// The worker's type, or none for words of ours.
    pub content_type: Option<HeaderValue>,
    /// The worker's own header.
    pub metadata: Option<HeaderValue>,
    /// What is left of the balance, whole wei.
    pub balance: String,
    /// Text, an answer, or events as they come.
    pub body: Body,
    /// Whether these are events.
    pub is_events: bool,
}

/// What has to be booked for a job, as time passes.
pub struct Meter {
    /// Its room, held to the end.
    _slot: Slot,
    node: Arc<Node>,
    hold: Option<Hold>,
    id: String,
    begun: Instant,
    booked_seconds: u64,
}

impl Meter {
    fn new(node: Arc<Node>, slot: Slot, hold: Option<Hold>) -> Self {
        let id = format!("byoc/{}", uuid::Uuid::new_v4().simple());
        Self { node, _slot: slot, hold, id, begun: Instant::now(), booked_seconds: 0 }
    }

    /// Books the seconds begun since the last time; what is left, whole wei. Failures of the books are
    /// told to the operator: the work is done.
    pub async fn book(&mut self) -> Rational {
        let (Some(cashier), Some(hold)) = (&self.node.cashier, &self.hold) else {
            return Rational::ZERO;
        };
        let passed = begun_seconds(self.begun.elapsed()).saturating_sub(self.booked_seconds);
        if passed > 0 {
            let id = format!("{}/{}", self.id, self.booked_seconds);
            match cashier.debit(hold, id, passed).await {
                Ok(()) => self.booked_seconds += passed,
                Err(error) => tracing::error!(%error, job = self.id, "a job was not charged"),
            }
        }
        cashier.balance(&hold.account).await.unwrap_or(Rational::ZERO)
    }
}

/// Seconds that have begun; at least one.
fn begun_seconds(elapsed: Duration) -> u64 {
    let whole = elapsed.as_secs();
    if elapsed.subsec_nanos() > 0 { whole + 1 } else { whole.max(1) }
}

impl Node {
    /// Has a job done.
    pub async fn byoc_job(self: &Arc<Self>, incoming: Incoming) -> Result<Answer, ByocError> {
        let Incoming { job, headers, rest, body } = incoming;
        let Admitted { job, slot, hold } = self.admit_byoc(job, &headers).await?;
        let brought = Arc::clone(slot.capability());
        let url = worker::target(&brought.url, &rest)?;
        let kind = headers.get(header::CONTENT_TYPE).cloned();
        let meter = Meter::new(Arc::clone(self), slot, hold);
        let time = Duration::from_secs(job.timeout_seconds.into()).min(self.byoc_timeout);
        let sent = worker::send(&self.byoc_http, &brought, url, kind, body);
        let answer = match tokio::time::timeout(time, sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(%error, capability = brought.name, "a brought worker failed");
                // One that is slow, or breaks off, is there.
                if error.is_connect() && !error.is_timeout() {
                    self.byoc.withdraw(&brought);
                }
                return Ok(failed(meter, "connection to the worker failed").await);
            }
            Err(_) => return Ok(failed(meter, "context deadline exceeded").await),
        };
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.byoc.withdraw(&brought);
            return Ok(failed(meter, "worker auth token failed").await);
        }
        if worker::is_events(&answer) && answer.status().is_success() {
            return Ok(events::answer(meter, answer, time).await);
        }
        Ok(self.whole(meter, answer, time).await)
    }

    async fn whole(&self, mut meter: Meter, answer: reqwest::Response, time: Duration) -> Answer {
        let status = answer.status();
        let head = answer.headers().clone();
        let left = time.saturating_sub(meter.begun.elapsed());
        let read = tokio::time::timeout(left, self.read_byoc(answer)).await;
        let Ok(Some(body)) = read else {
            return failed(meter, "the worker's answer broke off").await;
        };
        let balance = meter.book().await.to_fixed(0);
        if status.as_u16() > 399 {
            let text = format!("{}\n", String::from_utf8_lossy(&body));
            return words(status, balance, text);
        }
        Answer {
            status: StatusCode::OK,
            content_type: head.get(header::CONTENT_TYPE).cloned(),
            metadata: head.get(METADATA).cloned(),
            balance,
            body: body.into(),
            is_events: false,
        }
    }

    async fn read_byoc(&self, mut answer: reqwest::Response) -> Option<Bytes> {
        let mut body = bytes::BytesMut::new();
        while let Some(chunk) = answer.chunk().await.ok()? {
            if body.len() + chunk.len() > self.max_ai_body_bytes {
                return None;
            }
            body.extend_from_slice(&chunk);
        }
        Some(body.freeze())
    }
}

/// Charged, and of no use. The text is the reference's, whether the capability was removed or not; the
/// reason names no address.
async fn failed(mut meter: Meter, reason: &str) -> Answer {
    let balance = meter.book().await.to_fixed(0);
    let text = format!("job not able to be processed, removing capability err={reason}\n");
    words(StatusCode::INTERNAL_SERVER_ERROR, balance, text)
}

fn words(status: StatusCode, balance: String, text: String) -> Answer {
    Answer {
        status,
        content_type: Some(HeaderValue::from_static("text/plain; charset=utf-8")),
        metadata: None,
        balance,
        body: text.into(),
        is_events: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begun_seconds_count() {
        let of = |ms| begun_seconds(Duration::from_millis(ms));
        assert_eq!([of(0), of(1), of(1000), of(1001), of(2500)], [1, 1, 1, 2, 3]);
    }
}
