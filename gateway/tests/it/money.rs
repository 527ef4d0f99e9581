//! Every job is paid, nothing is paid twice, and the books agree.

use crate::world::{PIXELS, SOURCE, World, error};
use penstock_domain::Rational;
use penstock_gateway::clock;
use penstock_store::CreditKey;
use penstock_testkit::{
    sim::{
        orchestrator::{Order, PaymentOrder},
        signer,
    },
    until,
};
use std::sync::Arc;

/// Units of credit that the gateway believes to have at the one orchestrator, and the account's name.
async fn believed(w: &World) -> (i64, String) {
    let session = w.signer.payments().last().unwrap().manifest_id.clone();
    let key = CreditKey {
        auth_id: w.gateway.settings.auth_id.clone(),
        sender: w.signer.key.address(),
        orchestrator: w.signer.orchestrators.lock().unwrap()[0].clone(),
        session: session.clone(),
    };
    (w.gateway.store.credit(&key, clock::now()).await.unwrap(), session)
}

/// The gateway's credit is what was bought less what was used, and the orchestrator has at least it.
async fn assert_books(w: &World) {
    let (units, session) = believed(w).await;
    let bought: i64 =
        w.signer.payments().iter().filter(|p| p.manifest_id == session).map(|p| p.units).sum();
    let book = w.orchestrator().book(&session);
    let price = w.orchestrator().terms.lock().unwrap().price.rational();
    let used = book.debited.checked_div(&price).unwrap();
    assert_eq!(Rational::from_int(units.into()), &Rational::from_int(bought.into()) - &used);
    let worth = &Rational::from_int(units.into()) * &price;
    assert!(book.balance() >= worth, "{} < {worth}", book.balance());
}

/// What tickets the signer made, in wei of expected value.
fn issued(w: &World) -> Rational {
    let tickets: u64 = w.signer.payments().iter().map(|p| p.tickets).sum();
    let ev = w.orchestrator().ticket_ev();
    &ev * &Rational::from_int(tickets.into())
}

#[tokio::test]
async fn segments_are_paid_for_and_the_books_agree() {
    let w = World::with(1).await;
    for seq in 0..20 {
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
    }
    let totals = w.orchestrator().totals();
    assert_eq!(totals.credited, issued(&w), "every ticket made was credited");
    assert_eq!(totals.debited, Rational::from_int((20 * PIXELS * 3 / 2).into()));
    assert_books(&w).await;
    // One credential a segment, and far fewer payments than segments.
    assert_eq!(*w.signer.credential_requests.lock().unwrap(), 20);
    assert!(w.signer.payments().len() <= 6, "{:?}", w.signer.payments());
}

#[tokio::test]
async fn parallel_segments_buy_once_at_a_time() {
    let w = Arc::new(World::with(1).await);
    let mut pushes = tokio::task::JoinSet::new();
    for seq in 0..24 {
        let w = w.clone();
        pushes.spawn(async move { w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await.len() });
    }
    assert_eq!(pushes.join_all().await, [2; 24]);
    assert_eq!(w.orchestrator().totals().credited, issued(&w));
    assert_books(&w).await;
}

#[tokio::test]
async fn status_480_asks_the_orchestrator_again() {
    let w = World::with(1).await;
    let before = w.orchestrator().seen.lock().unwrap().offers;
    w.signer.payment_orders.then([signer::Order::Status(480), signer::Order::Status(480)]);
    w.pushed("/live/show/0.ts", SOURCE).await;
    let offers = w.orchestrator().seen.lock().unwrap().offers - before;
    assert_eq!(offers, 3, "to open the session, and once for each 480");
    assert_books(&w).await;
    // For a credential as well.
    w.signer.credential_orders.then([signer::Order::Status(480)]);
    w.pushed("/live/show/1.ts", SOURCE).await;
}

#[tokio::test]
async fn status_480_has_an_end() {
    let w = World::with(1).await;
    w.signer.payment_orders.then([signer::Order::Status(480); 20]);
    let answer = w.push("/live/show/0.ts", SOURCE).await;
    assert_eq!(answer.status(), 422);
    assert!(w.signer.asked() <= 4);
}

