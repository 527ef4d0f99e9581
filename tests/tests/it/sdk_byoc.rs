//! The official Python SDK, unmodified, has jobs done by a brought capability: our signer signs and pays,
//! our orchestrator charges by the second.

use std::path::Path;

use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::{Sdk, figure, until};
use serde_json::{Value, json};

use crate::{
    books::Books,
    network::{Needs, Network, SignerOn},
};

/// Wei a second, as the script registers it.
const PRICE: u64 = 3_000_000_000;

fn sdk(network: &Network, case: &str) -> Sdk {
    let (signer, orchestrator) = (network.url(Role::Signer), network.url(Role::Orchestrator));
    let secret = network.plan.layout.worker_secret();
    let certificate = network.plan.layout.state(Role::Orchestrator).join("cert.pem");
    let [case, signer, orchestrator] = [case, &signer, &orchestrator].map(Path::new);
    Sdk::start("byoc.py", [case, signer, orchestrator, &secret, &certificate])
}

fn wei(value: &Value) -> Rational {
    value.as_str().unwrap().parse().unwrap()
}

async fn operator(network: &Network, path: &str) -> Value {
    network.get(&format!("{}{path}", network.admin(Role::Orchestrator))).await
}

#[tokio::test]
async fn the_official_sdk_has_brought_capabilities_work_and_pays_for_it() {
    let network = Network::start(Needs::PAYMENTS).await;
    let (signer, orchestrator) = (network.url(Role::Signer), network.url(Role::Orchestrator));
    until("the signer has discovered the orchestrator", || async {
        let answer = network.http.get(format!("{signer}/discover-orchestrators")).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    })
    .await;
    let mut sdk = sdk(&network, "jobs");
    let echoed = json!({
        "images": [{ "url": "https://pictures.example/1.png" }], "got": { "prompt": "a kite" },
        "token": "Bearer sesame", "paid": false,
    });
    let mut balances = Vec::new();
    for _ in 0..2 {
        let answer = sdk.hear().await;
        assert_eq!(answer["data"], echoed);
        assert_eq!(answer["image"], "https://pictures.example/1.png");
        assert_eq!((&answer["status"], &answer["at"]), (&json!(200), &json!(orchestrator)));
        balances.push(wei(&answer["balance"]));
    }
    let found = sdk.hear().await;
    assert_eq!(found["discovered"], orchestrator.as_str());
    balances.push(wei(&found["balance"]));
    // Each job brings more than it takes.
    assert!(balances.is_sorted_by(|a, b| a < b), "{balances:?}");

    let teapot = sdk.hear().await;
    assert!(teapot["teapot"].as_str().unwrap().contains("HTTP 418: short and stout"), "{teapot}");
    let nobody = sdk.hear().await;
    let reason = nobody["nobody"][0].as_str().unwrap();
    assert_eq!(reason.trim(), "HTTP 503: No capacity available for capability");
    let unsigned = sdk.hear().await;
    let unsigned = unsigned["unsigned"].as_str().unwrap();
    assert!(unsigned.contains("HTTP 400: Could not verify job creds"), "{unsigned}");
    let listed = ["echo", "teapot"].map(|name| {
        json!({
            "name": name, "model_id": name, "capacity": 2,
            "wei_per_unit": PRICE.to_string(), "unit": "seconds",
        })
    });
    assert_eq!(sdk.end().await["capabilities"], json!(listed));

    // What was left after the last job is what the books say, and whole seconds were charged.
    let accounts = operator(&network, "/v1/accounts").await;
    let account = |name: &str| {
        let all = accounts.as_array().unwrap();
        all.iter().find(|a| a["session_id"] == name).unwrap_or_else(|| panic!("{name}: {accounts}"))
    };
    let echo = account("echo");
    assert_eq!(echo["sender"].as_str().unwrap(), network.sender.to_lowercase());
    // The header has whole wei.
    assert_eq!(wei(&echo["balance_wei"]).to_fixed(0), balances[2].to_fixed(0));
    for (name, jobs) in [("echo", 3), ("teapot", 1)] {
        let seconds =
            wei(&account(name)["debited_wei"]).checked_div(&Rational::from(PRICE)).unwrap();
        assert_eq!(seconds.floor(), seconds);
        assert!(seconds >= Rational::from_int(jobs), "{name}: {seconds}");
    }
    // All that was signed was credited, but for the job that nobody had room for.
    let signed = network.get(&format!("{}/v1/payments", network.admin(Role::Signer))).await;
    let signed = signed.as_array().unwrap();
    assert_eq!(signed.len(), 5, "{signed:?}");
    let worth = |payment: &Value| {
        wei(&payment["ticket_ev_wei"]).times(payment["num_tickets"].as_u64().unwrap())
    };
    let spent = signed[1..].iter().map(worth).fold(Rational::ZERO, |all, one| &all + &one);
    let summary = operator(&network, "/v1/summary").await;
    assert_eq!(wei(&summary["credited_wei"]), spent);
    figure("SDK, brought capabilities: jobs, tickets", format!("4, {}", summary["tickets"]));
    Books::read(&network).await;
}

