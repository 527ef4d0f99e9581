//! A job on its way: to the worker, back, and what it cost (byoc.md section 5.2).

use super::{
    admission::Admitted,
    error::ByocError,
    events,
    meter::{Cut, Left, Meter},
    worker,
};
use crate::{
    error::JobError,
    node::Node,
    release::{Kind, Reason},
    routes::body::Held,
};
use axum::body::Body;
use http::{HeaderMap, HeaderValue, StatusCode, header};
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
    /// What the worker is sent, still to be read.
    pub body: Body,
}

/// What the client is answered.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// The worker's type, or none for words of ours.
    pub content_type: Option<HeaderValue>,
    /// The worker's own header.
    pub metadata: Option<HeaderValue>,
    /// What is left of the balance, whole wei, where that is known.
    pub balance: Option<String>,
    /// Text, an answer, or events as they come.
    pub body: Body,
    /// How long that is, if it is known.
    pub length: Option<usize>,
    /// Whether these are events.
    pub is_events: bool,
    /// Why the job ended, if not with its worker's words.
    pub reason: Option<Reason>,
}

impl Node {
    /// How long a job may take.
    pub(super) fn byoc_time(&self, job: &SignedByocJob) -> Duration {
        Duration::from_secs(job.timeout_seconds.into()).min(self.byoc_timeout)
    }

    /// Has a job done. Its room is taken and its first minute set aside before its body is read, and
    /// from then on it pays.
    pub async fn byoc_job(self: &Arc<Self>, incoming: Incoming) -> Result<Answer, JobError> {
        let Incoming { job, headers, rest, body } = incoming;
        let admitted = self.admit_byoc(job, &headers, Kind::ByocJob).await?;
        let Admitted { job, mut slot, hold } = admitted;
        let brought = Arc::clone(slot.capability());
        let url = worker::target(&brought.url, &rest);
        let url = url.inspect_err(|error| slot.because(error.reason()))?;
        let kind = headers.get(header::CONTENT_TYPE).cloned();
        let mut meter = Meter::new(Arc::clone(self), slot, hold);
        let time = self.byoc_time(&job);
        let body = self.bodies.read(body, self.max_ai_body_bytes as u64);
        let held = match meter.during(Some(Instant::now() + time), body).await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => {
                meter.unread(&error).await;
                return Err(error);
            }
            Err(cut) => {
                meter.late_body(cut);
                return Ok(cut_off(meter, cut).await);
            }
        };
        let until = Instant::now() + time;
        let is_clients_time = time < self.byoc_timeout;
        let sent = worker::send(&self.byoc_http, &brought, url, kind, held.data.clone());
        let answer = match meter.during(Some(until), sent).await {
            Ok(Ok(answer)) => answer,
            // The connection has our time as well, and may be the first to say that it is over.
            Ok(Err(error)) if error.is_timeout() && !error.is_connect() => {
                return Ok(unanswered(meter, Cut::Time, is_clients_time).await);
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, capability = brought.name, "a brought worker failed");
                // One that breaks off, or is slow to take a connection, is there.
                if error.is_connect() && !error.is_timeout() {
                    self.byoc.withdraw(&brought);
                }
                return Ok(failed(meter, "connection to the worker failed").await);
            }
            Err(cut) => return Ok(unanswered(meter, cut, is_clients_time).await),
        };
        drop(held);
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.byoc.withdraw(&brought);
            return Ok(failed(meter, "worker auth token failed").await);
        }
        if worker::is_events(&answer) && answer.status().is_success() {
            return Ok(events::answer(meter, answer, (until, is_clients_time)).await);
        }
        self.whole(meter, answer, (until, is_clients_time)).await
    }

    async fn whole(
        &self,
        mut meter: Meter,
        answer: reqwest::Response,
        (until, is_clients_time): (Instant, bool),
    ) -> Result<Answer, JobError> {
        let status = answer.status();
        let head = answer.headers().clone();
        let body = Body::from_stream(answer.bytes_stream());
        // Silent for as long as the job may take.
        let read = self.bodies.read_slowly(body, self.max_ai_body_bytes as u64, self.byoc_timeout);
        let held = match meter.during(Some(until), read).await {
            Ok(Ok(held)) => held,
            Ok(Err(JobError::Busy)) => {
                // Our own bound: nothing is owed.
                meter.because(Reason::Busy);
                return Err(JobError::Busy);
            }
            Ok(Err(_)) => return Ok(failed(meter, "the worker's answer broke off").await),
            Err(cut) => return Ok(unanswered(meter, cut, is_clients_time).await),
        };
        meter.answered(status);
        if !worker::is_answer(status) {
            let balance = meter.settle().await;
            let text = format!("{}\n", String::from_utf8_lossy(&held.data));
            return Ok(words(status, &balance, text, Some(Reason::WorkerRefused)));
        }
        let (balance, due) = match meter.paid().await {
            Ok(paid) => paid,
            Err(left) => return Ok(unbooked(&left)),
        };
        let mut answer = if status.as_u16() > 399 {
            let text = format!("{}\n", String::from_utf8_lossy(&held.data));
            words(status, &balance, text, None)
        } else {
            given(head, &balance, held)
        };
        answer.body = due.with(answer.body);
        Ok(answer)
    }
}

