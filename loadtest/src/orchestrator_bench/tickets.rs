//! Tickets: signed before, paid by `POST /payment` over TLS as fast as the orchestrator takes them, and
//! counted in its books afterwards.

use super::{Settings, Times, curve::Curve, node::Node, us};
use crate::{bench::CpuSeconds, cpu, draw, payment};
use penstock_clients::{OfferRequest, OrchestratorClient, OrchestratorOptions, PaidHeaders};
use penstock_domain::ManifestId;
use penstock_keys::{SegmentCredential, TypedSigner};
use penstock_testkit::sim::{Running, SimChain};
use penstock_wire::{OrchestratorOffer, SegmentSpec, header};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Instant,
};
use tokio::task::JoinSet;

/// Wei on both sides of a sender's account.
const FUNDS_WEI: u64 = 1_000_000_000_000_000_000;
/// Wei that a ticket is worth.
const TICKET_EV_WEI: u64 = 1_000_000_000;
/// One ticket in so many wins.
const WINS_ONE_IN: u64 = 1_000;
/// Senders.
const SENDERS: usize = 8;
/// Tickets of one offer, at most: what an orchestrator takes.
const TICKETS_PER_OFFER: u32 = 600;

/// What one load came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// `sqlite` or `postgres`.
    pub ledger: String,
    /// Tickets of one payment.
    pub tickets_per_payment: u32,
    /// Payments that were answered.
    pub payments: u64,
    /// Tickets that the books have of them.
    pub tickets: u64,
    /// Sessions, each with an offer of its own.
    pub sessions: usize,
    /// Wall time.
    pub wall_s: f64,
    /// Processor time of the orchestrator's process.
    pub cpu: CpuSeconds,
    /// Tickets per second of it.
    pub tickets_per_cpu_second: f64,
    /// Of a hundred tickets that the faster of the bare operations would allow.
    pub percent_of_raw: f64,
    /// Of a hundred tickets that bare recoveries would allow.
    pub percent_of_recovery: f64,
    /// From a payment's request to its answer.
    pub times: Times,
}

impl Load {
    /// A line for people.
    pub(super) fn describe(&self) -> String {
        format!(
            "{}, {} tickets a payment: {:.0} tickets per CPU-second, {:.0} tickets/s, {:?}",
            self.ledger,
            self.tickets_per_payment,
            self.tickets_per_cpu_second,
            self.tickets as f64 / self.wall_s,
            self.times
        )
    }

    /// With what the curve alone would take.
    pub(super) fn compare(&mut self, curve: &Curve) {
        let percent = |ns: u64| self.tickets_per_cpu_second * ns as f64 / 1e9 * 100.0;
        self.percent_of_raw = percent(curve.fastest_ns());
        self.percent_of_recovery = percent(curve.recovery_ns);
    }
}

/// An account that pays.
pub struct Sender {
    signer: TypedSigner,
    sig: Vec<u8>,
}

impl Sender {
    /// With money on the chain.
    pub async fn funded(chain: &Running<SimChain>) -> Self {
        let signer = TypedSigner::new(Arc::new(draw::key()));
        chain.fund(signer.address(), FUNDS_WEI).await;
        let sig = signer.sign_orchestrator_request().await.unwrap().as_bytes().to_vec();
        Self { signer, sig }
    }

    /// What it asks for an offer with.
    pub fn request(&self) -> OfferRequest {
        let (address, sig) = (self.signer.address(), self.sig.clone());
        OfferRequest { address, sig, ignore_capacity_check: true, ..OfferRequest::default() }
    }

    /// All payments of one offer, in their order.
    async fn payments(
        &self,
        offer: &OrchestratorOffer,
        payments: u32,
        tickets: u32,
    ) -> Vec<PaidHeaders> {
        let params = offer.ticket_params.clone().expect("an offer that wants tickets");
        let token = offer.auth_token.clone().expect("an offer with a token");
        let manifest = ManifestId::new(token.session_id.clone()).unwrap();
        let spec = SegmentSpec::empty(manifest, None, token);
        let names = spec.rendition_names();
        let credential = SegmentCredential {
            manifest_id: spec.manifest_id.as_str().as_bytes(),
            sequence: spec.seq,
            data_hash: spec.hash.as_slice(),
            rendition_names: &names,
        };
        let sig = self.signer.sign_segment(&credential).await.unwrap();
        let segment = header::encode_segment(&spec.to_message(sig.as_bytes().to_vec()));
        let mut all = Vec::new();
        for number in 0..payments {
            let nonces = number * tickets + 1..=(number + 1) * tickets;
            let payment = payment::signed(&self.signer, &params, offer.price, nonces).await;
            all.push(PaidHeaders { payment, segment: segment.clone(), traceparent: None });
        }
        all
    }
}

