//! What is left of what was paid for sessions of live runners: it is the same sender's next session's, to the wei and
//! once, at that one's price; and nobody has anything for it that he did not pay.

use crate::{
    payer::post,
    runner_app::App,
    runner_sessions::{CHEAP, Client, Due, SESSION, price, reason},
    runners::{ON, beat, read, said},
    world::{SECRET, World},
};
use penstock_domain::Rational;
use penstock_testkit::{postgres, until, until_some};
use serde_json::{Value, json};

/// A runner, at an application of its own.
struct Registered<'a> {
    world: &'a World,
    _app: App,
    id: &'static str,
    heartbeat: String,
}

impl<'a> Registered<'a> {
    async fn new(world: &'a World, id: &'static str, price_info: Value) -> Self {
        let app = App::start().await;
        let mut facts = said(id, &app.url());
        facts["price_info"] = price_info;
        facts["capacity"] = json!(2);
        let (status, answer) = beat(world, SECRET, &facts).await;
        assert_eq!(status, 200, "{answer}");
        let heartbeat = answer["heartbeat_secret"].as_str().unwrap().to_owned();
        Self { world, _app: app, id, heartbeat }
    }

    /// It takes itself away, and its sessions end with it: this is one.
    async fn goes(self, session: &Due) {
        let url = format!("{}/runners/{}/unregister", self.world.service, self.id);
        let request = self.world.http.post(url).header("Authorization", &self.heartbeat);
        assert_eq!(read(request).await.0, 204);
        let why = reason(self.world, &session.manifest).await;
        assert_eq!(why.as_deref(), Some("runner_unregistered"));
    }
}

fn fixed(wei: u32) -> Value {
    // 0.000000000002 dollars are 1,000 wei.
    price(&format!("0.{:015}", wei * 2), "fixed")
}

fn at(id: &str) -> String {
    SESSION.replace("/r/", &format!("/{id}/"))
}

/// The arithmetic of an account.
struct Invoice(Value);

impl Invoice {
    async fn of(world: &World, due: &Due) -> Self {
        Self(world.operator(&format!("/v1/invoices/{}", due.manifest)).await[0].clone())
    }

    fn wei(&self, field: &str) -> Rational {
        self.0[field].as_str().unwrap().parse().unwrap()
    }

    /// What tickets brought, and what came from or went to other accounts.
    fn credits(&self) -> (Rational, Vec<Rational>) {
        let (mut paid, mut carried) = (Rational::ZERO, Vec::new());
        for line in self.0["credits"].as_array().unwrap() {
            let amount: Rational = line["amount_wei"].as_str().unwrap().parse().unwrap();
            match line["tickets"].as_u64() {
                Some(0) => carried.push(amount),
                _ => paid += &amount,
            }
        }
        (paid, carried)
    }

    /// Prices that were charged, each once.
    fn prices(&self) -> Vec<String> {
        let debits = self.0["debits"].as_array().unwrap().iter();
        let text = |line: &Value| line["price_wei_per_unit"].as_str().unwrap().to_owned();
        let mut prices: Vec<_> = debits.map(text).collect();
        prices.dedup();
        prices
    }
}

/// All that was paid and not charged, over all accounts.
async fn all(world: &World) -> Rational {
    let summary = world.operator("/v1/summary").await;
    let wei = |name: &str| summary[name].as_str().unwrap().parse::<Rational>().unwrap();
    assert_eq!(
        wei("credited_wei"),
        Rational::from_int(1000 * tickets(&summary)),
        "no more, no less"
    );
    &wei("credited_wei") - &wei("debited_wei")
}

fn tickets(summary: &Value) -> i128 {
    summary["tickets"].as_i64().unwrap().into()
}

