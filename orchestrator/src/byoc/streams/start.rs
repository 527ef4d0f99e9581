//! The start of a stream (byoc.md section 8.1): who may have one, room, money, body, channels, worker.

use super::{Entry, channels::Channels, error::StreamError, life::Stream};
use crate::{
    byoc::{
        admission::Admitted,
        error::ByocError,
        meter::{Cut, Meter},
    },
    error::JobError,
    node::Node,
    release::{Kind, Reason},
    routes::body::Held,
    secrets,
};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use penstock_domain::Rational;
use penstock_wire::json::ByocStreamOptions;
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What became of a start.
pub enum Outcome {
    /// It has begun.
    Started(Started),
    /// The worker said no, in these words; what is left of the balance, whole wei, where that is known.
    Refused(StatusCode, Bytes, Option<String>),
}

/// A stream that has begun. Dropped before its answer was sent, it ends.
pub struct Started {
    /// Headers with URLs.
    pub urls: Vec<(&'static str, String)>,
    /// What is left of the balance, whole wei, where that is known.
    pub balance: Option<String>,
    unheard: DropGuard,
}

impl Started {
    /// The gateway hears of it.
    pub fn heard(self) -> (Vec<(&'static str, String)>, Option<String>) {
        drop(self.unheard.disarm());
        (self.urls, self.balance)
    }
}

impl Node {
    /// Begins a stream.
    pub async fn start_stream(
        self: &Arc<Self>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Outcome, JobError> {
        let job = self.check_byoc(headers).map_err(StreamError::Start)?;
        let id = job.id.clone();
        if id.is_empty() || HeaderValue::from_str(&id).is_err() {
            return Err(StreamError::Id.into());
        }
        if self.byoc_streams.exists(&id) {
            return Err(StreamError::Exists(id).into());
        }
        let options = ByocStreamOptions::parse(&job.parameters)
            .map_err(|_| StreamError::Start(ByocError::Credentials))?;
        let admitted = self.admit_byoc(job, headers, Kind::ByocStream).await;
        let Admitted { job, slot, hold } = admitted.map_err(StreamError::Start)?;
        let brought = Arc::clone(slot.capability());
        let price = hold.as_ref().map_or(Rational::ZERO, |hold| hold.price.clone());
        let mut meter = Meter::new(Arc::clone(self), slot, hold);
        let entry = Entry::new(
            job.sender,
            Arc::clone(&brought),
            price,
            meter.begun(),
            Arc::clone(meter.seconds()),
        );
        let entry = Arc::new(entry);
        let place = self.byoc_streams.enter(&id, Arc::clone(&entry));
        let place = place.inspect_err(|_| meter.because(Reason::RequestRefused))?;
        let time = self.byoc_time(&job);
        let (until, is_clients_time) = (Instant::now() + time, time < self.byoc_timeout);
        let read = self.bodies.read(body, self.limits.byoc_stream_body_bytes);
        let held = match meter.during(Some(until), read).await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => {
                meter.unread(&error).await;
                return Err(error);
            }
            Err(cut) => {
                meter.late_body(cut);
                return Err(cut_off(meter, cut).await);
            }
        };
        let name = secrets::random::<16>().map_err(|_| StreamError::Random)?;
        let channels = Channels::make(&self.live.trickle, hex::encode(name), &options)
            .inspect_err(|_| meter.because(Reason::Busy))
            .map_err(StreamError::Channels)?;
        let host = self.live.settings.trickle_host.as_deref();
        let told = for_worker(&held.data, &id, channels.for_worker(self.service_uri(), host))
            .inspect_err(|_| meter.because(Reason::RequestRefused))?;
        let told = Held { data: Value::Object(told).to_string().into(), share: held.share };
        let mut asking = self.ask_to_begin(&brought, &id, told);
        let answer = match meter.during(Some(until), &mut asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(%error, capability = brought.name, "a stream did not begin");
                meter.worker_failed(Reason::WorkerFailed);
                // One that took no connection has heard of nothing.
                if !error.is_connect() {
                    self.call_off_stream(brought, id, Reason::WorkerFailed, None);
                }
                return Err(StreamError::Worker.into());
            }
            Err(cut) => {
                self.call_off_stream(brought, id, cut.reason(), Some(asking));
                if cut == Cut::Time {
                    meter.timed_out(is_clients_time);
                }
                return Err(cut_off(meter, cut).await);
            }
        };
        let said = answer.status();
        let (status, words) = self.worker_said(&brought, answer, until).await;
        if said.is_success() && !status.is_success() {
            let (brought, id) = (Arc::clone(&brought), id.clone());
            self.call_off_stream(brought, id, Reason::WorkerFailed, None);
            meter.worker_failed(Reason::WorkerFailed);
        } else if entry.stopped.is_cancelled() && !said.is_success() {
            // It was told of the end while it began, and its no may be to that.
            meter.owe();
            meter.because(Reason::ClientStopped);
        } else {
            meter.answered(said);
        }
        let balance = meter.settle().await.whole();
        if status.as_u16() > 399 {
            // What it was charged for are these words.
            meter.delivered();
            return Ok(Outcome::Refused(status, words, balance));
        }
        // From now on it is paid while it lasts, and booked as far as its worker shows that it is there.
        entry.answered.note(Instant::now());
        let _ = entry.signs.set(channels.signs());
        let shown = Arc::clone(&entry);
        meter.owe_while_shown(move || shown.last_sign());
        tracing::info!(stream = id, capability = brought.name, "stream begins");
        let urls = channels.for_gateway(self.service_uri());
        let unheard = CancellationToken::new();
        let guard = unheard.clone().drop_guard();
        let stream = Stream { id, entry, channels, meter, place, unheard };
        self.jobs.spawn(stream.run(Arc::clone(self)));
        Ok(Outcome::Started(Started { urls, balance, unheard: guard }))
    }
}

async fn cut_off(mut meter: Meter, cut: Cut) -> JobError {
    meter.cut_off(cut).await;
    match cut {
        Cut::Funds => StreamError::Start(ByocError::UsedUp).into(),
        Cut::NoBooks => StreamError::Start(ByocError::NoBooks).into(),
        Cut::Time => StreamError::Worker.into(),
    }
}

/// The gateway's object, and in it where the channels are: what we say of that, nobody else does.
fn for_worker(
    body: &[u8],
    id: &str,
    urls: Map<String, Value>,
) -> Result<Map<String, Value>, StreamError> {
    let mut told: Map<String, Value> =
        serde_json::from_slice(body).map_err(|_| StreamError::Body)?;
    for key in ["control_url", "events_url", "subscribe_url", "publish_url", "data_url"] {
        told.remove(key);
    }
    told.insert("gateway_request_id".to_owned(), id.into());
    told.extend(urls);
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_gateway_says_nothing_of_channels() {
        let urls = || {
            let urls = json!({ "control_url": "https://o/c" });
            urls.as_object().unwrap().clone()
        };
        let said = br#"{"params":{"a":1},"data_url":"http://10.0.0.1","control_url":"x"}"#;
        let told = Value::Object(for_worker(said, "s", urls()).unwrap());
        let all = json!({ "params": { "a": 1 }, "control_url": "https://o/c", "gateway_request_id": "s" });
        assert_eq!(told, all);
        for bad in ["", "[]", "null", "{"] {
            assert!(for_worker(bad.as_bytes(), "s", urls()).is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn any_text_is_read_or_refused(noise in r#"[\{\}\[\]"a-z_:, 0-9\\é]{0,60}"#) {
            let _ = ByocStreamOptions::parse(&noise);
            let _ = penstock_wire::json::byoc_stream_id(&noise);
            let _ = for_worker(noise.as_bytes(), "s", Map::new());
        }
    }
}
