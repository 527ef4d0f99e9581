//! Clients that pay, take over whatever replica answers, repeat in the same words whatever was not
//! answered, and hand every ticket to an orchestrator that checks it.

use super::{Held, Settings};
use crate::{
    client::{Answer, Session, send},
    rig::{self, TICKET_EV_WEI},
};
use penstock_clients::{OrchestratorClient, OrchestratorOptions, PaidHeaders, Trust};
use penstock_domain::Address;
use penstock_payments::{ExpirationParams, Ticket};
use penstock_testkit::{sim::SimOrchestrator, until::DEADLINE};
use penstock_wire::{PaymentFields, header};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// The load goes on until everything was broken, but not beyond so many times the tickets wanted.
pub const MOST_LOAD: u64 = 5;

/// Where each replica is; changes when it is started again.
pub type Urls = Arc<Vec<Mutex<String>>>;

/// What clients need.
#[derive(Clone)]
pub struct Load {
    pub settings: Settings,
    pub urls: Urls,
    pub held: Arc<Held>,
    pub orchestrators: Vec<Arc<SimOrchestrator>>,
    pub sender: Address,
}

/// Starts all clients.
pub fn start(load: Load) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for number in 0..load.settings.clients {
        tasks.spawn(Client::new(load.clone(), number).run());
    }
    tasks
}

struct Client {
    load: Load,
    number: usize,
    random: StdRng,
    http: reqwest::Client,
    orchestrators: OrchestratorClient,
}

/// Adds one.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

impl Client {
    fn new(load: Load, number: usize) -> Self {
        // Orchestrators are well: on a busy machine it only takes longer.
        let options = OrchestratorOptions {
            trust: Trust::AcceptAny,
            connect_timeout: DEADLINE,
            payment_timeout: DEADLINE,
            ..Default::default()
        };
        Self {
            random: StdRng::seed_from_u64(load.settings.seed.wrapping_add(1 + number as u64)),
            http: rig::http(),
            orchestrators: OrchestratorClient::new(options).unwrap(),
            load,
            number,
        }
    }

    async fn run(mut self) {
        let mut began = 0;
        while self.wants_more() {
            let orchestrator = &self.load.orchestrators
                [self.random.random_range(0..self.load.orchestrators.len())];
            let manifest = format!("chaos-{}-{began}", self.number);
            let mut session = Session::new(Arc::clone(orchestrator), self.load.sender, manifest);
            count(&self.load.held.sessions);
            began += 1;
            let payments = self.random.random_range(5..60);
            for _ in 0..payments {
                if !self.wants_more() || !self.pay(&mut session).await {
                    break;
                }
            }
        }
    }

    /// Until there are enough tickets and everything was broken, or something is wrong.
    fn wants_more(&self) -> bool {
        let (held, wanted) = (&self.load.held, self.load.settings.tickets);
        let all_broken = held.all_broken.load(Ordering::SeqCst);
        let most = if all_broken { wanted } else { wanted.saturating_mul(MOST_LOAD) };
        held.is_sound() && held.tickets() < most
    }

    /// One payment through every interruption; false: this session cannot go on.
    async fn pay(&mut self, session: &mut Session) -> bool {
        let tickets = self.random.random_range(1..=self.load.settings.max_tickets);
        let units = tickets * TICKET_EV_WEI;
        // Which of the ways to repeat itself a client tries; all are allowed.
        let (twin, repeat) = (self.random.random_ratio(1, 16), self.random.random_ratio(1, 8));
        let Some((request, answer, retried)) = self.answer(session, units, twin).await else {
            return false;
        };
        let Some(headers) = self.take(&answer, session) else { return false };
        if (repeat || retried) && !self.same_again(&request, session, &answer).await {
            return false;
        }
        session.advance(&answer);
        self.deliver(session, &headers).await
    }

    /// The answer to the next request, that request, and whether it had to be repeated.
    async fn answer(
        &mut self,
        session: &mut Session,
        units: u64,
        twin: bool,
    ) -> Option<(String, String, bool)> {
        let mut retried = false;
        let deadline = Instant::now() + DEADLINE;
        loop {
            let request = session.request(units);
            let answered = if twin && !retried {
                self.twins(&request, session).await
            } else {
                self.send_once(&request, session).await
            };
            match answered {
                Answer::Paid(answer) => return Some((request, answer, retried)),
                Answer::Refresh => {
                    count(&self.load.held.refreshes);
                    session.refresh();
                }
                // What a client is told to try again later.
                Answer::Lost(_) | Answer::Refused(503, _) => {
                    retried = true;
                    count(&self.load.held.retries);
                    self.pause().await;
                }
                Answer::Refused(status, text) => {
                    let first = if session.is_new() { "first " } else { "" };
                    self.load.held.violation(format!("a {first}payment: {status} {text:.300}"));
                    return None;
                }
            }
            if Instant::now() > deadline {
                self.load.held.violation(format!("{}: no answer in time", session.manifest));
                return None;
            }
        }
    }

