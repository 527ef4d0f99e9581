//! Clients of a live runner, as SDKs are: they reserve a session, call the application in it, pay it on, and
//! stop it. When the process has died or does not answer, they take the session up anew at another one,
//! under its name, on its account: with the credit that is left there, or with tickets where that is little.

use super::{
    clock::now_ms,
    held::{Account, Stint},
    payer::{Load, Outcome, Payer, broken, http},
    tickets::{Offer, Signed},
    trio::{RUNNER, RUNNER_WEI},
    verdict::live_runner::most_units,
};
use penstock_clients::PaidHeaders;
use penstock_domain::{Address, Rational};
use penstock_testkit::until::DEADLINE;
use penstock_wire::{
    AuthToken, header,
    json::{PaymentChallenge, RefreshPaymentRequest},
};
use rand::Rng as _;
use std::time::Instant;

/// Seconds that have to be left in an account for its session to begin anew without tickets, and as many for
/// each process where it may still be: those go on charging until they notice.
const ENOUGH_S: u64 = 6;
/// What a 404 says about a session that has ended.
const REASON: &str = "livepeer-release-reason";

/// One client.
pub struct Client {
    payer: Payer,
    http: reqwest::Client,
    calls: u64,
}

/// A session: its name is its account's.
struct Session {
    token: AuthToken,
    offer: Offer,
    /// Where it is.
    at: usize,
    /// Which life of that process it is in.
    life: u64,
    /// Whether the process has said so itself, and not only that there is one of this name.
    is_sure: bool,
    /// Where it is and was.
    stints: Vec<Stint>,
}

/// An answer in short.
enum Said {
    Well(Vec<u8>),
    /// Status, words, and for what reason the session has ended.
    No(u16, String, Option<String>),
    Nothing,
    /// It was not even asked.
    Unreached,
}

impl Session {
    fn name(&self) -> &str {
        &self.token.session_id
    }
}

impl Client {
    /// With a key of its own.
    pub async fn new(load: Load, number: usize) -> Self {
        Self { payer: Payer::new(load, number).await, http: http(), calls: 0 }
    }

    /// Whose money it is.
    pub fn address(&self) -> Address {
        self.payer.address()
    }

    /// Has one session after the other until there is enough.
    pub async fn run(mut self) -> Outcome {
        self.payer.begin();
        while !self.payer.enough() {
            let Some(mut session) = self.begin().await else { continue };
            for _ in 0..self.payer.random.random_range(20..120) {
                if self.payer.enough() {
                    break;
                }
                match self.payer.random.random_range(0..100) {
                    0..80 => self.call(&mut session).await,
                    _ => self.pay(&mut session).await,
                }
                // What a client does with an answer.
                self.payer.pause().await;
            }
            self.end(session).await;
        }
        self.payer.end()
    }

    /// A session that has begun, at whichever process; none if what began it was lost.
    async fn begin(&mut self) -> Option<Session> {
        let (token, offer, at) = self.challenged().await;
        let life = self.payer.load.tally.life(at);
        let mut session = Session { token, offer, at, life, is_sure: false, stints: Vec::new() };
        // The chain waits for this offer from its tickets on: one that is too old to begin with is left.
        let signed = self.payer.sign(&mut session.offer).await?;
        if !self.reserve(&mut session, at, Some(signed)).await {
            self.take_up(&mut session).await;
        }
        self.payer.load.tally.count("sessions of a live runner begun");
        Some(session)
    }

    fn url(&self, at: usize, rest: &str) -> String {
        format!("{}/apps/{RUNNER}/session{rest}", self.payer.load.urls[at])
    }