#[tokio::test]
async fn the_official_sdk_trains_and_pays_on_while_it_lasts() {
    let settings = ["--byoc-poll-ms=50".to_owned()];
    let network = Network::start_with(Needs::PAYMENTS, SignerOn::default(), &settings).await;
    let mut sdk = sdk(&network, "training");
    let begun = sdk.hear().await;
    let job = begun["job"].as_str().unwrap();
    let told = json!([{ "job_id": job, "model_id": "flux-lora", "params": { "steps": 3 } }]);
    assert_eq!((&begun["told"], &begun["status"]), (&told, &json!("submitted")));
    let url = format!("{}/process/job/{job}", network.url(Role::Orchestrator));
    assert_eq!(begun["url"], url.as_str());
    let running = sdk.hear().await;
    assert_eq!(running, json!({ "progress": 40, "model": "flux-lora", "result": null }));
    let paid = sdk.hear().await;
    let done = sdk.hear().await;
    assert_eq!((&done["done"], &done["progress"]), (&json!("completed"), &json!(100)));
    assert_eq!(done["lora"], "https://weights.example/lora.safetensors");
    let ended = sdk.end().await;
    assert!(ended["ended"].as_str().unwrap().contains("HTTP 409"), "{ended}");

    // One payment began it, the other was added; whole seconds were charged, and are the job's cost.
    let accounts = operator(&network, "/v1/accounts").await;
    let account = &accounts[0];
    assert_eq!((&account["session_id"], accounts.as_array().unwrap().len()), (&json!("lora"), 1));
    let payments = network.get(&format!("{}/v1/payments", network.admin(Role::Signer))).await;
    let worth = |n: usize| {
        let tickets = payments[n]["num_tickets"].as_u64().unwrap();
        wei(&payments[n]["ticket_ev_wei"]).times(tickets)
    };
    // The newest came when the job had ended.
    assert_eq!(wei(&account["credited_wei"]), &worth(1) + &worth(2));
    assert_eq!(wei(&paid["credited"]).to_fixed(0), worth(1).to_fixed(0));
    assert_eq!(wei(&account["debited_wei"]).to_fixed(0), wei(&done["cost"]).to_fixed(0));
    let seconds = wei(&done["cost"]).checked_div(&Rational::from(PRICE)).unwrap();
    assert!(seconds.floor() == seconds && seconds.is_positive(), "{seconds}");
    assert_eq!(wei(&account["balance_wei"]).to_fixed(0), wei(&done["balance"]).to_fixed(0));
    Books::read(&network).await;
}

/// The SDK's wait ends with the process; asked again, it ends with the job, which was charged once.
#[tokio::test]
async fn the_official_sdk_trains_while_its_orchestrator_is_killed() {
    let settings = ["--byoc-poll-ms=50".to_owned()];
    let mut network = Network::start_with(Needs::PAYMENTS, SignerOn::default(), &settings).await;
    let mut sdk = sdk(&network, "outlived");
    let begun = sdk.hear().await;
    let job = begun["job"].as_str().unwrap();
    let url = format!("{}/process/job/{job}", network.url(Role::Orchestrator));
    until("its worker is asked", || async { network.get(&url).await["status"] == "running" }).await;
    network.process(Role::Orchestrator).kill9();
    let gone = sdk.hear().await;
    assert!(gone["gone"].is_string(), "{gone}");
    network.process(Role::Orchestrator).restart().await;
    network.ready(Role::Orchestrator).await;
    assert_eq!(sdk.hear().await["status"], "running");
    let done = sdk.end().await;
    assert_eq!(done["done"], "completed");
    assert_eq!(done["lora"], "https://weights.example/lora.safetensors");

    let account = operator(&network, "/v1/accounts").await[0].clone();
    assert_eq!(wei(&account["debited_wei"]).to_fixed(0), wei(&done["cost"]).to_fixed(0));
    assert_eq!(wei(&account["balance_wei"]).to_fixed(0), wei(&done["balance"]).to_fixed(0));
    let invoice = operator(&network, "/v1/invoices/lora").await[0].clone();
    let [fee] = &invoice["debits"].as_array().unwrap()[..] else { panic!("{invoice}") };
    assert_eq!(fee["job_id"], format!("byoc/{job}/0"));
    let fee_wei = Rational::from(PRICE).times(fee["units"].as_u64().unwrap());
    assert_eq!(wei(&fee["amount_wei"]), fee_wei);
    Books::read(&network).await;
}

#[tokio::test]
async fn the_official_sdk_gets_no_brought_capability_without_money() {
    let on = SignerOn { unfunded: true, ..SignerOn::default() };
    let network = Network::start_on(Needs::PAYMENTS, on).await;
    let mut sdk = sdk(&network, "refused");
    for said in [sdk.hear().await["reasons"].clone(), sdk.end().await["training"].clone()] {
        let reason = said[0].as_str().unwrap();
        assert!(reason.contains("insufficient sender reserve"), "{reason}");
    }
    assert_eq!(operator(&network, "/v1/accounts").await, json!([]));
}
