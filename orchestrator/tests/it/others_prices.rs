//! The operator's price list for what others bring: capabilities, and live runners.

use crate::{
    byoc::{self, flux, register},
    payer::Payer,
    runner_sessions::{self, CHEAP, SESSION, registered},
    runners::{ON, listed, read},
    world::{SECRET, World},
};
use penstock_domain::{Capability, Rational, address_lower};
use penstock_testkit::until;
use penstock_wire::json::eth_address_header;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// A price list that changes.
struct List {
    _folder: TempDir,
    path: PathBuf,
}

impl List {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prices.toml");
        std::fs::write(&path, "").unwrap();
        Self { _folder: folder, path }
    }

    /// Looked at only when the operator says so.
    fn settings(&self) -> [String; 2] {
        [format!("--price-file={}", self.path.display()), "--price-poll-ms=86400000".to_owned()]
    }

    /// Status and words of the operator's reload.
    async fn put(&self, world: &World, text: &str) -> (u16, Value) {
        std::fs::write(&self.path, text).unwrap();
        read(world.http.post(format!("{}/v1/prices/reload", world.admin))).await
    }
}

async fn world(list: &List, more: &[&str]) -> World {
    let settings = list.settings();
    let settings: Vec<&str> =
        settings.iter().map(String::as_str).chain(more.iter().copied()).collect();
    World::paid_with(1000, &settings).await
}

fn table(of: &str, more: &str, price: &str) -> String {
    format!("[[price]]\n{of}\n{more}\nprice = {price}\n")
}

fn only(payer: &Payer) -> String {
    format!("gateways = [\"{}\"]", address_lower(&payer.signer.address()))
}

/// What was charged on an account: units, which all had this price.
async fn charged(world: &World, account: &str, payer: &Payer, price: &str) -> i128 {
    let path = format!("/v1/invoices/{account}?sender={}", payer.signer.address());
    let invoice = world.operator(&path).await[0].clone();
    let lines = invoice["debits"].as_array().unwrap().clone();
    assert!(!lines.is_empty(), "{invoice}");
    let mut units = 0;
    for line in lines {
        assert_eq!(line["price_wei_per_unit"], price, "{invoice}");
        let of_line = i128::from(line["units"].as_i64().unwrap());
        let fee = &Rational::from_int(of_line) * &price.parse::<Rational>().unwrap();
        assert_eq!(line["amount_wei"], fee.to_string(), "{invoice}");
        units += of_line;
    }
    units
}

/// Its client has had an answer, and it is charged.
async fn delivered(world: &World, due: &runner_sessions::Due) {
    let control = format!("{}{SESSION}/{}", world.service, due.manifest);
    assert_eq!(read(world.http.get(format!("{control}/app/x"))).await.0, 200);
    let path = format!("/v1/invoices/{}", due.manifest);
    until("it is charged", || async { world.operator(&path).await[0]["debits"] != json!([]) })
        .await;
}

/// What a gateway is told where it proves who it is.
async fn told(world: &World, path: &str, payer: &Payer) -> Value {
    let sig = payer.signer.sign_orchestrator_request().await.unwrap();
    let proof = eth_address_header(payer.signer.address(), sig.as_bytes());
    let request = world.http.get(format!("{}{path}", world.service));
    read(request.header("Livepeer-Eth-Address", proof)).await.1
}

const FLUX: &str = "capability = \"flux\"";
const JOBS: [&str; 3] = ["--auto-adjust-price=false", "--byoc-least-seconds=5", "--region=eu"];