/// Reserves with a ticket, and again while what was left is still on its way: then that ticket is left, too. Prices are
/// such that many of these would not do.
async fn next(client: &Client<'_>, path: &str) -> Due {
    until_some("a session begins with what was left", || async {
        let due = client.challenged(path).await;
        match client.pays(path, &due, 1..2).await {
            (200, _) => Some(due),
            (400, said) => {
                assert!(said.to_string().contains("Insufficient balance"), "{said}");
                None
            }
            other => panic!("{other:?}"),
        }
    })
    .await
}

#[tokio::test]
async fn a_runner_that_goes_leaves_the_time_that_was_paid_to_the_next_session() {
    let settings = [&ON[..], &["--live-payment-interval-ms=200"]].concat();
    let world = World::paid_with(1000, &settings).await;
    let runner = Registered::new(&world, "r", price(CHEAP, "hour")).await;
    // Thirty times as dear.
    let dear = Registered::new(&world, "s", price("0.000000216", "hour")).await;
    let client = Client::new(&world).await;
    let first = client.challenged(SESSION).await;
    assert_eq!(client.pays(SESSION, &first, 1..51).await.0, 200);
    let app = format!("{}{SESSION}/{}/app/x", world.service, first.manifest);
    assert_eq!(read(world.http.get(app)).await.0, 200);
    until("time was charged", || async {
        client.balance(&first).await < Rational::from_int(50_000)
    })
    .await;
    // While it runs, what is on its account is its own.
    let other = client.challenged(SESSION).await;
    assert_eq!(client.pays(SESSION, &other, 1..2).await.0, 200);
    assert!(client.balance(&other).await <= Rational::from_int(1_000));
    runner.goes(&first).await;

    // Not a stranger's, nor his who shows a credential alone.
    let stranger = Client::new(&world).await;
    let due = stranger.challenged(&at("s")).await;
    let (status, text) = stranger.pays(&at("s"), &due, 1..2).await;
    let short =
        "Insufficient balance: 1000 wei of 30000 wei for the first seconds; pay more at once";
    assert_eq!((status, text), (400, json!(short)));
    let due = client.challenged(&at("s")).await;
    let (status, text) = client.pays(&at("s"), &due, 0..0).await;
    assert_eq!((status, text), (400, json!(short.replacen("1000", "0", 1))));

    let second = next(&client, &at("s")).await;
    until("it is charged", || async { !Invoice::of(&world, &second).await.prices().is_empty() })
        .await;
    let before = Invoice::of(&world, &first).await;
    let (paid, carried) = before.credits();
    assert_eq!(paid, Rational::from_int(50_000));
    assert_eq!(carried, [-(&paid - &before.wei("debited_wei"))], "all but what was charged");
    assert_eq!(before.wei("balance_wei"), Rational::ZERO);
    let after = Invoice::of(&world, &second).await;
    assert_eq!((before.prices(), after.prices()), (vec!["1000".into()], vec!["30000".into()]));
    let (paid, came) = after.credits();
    assert_eq!(paid, Rational::from_int(1000));
    assert!(came.len() == 1 && came[0] >= -carried[0].clone(), "{came:?}");
    all(&world).await;

    // So it is when the client goes.
    let stop = async |id: &str, session: &Due| {
        let url = format!("{}{}/{}/stop", world.service, at(id), session.manifest);
        assert_eq!(read(world.http.post(url)).await.0, 204);
    };
    stop("s", &second).await;
    let _runner = Registered::new(&world, "r", price(CHEAP, "hour")).await;
    until("another one begins with the rest", || async {
        let due = client.challenged(SESSION).await;
        assert_eq!(client.pays(SESSION, &due, 1..2).await.0, 200);
        stop("r", &due).await;
        Invoice::of(&world, &second).await.wei("balance_wei").is_zero()
    })
    .await;
    all(&world).await;
    drop(dear);
}

