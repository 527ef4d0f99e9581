//! One history: a seed becomes steps, the laws are asked after each, and at the end everything has to come
//! to rest.

use crate::{
    laws::{self, Broken, MOST_UNITS},
    network::{is_served, network, quiet},
    panics::Panics,
    parties::Faults,
    parties::{GATEWAYS, Kit, MODEL, ORCHESTRATORS, Parties, Place, uri_of},
    planted::Planted,
    thread::{Thread, WHERE},
};
use bytes::Bytes;
use http::{HeaderValue, Request};
use penstock_clients::simulated::{Heard, Trouble, set_network};
use penstock_domain::{AuthId, Capabilities, Capability, ManifestId, model_capability_key};
use penstock_failpoint::simulated;
use penstock_gateway::{
    front::caller::Caller,
    service::{
        Gateway,
        choose::Chosen,
        error::TryError,
        pay::{Funded, empty_payment},
        session::{Account, Purpose},
    },
};
use penstock_ledger::memory::Fate;
use penstock_selection::Reason;
use penstock_wire::header;
use serde::Serialize;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinSet;

/// Steps of a history.
const STEPS: std::ops::Range<u64> = 2..5;
/// Wei in deposit and reserve at the beginning.
const FUNDS_WEI: u64 = 400_000;

/// What happened in a history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Steps.
    pub steps: u64,
    /// Jobs that were begun; and that were served.
    pub jobs: u64,
    /// See above.
    pub served: u64,
    /// Tickets that left the signer.
    pub tickets: u64,
    /// Answers to payment requests that left the signer, each counted once.
    pub payments: u64,
    /// Redemptions that the chain paid.
    pub redemptions: u64,
    /// Processes that died.
    pub deaths: u64,
}

impl std::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.jobs += other.jobs;
        self.served += other.served;
        self.tickets += other.tickets;
        self.payments += other.payments;
        self.redemptions += other.redemptions;
        self.deaths += other.deaths;
    }
}

/// The account that all jobs pay into.
pub fn account() -> String {
    model_capability_key(Capability::Llm, MODEL)
}

/// On whose behalf jobs come.
pub fn callers() -> impl Iterator<Item = AuthId> {
    ["sim:a", "sim:b"].into_iter().filter_map(|name| AuthId::new(name).ok())
}

/// Runs the history of a seed, in this thread. Whatever panics in it breaks a law.
pub fn run(seed: u64, kit: &Kit, planted: Option<Planted>) -> Result<Report, Broken> {
    let broken = |step, law: String| Broken { seed, step, law };
    let panics = Panics::default();
    let of_helpers = panics.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_start(move || of_helpers.watch_helper())
        .build()
        .map_err(|e| broken(0, format!("no runtime: {e}")))?;
    let _watch = panics.watch();
    let history = async {
        let parties = Parties::new(seed, kit.clone(), planted);
        let _simulated = simulated::enter(Thread::new(Arc::clone(&parties)));
        set_network(Some(network(&parties)));
        let (kit, panics) = (kit.clone(), panics.clone());
        let mut history = History { kit, parties, panics, report: Report::default(), job: 0 };
        let ended = history.run().await;
        let History { parties, mut report, .. } = history;
        let (tickets, answers) = parties.seen.count();
        (report.tickets, report.payments) = (tickets as u64, answers as u64);
        report.redemptions = parties.chain.paid().len() as u64;
        report.deaths = parties.deaths();
        ended.map(|()| report)
    };
    let done = catch_unwind(AssertUnwindSafe(|| runtime.block_on(history)));
    set_network(None);
    // What still waits, waits for nothing.
    runtime.shutdown_background();
    // A panic explains whatever else there is, and may come with the end.
    panics.none().map_err(|(step, law)| broken(step, law))?;
    let done = done.unwrap_or_else(|_| {
        Err((panics.step(), "the history itself went through a failpoint, and ended".to_owned()))
    });
    done.map_err(|(step, law)| broken(step, law))
}

struct History {
    kit: Kit,
    parties: Arc<Parties>,
    panics: Panics,
    report: Report,
    /// Number of the last job.
    job: u64,
}

