//! Sessions of live video that nobody begins, that end, or whose process dies: what is left of what they have paid
//! is the same sender's next session's, to the wei and once; and who may have begun one is ended before another is
//! asked.

use crate::{
    live::{PATH, Session, Stage, job, runner},
    payer::{Headers, Payer, answer, empty, post, short_live},
    world::{TICKET_EV, World},
};
use penstock_domain::Rational;
use penstock_testkit::{sim::live_runner::Order, until};
use serde_json::{Value, json};

const REFUSED: &str = "live-video-to-video container returned 500: no GPU";

/// A sender at an orchestrator, which may have been started over.
struct Sender<'a> {
    world: &'a World,
    payer: &'a Payer,
}

impl Sender<'_> {
    /// Asks for a session with tickets of these nonces.
    async fn start(&self, nonces: &[u32]) -> (u16, Value) {
        let info = self.payer.info(self.world, Some(&job("noop"))).await.unwrap();
        let payment = match nonces {
            [] => self.payer.nothing(&info),
            some => self.payer.payment(&info, some).await,
        };
        let headers = self.payer.headers(&payment, &empty(&info, "m")).await;
        self.send(&headers).await
    }

    async fn send(&self, headers: &Headers) -> (u16, Value) {
        let body = json!({ "model_id": "noop" });
        let (status, text) = answer(post(self.world, PATH, headers).json(&body)).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The one account of this sender: its name and the tickets credited to it, all of which are unspent.
    async fn account(&self) -> (String, i64) {
        let sender = penstock_domain::address_lower(&self.payer.signer.address());
        let accounts = self.world.operator("/v1/accounts").await;
        let mut mine =
            accounts.as_array().unwrap().iter().filter(|a| a["sender"] == sender.as_str());
        let (Some(only), None) = (mine.next(), mine.next()) else { panic!("{accounts}") };
        assert_eq!(only["balance_wei"], only["credited_wei"], "nobody sent media");
        (only["session_id"].as_str().unwrap().to_owned(), only["tickets"].as_i64().unwrap())
    }
}

#[tokio::test]
async fn what_was_paid_for_a_start_that_nobody_began_is_the_next_ones() {
    let stage = Stage::paid_with(2, &[]).await;
    let (payer, other) = (Payer::funded(&stage.world).await, Payer::funded(&stage.world).await);
    let mine = Sender { world: &stage.world, payer: &payer };
    let others = Sender { world: &stage.world, payer: &other };
    let no_money = (400, json!(short_live("0", TICKET_EV).1));
    assert_eq!(mine.start(&[]).await, no_money);

    stage.runner.orders.then([Order::Refuse(500, "no GPU")]);
    assert_eq!(mine.start(&[1, 2, 3]).await, (500, json!(REFUSED)));
    assert_eq!(others.start(&[]).await, no_money, "it is not theirs");
    let first = mine.account().await;
    assert_eq!(first.1, 3);
    // Again in vain, with more: all of it stays together.
    stage.runner.orders.then([Order::Refuse(500, "no GPU")]);
    assert_eq!(mine.start(&[4]).await.0, 500);
    assert_eq!(mine.account().await, (first.0.clone(), 4));

    // A credential alone may be one that another orchestrator was shown: it gets nothing of it.
    assert_eq!(mine.start(&[]).await, no_money);
    // The next one that pays begins with all of it. The refused runner knows nothing of its channels.
    let (status, begun) = mine.start(&[5]).await;
    assert_eq!((status, begun["manifest_id"].as_str()), (200, Some(first.0.as_str())), "{begun}");
    assert!(!begun["publish_url"].as_str().unwrap().contains(&first.0));
    assert_eq!(mine.account().await, (first.0, 5), "credited once");
    // While it runs, what is left on its account is its own.
    assert_eq!(mine.start(&[6]).await.0, 200);
    let sessions = stage.world.operator("/v1/accounts").await;
    let mut tickets: Vec<_> =
        sessions.as_array().unwrap().iter().map(|a| a["tickets"].as_i64()).collect();
    tickets.sort_unstable();
    assert_eq!(tickets, [Some(1), Some(5)]);
}

/// The one account of all: its name, and its tickets. It has what was paid but for what was charged.
async fn only_account(world: &World) -> (String, i64) {
    let accounts = world.operator("/v1/accounts").await;
    let [only] = &accounts.as_array().unwrap()[..] else { panic!("{accounts}") };
    let wei = |name: &str| only[name].as_str().unwrap().parse::<Rational>().unwrap();
    let tickets = only["tickets"].as_i64().unwrap();
    // A ticket is worth a little more than that.
    let least = TICKET_EV.saturating_mul(tickets.into());
    assert_eq!(wei("credited_wei").floor(), Rational::from_int(least));
    assert_eq!(wei("balance_wei"), &wei("credited_wei") - &wei("debited_wei"));
    assert!(wei("debited_wei").is_positive() && wei("balance_wei").is_positive(), "{only}");
    (only["session_id"].as_str().unwrap().to_owned(), tickets)
}