    /// Asks one after the other until somebody says what a session costs.
    async fn challenged(&mut self) -> (AuthToken, Offer, usize) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let at = self.payer.anyone();
            let payer = self.payer.address().to_string();
            let ask = self.http.post(self.url(at, "")).header(header::PAYER_ADDRESS, payer);
            match self.ask("POST /apps/session", ask).await {
                Said::No(402, text, _) => {
                    if let Some((token, offer)) = self.terms(&text) {
                        self.payer.answered(at);
                        return (token, offer, at);
                    }
                }
                Said::No(404 | 500.., ..) | Said::Nothing | Said::Unreached => {}
                Said::No(status, text, _) => {
                    self.payer.violation(format!("no challenge: {status} {text}"));
                }
                Said::Well(_) => {
                    self.payer.violation("a session began without a payment".to_owned());
                }
            }
            assert!(Instant::now() < deadline, "client {}: no challenge", self.payer.number);
            self.payer.pause().await;
        }
    }

    fn terms(&self, text: &str) -> Option<(AuthToken, Offer)> {
        let read = PaymentChallenge::parse(text.as_bytes());
        let read = read.map_err(|error| self.payer.violation(format!("a challenge: {error}")));
        let (_, offer) = read.ok()?;
        let terms = self.payer.read(&offer)?;
        let token = offer.auth_token;
        if token.is_none() {
            self.payer.violation("a challenge without a token".to_owned());
        }
        Some((token?, terms))
    }

    /// New terms for the same session, of whoever is there. The price is the one that was agreed.
    async fn refresh(&mut self, session: &mut Session) {
        let deadline = Instant::now() + DEADLINE;
        let asked = RefreshPaymentRequest {
            sender: self.payer.address(),
            manifest_id: session.name().to_owned(),
        };
        loop {
            let at = self.payer.anyone();
            let url = format!("{}/refresh-payment", self.payer.load.urls[at]);
            let ask = self.http.post(url).body(asked.to_json().to_string());
            match self.ask("POST /refresh-payment", ask).await {
                Said::Well(body) => {
                    if let Some((token, offer)) = self.terms(&String::from_utf8_lossy(&body)) {
                        if token.session_id != session.name()
                            || offer.price() != session.offer.price()
                        {
                            self.payer.violation("a refresh for another session or price".into());
                        }
                        (session.token, session.offer) = (token, offer);
                        self.payer.answered(at);
                        return;
                    }
                }
                Said::No(500.., ..) | Said::Nothing | Said::Unreached => {}
                Said::No(status, text, _) => {
                    self.payer.violation(format!("no new terms: {status} {text}"));
                }
            }
            assert!(Instant::now() < deadline, "client {}: no new terms", self.payer.number);
            self.payer.pause().await;
        }
    }

    async fn tickets(&mut self, session: &mut Session) -> Signed {
        loop {
            if let Some(signed) = self.payer.sign(&mut session.offer).await {
                return signed;
            }
            self.refresh(session).await;
        }
    }

    /// Asks a process for the session, with these tickets or with what is left in the account. Whether it
    /// is there.
    async fn reserve(&mut self, session: &mut Session, at: usize, with: Option<Signed>) -> bool {
        let signed = with.clone().unwrap_or_else(|| session.offer.nothing());
        let name = session.name().to_owned();
        let headers = signed.for_account(&self.payer.signer, &session.token, &name).await;
        let life = self.payer.load.tally.life(at);
        // Nothing else can cost what is there.
        let is_covered = with.is_none() || session.stints.is_empty();
        session.stints.push(Stint {
            process: at,
            from_ms: now_ms(),
            begun_ms: None,
            seen_ms: 0,
            to_ms: 0,
            used: false,
            lasted: false,
        });
        let ask = paid(self.http.post(self.url(at, "")), &headers);
        let said = self.ask("POST /apps/session, paid", ask).await;
        let is_sure = matches!(said, Said::Well(_));
        if !matches!(said, Said::Well(_) | Said::No(409, ..) | Said::Nothing) {
            // Whoever says no has no session of it.
            session.stints.pop();
        }
        let is_there = match said {
            Said::Well(_) => {
                self.payer.answered(at);
                if let Some(signed) = with {
                    self.payer.settled(&name, signed, headers).await;
                }
                true
            }
            said => {
                let is_there = match said {
                    // It had begun there, and nobody heard of it; or the name is still in the hands of another one, dead maybe.
                    Said::No(409, ..) => self.has_begun(session, at).await,
                    Said::No(400, text, _) if text.contains("Insufficient balance") => {
                        if is_covered {
                            self.payer.violation(format!("a covered session is refused: {text}"));
                        }
                        false
                    }
                    Said::No(404 | 500.., ..) | Said::Nothing | Said::Unreached => false,
                    Said::Well(_) => unreachable!("above"),
                    Said::No(status, text, _) => {
                        self.payer.violation(format!("a paid session: {status} {text}"));
                        false
                    }
                };
                if let Some(signed) = with {
                    let token = session.token.clone();
                    self.payer.pay_after_all(&token, &name, signed).await;
                }
                is_there
            }
        };
        if is_there {
            (session.at, session.life, session.is_sure) = (at, life, is_sure);
            if let Some(stint) = session.stints.last_mut() {
                stint.seen_ms = now_ms();
                stint.begun_ms = Some(stint.seen_ms);
            }
        }
        is_there
    }

    /// Whether a session is at a process that refuses to begin it once more.
    async fn has_begun(&mut self, session: &mut Session, at: usize) -> bool {
        let path = format!("/{}/app/echo", session.name());
        let ask = self.http.post(self.url(at, &path)).body("0 is it there");
        match self.ask("POST /apps/session/app after 409", ask).await {
            Said::Well(_) => true,
            Said::No(404, ..) => {
                session.stints.pop();
                false
            }
            // It may be.
            Said::No(..) | Said::Nothing | Said::Unreached => false,
        }
    }

    /// At another process, until one has it.
    async fn take_up(&mut self, session: &mut Session) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let at = self.payer.anyone();
            let with =
                if self.has_credit(session) { None } else { Some(self.tickets(session).await) };
            let with_credit = with.is_none();
            if self.reserve(session, at, with).await {
                self.payer.load.tally.count("sessions of a live runner taken up anew");
                if with_credit {
                    self.payer.load.tally.count("of them with the credit that was left");
                }
                return;
            }
            assert!(Instant::now() < deadline, "client {}: nobody takes it up", self.payer.number);
            self.payer.pause().await;
        }
    }

    /// Whether enough of what was paid is left, whatever was charged.
    fn has_credit(&self, session: &Session) -> bool {
        let key: Account = (self.payer.address(), session.name().to_owned());
        let Some(account) = self.payer.held.accounts.get(&key) else { return false };
        let charged = most_units(&session.stints, &self.payer.load.tally, now_ms());
        let processes = 1 + session.stints.len() as u64;
        let needed = Rational::from(RUNNER_WEI).times(charged + ENOUGH_S * processes);
        account.credited >= needed
    }

    /// A request to the application.
    async fn call(&mut self, session: &mut Session) {
        self.calls += 1;
        let body = format!("0 call {}", self.calls);
        let at = session.at;
        let path = format!("/{}/app/echo", session.name());
        let ask = self.http.post(self.url(at, &path)).body(body.clone());
        let asked_ms = now_ms();
        match self.ask("POST /apps/session/app", ask).await {
            Said::Well(answer) => {
                if answer != body.as_bytes() {
                    self.payer.violation(format!("{body:?} came back as {answer:?}"));
                }
                self.payer.load.tally.count("calls of a live runner answered");
                self.payer.answered(at);
                if let Some(stint) = session.stints.last_mut() {
                    (stint.used, stint.seen_ms) = (true, asked_ms);
                }
            }
            said => self.left(session, said).await,
        }
    }

    /// One more payment.
    async fn pay(&mut self, session: &mut Session) {
        let signed = self.tickets(session).await;
        let (name, at) = (session.name().to_owned(), session.at);
        let headers = signed.for_account(&self.payer.signer, &session.token, &name).await;
        let url = self.url(at, &format!("/{name}/payment"));
        match self.ask("POST /apps/session/payment", paid(self.http.post(url), &headers)).await {
            Said::Well(_) => {
                self.payer.answered(at);
                self.payer.settled(&name, signed, headers).await;
            }
            said => {
                let token = session.token.clone();
                self.payer.pay_after_all(&token, &name, signed).await;
                self.left(session, said).await;
            }
        }
    }

    /// The session is not there, or its process is not: it is taken up anew.
    async fn left(&mut self, session: &mut Session, said: Said) {
        match said {
            Said::No(404, _, Some(reason)) => {
                self.payer.load.tally.count(&format!("sessions of a live runner ended: {reason}"));
            }
            Said::No(404, text, None) if text.contains("session") => {
                // Who has not died knows it.
                let is_same = self.payer.load.tally.life(session.at) == session.life;
                if is_same && session.is_sure {
                    self.payer.violation("a session was forgotten by a process that lives".into());
                }
            }
            Said::No(404 | 500.., ..) | Said::Nothing | Said::Unreached | Said::Well(_) => {}
            Said::No(status, text, _) => {
                self.payer.violation(format!("in a paid session: {status} {text}"));
            }
        }
        self.take_up(session).await;
    }

    /// Ends it wherever it may still be, and notes it in the books.
    async fn end(&mut self, mut session: Session) {
        let name = session.name().to_owned();
        let mut stints = std::mem::take(&mut session.stints);
        let last = stints.len().saturating_sub(1);
        for (number, stint) in stints.iter_mut().enumerate() {
            self.stop(stint.process, &name).await;
            stint.to_ms = now_ms();
            let same = self.payer.load.tally.life(stint.process) == session.life;
            stint.lasted = number == last && same && session.is_sure;
        }
        self.payer.load.tally.session_ended(stints.clone());
        self.payer.held.stints.insert((self.payer.address(), name), stints);
    }

    /// Until the process says that there is no such session.
    async fn stop(&mut self, at: usize, name: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let ask = self.http.post(self.url(at, &format!("/{name}/stop")));
            match self.ask("POST /apps/session/stop", ask).await {
                Said::Well(_) => {
                    self.payer.answered(at);
                    return;
                }
                // It has just been started, and does not know its runner yet.
                Said::No(404 | 500.., ..) | Said::Nothing | Said::Unreached => {}
                Said::No(status, text, _) => {
                    self.payer.violation(format!("a stop was refused: {status} {text}"));
                }
            }
            assert!(Instant::now() < deadline, "client {}: no stop", self.payer.number);
            self.payer.pause().await;
        }
    }

    /// What was answered; what is no success is counted.
    async fn ask(&self, what: &str, request: reqwest::RequestBuilder) -> Said {
        let tally = &self.payer.load.tally;
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                tally.count(&broken(what, &error));
                return if error.is_connect() { Said::Unreached } else { Said::Nothing };
            }
        };
        let status = answer.status();
        let reason = answer.headers().get(REASON).and_then(|value| value.to_str().ok());
        let reason = reason.map(str::to_owned);
        match answer.bytes().await {
            Ok(body) if status.is_success() => Said::Well(body.into()),
            Ok(body) => {
                let text = String::from_utf8_lossy(&body).trim().to_owned();
                if status.as_u16() != 402 {
                    // Without the numbers behind it.
                    let words = text.split(':').next().unwrap_or_default();
                    tally.count(&format!("{what}: {} {words}", status.as_u16()));
                }
                Said::No(status.as_u16(), text, reason)
            }
            Err(error) => {
                tally.count(&broken(what, &error));
                Said::Nothing
            }
        }
    }
}

/// With the headers of a payment.
fn paid(request: reqwest::RequestBuilder, headers: &PaidHeaders) -> reqwest::RequestBuilder {
    request.header(header::PAYMENT, &headers.payment).header(header::SEGMENT, &headers.segment)
}
