//! `kill -9` of a worker, or of a runner, whose time is paid for: nothing is charged of which nobody knows that it was
//! there, the reason says so, and nothing counts as charged and not delivered.

use crate::{
    byoc,
    byoc_streams::{about, ask, start},
    delivery::{KINDS, NONE, debited, metric, released, undelivered},
    runner_sessions::{Client, Due, price, reason, registered},
    runners::read,
    world::{SECRET, World},
};
use penstock_domain::Rational;
use penstock_testkit::{Sdk, until};
use serde_json::json;
use std::time::Instant;

const OWN: [&str; 3] = [
    "--auto-adjust-price=false",
    "--service-addr=http://127.0.0.1:0",
    "--metrics-addr=127.0.0.1:0",
];

async fn everything_was_delivered(world: &World) {
    for kind in KINDS {
        assert_eq!(undelivered(world, kind).await, NONE, "{kind}");
    }
}

/// Wei of so many seconds that have begun.
fn seconds_of(since: Instant, price: i128) -> Rational {
    Rational::from_int(i128::from(since.elapsed().as_secs()) + 1).times(price.try_into().unwrap())
}

/// A worker that has written something in a stream of that id, and when that had not begun yet.
async fn streaming(
    world: &World,
    client: &byoc::Client<'_>,
    price: i128,
    id: &str,
) -> (Sdk, Instant) {
    let mut worker = Sdk::start("killed.py", ["stream"]);
    let at = worker.hear().await["at"].as_str().unwrap().to_owned();
    let said = json!({ "name": "live", "url": at, "capacity": 1, "price_per_unit": price, "token": "sesame" });
    assert_eq!(byoc::register(world, SECRET, &said).await.0, 200);
    let begun = Instant::now();
    let (status, _, text) = start(client, id, 100, &json!({})).await;
    assert_eq!(status, 200, "{text}");
    assert!(worker.hear().await["written"].is_string());
    (worker, begun)
}