#[tokio::test]
async fn status_482_asks_for_more() {
    let w = World::with(1).await;
    w.signer.payment_orders.then([signer::Order::Status(482), signer::Order::Status(482)]);
    w.pushed("/live/show/0.ts", SOURCE).await;
    let asked = w.signer.payment_requests.lock().unwrap().clone();
    assert!(asked[1] >= 2 * asked[0] && asked[2] >= 2 * asked[1], "{asked:?}");
    assert_eq!(w.signer.payments()[0].units, asked[2], "what is booked is what was bought");
    assert_books(&w).await;
    let w = World::with(1).await;
    w.signer.payment_orders.then([signer::Order::Status(482); 100]);
    assert_eq!(w.push("/live/show/0.ts", SOURCE).await.status(), 422);
    assert!(w.signer.asked() <= 9, "bounded");
}

#[tokio::test]
async fn status_481_goes_elsewhere() {
    let w = World::with(2).await;
    w.signer.payment_orders.then([signer::Order::Status(481)]);
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!(w.signer.asked(), 2);
}

/// An account's rules may refuse one orchestrator's tickets for their worth; another's may do, or nobody's.
#[tokio::test]
async fn tickets_above_the_accounts_limit_are_one_orchestrators() {
    let w = World::with(2).await;
    w.signer.payment_orders.then([signer::Order::Code(403, "max_ticket_ev")]);
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!((w.signer.asked(), w.segments()), (2, 1));
    until("it is written down why", || async {
        let url = format!("{}/v1/selection/explain?stream=show", w.admin);
        let told = w.http.get(url).send().await.unwrap().text().await.unwrap();
        told.contains(r#""failed":"price""#)
    })
    .await;
    // Whatever else the rules forbid, they forbid everywhere.
    let w = World::with(2).await;
    w.signer.payment_orders.then([signer::Order::Code(403, "forbidden")]);
    let answer = w.push("/live/show/0.ts", SOURCE).await;
    let (status, code, _) = error(answer).await;
    assert_eq!((status, code.as_str(), w.signer.asked()), (403, "forbidden", 1));
    // A refusal of the gateway itself is the operator's to mend.
    w.signer.payment_orders.then([signer::Order::Code(403, "elsewhere")]);
    let answer = w.push("/live/show/1.ts", SOURCE).await;
    assert_eq!(error(answer).await.1, "signer_unavailable");
}

#[tokio::test]
async fn a_lost_answer_of_the_signer_buys_nothing_twice() {
    let w = World::with(1).await;
    w.signer.payment_orders.then([signer::Order::LoseAnswer]);
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!((w.signer.asked(), w.signer.payments().len()), (2, 1));
    assert_eq!(w.orchestrator().totals().credited, issued(&w));
    assert_books(&w).await;
}

#[tokio::test]
async fn a_lost_answer_of_the_orchestrator_buys_nothing_twice() {
    let w = World::with(1).await;
    w.orchestrator().payment_orders.then([PaymentOrder::LoseAnswer]);
    // The tickets arrived, nobody knows it: this try is over…
    assert_eq!(w.push("/live/show/0.ts", SOURCE).await.status(), 422);
    // …and the next finds the note, repeats the purchase, and learns that they did.
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!(w.signer.payments().len(), 1);
    assert_eq!(w.orchestrator().totals().credited, issued(&w));
    assert_books(&w).await;
}

#[tokio::test]
async fn tickets_that_could_not_be_delivered_are_delivered_later() {
    let w = World::with(1).await;
    w.orchestrator().payment_orders.then([PaymentOrder::Status(503, "not now")]);
    assert_eq!(w.push("/live/show/0.ts", SOURCE).await.status(), 422);
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!(w.signer.payments().len(), 1);
    assert_eq!(w.orchestrator().totals().credited, issued(&w));
    assert_books(&w).await;
}

/// Whether there is room is looked at before the tickets are, and so they are still good.
#[tokio::test]
async fn tickets_that_met_a_full_orchestrator_are_delivered_later() {
    for (status, text) in [(403, "OrchestratorCapped\n"), (503, "OrchestratorCapped")] {
        let w = World::with(1).await;
        w.orchestrator().payment_orders.then([PaymentOrder::Status(status, text)]);
        assert_eq!(w.push("/live/show/0.ts", SOURCE).await.status(), 422);
        w.pushed("/live/show/0.ts", SOURCE).await;
        assert_eq!(w.signer.payments().len(), 1, "{status}");
        assert_eq!(w.orchestrator().totals().credited, issued(&w), "{status}");
        assert_books(&w).await;
    }
}

#[tokio::test]
async fn refused_tickets_are_not_sent_again() {
    let w = World::with(1).await;
    w.orchestrator().payment_orders.then([PaymentOrder::Status(400, "invalid ticket signature")]);
    assert_eq!(w.push("/live/show/0.ts", SOURCE).await.status(), 422);
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!(w.signer.payments().len(), 2);
    let (units, _) = believed(&w).await;
    assert!(units > 0);
}

#[tokio::test]
async fn expired_ticket_parameters_are_renewed() {
    let w = World::with(1).await;
    w.orchestrator().payment_orders.then([PaymentOrder::Status(400, "TicketParams expired")]);
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!(w.signer.payments().len(), 2);
    assert_books(&w).await;
}

#[tokio::test]
async fn an_orchestrator_that_forgot_our_balance_is_paid_again() {
    let w = World::with(1).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    w.orchestrator().forget_balances();
    w.pushed("/live/show/1.ts", SOURCE).await;
    assert_eq!(w.orchestrator().segments(), 3, "refused once, then done");
    assert_eq!(w.signer.payments().len(), 2);
    // What we believe is what is there from now on.
    w.pushed("/live/show/2.ts", SOURCE).await;
    assert_eq!(w.orchestrator().segments(), 4);
}

#[tokio::test]
async fn failed_segments_leave_their_credit() {
    let w = World::with(1).await;
    w.orchestrator()
        .segment_orders
        .then([Order::JobError("OrchestratorBusy"), Order::Status(500, "x")]);
    assert_eq!(w.push("/live/show/0.ts", SOURCE).await.status(), 422);
    assert_eq!(w.push("/live/show/0.ts", SOURCE).await.status(), 422);
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!(w.signer.payments().len(), 1);
    assert_books(&w).await;
}

#[tokio::test]
async fn a_state_that_the_signer_does_not_know_begins_a_new_session() {
    let w = World::with(1).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    w.signer.payment_orders.then([signer::Order::Status(409)]);
    for seq in 1..8 {
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
    }
    assert!(w.signer.payment_orders.next().is_none(), "the refusal was met");
    assert_eq!(w.orchestrator().segments(), 8);
    assert_eq!(w.orchestrator().totals().credited, issued(&w));
    assert_books(&w).await;
}

#[tokio::test]
async fn parallel_jobs_whose_balance_was_forgotten_buy_anew_once() {
    let w = Arc::new(World::start(1, &["--prepay-jobs=12"]).await);
    w.pushed("/live/show/0.ts", SOURCE).await;
    w.orchestrator().forget_balances();
    let mut pushes = tokio::task::JoinSet::new();
    for seq in 1..9 {
        let w = w.clone();
        pushes.spawn(async move { w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await.len() });
    }
    assert_eq!(pushes.join_all().await, [2; 8]);
    let payments = w.signer.payments();
    assert!(payments.len() <= 3, "one before, and one or two for all: {payments:?}");
}

#[tokio::test]
async fn a_job_beyond_all_payments_buys_nothing() {
    let w = World::with(1).await;
    let config =
        r#"{"profiles":[{"name":"big","width":3840,"height":2160,"bitrate":1000,"fps":120}]}"#;
    let answer = w
        .http
        .put(format!("{}/live/show/0.ts", w.url))
        .header("livepeer-transcode-configuration", config)
        .header("content-duration", "300000")
        .body(SOURCE)
        .send()
        .await
        .unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 422, "{text}");
    assert!(text.contains("more than is bought for one job"), "{text}");
    assert_eq!((w.signer.asked(), w.segments()), (0, 0));
    // Which is nobody's fault but the job's.
    assert!(w.gateway.store.standings("video", clock::now()).await.unwrap().is_empty());
}

/// The caller's account at the signer has no budget left: told at once, and when to come again.
#[tokio::test]
async fn a_budget_that_is_used_up_is_the_callers_to_know() {
    let w = World::with(2).await;
    w.signer.payment_orders.then([signer::Order::Status(429)]);
    let answer = w.push("/live/show/0.ts", SOURCE).await;
    assert!(answer.headers().contains_key("retry-after"));
    let (status, code, text) = error(answer).await;
    assert_eq!((status, code.as_str()), (429, "budget_exceeded"), "{text}");
    assert_eq!((w.signer.asked(), w.segments()), (1, 0), "asked once, and nobody else was tried");
    w.pushed("/live/show/0.ts", SOURCE).await;
}