/// The sender's next session, which begins with all that is there: under the same name, with channels of others.
async fn goes_on(world: &World, session: Session, nonces: &[u32]) -> Session {
    until("the runner is there", || async {
        session.payer.info(world, Some(&job("noop"))).await.is_ok()
    })
    .await;
    let (before, tickets) = only_account(world).await;
    let next = Session::start_by(world, session.payer, "noop", nonces).await;
    assert_eq!(next.manifest(), before);
    assert!(!next.url("publish_url").contains(&before));
    let paid = i64::try_from(nonces.len()).unwrap();
    assert_eq!(only_account(world).await, (before, tickets + paid), "nothing is lost or twice");
    next
}

#[tokio::test]
async fn what_a_session_leaves_is_the_next_ones_whatever_has_ended_it() {
    let stage = Stage::paid().await;
    let session = stage.session("noop", 20).await;
    let media = session.is_charged(&stage.world).await;
    stage.runner.faults.set_silent(true);
    until("its runner has failed it", || async { stage.sessions().await.is_empty() }).await;
    drop(media);
    stage.runner.faults.set_silent(false);
    stage.empty().await;
    // What was on its way then is there, too.
    session.pay(&stage.world, &[21, 22]).await;

    let session = goes_on(&stage.world, session, &[23]).await;
    let media = session.is_charged(&stage.world).await;
    media.close().await.unwrap();
    stage.empty().await;
    let last = goes_on(&stage.world, session, &[24]).await;
    assert_eq!(only_account(&stage.world).await, (last.manifest().to_owned(), 24));
}

#[tokio::test]
async fn what_a_session_had_when_its_process_died_is_the_next_ones() {
    let mut stage = Stage::process(&[]).await;
    let session = stage.session("noop", 20).await;
    let media = session.is_charged(&stage.world).await;
    stage.world.kill().await;
    drop(media);
    let last = goes_on(&stage.world, session, &[21]).await;
    assert_eq!(only_account(&stage.world).await, (last.manifest().to_owned(), 21));
}

#[tokio::test]
async fn a_runner_that_may_have_begun_is_ended_and_another_one_begins() {
    let (stage, second) = Stage::with_two().await;
    stage.runner.orders.then([Order::BreakOff]);
    let session = stage.session("noop", 20).await;
    assert_eq!(second.sessions(), 1);
    let told = stage.runner.requests.lock().unwrap()[0].clone();
    assert_ne!(told["subscribe_url"], session.answer["publish_url"], "channels of its own");
    until("the first one has ended", || async {
        stage.runner.sessions() == 0 && stage.in_use().await == 1
    })
    .await;
    let url = format!("{}/next", told["publish_url"].as_str().unwrap());
    assert_eq!(stage.world.http.get(url).send().await.unwrap().status(), 404);
    // Paid once, and delivered.
    assert_eq!(stage.world.operator("/v1/summary").await["tickets"], 20);
    let accounts = stage.world.operator("/v1/accounts").await;
    assert_eq!(accounts[0]["session_id"], session.manifest());
}

#[tokio::test]
async fn a_runner_that_fails_one_senders_starts_again_and_again_serves_the_others() {
    let stage = Stage::paid_with(2, &[]).await;
    let (payer, other) = (Payer::funded(&stage.world).await, Payer::funded(&stage.world).await);
    let mine = Sender { world: &stage.world, payer: &payer };
    let others = Sender { world: &stage.world, payer: &other };
    for nonce in 1..=3 {
        stage.runner.orders.then([Order::Refuse(500, "bad params")]);
        assert_eq!(mine.start(&[nonce]).await.0, 500);
    }
    // It is not asked for this one, who pays nothing more.
    assert_eq!(mine.start(&[4]).await, (503, json!("insufficient capacity")));
    assert_eq!(stage.runner.requests.lock().unwrap().len(), 3);
    assert_eq!(stage.world.operator("/v1/summary").await["tickets"], 3);
    let runners = stage.world.operator("/v1/live-runners").await;
    assert!(runners.as_array().unwrap().iter().all(|r| r["is_left_out"] == false), "{runners}");
    assert_eq!(others.start(&[1]).await.0, 200);
    // What fails is this one's requests, whatever becomes of the others'.
    assert_eq!(mine.start(&[5]).await, (503, json!("insufficient capacity")));
}

/// As many senders as it takes, twice each: the runner refuses all of them.
async fn refused_by_all(stage: &Stage, senders: &[Payer]) {
    for payer in senders {
        let sender = Sender { world: &stage.world, payer };
        for nonce in 1..=2 {
            stage.runner.orders.then([Order::Refuse(500, "no GPU")]);
            assert_eq!(sender.start(&[nonce]).await, (500, json!(REFUSED)));
        }
    }
}

async fn is_left_out(stage: &Stage) -> bool {
    let runners = stage.world.operator("/v1/live-runners").await;
    runners.as_array().unwrap().iter().any(|r| r["is_left_out"] == true)
}