async fn streams_are_over(world: &World) {
    until("the stream has ended, and its room is free", || async {
        world.operator("/v1/byoc-streams").await == json!([])
            && world.operator("/v1/capabilities").await[0]["in_use"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_streams_worker_that_is_killed_is_paid_until_its_last_byte() {
    // As many seconds between two looks as a stream's begin takes at most: what is charged until it is noticed would show.
    let world = World::process(100_000, &[&OWN[..], &["--byoc-poll-ms=1200"]].concat()).await;
    let client = byoc::Client::funded(&world).await;
    let (worker, begun) = streaming(&world, &client, 10, "killed").await;
    worker.kill9().await;
    let most = seconds_of(begun, 10);
    // Nobody says anything: it is noticed all the same.
    streams_are_over(&world).await;
    assert!(seconds_of(begun, 10) > most, "time has passed that is not paid");
    let paid = debited(&world).await;
    assert!(paid.is_positive() && paid <= most, "{paid} of {most}");
    assert_eq!(released(&world, "byoc_stream", "worker_lost").await, Some(1));

    // The same when its client ends it.
    let (worker, begun) = streaming(&world, &client, 10, "stopped").await;
    worker.kill9().await;
    let most = &paid + &seconds_of(begun, 10);
    let stopped = ask(&client, "stop", &about(&client, "stopped").await, None, &json!({})).await;
    assert_eq!(stopped.0, 200);
    streams_are_over(&world).await;
    let all = debited(&world).await;
    assert!(all > paid && all <= most, "{all} of {most}");
    assert_eq!(released(&world, "byoc_stream", "worker_lost").await, Some(2));
    everything_was_delivered(&world).await;
}

const SESSION: &str = "/apps/live/session";

async fn reserved(client: &Client<'_>) -> Due {
    let due = client.challenged(SESSION).await;
    let (status, text) = client.pays(SESSION, &due, 1..51).await;
    assert_eq!(status, 200, "{text}");
    due
}

#[tokio::test]
async fn a_live_runner_that_is_killed_is_paid_for_what_it_was_there_for() {
    let settings = [
        "--use-live-runners",
        "--eth-usd=2000",
        "--live-payment-interval-ms=200",
        "--live-runner-ttl-ms=2000",
    ];
    let world = World::process(1000, &[&OWN[..], &settings].concat()).await;
    let app = |due: &Due, rest: &str| format!("{}{SESSION}/{}/{rest}", world.service, due.manifest);
    let mut runner = Sdk::start("killed.py", ["runner", world.service.as_str(), SECRET]);
    assert!(runner.hear().await["at"].is_string());
    let leaving = Client::new(&world).await;
    let left = reserved(&leaving).await;
    let unvisited = Client::new(&world).await;
    let nothing = reserved(&unvisited).await;
    let begun = Instant::now();
    let visiting = Client::new(&world).await;
    let some = reserved(&visiting).await;
    let hello = async || read(world.http.get(app(&some, "app/hello"))).await;
    assert_eq!(hello().await, (200, json!("hello")));
    let paid = async |client: &Client<'_>, due: &Due| {
        &Rational::from_int(50_000) - &client.balance(due).await
    };
    until("what was delivered is charged", || async { paid(&visiting, &some).await.is_positive() })
        .await;
    assert_eq!(paid(&leaving, &left).await, Rational::ZERO, "nobody came, and nothing is charged");
    // A client that leaves has had the runner's time, visited or not.
    assert_eq!(read(world.http.post(app(&left, "stop"))).await.0, 204);
    until("it is charged", || async { debited(&world).await > paid(&visiting, &some).await }).await;
    runner.kill9().await;
    let most = seconds_of(begun, 1000);
    // A call that leads nowhere is no delivery.
    assert_eq!(read(world.http.get(app(&nothing, "app/hello"))).await.0, 502);
    for due in [&nothing, &some] {
        until("the runner is gone", || async {
            reason(&world, &due.manifest).await.as_deref() == Some("runner_expired")
        })
        .await;
    }
    until("what nobody got is let go", || async {
        metric(&world, "orchestrator_runner_calls_voided_total").await == Some(1)
    })
    .await;
    assert!(seconds_of(begun, 1000) > most, "time has passed that is not paid");
    assert_eq!(paid(&unvisited, &nothing).await, Rational::ZERO);
    let paid = paid(&visiting, &some).await;
    assert!(paid <= most, "{paid} of {most}");
    assert_eq!(released(&world, "live_runner", "runner_expired").await, Some(2));
    everything_was_delivered(&world).await;
}

/// Its client finds out before anybody else does.
#[tokio::test]
async fn a_fixed_price_whose_runner_is_gone_costs_nothing_whoever_ends_it() {
    let settings = ["--use-live-runners", "--eth-usd=2000"];
    let world = World::process(1000, &[&OWN[..], &settings].concat()).await;
    let app = registered(&world, json!({ "price_info": price("0.000000000002", "fixed") })).await;
    let path = crate::runner_sessions::SESSION;
    let client = Client::new(&world).await;
    let due = client.challenged(path).await;
    let (status, session) = client.pays(path, &due, 1..4).await;
    assert_eq!(status, 200, "{session}");
    app.server.die().await;
    let app_url = session["app_url"].as_str().unwrap();
    assert_eq!(read(world.http.get(format!("{app_url}/x"))).await.0, 502);
    let stop = format!("{}{path}/{}/stop", world.service, due.manifest);
    assert_eq!(read(world.http.post(stop)).await.0, 204);
    until("nothing is charged", || async {
        metric(&world, "orchestrator_runner_calls_voided_total").await == Some(1)
    })
    .await;
    assert_eq!(reason(&world, &due.manifest).await.unwrap(), "client_stopped");
    assert_eq!(client.balance(&due).await, Rational::from_int(3000));
    everything_was_delivered(&world).await;
}
