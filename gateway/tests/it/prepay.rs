//! How far ahead credit is bought: for a while at the present pace, within a ceiling, and never instead of what a
//! job needs.

use crate::world::{CONFIG, PIXELS, Replica, SOURCE, World, settings};
use penstock_domain::Rational;
use penstock_gateway::{app::App, clock, service::Gateway};
use penstock_http_kit::CancellationToken;
use penstock_store::{CreditKey, SessionKey};
use penstock_testkit::{
    sim::{orchestrator::PaymentOrder, signer::Order},
    until,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// A purchase that is held up by a test is nobody else's meanwhile, however slow the machine is.
const PATIENT: &str = "--session-lease-ms=600000";

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
    took_at(w, &w.gateway, units);
}

/// The same at this replica.
fn took_at(w: &World, gateway: &Gateway, units: u64) {
    let then = Instant::now() + Duration::from_secs(3_600);
    gateway.paces.took(&session(w), units, then);
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
        let alone = asked[1];
        assert!(asked[0] > 2_000_000_000 && alone < asked[0] / 2, "{asked:?}");
        assert_eq!(w.signer.payments()[0].units, alone);
        // The next one asks for half of it at once.
        until_asked(&w, 1, 3).await;
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

/// Units that a segment is estimated at: a little above what it takes.
const ESTIMATE: u64 = 47_002;
/// Jobs that take so much make a payment for 64 of them, and the next one when fewer than 32 are left.
const AHEAD: u64 = 64 * ESTIMATE;

/// Holds all payments back until it has permits.
fn hold_payments(w: &World) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    *w.signer.payment_gate.lock().unwrap() = Some(Arc::clone(&gate));
    gate
}

/// Credit at the one orchestrator.
async fn credit(w: &World) -> i64 {
    let key = CreditKey {
        auth_id: w.gateway.settings.auth_id.clone(),
        sender: w.signer.key.address(),
        orchestrator: session(w).orchestrator,
        session: w.signer.payments().last().unwrap().manifest_id.clone(),
    };
    w.gateway.store.credit(&key, clock::now()).await.unwrap()
}

/// Whether credit is what was bought, less what was used.
async fn all_is_booked(w: &World) -> bool {
    let bought: i64 = w.signer.payments().iter().map(|p| p.units).sum();
    let used = w.segments() * usize::try_from(PIXELS).unwrap();
    credit(w).await == bought - i64::try_from(used).unwrap()
}

/// A world whose jobs come fast, with the first payment made; and the next segment's number.
async fn busy() -> (World, u64) {
    let w = World::start(1, &["--prepay-jobs=1", "--prepay-ms=1000", PATIENT]).await;
    took(&w, AHEAD);
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!(w.signer.asked(), 1);
    (w, 1)
}

/// Pushes segments, from this one on, until the signer was asked so often; which is next.
async fn until_asked(w: &World, mut seq: u64, asked: usize) -> u64 {
    while w.signer.asked() < asked {
        assert!(seq < 1_000, "the signer is not asked");
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
        seq += 1;
    }
    seq
}

#[tokio::test]
async fn credit_is_bought_before_it_has_run_out_and_nobody_waits_for_it() {
    let (w, seq) = busy().await;
    let gate = hold_payments(&w);
    let seq = until_asked(&w, seq, 2).await;
    // The signer says nothing, and jobs go on.
    for seq in seq..seq + 3 {
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
    }
    assert_eq!((w.signer.asked(), w.signer.payments().len()), (2, 1), "one at a time");
    gate.add_permits(100);
    until("it is bought", || async { w.signer.payments().len() == 2 }).await;
    until("it is booked", || all_is_booked(&w)).await;
}

#[tokio::test]
async fn when_nothing_can_be_bought_ahead_the_job_that_needs_it_buys() {
    let (w, seq) = busy().await;
    w.signer.payment_orders.then([Order::Code(403, "forbidden")]);
    let seq = until_asked(&w, seq, 2).await;
    until("it has failed", || async { !w.gateway.paces.may_buy_ahead(&session(&w)) }).await;
    let left = credit(&w).await;
    // Nobody tries that again before credit is used up, and then it is bought as ever.
    let seq = until_asked(&w, seq, 3).await;
    assert!(w.signer.payments().len() == 2 && credit(&w).await > left);
    assert!(w.gateway.paces.may_buy_ahead(&session(&w)));
    let floor = w.signer.payments()[0].units - i64::try_from(AHEAD).unwrap();
    let at_last = credit(&w).await - w.signer.payments()[1].units + i64::try_from(PIXELS).unwrap();
    assert!(at_last < floor, "{at_last} would have been enough for a job");
    until_asked(&w, seq, 4).await;
}

