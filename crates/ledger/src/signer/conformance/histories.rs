//! Random histories with crashes, on real databases: whatever happened, the books add up.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// One step.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    session: u32,
    hash: u8,
    count: u32,
    /// Whether a credential is signed with the tickets, and a job beside the payment.
    also: bool,
    beside: bool,
    /// Which replica asks.
    second: bool,
    then: Then,
}

/// What becomes of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Commit,
    /// Asked twice, as after an answer that was lost.
    CommitTwice,
    Release,
    /// The process dies between reserve and commit: nobody commits or releases.
    Die,
    /// So does the whole replica, and starts again.
    Restart,
    /// The time of all open reservations is over, this one's too; its commit comes too late.
    ExpireThenCommit,
}

pub fn step() -> impl Strategy<Value = Step> {
    let then = prop_oneof![
        6 => Just(Then::Commit),
        1 => Just(Then::CommitTwice),
        1 => Just(Then::Release),
        2 => Just(Then::Die),
        1 => Just(Then::Restart),
        1 => Just(Then::ExpireThenCommit),
    ];
    (0_u32..3, 0_u8..2, 1_u32..60, any::<[bool; 3]>(), then).prop_map(
        |(session, hash, count, [also, beside, second], then)| Step {
            session,
            hash,
            count,
            also,
            beside,
            second,
            then,
        },
    )
}

/// Caps of the three counters that every request is charged to.
const CAPS: [Option<u64>; 3] = [Some(200 * EV), Some(150 * EV), None];

fn charges(session: u32) -> Vec<Charge> {
    vec![
        charge("all", CAPS[0]),
        charge(&format!("s{session}"), CAPS[1]),
        charge(&format!("free{session}"), CAPS[2]),
    ]
}

pub async fn add_up(books: &impl Books, steps: Vec<Step>) {
    let mut ledgers = [books.open("one").await, books.open("two").await];
    let mut nonces = HashSet::new();
    let (mut signatures, mut voids) = (0_u64, 0_u64);
    // What the books must hold: payments and open reservations, wei by session.
    let mut stored: HashMap<u32, u64> = HashMap::new();
    let mut open: Vec<(u32, u64)> = Vec::new();
    for (n, step) in steps.into_iter().enumerate() {
        let ledger = Arc::clone(&ledgers[usize::from(step.second)]);
        let Step { session, count, .. } = step;
        let sequence = ledger.session(&id(session)).await.unwrap().map_or(0, |s| s.sequence + 1);
        let mut asked = charged(ask(session, sequence, step.hash, count), &charges(session));
        let other = |kind| AuditEntry {
            kind,
            digest: hash(9),
            account: "gateway".into(),
            auth_id: None,
            reference: format!("step {n}"),
        };
        asked.also_signs.extend(step.also.then(|| other(AuditKind::Segment)));
        if step.beside {
            ledger.record_signatures(vec![other(AuditKind::Byoc)], 1).await.unwrap();
            signatures += 1;
        }
        let amount = u64::from(count) * EV;
        let held = match ledger.reserve(asked).await.unwrap() {
            Reserved::Nonces(held) => held,
            Reserved::Exhausted | Reserved::OverCap { .. } => continue,
            other => panic!("{other:?}"),
        };
        signatures += u64::from(count) + u64::from(step.also);
        for nonce in held.nonces.first..=held.nonces.last {
            assert!(nonces.insert((step.hash, nonce)), "nonce {nonce} of {} twice", step.hash);
        }
        let mut new = payment(session, sequence, held);
        if let Some(first) = &mut new.new_session {
            // Sessions 0 and 2 share a key.
            first.idempotency_key = Some(format!("key {}", session % 2));
        }
        match step.then {
            Then::Commit | Then::CommitTwice => {
                let first = ledger.commit(new.clone()).await.unwrap();
                match &first {
                    Committed::Stored(_) => *stored.entry(session).or_default() += amount,
                    Committed::Superseded(other) => {
                        assert_eq!((other.sequence, sequence), (0, 0));
                        assert_eq!(other.state_id, id(2 - session), "the one with that key");
                    }
                    Committed::Expired => panic!("nothing expired"),
                }
                if step.then == Then::CommitTwice {
                    let other = &ledgers[usize::from(!step.second)];
                    assert_eq!(other.commit(new).await.unwrap(), first);
                }
            }
            Then::Release => {
                assert!(ledger.release(held.id, n as i64).await.unwrap());
                voids += 1;
            }
            Then::Die => open.push((session, amount)),
            Then::Restart => {
                open.push((session, amount));
                ledger.close().await;
                let place = usize::from(step.second);
                ledgers[place] = books.open(["one", "two"][place]).await;
            }
            Then::ExpireThenCommit => {
                let expired = ledger.expire_reservations(1_000, 1_000).await.unwrap();
                assert_eq!(expired, open.len() as u64 + 1);
                voids += expired;
                open.clear();
                match ledger.commit(new).await.unwrap() {
                    Committed::Expired => {}
                    Committed::Superseded(other) => {
                        assert_eq!(other.state_id, id(2 - session), "the one with that key");
                    }
                    Committed::Stored(_) => panic!("stored without a reservation"),
                }
            }
        }
        let ledger = &ledgers[usize::from(step.second)];
        let mut all = 0;
        for session in 0..3 {
            let held: u64 = open.iter().filter(|(s, _)| *s == session).map(|(_, a)| a).sum();
            let sum = stored.get(&session).copied().unwrap_or(0) + held;
            all += sum;
            let names = [format!("s{session}"), format!("free{session}")];
            for name in names {
                assert_eq!(spent(ledger, &name).await, Wei::from_u64(sum), "{name}");
            }
            assert!(sum <= CAPS[1].unwrap());
        }
        assert_eq!(spent(ledger, "all").await, Wei::from_u64(all));
        assert!(all <= CAPS[0].unwrap());
    }
    let ledger = &ledgers[0];
    let total = ledger.summary().await.unwrap();
    let (mut credit, mut fees, mut charges) = (Rational::ZERO, Rational::ZERO, 0);
    for p in ledger.payments(u32::MAX).await.unwrap() {
        credit += &(Rational::from_int(p.num_tickets.into()) * p.ticket_ev_wei);
        fees += &p.fee_wei;
        charges += p.charged_wei.0.to::<u64>();
    }
    assert_eq!((&credit, &fees), (&total.ticket_ev_total_wei, &total.fee_total_wei));
    assert_eq!(total.balance_total_wei, &credit - &fees);
    assert_eq!(charges, stored.values().sum::<u64>());
    let report = verified(ledger).await;
    assert_eq!((report.signatures, report.voids, report.faults), (signatures, voids, vec![]));
    for ledger in &ledgers {
        ledger.close().await;
    }
}

fn run(books: &impl Books, steps: Vec<Step>) {
    tokio::runtime::Runtime::new().unwrap().block_on(add_up(books, steps));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn add_up_in_sqlite(steps in prop::collection::vec(step(), 1..20)) {
        run(&SqliteBooks(tempfile::tempdir().unwrap()), steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn add_up_in_postgres(steps in prop::collection::vec(step(), 1..20)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let books = runtime.block_on(PostgresBooks::new());
        run(&books, steps);
    }
}