    /// To any replica.
    async fn send_once(&mut self, request: &str, session: &Session) -> Answer {
        let replica = self.random.random_range(0..self.load.urls.len());
        let url = self.load.urls[replica].lock().unwrap().clone();
        send(&self.http, &url, request.to_owned(), &session.manifest).await
    }

    /// To two replicas at the same moment. Both answers have to be the same.
    async fn twins(&mut self, request: &str, session: &Session) -> Answer {
        count(&self.load.held.twins);
        let urls: Vec<String> =
            self.load.urls.iter().map(|url| url.lock().unwrap().clone()).collect();
        let (one, other) = (&urls[0], &urls[urls.len() - 1]);
        let ask = |url: &str| {
            let (http, url, key) = (self.http.clone(), url.to_owned(), session.manifest.clone());
            let request = request.to_owned();
            async move { send(&http, &url, request, &key).await }
        };
        match tokio::join!(ask(one), ask(other)) {
            (Answer::Paid(one), Answer::Paid(other)) => {
                if one != other {
                    let manifest = &session.manifest;
                    self.load.held.violation(format!("{manifest}: two answers at one moment"));
                }
                Answer::Paid(one)
            }
            // The one that was paid is the answer, whatever became of the other.
            (Answer::Paid(paid), _) | (_, Answer::Paid(paid)) => Answer::Paid(paid),
            (Answer::Refresh, Answer::Refresh) => Answer::Refresh,
            (refused @ Answer::Refused(..), _) | (_, refused @ Answer::Refused(..)) => refused,
            // Whether the lost one was paid is not known: the same is asked again.
            _ => Answer::Lost("one of two was not answered".to_owned()),
        }
    }

    /// The same request once more is answered with the same bytes.
    async fn same_again(&mut self, request: &str, session: &Session, answer: &str) -> bool {
        count(&self.load.held.repeats);
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            match self.send_once(request, session).await {
                Answer::Paid(again) if again == answer => return true,
                Answer::Lost(_) | Answer::Refused(503, _) => self.pause().await,
                other => {
                    let manifest = &session.manifest;
                    self.load.held.violation(format!("{manifest}: not the same again: {other:?}"));
                    return false;
                }
            }
        }
        self.load.held.violation(format!("{}: no second answer in time", session.manifest));
        false
    }

    /// Reads an answer and keeps its tickets.
    fn take(&self, answer: &str, session: &Session) -> Option<PaidHeaders> {
        let taken = read(answer, self.load.sender);
        match taken {
            Ok((headers, nonces, digests, params)) => {
                self.load.held.add(nonces, &digests, params.0, params.1);
                Some(headers)
            }
            Err(reason) => {
                let manifest = &session.manifest;
                self.load.held.violation(format!("{manifest}: a payment that is none: {reason}"));
                None
            }
        }
    }

    /// The orchestrator, which nothing happens to, takes every ticket.
    async fn deliver(&self, session: &Session, headers: &PaidHeaders) -> bool {
        let uri = session.orchestrator.uri();
        match self.orchestrators.pay(&uri, headers).await {
            Ok(_) => true,
            Err(error) => {
                let manifest = &session.manifest;
                let kind = &error.kind;
                self.load.held.violation(format!("{manifest}: the orchestrator: {error} {kind:?}"));
                false
            }
        }
    }

    /// As long as a client waits before it tries again.
    async fn pause(&mut self) {
        let ms = self.random.random_range(5..50);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

type Taken = (
    PaidHeaders,
    super::held::Nonces,
    Vec<penstock_domain::B256>,
    (penstock_domain::Wei, penstock_domain::U256),
);

fn read(answer: &str, sender: Address) -> Result<Taken, String> {
    let answer: serde_json::Value = serde_json::from_str(answer).map_err(|e| e.to_string())?;
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let message = header::decode_payment(&text("payment")).map_err(|e| e.to_string())?;
    let payment = PaymentFields::try_from(&message).map_err(|e| e.to_string())?;
    let params = payment.ticket_params.as_ref().ok_or("no ticket params")?;
    let expiration_params = ExpirationParams {
        creation_round: payment.expiration_params.creation_round,
        creation_round_block_hash: payment.expiration_params.creation_round_block_hash,
    };
    let nonces: Vec<u32> = payment.tickets.iter().map(|ticket| ticket.sender_nonce).collect();
    let (Some(first), Some(last)) = (nonces.first(), nonces.last()) else {
        return Err("no tickets".to_owned());
    };
    if !nonces.iter().copied().eq(*first..=*last) {
        return Err(format!("nonces that are no range: {nonces:?}"));
    }
    let digest = |nonce: u32| {
        Ticket {
            recipient: params.recipient,
            sender,
            face_value: params.face_value,
            win_prob: params.win_prob,
            sender_nonce: nonce,
            recipient_rand_hash: params.recipient_rand_hash,
            expiration_params,
        }
        .digest()
    };
    let digests = nonces.iter().copied().map(digest).collect();
    let headers =
        PaidHeaders { payment: text("payment"), segment: text("segCreds"), traceparent: None };
    let range = (params.recipient_rand_hash, *first, *last);
    Ok((headers, range, digests, (params.face_value, params.win_prob)))
}
