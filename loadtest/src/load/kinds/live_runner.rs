//! Sessions of a live runner, as an SDK has them: reserve (and pay, if it is asked for), call the application
//! at a steady pace, stop.

use super::{
    super::{
        drive::Failure,
        scenario::LiveRunner,
        tally::{Tally, Turn},
        target::Role,
    },
    Context, answers, below,
};
use penstock_clients::{PaymentContext, SignerClient, Trust};
use penstock_wire::{
    header,
    json::{LivePaymentCall, PaymentChallenge},
};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// From the operation's begin until the session is there, payment included.
const SESSION: &str = "session";
/// Of that, the signer's part.
const PAYMENT: &str = "payment";
/// From a call's planned start to its whole answer.
const CALL: &str = "call";
/// From the request to stop to its answer.
const STOP: &str = "stop";
/// Read of a challenge or a session.
const SAID_BYTES: usize = 1 << 20;

/// Sessions of one runner.
pub struct Sessions {
    http: reqwest::Client,
    place: Url,
    payer: Option<Payer>,
    runner: LiveRunner,
    body: bytes::Bytes,
    tally: Arc<Tally>,
}

/// Who pays.
struct Payer {
    signer: SignerClient,
    address: String,
}

/// Where a session is.
struct Session {
    app: Url,
    control: Url,
}

impl Sessions {
    pub async fn prepare(context: &Context<'_>, runner: &LiveRunner) -> Result<Self, String> {
        let payer = match context.target.one(Role::Signer) {
            None => None,
            Some(url) => {
                let signer = context.signer(url)?;
                let who = signer.sign_orchestrator_info().await;
                let address = who.map_err(|error| error.to_string())?.address.to_string();
                Some(Payer { signer, address })
            }
        };
        Ok(Self {
            // Orchestrators' certificates are self-signed.
            http: context.http(Trust::AcceptAny)?,
            place: context.place(Role::LiveRunner)?,
            payer,
            body: vec![b'x'; runner.body_bytes].into(),
            runner: runner.clone(),
            tally: Arc::clone(context.tally),
        })
    }

    pub async fn run(&self, turn: Turn) -> Result<(), Failure> {
        let session = self.reserve().await?;
        self.tally.record(SESSION, turn.due, turn.begun);
        let called = self.call(&session).await;
        // Also after a failure: what is reserved is paid for.
        let begun = Instant::now();
        let stopped = self.http.post(below(&session.control, "stop")).send().await;
        let stopped = answers::good(stopped).await;
        if stopped.is_ok() {
            self.tally.record(STOP, begun, begun);
        }
        called?;
        stopped.map(drop).map_err(|why| format!("stop: {why}"))
    }

    async fn reserve(&self) -> Result<Session, Failure> {
        let mut ask = self.http.post(self.place.clone());
        if let Some(payer) = &self.payer {
            ask = ask.header(header::PAYER_ADDRESS, &payer.address);
        }
        let mut answer = sent(ask).await?;
        if answer.status() == StatusCode::PAYMENT_REQUIRED {
            answer = sent(self.paid(answer).await?).await?;
        }
        let answer = answers::good(Ok(answer)).await.map_err(|why| format!("session: {why}"))?;
        let body = answers::rest(answer, SAID_BYTES).await?;
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let url = |name: &str| {
            let text = said[name].as_str().unwrap_or_default();
            let url = Url::parse(text).map_err(|_| format!("session: no {name}"))?;
            // Whoever is loaded may not choose whom else we load.
            match url.host_str() == self.place.host_str() {
                true => Ok(url),
                false => Err(format!("session: {name} is at another host")),
            }
        };
        Ok(Session { app: url("app_url")?, control: url("control_url")? })
    }

    /// The same request with what the challenge asks for.
    async fn paid(&self, challenge: Response) -> Result<RequestBuilder, Failure> {
        let body = answers::rest(challenge, SAID_BYTES).await?;
        let Some(payer) = &self.payer else {
            return Err("402, and no --target signer=URL to pay by".to_owned());
        };
        let (challenge, _) =
            PaymentChallenge::parse(&body).map_err(|error| format!("challenge: {error}"))?;
        let call = LivePaymentCall {
            orchestrator: &challenge.payment_params,
            manifest_id: &challenge.manifest_id,
            job_type: self.runner.payment_type.as_str(),
            ..LivePaymentCall::default()
        };
        let begun = Instant::now();
        let context = PaymentContext::default();
        let paid = payer.signer.generate_live_payment(&call, context).await;
        let answer = paid.map_err(|error| answers::words(&error))?.answer;
        self.tally.record(PAYMENT, begun, begun);
        let ask = self.http.post(self.place.clone()).header(header::PAYMENT, answer.payment);
        Ok(ask.header(header::SEGMENT, answer.seg_creds))
    }

    async fn call(&self, session: &Session) -> Result<(), Failure> {
        let url = below(&session.app, &self.runner.path);
        let (began, every) = (Instant::now(), Duration::from_millis(self.runner.every_ms));
        for number in 0..self.runner.calls {
            // What is late makes the next ones late, and is counted in them.
            let planned = u32::try_from(number).ok().and_then(|number| every.checked_mul(number));
            let due = began + planned.unwrap_or_default();
            sleep_until(due).await;
            let begun = Instant::now();
            // Without a pace there is nothing to be late for.
            let due = if every.is_zero() { begun } else { due };
            let answer = self.http.post(&url).body(self.body.clone()).send().await;
            answers::body(answer).await.map_err(|why| format!("call: {why}"))?;
            self.tally.record(CALL, due, begun);
        }
        Ok(())
    }
}

async fn sent(request: RequestBuilder) -> Result<Response, Failure> {
    request.send().await.map_err(|error| format!("session: {}", answers::broken(&error)))
}
