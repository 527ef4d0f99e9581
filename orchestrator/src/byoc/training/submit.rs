//! The begin of a training job: who may have one, room, money, body, worker.

use super::{
    Standing, Status, Training,
    error::TrainingError,
    kept::Hands,
    life::{Entry, Life, PATIENCE},
};
use crate::{
    byoc::{
        admission::Admitted,
        error::ByocError,
        members::Members,
        meter::{Cut, Meter},
        registry::Brought,
        worker,
    },
    clock,
    error::JobError,
    node::Node,
    release::{Kind, Reason},
    routes::body::Held,
    secrets,
};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use penstock_domain::Rational;
use penstock_ledger::orchestrator::Watch;
use penstock_wire::limits::URL_BYTES;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// Pauses after tries to tell a worker that a job is off.
const CALLING_OFF: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::ZERO];

/// What became of a request.
pub enum Outcome {
    /// The worker has the job.
    Begun(Begun),
    /// It said no, in these words; what is left of the balance, whole wei, where that is known.
    Refused(StatusCode, Bytes, Option<String>),
}

/// A job that has begun. Dropped before its answer was sent, it ends: nobody knows its id.
pub struct Begun {
    answer: Value,
    balance: Option<String>,
    unheard: DropGuard,
    heard: CancellationToken,
}

impl Begun {
    /// The client hears of it.
    pub fn heard(self) -> (Value, Option<String>) {
        drop(self.unheard.disarm());
        self.heard.cancel();
        (self.answer, self.balance)
    }
}

impl Node {
    /// Begins a training job.
    pub async fn begin_training(
        self: &Arc<Self>,
        capability: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Outcome, JobError> {
        let job = self.check_byoc(headers)?;
        if job.capability != capability {
            return Err(TrainingError::Capability.into());
        }
        let admitted = self.admit_byoc(job, headers, Kind::ByocTraining).await?;
        let Admitted { job, slot, hold } = admitted;
        let brought = Arc::clone(slot.capability());
        let price = hold.as_ref().map_or(Rational::ZERO, |hold| hold.price.clone());
        let id = hex::encode(secrets::random::<16>().map_err(|_| TrainingError::Random)?);
        let mut meter = Meter::named(Arc::clone(self), slot, hold, &id);
        let time = self.byoc_time(&job);
        let (until, is_clients_time) = (Instant::now() + time, time < self.byoc_timeout);
        let read = self.bodies.read(body, self.max_ai_body_bytes as u64);
        let held = match meter.during(Some(until), read).await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => {
                meter.unread(&error).await;
                return Err(error);
            }
            Err(cut) => {
                meter.late_body(cut);
                return Err(cut_off(&mut meter, cut).await.into());
            }
        };
        let Held { data, share } = held;
        let asked = match Asked::read(&data) {
            Ok(asked) => asked,
            Err(error) => {
                meter.owe();
                meter.because(Reason::RequestRefused);
                meter.settle().await;
                return Err(error.into());
            }
        };
        let told = asked.told(&id);
        let Asked { model, callback, .. } = asked;
        // It is passed on in the place of what came, and counts as that did until the worker has it.
        drop(data);
        let sent = worker::train(&self.byoc_http, &brought, told);
        let answer = match meter.during(Some(until), sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(%error, capability = brought.name, "training did not begin");
                if error.is_connect() && !error.is_timeout() {
                    self.byoc.withdraw(&brought);
                }
                meter.worker_failed(Reason::WorkerFailed);
                self.call_off(meter, brought, id, Reason::WorkerFailed);
                return Err(TrainingError::Worker.into());
            }
            Err(cut) => {
                let error = unanswered(&mut meter, cut, is_clients_time).await;
                self.call_off(meter, brought, id, cut.reason());
                return Err(error.into());
            }
        };
        drop(share);
        let status = answer.status();
        let said = self.worker_said(&brought, answer, until);
        let (told, words) = match meter.during(Some(until), said).await {
            Ok(said) => said,
            Err(cut) => {
                let error = unanswered(&mut meter, cut, is_clients_time).await;
                self.call_off(meter, brought, id, cut.reason());
                return Err(error.into());
            }
        };
        if status.is_success() && !told.is_success() {
            meter.worker_failed(Reason::WorkerFailed);
            self.call_off(meter, brought, id, Reason::WorkerFailed);
            return Err(TrainingError::Worker.into());
        }
        if told.as_u16() > 399 {
            meter.answered(status);
            let balance = meter.settle().await.whole();
            // What it was charged for are these words.
            meter.delivered();
            return Ok(Outcome::Refused(told, words, balance));
        }
        // From now on its time is set aside, and booked when something has come of it.
        let balance = meter.settle().await.whole();
        let now_ms = clock::now_ms();
        let hands = self
            .cashier
            .as_ref()
            .map(|cashier| Hands { ledger: Arc::clone(&cashier.ledger), attempt: Uuid::new_v4() });
        let training = Arc::new(Training {
            id,
            sender: job.sender,
            brought,
            model,
            callback,
            begun_ms: now_ms,
            begun: meter.begun(),
            price,
            seconds: Arc::clone(meter.seconds()),
            standing: Mutex::new(Standing::begun(now_ms)),
            ended: Mutex::default(),
            hands,
        });
        if let Err(error) = training.keep_begun().await {
            tracing::warn!(%error, job = training.shown(), "a training job that the ledger did not take is off");
            self.strike(meter, training);
            return Err(TrainingError::Ledger(error).into());
        }
        penstock_failpoint::hit("orchestrator.training_begun");
        self.trainings.add(&training);
        let answer = json!({
            "job_id": training.id,
            "status": Status::Submitted.as_str(),
            "status_url": format!("{}/process/job/{}", self.service_uri(), training.id),
        });
        tracing::info!(
            job = training.shown(),
            capability = training.brought.name,
            "training begins"
        );
        let (unheard, heard) = (CancellationToken::new(), CancellationToken::new());
        let guard = unheard.clone().drop_guard();
        let begun = Begun { answer, balance, unheard: guard, heard: heard.clone() };
        let life = Life { training, meter, unheard, heard, entry: Entry::Begin };
        self.jobs.spawn(life.run(Arc::clone(self)));
        Ok(Outcome::Begun(begun))
    }

    /// The ledger may have taken it all the same: then it has to hear that there is no such job, or the next process
    /// would look for it.
    fn strike(self: &Arc<Self>, mut meter: Meter, training: Arc<Training>) {
        let why = Reason::LedgerUnavailable;
        meter.because(why);
        self.call_off(meter, Arc::clone(&training.brought), training.id.clone(), why);
        let node = Arc::clone(self);
        self.jobs.spawn(async move {
            let off = Standing { status: Status::Cancelled, ..training.standing_now() };
            training.keep_surely(&node, &off, None, Watch::Ended).await;
        });
    }

    /// The worker was asked and did not say no: it may have begun what nobody pays for. It is told to end it, and
    /// its room is taken until it has heard of that.
    fn call_off(self: &Arc<Self>, meter: Meter, brought: Arc<Brought>, id: String, why: Reason) {
        let node = Arc::clone(self);
        self.jobs.spawn(async move {
            let _room = meter;
            for pause in CALLING_OFF {
                let told = worker::cancel(&node.byoc_http, &brought, &id, why);
                if matches!(timeout(PATIENCE, told).await, Ok(Ok(_))) {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
            tracing::warn!(capability = brought.name, "a worker was not told that a job is off");
        });
    }
}

/// The worker was waited for.
async fn unanswered(meter: &mut Meter, cut: Cut, is_clients_time: bool) -> TrainingError {
    if cut == Cut::Time {
        meter.timed_out(is_clients_time);
    }
    cut_off(meter, cut).await
}

async fn cut_off(meter: &mut Meter, cut: Cut) -> TrainingError {
    meter.cut_off(cut).await;
    match cut {
        Cut::Funds => TrainingError::Money(ByocError::UsedUp),
        Cut::NoBooks => TrainingError::Money(ByocError::NoBooks),
        Cut::Time => TrainingError::Worker,
    }
}

/// What a client asks for.
struct Asked<'a> {
    model: String,
    /// The text of a JSON object. It is passed on as it came: read, it would take many times its memory.
    params: &'a [u8],
    callback: Option<String>,
}