/// Done, and not in the books: it is not handed out.
fn unbooked(left: &Left) -> Answer {
    let (text, why) = (format!("{}\n", ByocError::NoBooks), Some(Reason::LedgerUnavailable));
    words(StatusCode::SERVICE_UNAVAILABLE, left, text, why)
}

fn given(head: HeaderMap, balance: &Left, held: Held) -> Answer {
    Answer {
        status: StatusCode::OK,
        content_type: head.get(header::CONTENT_TYPE).cloned(),
        metadata: head.get(METADATA).cloned(),
        balance: balance.whole(),
        length: Some(held.data.len()),
        body: held.into_body(),
        is_events: false,
        reason: None,
    }
}

/// Of no use: its time or its money is over, or the books are away.
async fn cut_off(mut meter: Meter, cut: Cut) -> Answer {
    let why = cut.reason();
    if cut == Cut::Time {
        return ended(meter, why, "context deadline exceeded").await;
    }
    let balance = meter.cut_off(cut).await;
    let (status, error) = match cut {
        Cut::Funds => (StatusCode::BAD_REQUEST, ByocError::UsedUp),
        _ => (StatusCode::SERVICE_UNAVAILABLE, ByocError::NoBooks),
    };
    words(status, &balance, format!("{error}\n"), Some(why))
}

/// The same where the worker was waited for.
async fn unanswered(mut meter: Meter, cut: Cut, is_clients_time: bool) -> Answer {
    if cut == Cut::Time {
        meter.timed_out(is_clients_time);
    }
    cut_off(meter, cut).await
}

/// Not charged: its worker has failed.
async fn failed(mut meter: Meter, words: &str) -> Answer {
    meter.worker_failed(Reason::WorkerFailed);
    ended(meter, Reason::WorkerFailed, words).await
}

/// The text is the reference's, whether the capability was removed or not; it names no address.
async fn ended(mut meter: Meter, why: Reason, said: &str) -> Answer {
    meter.because(why);
    let balance = meter.settle().await;
    let text = format!("job not able to be processed, removing capability err={said}\n");
    words(StatusCode::INTERNAL_SERVER_ERROR, &balance, text, Some(why))
}

fn words(status: StatusCode, balance: &Left, text: String, reason: Option<Reason>) -> Answer {
    Answer {
        status,
        content_type: Some(HeaderValue::from_static("text/plain; charset=utf-8")),
        metadata: None,
        balance: balance.whole(),
        length: Some(text.len()),
        body: text.into(),
        is_events: false,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_a_balance_that_is_not_known() {
        assert_eq!(unbooked(&Left::default()).balance, None);
        let known = unbooked(&Left::of("7/2".parse().unwrap()));
        assert_eq!((known.balance.as_deref(), known.status.as_u16()), (Some("4"), 503));
    }
}
