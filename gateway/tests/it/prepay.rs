//! How far ahead credit is bought: for a while at the present pace, within a ceiling, and never instead of what a
//! job needs.

use crate::world::{SOURCE, World};
use penstock_domain::Rational;
use penstock_store::SessionKey;
use penstock_testkit::sim::signer::Order;
use std::time::{Duration, Instant};

/// The session of the stream `show`.
fn session(w: &World) -> SessionKey {
    let caller = &w.gateway.settings.auth_id;
    SessionKey {
        scope: penstock_store::scope_of("stream:show", caller),
        orchestrator: w.signer.orchestrators.lock().unwrap()[0].clone(),
    }
}

/// Jobs took so many units within a second that does not end while the test runs.
fn took(w: &World, units: u64) {
    let then = Instant::now() + Duration::from_secs(3_600);
    w.gateway.paces.took(&session(w), units, then);
}

/// Units of the first payment where jobs took so many in the last second.
async fn first_payment(ms: u64, pace: u64) -> i64 {
    let prepay = format!("--prepay-ms={ms}");
    let w = World::start(1, &["--prepay-jobs=1", &prepay]).await;
    took(&w, pace);
    w.pushed("/live/show/0.ts", SOURCE).await;
    let payments = w.signer.payments();
    assert_eq!(payments.len(), 1);
    payments[0].units
}

#[tokio::test]
async fn a_payment_buys_for_a_while_at_the_present_pace() {
    const PACE: u64 = 1_000_000_000;
    let alone = first_payment(0, PACE).await;
    assert_eq!(first_payment(1_000, PACE).await, alone + 1_000_000_000);
    assert_eq!(first_payment(500, PACE).await, alone + 500_000_000);
    assert_eq!(first_payment(1_000, 0).await, alone);
}

/// Whatever the pace: what can be lost with an orchestrator has an end.
#[tokio::test]
async fn what_is_bought_ahead_is_at_most_fifty_tickets() {
    let w = World::start(1, &["--prepay-ms=60000"]).await;
    took(&w, u64::MAX);
    for seq in 0..5 {
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
    }
    let payments = w.signer.payments();
    assert_eq!(payments.len(), 1, "{payments:?}");
    let most = &w.orchestrator().ticket_ev() * &Rational::from_int(51.into());
    let credited = w.orchestrator().totals().credited;
    assert!(payments[0].tickets >= 50 && credited <= most, "{credited} of {most}");
}

/// Limits and budgets of the account are no reason to turn a job away that they leave room for.
#[tokio::test]
async fn what_the_signer_refuses_to_sell_ahead_is_not_needed() {
    for refusal in [
        Order::Code(429, "budget_exceeded"),
        Order::Code(500, "max_total_ev"),
        Order::Code(400, "max_tickets"),
    ] {
        let w = World::start(1, &["--prepay-ms=1000"]).await;
        took(&w, 2_000_000_000);
        w.signer.payment_orders.then([refusal]);
        w.pushed("/live/show/0.ts", SOURCE).await;
        let asked = w.signer.payment_requests.lock().unwrap().clone();
        assert_eq!(asked.len(), 2, "{asked:?}");
        let alone = asked[1];
        assert!(asked[0] > 2_000_000_000 && alone < asked[0] / 2, "{asked:?}");
        assert_eq!(w.signer.payments()[0].units, alone);
        // The next one asks for half of it at once.
        while w.signer.asked() == 2 {
            let seq = 1 + w.segments();
            w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
        }
        let again = w.signer.payment_requests.lock().unwrap()[2];
        assert_eq!(again, asked[0] / 2);
    }
}

#[tokio::test]
async fn a_budget_without_room_for_the_job_itself_is_told() {
    let w = World::start(1, &["--prepay-ms=1000"]).await;
    took(&w, 2_000_000_000);
    w.signer.payment_orders.then([Order::Code(429, "budget_exceeded"); 2]);
    assert_eq!(w.push("/live/show/0.ts", SOURCE).await.status(), 429);
    assert_eq!((w.signer.asked(), w.segments()), (2, 0));
}