#[tokio::test]
async fn a_fixed_price_of_which_nothing_was_delivered_is_the_next_sessions() {
    let world = World::paid_with(1000, &ON).await;
    let runner = Registered::new(&world, "r", fixed(1000)).await;
    let client = Client::new(&world).await;
    let first = client.challenged(SESSION).await;
    let (status, session) = client.pays(SESSION, &first, 1..21).await;
    assert_eq!(status, 200, "{session}");
    runner.goes(&first).await;
    // It costs what was paid, and a ticket more.
    let dear = Registered::new(&world, "s", fixed(21_000)).await;
    let stranger = Client::new(&world).await;
    let refused = stranger.challenged(&at("s")).await;
    let short = "Insufficient balance: 1000 wei of 21000 wei for the fixed price; pay more at once";
    assert_eq!(stranger.pays(&at("s"), &refused, 1..2).await, (400, json!(short)));
    let second = next(&client, &at("s")).await;
    let before = Invoice::of(&world, &first).await;
    assert_eq!(before.credits(), (Rational::from_int(20_000), vec![-Rational::from_int(20_000)]));
    assert_eq!((before.prices(), before.wei("debited_wei")), (vec![], Rational::ZERO));

    // Once something is delivered, it is spent.
    let app = format!("{}{}/{}/app/x", world.service, at("s"), second.manifest);
    assert_eq!(read(world.http.get(app)).await.0, 200);
    until("it is charged", || async { Invoice::of(&world, &second).await.prices() == ["21000"] })
        .await;
    dear.goes(&second).await;
    // Who leaves has held the runner, and nothing of that comes back.
    let last = Registered::new(&world, "t", fixed(21_000)).await;
    let third = stranger.challenged(&at("t")).await;
    assert_eq!(stranger.pays(&at("t"), &third, 1..22).await.0, 200);
    let stop = format!("{}{}/{}/stop", world.service, at("t"), third.manifest);
    assert_eq!(read(world.http.post(stop)).await.0, 204);
    assert_eq!(reason(&world, &third.manifest).await.as_deref(), Some("client_stopped"));
    until("it is charged", || async { Invoice::of(&world, &third).await.prices() == ["21000"] })
        .await;
    let paid = Rational::from_int(1000 * tickets(&world.operator("/v1/summary").await));
    assert_eq!(all(&world).await, &paid - &Rational::from_int(42_000));
    drop(last);
}

/// The payment is in the books, and nobody has heard of it: neither what was left before nor its own is lost.
#[tokio::test]
async fn a_process_that_dies_between_a_payment_and_what_was_left_owes_both_once() {
    const FAILPOINT: &str = "orchestrator.after_credit";
    let mut world = World::process(1000, &ON).await;
    let runner = Registered::new(&world, "r", fixed(1000)).await;
    let client = Client::new(&world).await;
    let first = client.challenged(SESSION).await;
    assert_eq!(client.pays(SESSION, &first, 1..7).await.0, 200);
    let Client { payer, .. } = client;
    drop(runner);
    let log = world.arm(FAILPOINT).await;
    let runner = Registered::new(&world, "r", fixed(8000)).await;
    let client = Client::of(&world, payer);
    let second = client.challenged(SESSION).await;
    let headers = client.headers(&second, 1..2).await;
    assert!(post(&world, SESSION, &headers).send().await.is_err(), "it dies");
    let Client { payer, .. } = client;
    drop(runner);
    world.after_its_death().await;
    assert!(std::fs::read_to_string(log).unwrap().starts_with(FAILPOINT));

    let runner = Registered::new(&world, "r", fixed(8000)).await;
    let client = Client::of(&world, payer);
    // Its ticket counts no second time.
    let (status, said) = read(post(&world, SESSION, &headers)).await;
    assert_eq!(status, 400, "{said}");
    assert_eq!(client.balance(&second).await, Rational::from_int(1000));
    let third = client.challenged(SESSION).await;
    assert_eq!(client.pays(SESSION, &third, 1..2).await.0, 200);
    assert_eq!(client.balance(&third).await, Rational::from_int(8000));
    assert_eq!(client.balance(&first).await, Rational::ZERO);
    assert_eq!(all(&world).await, Rational::from_int(8000));
    drop(runner);
}