/// Payments of so many tickets each, into these books.
pub(super) async fn measure(settings: &Settings, ledger: &str, tickets: u32) -> Load {
    let chain = SimChain::start().await;
    let mut flags = vec![
        format!("--ticket-ev={TICKET_EV_WEI}"),
        format!("--max-face-value={}", TICKET_EV_WEI * WINS_ONE_IN),
        "--price-per-unit=1".to_owned(),
    ];
    flags.extend(settings.flags.iter().cloned());
    let books = match ledger {
        "sqlite" => ledger.to_owned(),
        server => fresh_database(server).await,
    };
    let node = Node::onchain(&settings.programs, settings.core, &chain, &books, flags).await;
    let client = OrchestratorClient::new(OrchestratorOptions::default()).unwrap();
    let mut senders = Vec::new();
    for _ in 0..SENDERS {
        senders.push(Sender::funded(&chain).await);
    }
    let per_offer = (TICKETS_PER_OFFER / tickets).max(1);
    let offers =
        settings.tickets.div_ceil(u64::from(per_offer * tickets)).max(settings.clients as u64);
    let per_offer = u32::try_from(settings.tickets.div_ceil(offers * u64::from(tickets))).unwrap();
    // Connections, caches and each sender's place in them, before anything is counted.
    for sender in &senders {
        let asked = client.get_orchestrator(&node.service, &sender.request(), None).await;
        for paid in sender.payments(&asked.unwrap().offer, 4, tickets).await {
            client.pay(&node.service, &paid).await.expect("the orchestrator takes a payment");
        }
    }
    let mut sessions = VecDeque::new();
    for number in 0..offers {
        let sender = &senders[number as usize % SENDERS];
        let asked = client.get_orchestrator(&node.service, &sender.request(), None).await;
        sessions.push_back(sender.payments(&asked.unwrap().offer, per_offer, tickets).await);
    }
    let count = sessions.len();
    let booked = async || node.admin("/v1/summary").await["tickets"].as_u64().unwrap();
    let before = booked().await;
    let (cpu_before, began) = (cpu::cpu_time(node.pid()), Instant::now());
    let times_us = pay(&client, &node.service, sessions, settings.clients).await;
    let wall_s = began.elapsed().as_secs_f64();
    let used = cpu::cpu_time(node.pid()).since(cpu_before);
    let credited = booked().await - before;
    let payments = times_us.len() as u64;
    assert_eq!(credited, payments * u64::from(tickets), "the books have every ticket");
    Load {
        ledger: if ledger == "sqlite" { "sqlite" } else { "postgres" }.to_owned(),
        tickets_per_payment: tickets,
        payments,
        tickets: credited,
        sessions: count,
        wall_s,
        cpu: used.into(),
        tickets_per_cpu_second: credited as f64 / used.seconds().max(0.01),
        percent_of_raw: 0.0,
        percent_of_recovery: 0.0,
        times: Times::of(times_us),
    }
}

/// A database of this load's own on the server of this URL, which ends with the server.
async fn fresh_database(server: &str) -> String {
    // Whoever's server it is, the name has to be free: no seed says it.
    let name = format!("bench_{:016x}", rand::random::<u64>());
    let mut connection = PgConnection::connect(server).await.expect("PostgreSQL answers");
    let make = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    connection.execute(make).await.expect("a database can be made");
    let _ = connection.close().await;
    let (before, _) = server.rsplit_once('/').expect("a URL that names a database");
    format!("{before}/{name}")
}

/// Every session's payments one after the other, so many sessions at once.
async fn pay(
    client: &OrchestratorClient,
    service: &str,
    sessions: VecDeque<Vec<PaidHeaders>>,
    clients: usize,
) -> Vec<u64> {
    let left = Arc::new(Mutex::new(sessions));
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (client, service, left) = (client.clone(), service.to_owned(), Arc::clone(&left));
        tasks.spawn(async move {
            let mut times = Vec::new();
            loop {
                let next = left.lock().unwrap().pop_front();
                let Some(session) = next else { return times };
                for paid in session {
                    let began = Instant::now();
                    client.pay(&service, &paid).await.expect("the orchestrator takes a payment");
                    times.push(us(began));
                }
            }
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}