impl History {
    async fn run(&mut self) -> Result<(), (usize, String)> {
        let parties = Arc::clone(&self.parties);
        for number in 0..ORCHESTRATORS {
            parties.chain.join(crate::parties::recipient_of(number), &uri_of(number));
        }
        parties.chain.mine(90, true);
        parties.chain.fund(parties.sender, FUNDS_WEI, FUNDS_WEI);
        parties.start_all().await;
        parties.set_faults(Faults { lost: 30, doubled: 30, dies: 15, way_ms: 150 });
        parties.chain.lose(150);
        let steps = usize::try_from(parties.chance.of_range(STEPS)).unwrap_or(1);
        for step in 1..=steps {
            self.panics.at_step(step);
            self.step().await;
            self.all_are_back().await;
            self.report.steps += 1;
            self.panics.none()?;
            laws::check(&parties).await.map_err(|law| (step, law))?;
        }
        self.panics.at_step(steps + 1);
        self.calm().await;
        laws::check_end(&parties).await.map_err(|law| (steps + 1, law))
    }

    async fn step(&mut self) {
        let (parties, chance) = (Arc::clone(&self.parties), self.parties.chance.clone());
        match chance.of_range(0..20) {
            0..9 => self.jobs().await,
            9..12 => {
                parties.chain.mine(chance.of_range(1..12), chance.per_mille(900));
                self.look().await;
            }
            12 => {
                // Offers, tokens, prices and credit get old.
                tokio::time::sleep(Duration::from_secs(chance.of_range(60..2_400))).await;
            }
            13 => parties.chain.fund(
                parties.sender,
                chance.of_range(0..50_000),
                chance.of_range(0..50_000),
            ),
            14..16 => {
                parties.crash(self.some_place());
                self.jobs().await;
            }
            16 if chance.per_mille(500) => {
                parties.lose_store();
                self.jobs().await;
            }
            16..19 => {
                let place = self.some_place();
                for _ in 0..chance.of_range(1..6) {
                    parties.fate(place, self.some_fate(place));
                }
                self.jobs().await;
            }
            _ => self.tidy_up().await,
        }
    }

    fn some_place(&self) -> Place {
        match self.parties.chance.of_range(0..3) {
            0 => Place::Signer,
            1 => Place::Orchestrator(self.parties.chance.place(ORCHESTRATORS)),
            _ => Place::Gateway(self.parties.chance.place(GATEWAYS)),
        }
    }

    fn some_fate(&self, place: Place) -> Fate {
        let lies = matches!(
            (self.parties.planted, place),
            (Some(Planted::SignersDiskLies), Place::Signer)
                | (Some(Planted::OrchestratorsDiskLies), Place::Orchestrator(_))
        );
        match self.parties.chance.of_range(0..3) {
            0 => Fate::Done,
            _ if lies => Fate::Lied,
            1 => Fate::Refused,
            _ => Fate::Unanswered,
        }
    }

    /// Some jobs at once, at any replica, for any caller, anywhere.
    async fn jobs(&mut self) {
        let chance = self.parties.chance.clone();
        let mut jobs = JoinSet::new();
        for _ in 0..chance.of_range(1..4) {
            let replica = chance.place(GATEWAYS);
            let (_, Some(gateway)) = self.gateway(replica) else { continue };
            self.job += 1;
            self.report.jobs += 1;
            let job = Job {
                parties: Arc::clone(&self.parties),
                id: self.job,
                caller: self.caller(),
                orchestrator: chance.place(ORCHESTRATORS),
                units: chance.of_range(1..MOST_UNITS + 1),
                work_ms: chance.of_range(0..400),
                gateway,
            };
            let begin = chance.ms(0..300);
            let work = async move {
                tokio::time::sleep(begin).await;
                job.run().await
            };
            let running = jobs.spawn(WHERE.scope(Place::Gateway(replica), work));
            self.parties.note_job(replica, running);
        }
        while let Some(ended) = jobs.join_next().await {
            // Those of a replica that died ended with it; those that panicked are noted.
            self.report.served += u64::from(ended.unwrap_or(false));
        }
    }

    fn gateway(&self, replica: usize) -> (u64, Option<Arc<Gateway>>) {
        self.parties.gateways.get(replica).map_or((0, None), |home| home.now())
    }

    fn caller(&self) -> Caller {
        let mut caller = Caller::of_settings(self.kit.settings());
        let which = self.parties.chance.place(2);
        if let Some(auth_id) = callers().nth(which) {
            caller.auth_id = auth_id;
        }
        caller
    }

    /// Signer and orchestrators look at the chain; winners are redeemed.
    async fn look(&self) {
        if let (_, Some(process)) = self.parties.signer.now() {
            // Read again with the next step.
            let _ = process.signer.chain.refresh().await;
        }
        for (number, home) in self.parties.orchestrators.iter().enumerate() {
            if let (_, Some(process)) = home.now() {
                let look = async move { process.money.look().await };
                // Who dies meanwhile comes back, and who panics is noted.
                let _ = tokio::spawn(WHERE.scope(Place::Orchestrator(number), look)).await;
            }
        }
    }

