//! What is old leaves the books; what was promised of it still holds.

use crate::{
    attack::{on_both_books, pay_at},
    audit::change,
    world::{Books, World, request},
};
use penstock_signer::{audit_command::verify, service::retention::Retention};
use serde_json::{Value, json};

on_both_books!(
    an_old_answer_is_not_repeated_and_not_made_again,
    old_payments_are_lines_of_usage,
    a_replica_that_starts_sweeps,
);

const DAY_S: i64 = 86_400;

/// Three payments of one session; the state after each.
async fn session(world: &World, headers: &[(&str, &str)]) -> Vec<Value> {
    let offer = world.offer(1, 1, 10);
    let mut states = vec![Value::Null];
    for _ in 0..3 {
        let state = states.last().unwrap();
        let ask = json!({"inPixels": 30, "ManifestID": "m", "state": state});
        let next = world.pay_with(&request(&offer, ask), headers).await.state();
        states.push(next);
    }
    states.remove(0);
    states
}

fn ask(world: &World, state: &Value) -> Value {
    let ask = json!({"inPixels": 30, "ManifestID": "m", "state": state});
    request(&world.offer(1, 1, 10), ask)
}

async fn an_old_answer_is_not_repeated_and_not_made_again(books: Books) {
    let world = World::on(books, &[]).await;
    let retention = Retention { answers_days: Some(7), payments_days: None };
    let states = session(&world, &[]).await;
    world.pass_s(7 * DAY_S - 60);
    assert_eq!(world.signer().sweep(retention).await.unwrap().answers, 0);
    assert!(world.pay(&ask(&world, &states[0])).await.replayed());
    world.pass_s(120);
    assert_eq!(world.signer().sweep(retention).await.unwrap().answers, 3);
    assert_eq!(world.signer().sweep(retention).await.unwrap().answers, 0);
    let before = world.books().await;
    for state in &states[..2] {
        let reply = world.pay(&ask(&world, state)).await;
        assert_eq!(reply.status, 409, "{reply:?}");
        assert_eq!(reply.json()["error"]["code"], "answer_expired");
    }
    assert_eq!(world.books().await, before, "no new tickets, no key operation");
    // The session itself goes on.
    assert_eq!(world.pay(&ask(&world, &states[2])).await.status, 200);
    // The audit sees as much as before: every ticket, and one that is missing.
    let ledger = world.signer().ledger.as_ref();
    let now_ms = world.now_s() * 1_000;
    let found = verify(ledger, &[], now_ms).await.unwrap();
    assert_eq!((found.handed_out, found.pruned, found.faults), (4 * 3, 0, vec![]));
    change(books, world.ledger_url(), "DELETE FROM audit WHERE reference LIKE '%/1/4'").await;
    let faults = verify(ledger, &[], now_ms).await.unwrap().faults;
    assert!(faults.iter().any(|fault| fault.contains("/1 is in no record")), "{faults:?}");
}

async fn old_payments_are_lines_of_usage(books: Books) {
    let world = World::on(books, &[]).await;
    let retention = Retention { answers_days: Some(7), payments_days: Some(35) };
    let from = format!("/v1/usage?from={}&to={}", day(world.now_s()), day(world.now_s() + DAY_S));
    let key = [("idempotency-key", "k")];
    let states = session(&world, &key).await;
    let usage = world.admin(&from).await;
    assert_eq!(usage[0]["payments"], 3);
    let summary = world.admin("/v1/summary").await;
    world.pass_s(37 * DAY_S);
    let late = session(&world, &[]).await;
    let swept = world.signer().sweep(retention).await.unwrap();
    assert_eq!((swept.payments, swept.answers), (3, 0));
    assert!(swept.counters >= 1, "{swept:?}");
    assert_eq!(world.admin(&from).await, usage, "of the days that are gone nothing is lost");
    assert_eq!(world.admin("/v1/payments?limit=9").await.as_array().unwrap().len(), 3);
    let before = world.books().await;
    assert_eq!(world.admin("/v1/summary").await["payments"], 6);
    assert_ne!(world.admin("/v1/summary").await, summary);
    for state in &states {
        let reply = world.pay(&ask(&world, state)).await;
        assert_eq!((reply.status, reply.message().as_str()), (400, "invalid state"));
    }
    assert_eq!(world.books().await, before, "no new tickets, no key operation");
    assert_eq!(world.pay(&ask(&world, &late[2])).await.status, 200);
    // The key is free again: the session that it opened is gone.
    let again = world.pay_with(&ask(&world, &Value::Null), &key).await;
    assert!(again.status == 200 && !again.replayed());
    // Counters, sums and records agree, and a record that is missing is missed.
    let ledger = world.signer().ledger.as_ref();
    let now_ms = (world.now_s() + 3_600) * 1_000;
    let found = verify(ledger, &[], now_ms).await.unwrap();
    assert_eq!((found.handed_out, found.pruned, found.withheld), (5 * 3, 9, 0));
    assert_eq!(found.faults, Vec::<String>::new());
    assert!(found.counters >= 2, "{found:?}");
    change(books, world.ledger_url(), "UPDATE retention SET tickets = tickets + 1").await;
    let faults = verify(ledger, &[], now_ms).await.unwrap().faults;
    assert!(faults.iter().any(|fault| fault.contains("1 tickets of pruned")), "{faults:?}");
    change(books, world.ledger_url(), "UPDATE retention SET tickets = tickets - 1").await;
    assert_eq!(verify(ledger, &[], now_ms).await.unwrap().faults, Vec::<String>::new());

    // Whoever takes a payment away and calls it old is not believed: nobody announced that.
    for sql in [
        "DELETE FROM payments WHERE sequence = 3",
        "UPDATE totals SET payments = payments - 1, tickets = tickets - 3",
        "UPDATE retention SET before_ms = before_ms + 3456000000",
    ] {
        change(books, world.ledger_url(), sql).await;
    }
    let faults = verify(ledger, &[], now_ms).await.unwrap().faults;
    for fault in ["the audit announces it of those before", "its payment is not in the books"] {
        assert!(faults.iter().any(|found| found.contains(fault)), "{fault}: {faults:?}");
    }
}

async fn a_replica_that_starts_sweeps(books: Books) {
    let world = World::on(books, &["--retain-answers-days=7"]).await;
    let states = session(&world, &[]).await;
    world.pass_s(8 * DAY_S);
    let twin = world.twin().await;
    let again = ask(&world, &states[0]);
    let gone = || async { pay_at(&world, &twin, &again, &[]).await.status == 409 };
    penstock_testkit::until("the answer is gone", gone).await;
}

fn day(unix_s: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(unix_s).unwrap().date().to_string()
}