#[tokio::test]
async fn two_gateways_pay_two_prices_for_one_capability() {
    let list = List::new();
    let world = world(&list, &JOBS).await;
    let gate = Arc::new(Semaphore::new(0));
    let worker = byoc::worker(Arc::clone(&gate)).await;
    assert_eq!(register(&world, SECRET, &flux(&worker.uri, 2)).await.0, 200);
    let (one, two) = (byoc::Client::funded(&world).await, byoc::Client::funded(&world).await);
    let price = async |client: &byoc::Client<'_>, name: &str| {
        client.token(name).await["price"]["pricePerUnit"].as_i64().unwrap()
    };
    assert_eq!(price(&one, "flux").await, 100, "as its worker registered it");

    let rules = [
        table(FLUX, "load_percent = 50", "700"),
        table(FLUX, "region = \"us\"", "1"),
        table(FLUX, "gpu = \"h100\"", "2"),
        table(FLUX, &only(&one.payer), "30"),
        // A price of pixels is none of seconds.
        table("", "", "3"),
        table("capability = \"*\"", "unit = \"hour\"", "144000"),
    ];
    let changed = json!({ "changed": true });
    assert_eq!(list.put(&world, &rules.concat()).await, (200, changed.clone()));
    assert_eq!((price(&one, "flux").await, price(&two, "flux").await), (30, 40));
    let menu = async |payer: &Payer| {
        let prices = payer.info(&world, None).await.unwrap().capabilities_prices;
        let row = prices.iter().find(|row| row.constraint == "flux").unwrap().clone();
        assert_eq!(row.capability, Capability::Byoc.number());
        row.price_per_unit
    };
    assert_eq!((menu(&one.payer).await, menu(&two.payer).await), (30, 40));
    for (payer, said) in [(&one.payer, "30"), (&two.payer, "40")] {
        let prices = told(&world, "/prices", payer).await;
        let row = json!({
            "capability": "flux", "price_per_unit": format!("{said} wei"), "wei_per_unit": said,
            "unit": "seconds",
        });
        assert_eq!(prices["brought"], json!([row]));
        let listed = told(&world, "/capabilities", payer).await;
        assert_eq!(listed["capabilities"][0]["wei_per_unit"], said);
        let named = prices["prices"].as_array().unwrap().iter().any(|row| {
            row["pipeline"] == "byoc" && row["capability"] == "flux" && row["wei_per_unit"] == "30"
        });
        assert_eq!(named, said == "30", "{prices}");
    }

    // Both pay what they were asked, though half of the room is taken when the second comes.
    let tickets: Vec<_> = (1..=20).collect();
    let (first, second) = (one.token("flux").await, two.token("flux").await);
    let (job, other) = (one.job("flux", 60).await, two.job("flux", 60).await);
    let payment = one.payment(&first, &tickets).await;
    let waiting = tokio::spawn(one.post("wait", &job, Some(&payment)).send());
    until("half of the room is taken", || async { menu(&two.payer).await == 700 }).await;
    let payment = two.payment(&second, &tickets).await;
    let done = byoc::read(two.post("echo", &other, Some(&payment))).await;
    assert_eq!(done.0, 200, "{done:?}");
    gate.add_permits(1);
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    let paid = Rational::from_int;
    for (client, said, wei, headers) in [(&one, "30", 30, None), (&two, "40", 40, Some(&done.1))] {
        let address = client.payer.signer.address();
        let seconds = charged(&world, "flux", &client.payer, said).await;
        let path = format!("/v1/invoices/flux?sender={address}");
        let invoice = world.operator(&path).await[0].clone();
        let credited: Rational = invoice["credited_wei"].as_str().unwrap().parse().unwrap();
        let left = world.balance(address, "flux").await;
        assert_eq!(left, &credited - &paid(seconds * wei), "{invoice}");
        assert_eq!(invoice["fixed_price_wei_per_unit"], said);
        if let Some(headers) = headers {
            assert_eq!(headers["livepeer-balance"], left.to_fixed(0).as_str());
        }
    }

    // What has been paid goes on at its price; who comes now is asked another, without a restart.
    assert_eq!(list.put(&world, &table(FLUX, "", "55")).await, (200, changed.clone()));
    let third = byoc::Client::funded(&world).await;
    assert_eq!((price(&two, "flux").await, price(&third, "flux").await), (40, 55));
    assert_eq!(byoc::read(two.post("echo", &other, None)).await.0, 200);
    charged(&world, "flux", &two.payer, "40").await;

    // An offer for something else buys at the price of this.
    let cheap = json!({ "name": "cheap", "url": worker.uri, "capacity": 1, "price_per_unit": 2 });
    assert_eq!(register(&world, SECRET, &cheap).await.0, 200);
    let offer = third.token("cheap").await;
    assert_eq!(offer["price"]["pricePerUnit"], 2);
    let job = third.job("flux", 60).await;
    let payment = third.payment(&offer, &tickets).await;
    let done = byoc::read(third.post("echo", &job, Some(&payment))).await;
    assert_eq!(done.0, 200, "{done:?}");
    charged(&world, "flux", &third.payer, "55").await;

    // A rule that could never hold is no rule, and says why.
    let senseless = table(FLUX, "unit = \"fixed\"", "1");
    let (status, why) = list.put(&world, &senseless).await;
    assert_eq!(status, 400);
    assert!(
        why.to_string().contains("price 1: brought capabilities are sold by the second"),
        "{why}"
    );
    assert_eq!(price(&third, "cheap").await, 2);
    assert_eq!(
        price(&byoc::Client::funded(&world).await, "flux").await,
        55,
        "that of before holds"
    );
    // Free is free: no payment is asked for.
    assert_eq!(list.put(&world, &table(FLUX, "", "0")).await, (200, changed));
    let fourth = byoc::Client::funded(&world).await;
    let job = fourth.job("flux", 60).await;
    assert_eq!(byoc::read(fourth.post("echo", &job, None)).await.0, 200);
    drop(worker);
}