#[tokio::test]
async fn a_runner_that_fails_several_senders_is_left_out_before_anybody_pays() {
    let stage = Stage::paid().await;
    let mut payers = Vec::new();
    for _ in 0..3 {
        payers.push(Payer::funded(&stage.world).await);
    }
    let (two, third) = payers.split_at(2);
    refused_by_all(&stage, two).await;
    assert!(!is_left_out(&stage).await, "two take it from nobody else");
    assert!(third[0].info(&stage.world, Some(&job("noop"))).await.is_ok());
    // It fails us as well, when we try it.
    let third = Sender { world: &stage.world, payer: &third[0] };
    stage.runner.orders.then([Order::Refuse(500, "no GPU")]);
    assert_eq!(third.start(&[1]).await.0, 500);
    stage.runner.orders.then([Order::Refuse(500, "no GPU"), Order::Refuse(500, "no GPU")]);
    assert_eq!(third.start(&[2]).await.0, 500);
    let tried = || async { stage.runner.requests.lock().unwrap().len() == 7 };
    until("it is tried", tried).await;
    // Gateways hear of it before they ask, and who asks all the same pays nothing.
    let payer = Payer::funded(&stage.world).await;
    let capped = payer.info(&stage.world, Some(&job("noop"))).await.unwrap_err();
    assert_eq!(capped.message(), "Invalid orchestrator request: OrchestratorCapped");
    assert!(is_left_out(&stage).await);
    assert_eq!(stage.runner.requests.lock().unwrap().len(), 7);
    assert_eq!(stage.world.operator("/v1/summary").await["tickets"], 6);
}

#[tokio::test]
async fn a_runner_that_begins_when_we_try_it_is_there_for_all_whatever_senders_say() {
    let stage = Stage::paid().await;
    let mut payers = Vec::new();
    for _ in 0..4 {
        payers.push(Payer::funded(&stage.world).await);
    }
    refused_by_all(&stage, &payers[..3]).await;
    until("it was tried, and is free again", || async {
        stage.runner.requests.lock().unwrap().len() == 7 && stage.in_use().await == 0
    })
    .await;
    let trial = stage.runner.requests.lock().unwrap()[6].clone();
    assert_eq!(
        (&trial["model_id"], &trial["stream_id"]),
        (&json!("noop"), &json!("penstock-trial"))
    );
    assert!(!is_left_out(&stage).await);
    // From now on that counts, and not what senders say of it to the others: each of these is left out by its third.
    for payer in &payers[..3] {
        let sender = Sender { world: &stage.world, payer };
        stage.runner.orders.then([Order::Refuse(500, "no GPU")]);
        assert_eq!(sender.start(&[3]).await.0, 500);
        assert_eq!(sender.start(&[4]).await.0, 503);
    }
    let other = Sender { world: &stage.world, payer: &payers[3] };
    assert_eq!(other.start(&[1]).await.0, 200);
    // The trial has cost nobody anything.
    assert_eq!(stage.world.operator("/v1/summary").await["debited_wei"], "0");
}

#[tokio::test]
async fn a_runner_that_does_not_answer_is_not_waited_for() {
    let stage = Stage::paid().await;
    stage.runner.faults.set_silent(true);
    let payer = Payer::funded(&stage.world).await;
    // It is found out beside the sessions, without any start.
    until("nobody is sent there", || async {
        payer.info(&stage.world, Some(&job("noop"))).await.is_err()
    })
    .await;
    stage.runner.faults.set_silent(false);
    until("it is back", || async { payer.info(&stage.world, Some(&job("noop"))).await.is_ok() })
        .await;
    let mine = Sender { world: &stage.world, payer: &payer };
    assert_eq!(mine.start(&[1]).await.0, 200);
}

#[tokio::test]
async fn a_process_that_dies_between_payment_and_begin_owes_it_once() {
    for failpoint in ["orchestrator.before_live_start", "orchestrator.after_live_start"] {
        let (_runner, models) = runner(4).await;
        let models_flag = format!("--models-file={}", models.path().display());
        let args = ["--auto-adjust-price=false", &models_flag];
        let mut world = World::process(100_000, &args).await;
        let payer = Payer::funded(&world).await;
        let log = world.arm(failpoint).await;
        let info = payer.info(&world, Some(&job("noop"))).await.unwrap();
        let payment = payer.payment(&info, &[1, 2, 3]).await;
        let headers = payer.headers(&payment, &empty(&info, "m")).await;
        let body = json!({ "model_id": "noop" });
        assert!(post(&world, PATH, &headers).json(&body).send().await.is_err(), "it dies");
        world.after_its_death().await;
        assert!(std::fs::read_to_string(log).unwrap().starts_with(failpoint));

        let mine = Sender { world: &world, payer: &payer };
        assert_eq!(mine.account().await.1, 3);
        // Its tickets count no second time, and what they were worth is still there.
        assert_eq!(mine.send(&headers).await.0, 400, "{failpoint}");
        assert_eq!(mine.start(&[]).await, (400, json!(short_live("0", 1383).1)));
        assert_eq!(mine.start(&[4]).await.0, 200, "{failpoint}");
        assert_eq!(mine.account().await.1, 4);
    }
}