impl<'a> Asked<'a> {
    fn read(body: &'a [u8]) -> Result<Self, TrainingError> {
        let (mut model, mut callback, mut params) = (None, None, &b"{}"[..]);
        let members = Members::of(body).ok_or(TrainingError::Body("no JSON object"))?;
        let text = |value: &[u8]| match serde_json::from_slice::<Option<String>>(value) {
            Ok(text) if text.as_ref().is_none_or(|text| text.len() <= URL_BYTES) => Ok(text),
            _ => Err(TrainingError::Body("not a text")),
        };
        for (name, value) in members {
            match &*name {
                "model_id" => model = text(value)?,
                "callback_url" => callback = text(value)?,
                "params" if value.starts_with(b"{") => params = value,
                "params" if value == b"null" => params = b"{}",
                "params" => return Err(TrainingError::Body("params is no object")),
                _ => {}
            }
        }
        let model = model.filter(|model: &String| !model.is_empty());
        let model = model.ok_or(TrainingError::Body("no model_id"))?;
        Ok(Self { model, params, callback })
    }

    /// What the worker is told.
    fn told(&self, id: &str) -> Bytes {
        let mut told = Vec::with_capacity(self.params.len() + self.model.len() + 128);
        let head =
            format!(r#"{{"job_id":{},"model_id":{},"params":"#, json!(id), json!(self.model));
        told.extend_from_slice(head.as_bytes());
        told.extend_from_slice(self.params);
        told.push(b'}');
        told.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_clients_ask_for() {
        let asked = Asked::read(br#"{"model_id":"m","params":{"steps":3},"callback_url":"u"}"#);
        let asked = asked.ok().unwrap();
        assert_eq!((asked.model.as_str(), asked.callback.as_deref()), ("m", Some("u")));
        assert_eq!(asked.params, br#"{"steps":3}"#);
        assert_eq!(asked.told("i"), r#"{"job_id":"i","model_id":"m","params":{"steps":3}}"#);
        let asked = Asked::read(br#" { "model_id" : "a\"b" , "params" : null } "#).ok().unwrap();
        assert_eq!(asked.told("i"), r#"{"job_id":"i","model_id":"a\"b","params":{}}"#);
        for bad in
            ["", "[]", "{}", r#"{"model_id":""}"#, r#"{"model_id":"m","params":[]}"#, "{\"a\":1"]
        {
            assert!(Asked::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn any_body_is_read_or_refused(noise in r#"[\{\}\[\]"a-z_:, 0-9\\é]{0,60}"#) {
            let _ = Asked::read(noise.as_bytes());
            let _ = Asked::read(format!(r#"{{"model_id":"m","params":{noise}}}"#).as_bytes());
        }
    }
}