const ECHO: &str = "app = \"echo\"";

#[tokio::test]
async fn a_session_goes_on_at_the_price_that_it_was_offered_at() {
    let list = List::new();
    let settings = [&ON[..], &["--live-payment-interval-ms=1500"]].concat();
    let world = world(&list, &settings).await;
    let facts = json!({
        "price_info": runner_sessions::price(CHEAP, "hour"), "capacity": 4,
        "gpu": { "id": "0", "name": "NVIDIA L40S" },
    });
    let _app = registered(&world, facts).await;
    let client = runner_sessions::Client::new(&world).await;
    let late = runner_sessions::Client::new(&world).await;
    let asked = async |client: &runner_sessions::Client<'_>| {
        let price = client.challenged(SESSION).await.info.price_info.unwrap();
        assert_eq!(price.pixels_per_unit, 1);
        price.price_per_unit
    };
    assert_eq!(asked(&client).await, 1000, "as it registered");
    let rules = [
        table(ECHO, "unit = \"seconds\"\nload_percent = 25", "3000"),
        table(ECHO, "unit = \"seconds\"\nlatency = \"batch\"", "1"),
        table(ECHO, "unit = \"seconds\"\ngpu = \"h100\"", "2"),
        table(ECHO, "unit = \"hour\"\ngpu = \"l40\"", "7_200_000"),
    ];
    assert_eq!(list.put(&world, &rules.concat()).await.0, 200);
    let found = async || listed(&world).await[0]["price_info"]["price"].clone();
    assert_eq!((asked(&client).await, found().await), (2000, json!(2000)));

    // A session makes the next offer dearer, and neither itself nor what was offered before.
    let (first, second) = (client.challenged(SESSION).await, late.challenged(SESSION).await);
    assert_eq!(client.pays(SESSION, &first, 1..40).await.0, 200);
    assert_eq!((asked(&late).await, found().await), (3000, json!(3000)));
    let (_, prices) = read(world.http.get(format!("{}/prices", world.service))).await;
    let row = json!({
        "app": "echo", "url": format!("{}{SESSION}", world.service), "price_per_unit": "3000 wei",
        "wei_per_unit": "3000", "unit": "seconds",
    });
    assert_eq!(prices["live_runners"], json!([row]));
    assert_eq!(world.operator("/v1/prices").await["live_runners"], prices["live_runners"]);
    let (status, text) = late.pays(SESSION, &second, 0..0).await;
    let made_up =
        "payment price does not match live runner price: 2000 wei a unit said, 3000 asked";
    assert_eq!((status, text), (400, json!(made_up)), "only tickets prove an offer");
    assert_eq!(late.pays(SESSION, &second, 1..40).await.0, 200);
    let third = late.challenged(SESSION).await;
    assert_eq!(late.pays(SESSION, &third, 1..40).await.0, 200);

    // More for the first one, at its price, also when the list has another by now.
    assert_eq!(list.put(&world, &table(ECHO, "unit = \"seconds\"", "9000")).await.0, 200);
    assert_eq!(asked(&client).await, 9000);
    let control = |due: &runner_sessions::Due| format!("{SESSION}/{}", due.manifest);
    let path = format!("{}/payment", control(&first));
    let headers = client.headers(&first, 40..42).await;
    let answer = crate::payer::post(&world, &path, &headers).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    for (client, due, price) in
        [(&client, &first, "2000"), (&late, &second, "2000"), (&late, &third, "3000")]
    {
        let control = format!("{}{}", world.service, control(due));
        assert_eq!(read(world.http.get(format!("{control}/app/x"))).await.0, 200);
        assert_eq!(read(world.http.post(format!("{control}/stop"))).await.0, 204);
        let path = format!("/v1/invoices/{}", due.manifest);
        until("it is charged", || async { world.operator(&path).await[0]["debits"] != json!([]) })
            .await;
        charged(&world, &due.manifest, &client.payer, price).await;
    }
}