/// What was signed ahead did not arrive, and the orchestrator forgets what it had: those tickets are delivered all the
/// same, before any are signed in their place.
#[tokio::test]
async fn tickets_under_way_are_delivered_to_an_orchestrator_that_forgot_the_others() {
    let cases = [
        (PaymentOrder::Status(503, "not now"), 1),
        // These were forgotten, too: it is begun anew.
        (PaymentOrder::LoseAnswer, 2),
    ];
    for (order, forgotten) in cases {
        let (w, seq) = busy().await;
        w.orchestrator().payment_orders.then([order]);
        let seq = until_asked(&w, seq, 2).await;
        until("it has failed", || async { !w.gateway.paces.may_buy_ahead(&session(&w)) }).await;
        w.orchestrator().forget_balances();
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
        // More may be bought ahead meanwhile.
        until("all but what was forgotten is there", || async {
            let payments = w.signer.payments();
            let tickets: u64 = payments.iter().skip(forgotten).map(|p| p.tickets).sum();
            let worth = &w.orchestrator().ticket_ev() * &Rational::from_int(tickets.into());
            payments.len() >= 2 && w.orchestrator().totals().credited == worth
        })
        .await;
    }
}

/// Two replicas of a session notice it at the same time.
#[tokio::test]
async fn replicas_do_not_buy_ahead_side_by_side() {
    let (w, seq) = busy().await;
    let stores = (w.gateway.store.clone(), w.gateway.segments.clone());
    let flags = ["--prepay-jobs=1", "--prepay-ms=1000", PATIENT];
    let other = Replica::on(&w.signer.uri(), &flags, Some(stores)).await;
    took_at(&w, &other.gateway, AHEAD);
    let gate = hold_payments(&w);
    let seq = until_asked(&w, seq, 2).await;
    for seq in seq..seq + 3 {
        let pushed = w.http.put(format!("{}/live/show/{seq}.ts", other.url));
        let pushed = pushed.header("livepeer-transcode-configuration", CONFIG).body(SOURCE);
        assert_eq!(pushed.send().await.unwrap().status(), 200);
        // It looked whether it may buy, and left it at that.
        until("it has looked", || async { other.gateway.turns.running(&session(&w)).is_none() })
            .await;
    }
    assert_eq!((w.signer.asked(), w.signer.payments().len()), (2, 1));
    assert!(other.gateway.paces.may_buy_ahead(&session(&w)), "which is no failure");
    gate.add_permits(100);
    until("it is bought", || async { w.signer.payments().len() == 2 }).await;
    until("it is booked", || all_is_booked(&w)).await;
    other.stop.cancel();
}

#[tokio::test]
async fn a_purchase_is_finished_before_the_process_ends() {
    let w = World::with(1).await;
    let stores = (w.gateway.store.clone(), w.gateway.segments.clone());
    let flags = ["--prepay-jobs=1", "--prepay-ms=1000", "--drain-notice-ms=0", PATIENT];
    let settings = settings(&w.signer.uri(), &flags);
    let app = App::build_on(settings, None, stores.0, stores.1).await.unwrap();
    let (gateway, url) = (app.gateway().clone(), format!("http://{}", app.addresses()["http"]));
    let stop = CancellationToken::new();
    let running = tokio::spawn(app.run(stop.clone()));
    took_at(&w, &gateway, AHEAD);
    let mut seq = 0;
    let mut gate = None;
    while w.signer.asked() < 2 {
        assert!(seq < 1_000, "the signer is not asked");
        let pushed = w.http.put(format!("{url}/live/show/{seq}.ts"));
        let pushed = pushed.header("livepeer-transcode-configuration", CONFIG).body(SOURCE);
        assert_eq!(pushed.send().await.unwrap().status(), 200);
        seq += 1;
        gate.get_or_insert_with(|| hold_payments(&w));
    }
    stop.cancel();
    until("it ends", || async { gateway.jobs.is_closed() }).await;
    assert!(!running.is_finished() && w.signer.payments().len() == 1);
    gate.unwrap().add_permits(100);
    running.await.unwrap().unwrap();
    assert_eq!(w.signer.payments().len(), 2);
    assert!(all_is_booked(&w).await);
}