#[tokio::test]
async fn of_two_that_come_at_once_one_has_what_a_dead_process_left() {
    let mut world = World::process(1000, &ON).await;
    let runner = Registered::new(&world, "r", fixed(1000)).await;
    let client = Client::new(&world).await;
    let first = client.challenged(SESSION).await;
    assert_eq!(client.pays(SESSION, &first, 1..7).await.0, 200);
    let Client { payer, .. } = client;
    drop(runner);
    world.kill().await;
    let runner = Registered::new(&world, "r", fixed(7000)).await;
    let client = Client::of(&world, payer);
    let (one, two) = (client.challenged(SESSION).await, client.challenged(SESSION).await);
    let (a, b) = tokio::join!(client.pays(SESSION, &one, 1..2), client.pays(SESSION, &two, 1..2));
    let short =
        json!("Insufficient balance: 1000 wei of 7000 wei for the fixed price; pay more at once");
    let (begun, other) = if a.0 == 200 { (&one, b) } else { (&two, a) };
    assert_eq!(other, (400, short));
    assert_eq!(client.balance(begun).await, Rational::from_int(7000));
    assert_eq!(client.balance(&first).await, Rational::ZERO);
    assert_eq!(all(&world).await, Rational::from_int(8000));
    drop(runner);
}

/// A name is one session's at a time, whichever runner's: else the end of the first took from the second what it was
/// paid.
#[tokio::test]
async fn a_name_in_use_begins_nothing_and_can_be_used_again() {
    let world = World::paid_with(1000, &ON).await;
    let runner = Registered::new(&world, "r", fixed(1000)).await;
    let other = Registered::new(&world, "s", fixed(1000)).await;
    let client = Client::new(&world).await;
    let due = client.challenged(SESSION).await;
    assert_eq!(client.pays(SESSION, &due, 1..3).await.0, 200);
    let taken = client.pays(&at("s"), &due, 3..5).await;
    assert_eq!(taken, (409, json!("session already exists")));
    assert_eq!(client.balance(&due).await, Rational::from_int(2000), "nothing was taken");
    runner.goes(&due).await;
    assert_eq!(client.pays(&at("s"), &due, 3..5).await.0, 200);
    assert_eq!(client.balance(&due).await, Rational::from_int(4000));
    // It is this one's now, whatever comes late of the first.
    let third = client.challenged(&at("s")).await;
    assert_eq!(client.pays(&at("s"), &third, 1..2).await.0, 200);
    assert_eq!(client.balance(&third).await, Rational::from_int(1000));
    drop(other);
}

/// It is not served for nothing until the books have refused it often enough.
#[tokio::test]
async fn a_fixed_price_whose_money_another_process_has_taken_ends_its_session() {
    let ledger = postgres::database().await;
    let url = format!("--ledger={}", ledger.url());
    let settings = [&ON[..], &[&url, "--lease-ms=1000", "--live-payment-interval-ms=60000"]];
    let world = World::process(1000, &settings.concat()).await;
    let beside = world.beside().await;
    let runner = Registered::new(&world, "r", fixed(1000)).await;
    let dear = Registered::new(&beside, "r", fixed(1_000_000)).await;
    let client = Client::new(&world).await;
    let due = client.challenged(SESSION).await;
    assert_eq!(client.pays(SESSION, &due, 1..3).await.0, 200);
    let Client { payer, .. } = client;
    world.pause();
    let client = Client::of(&beside, payer);
    until("it is taken for dead", || async {
        let other = client.challenged(SESSION).await;
        assert_eq!(client.pays(SESSION, &other, 1..2).await.0, 400);
        client.balance(&due).await.is_zero()
    })
    .await;
    world.resume();
    let app = format!("{}{SESSION}/{}/app/x", world.service, due.manifest);
    assert_eq!(read(world.http.get(app)).await.0, 200);
    let over = until_some("it ends", || reason(&world, &due.manifest)).await;
    assert_eq!(over, "ledger_unavailable");
    drop((runner, dear));
}