#[tokio::test]
async fn a_fixed_price_that_was_offered_holds_too() {
    let list = List::new();
    let world = world(&list, &ON).await;
    let fixed = runner_sessions::price("0.000000000002", "fixed");
    let _app = registered(&world, json!({ "price_info": fixed, "capacity": 4 })).await;
    let client = runner_sessions::Client::new(&world).await;
    let other = runner_sessions::Client::new(&world).await;
    let rules = |usual: &str| {
        let named = format!("unit = \"fixed\"\n{}", only(&client.payer));
        table(ECHO, &named, "1500") + &table("app = \"*\"", "unit = \"fixed\"", usual)
    };
    assert_eq!(list.put(&world, &rules("2000")).await.0, 200);
    let due = other.challenged(SESSION).await;
    assert_eq!(due.info.price_info.as_ref().unwrap().price_per_unit, 2000);
    let found = async |payer: &Payer| {
        let list = told(&world, "/discovery", payer).await;
        list[0]["runners"][0]["price_info"]["price"].clone()
    };
    assert_eq!(found(&client.payer).await, 1500);
    assert_eq!(
        (found(&other.payer).await, listed(&world).await[0]["price_info"]["price"].clone()),
        (json!(2000), json!(2000))
    );
    assert_eq!(list.put(&world, &rules("2500")).await.0, 200);
    assert_eq!(found(&other.payer).await, 2500);
    assert_eq!(other.pays(SESSION, &due, 1..6).await.0, 200);
    delivered(&world, &due).await;
    assert_eq!(charged(&world, &due.manifest, &other.payer, "2000").await, 1);
    // Another's price is another's, whoever says its address.
    let named = client.challenged(SESSION).await;
    assert_eq!(named.info.price_info.as_ref().unwrap().price_per_unit, 1500);
    let (status, text) = other.pays(SESSION, &named, 6..9).await;
    assert_eq!(status, 400, "{text}");
    assert_eq!(client.pays(SESSION, &named, 1..4).await.0, 200);
    delivered(&world, &named).await;
    assert_eq!(charged(&world, &named.manifest, &client.payer, "1500").await, 1);

    // A rule that counts otherwise than its runner does not hold, and the operator is told.
    assert_eq!(world.operator("/v1/prices").await["warnings"], json!([]));
    assert_eq!(list.put(&world, &table(ECHO, "unit = \"hour\"", "99_000")).await.0, 200);
    let prices = world.operator("/v1/prices").await;
    assert_eq!(prices["live_runners"][0]["wei_per_unit"], "1000", "as it registered");
    let warning = &prices["warnings"][0];
    assert_eq!((&warning["app"], &warning["sold_by"]), (&json!("echo"), &json!("fixed")));
    let (status, why) = list.put(&world, &table(ECHO, "", "5")).await;
    assert!(status == 400 && why.to_string().contains("needs the unit"), "{why}");
}
