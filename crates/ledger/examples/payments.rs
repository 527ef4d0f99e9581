//! How much CPU both writes of a payment cost: `payments URL [clients] [payments]`.
//!
//! Every client makes payments of one ticket one after the other, as gateways do. CPU is that of
//! this process, so for PostgreSQL without the server's.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use penstock_domain::{Address, B256, ManifestId, PriceInfo, StateId, U256, Wei};
use penstock_ledger::signer::{
    Binding, Charge, Committed, CounterKey, Day, Hour, ManifestBinding, Month, NewEvent,
    NewPayment, NewSession, ReservationId, ReserveRequest, Reserved, SignerLedger, TicketTemplate,
    open,
};
use penstock_payments::{BillingType, ticket_ev};
use std::{sync::Arc, time::Instant};
use tokio::task::JoinSet;

/// A payment of one ticket answers with about this much.
const ANSWER_BYTES: usize = 1_500;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let url = args.get(1).expect("URL of a fresh ledger");
    let clients: u32 = args.get(2).map_or(64, |n| n.parse().unwrap());
    let payments: u64 = args.get(3).map_or(20_000, |n| n.parse().unwrap());
    let ledger = open(url, "bench").await.unwrap();
    let (cpu, started) = (cpu_seconds(), Instant::now());
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        tasks.spawn(pay(Arc::clone(&ledger), client, payments / u64::from(clients)));
    }
    let mut slowest: Vec<f64> = tasks.join_all().await.into_iter().flatten().collect();
    let (cpu, wall) = (cpu_seconds() - cpu, started.elapsed().as_secs_f64());
    slowest.sort_by(f64::total_cmp);
    let of = |q: f64| slowest.get((slowest.len() as f64 * q) as usize).copied().unwrap_or(0.0);
    let made = slowest.len() as f64;
    println!(
        "{made} payments, {clients} clients: {:.1} µs CPU each, {:.0} payments/s, p50 {:.2} ms, p99 {:.2} ms",
        cpu * 1e6 / made,
        made / wall,
        of(0.5) * 1e3,
        of(0.99) * 1e3,
    );
    ledger.close().await;
}

/// User and system time of this process, from Linux.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).unwrap().parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

async fn pay(ledger: Arc<dyn SignerLedger>, client: u32, payments: u64) -> Vec<f64> {
    let mut took = Vec::new();
    for n in 0..payments {
        let started = Instant::now();
        // A new session and a new offer every 500 tickets.
        let (session, sequence) = (n / 500, n % 500);
        let request = request(client, session, sequence);
        let Reserved::Nonces(held) = ledger.reserve(request.clone()).await.unwrap() else {
            panic!("nothing reserved")
        };
        let stored = ledger.commit(payment(&request, held)).await.unwrap();
        assert!(matches!(stored, Committed::Stored(_)));
        took.push(started.elapsed().as_secs_f64());
    }
    took
}

fn request(client: u32, session: u64, sequence: u64) -> ReserveRequest {
    let now_ms = 1_800_000_000_000;
    let account = format!("gateway{}", client % 4);
    let orchestrator = Address::repeat_byte((client % 16) as u8);
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&client.to_be_bytes());
    hash[4..12].copy_from_slice(&session.to_be_bytes());
    let charge = |counter| Charge { counter, cap_wei: Some(Wei(U256::MAX)) };
    ReserveRequest {
        id: ReservationId(rand::random()),
        state_id: StateId::new(format!("{:08x}", u64::from(client) << 16 | session)).unwrap(),
        sequence,
        auth_id: None,
        tickets: TicketTemplate {
            recipient: orchestrator,
            sender: Address::repeat_byte(0xee),
            face_value: Wei::from_u64(5_000_000_000_000_000),
            win_prob: U256::MAX / U256::from(2_000),
            recipient_rand_hash: B256::from(hash),
            expiration_params: Default::default(),
        },
        count: 1,
        max_nonce: 600,
        also_signs: Vec::new(),
        amount_wei: Wei::from_u64(2_500_000_000_000),
        charges: vec![
            charge(CounterKey::account_day(&account, Day::of_ms(now_ms))),
            charge(CounterKey::account_month(&account, Month::of_ms(now_ms))),
            charge(CounterKey::orchestrator_hour(&orchestrator, Hour::of_ms(now_ms))),
            charge(CounterKey::global_hour(Hour::of_ms(now_ms))),
        ],
        account,
        now_ms,
        expires_at_ms: now_ms + 300_000,
    }
}

fn payment(
    request: &ReserveRequest,
    reservation: penstock_ledger::signer::Reservation,
) -> NewPayment {
    let tickets = &request.tickets;
    NewPayment {
        state_id: request.state_id.clone(),
        sequence: request.sequence,
        new_session: (request.sequence == 0).then(|| NewSession {
            initial_price: PriceInfo::new(1_200, 1).unwrap(),
            idempotency_key: None,
        }),
        binding: Binding {
            account: request.account.clone(),
            auth_id: None,
            orchestrator: tickets.recipient,
            app: "bench".into(),
            job_type: BillingType::Lv2v,
            manifest: ManifestBinding { id: ManifestId::new("0123abcd").unwrap(), named: true },
        },
        reservation,
        charged_wei: request.amount_wei,
        face_value: tickets.face_value,
        win_prob: tickets.win_prob,
        ticket_ev_wei: ticket_ev(tickets.face_value, tickets.win_prob),
        units: 1_843_200_000,
        fee_wei: "2211840000000".parse().unwrap(),
        answer: vec![b'x'; ANSWER_BYTES],
        auth_expiry: 0,
        event: Some(NewEvent { id: uuid::Uuid::new_v4(), payload: vec![b'{'; 600] }),
        now_ns: request.now_ms * 1_000_000,
    }
}