    /// What runs in the background now and then.
    async fn tidy_up(&self) {
        let now_ms = simulated::now_ns().unwrap_or_default().div_euclid(1_000_000);
        if let (_, Some(process)) = self.parties.signer.now() {
            // Tried again with the next step.
            let _ = process.signer.ledger.expire_reservations(now_ms, 100).await;
        }
        for home in &self.parties.orchestrators {
            if let (_, Some(process)) = home.now() {
                let old_ms = now_ms.saturating_sub(60_000);
                let _ = process.ledger.fold(old_ms, 16).await;
            }
        }
    }

    async fn all_are_back(&self) {
        quiet().await;
        while !self.parties.all_run() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Nothing goes wrong any more, and time passes until every offer is over.
    async fn calm(&mut self) {
        self.parties.set_faults(Faults { way_ms: 50, ..Faults::default() });
        self.parties.forget_fates();
        // Late copies come, and reservations end.
        tokio::time::sleep(Duration::from_secs(180)).await;
        self.all_are_back().await;
        self.tidy_up().await;
        // The first redemptions still go wrong: most winners are not due before.
        for (blocks, lost) in [(45, 300), (2, 300), (4, 0), (8, 0), (8, 0)] {
            self.parties.chain.lose(lost);
            self.parties.chain.mine(blocks, true);
            self.look().await;
        }
    }
}

/// One job of a gateway's.
struct Job {
    parties: Arc<Parties>,
    id: u64,
    caller: Caller,
    orchestrator: usize,
    units: u64,
    work_ms: u64,
    gateway: Arc<Gateway>,
}

impl Job {
    /// As the gateway does it: a session, credit, the job, and what became of the credit.
    async fn run(self) -> bool {
        let Ok(manifest) = ManifestId::new(account()) else { return false };
        let job = Capabilities::ai_job(Capability::Llm, MODEL, true);
        let account = Account::Fixed(manifest);
        let purpose = Purpose::new(&self.caller, "ai:llm/m", account, job);
        let at = Chosen {
            uri: uri_of(self.orchestrator),
            facts: Arc::default(),
            foreign: false,
            doubted: false,
            latency_score: None,
            reason: Reason::Drawn,
        };
        // As often as the orchestrator says that it has no credit of ours.
        for _ in 0..2 {
            let Ok(funded) = self.fund(&purpose, &at).await else { return false };
            match self.send(&funded).await {
                Sent::Served => {
                    self.gateway.settle(&funded, self.units).await;
                    return true;
                }
                // It may be done.
                Sent::Unknown => {
                    self.gateway.settle(&funded, self.units).await;
                    return false;
                }
                Sent::Never => {
                    self.gateway.settle(&funded, 0).await;
                    return false;
                }
                Sent::NoCredit => {
                    self.gateway.settle(&funded, 0).await;
                    if self.gateway.forfeit(&funded).await.is_err() {
                        return false;
                    }
                }
            }
        }
        false
    }

    async fn fund(&self, purpose: &Purpose, at: &Chosen) -> Result<Funded, TryError> {
        let session = self.gateway.open_session(purpose, at).await?;
        self.gateway.fund(purpose, session, self.units).await
    }

    async fn send(&self, funded: &Funded) -> Sent {
        let session = &funded.session;
        let Some(credential) = &session.record.credential else { return Sent::Never };
        let payment = empty_payment(self.parties.sender, &session.offer);
        let (Ok(payment), Ok(credential)) =
            (HeaderValue::from_str(&payment), HeaderValue::from_str(credential))
        else {
            return Sent::Never;
        };
        let mut request = Request::new(Bytes::new());
        let Ok(uri) = format!("{}/job", uri_of(self.orchestrator)).parse() else {
            return Sent::Never;
        };
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::PAYMENT, payment);
        headers.insert(header::SEGMENT, credential);
        headers.insert("id", self.id.into());
        headers.insert("units", self.units.into());
        headers.insert("ms", self.work_ms.into());
        Sent::of(&Arc::clone(&self.parties).carry(request).await)
    }
}

/// What became of a job.
enum Sent {
    Served,
    Unknown,
    Never,
    NoCredit,
}

impl Sent {
    fn of(heard: &Heard) -> Self {
        match heard {
            _ if is_served(heard) => Self::Served,
            Ok(answer) if answer.body().starts_with(b"Insufficient balance") => Self::NoCredit,
            // It may have been done before the answer went wrong.
            Ok(answer) if answer.status().is_server_error() => Self::Unknown,
            Ok(_) | Err(Trouble::Connect) => Self::Never,
            Err(Trouble::Broken) => Self::Unknown,
        }
    }
}
