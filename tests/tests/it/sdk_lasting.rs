//! The official Python SDK, unmodified, through what happens while a session lasts: terms that expire, money
//! that ends, an orchestrator that dies.

use std::path::Path;

use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::{Sdk, figure, until};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    books::Books,
    network::{Needs, Network, SignerOn},
};

/// Blocks after which the signer asks for new terms (480), and the orchestrator still takes tickets of
/// the old ones: whichever of them sees the blocks first, no payment is refused.
const OLD_AGE: u64 = 38;

/// A network, and the SDK on both sides of a live runner of it.
struct Stage {
    network: Network,
    sdk: Sdk,
}

impl Stage {
    async fn start() -> Self {
        Self::of(async |_| None).await
    }

    /// With an account at the signer: its API key.
    async fn of(account: impl AsyncFnOnce(&Network) -> Option<String>) -> Self {
        let settings = ["--use-live-runners", "--eth-usd=2000", "--live-payment-interval-ms=200"]
            .map(str::to_owned);
        let network = Network::start_with(Needs::PAYMENTS, SignerOn::default(), &settings).await;
        let (signer, orchestrator) = (network.url(Role::Signer), network.url(Role::Orchestrator));
        let secret = network.plan.layout.worker_secret();
        let key = account(&network).await;
        let args = [Path::new(&signer), Path::new(&orchestrator), &secret];
        let args = args.into_iter().chain(key.as_deref().map(Path::new));
        Self { sdk: Sdk::start("lasting.py", args), network }
    }

    async fn ask(&mut self, word: &str) -> Value {
        self.sdk.tell(word).await;
        self.sdk.hear().await
    }

    /// A session that is reserved and called.
    async fn session(&mut self) -> String {
        let session = self.ask("reserve").await["session"].as_str().unwrap().to_owned();
        let heard = json!({ "event": "reserved", "session": session, "reason": null });
        assert_eq!(self.ask("heard").await, heard);
        assert_eq!(self.ask("call").await, json!({ "data": { "echo": true } }));
        session
    }

    async fn operator(&self, path: &str) -> Value {
        self.network.get(&format!("{}{path}", self.network.admin(Role::Orchestrator))).await
    }

    async fn account(&self, session: &str) -> Value {
        let all = self.operator("/v1/accounts").await;
        let own = all.as_array().unwrap().iter().find(|a| a["session_id"] == session).cloned();
        own.unwrap_or_else(|| panic!("{session} has no account: {all}"))
    }

    /// How often the signer has said that it needs new terms (480).
    async fn refreshes(&self) -> u64 {
        let url = format!("{}/metrics", self.network.metrics(Role::Signer));
        let text = self.network.http.get(url).send().await.unwrap().text().await.unwrap();
        let of = |line: &str| {
            let is_it = line.starts_with("signer_http_requests_total{")
                && line.contains("path=\"/generate-live-payment\"")
                && line.contains("status=\"480\"");
            is_it.then(|| line.rsplit(' ').next()?.parse::<u64>().ok()).flatten()
        };
        text.lines().filter_map(of).sum()
    }

    async fn tickets(&self, session: &str) -> u64 {
        self.account(session).await["tickets"].as_u64().unwrap()
    }
}

/// The operator of the signer says something of its accounts.
async fn account(network: &Network, method: Method, path: &str, said: Value) -> Value {
    let url = format!("{}/v1/accounts{path}", network.admin(Role::Signer));
    let answer = network.http.request(method, url).json(&said).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status} {text}");
    serde_json::from_str(&text).unwrap()
}

fn wei(value: &Value) -> Rational {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_official_sdk_refreshes_terms_that_expire() {
    let mut stage = Stage::start().await;
    let session = stage.session().await;
    assert_eq!(stage.ask("pay").await, json!({ "paid": true }));
    let before = Books::read(&stage.network).await.signed_by_offer.len();
    assert_eq!(before, 2, "one for each way to pay");
    assert_eq!(stage.refreshes().await, 0, "the terms are new");

    stage.network.mine(OLD_AGE).await;
    // Both go on: the one asks GetOrchestrator, the other /refresh-payment.
    until("both have new terms", || async {
        Books::read(&stage.network).await.signed_by_offer.len() > before
    })
    .await;
    while Books::read(&stage.network).await.credited_by_offer.len() < before + 2 {
        assert_eq!(stage.ask("pay").await, json!({ "paid": true }));
    }
    assert_eq!(stage.ask("call").await, json!({ "data": { "echo": true } }));
    assert!(stage.refreshes().await >= 2, "each way was told by the signer");
    let summary = stage.operator("/v1/runner-sessions").await;
    assert_eq!(summary[0]["session_id"], session.as_str(), "it is the same session: {summary}");
    figure("SDK, terms that expired: offers", (before + 2).to_string());
}

#[tokio::test]
async fn the_official_sdk_s_session_ends_when_nobody_pays_on() {
    let mut stage = Stage::start().await;
    let session = stage.session().await;
    // Whoever signs payments is gone.
    stage.network.process(Role::Signer).kill9();
    let heard = stage.ask("heard").await;
    let ended = json!({ "event": "released", "session": session, "reason": "out_of_funds" });
    assert_eq!(heard, ended);
    let refused = stage.ask("call").await;
    assert!(refused["refused"].as_str().unwrap().contains("404"), "{refused}");
    let rows = stage.operator("/v1/runner-sessions").await;
    assert_eq!(rows[0]["reason"], "out_of_funds", "{rows}");
    // Each second that was served is in the books, and was paid.
    let account = stage.account(&session).await;
    assert!(!wei(&account["balance_wei"]).is_negative(), "{account}");
    let second = Rational::from(10_000_000_000_u64);
    let served = second.times(rows[0]["units_charged"].as_u64().unwrap());
    assert_eq!(wei(&account["debited_wei"]), served);
    stage.network.process(Role::Signer).restart().await;
    Books::read(&stage.network).await;
}

#[tokio::test]
async fn the_official_sdk_s_session_ends_when_its_budget_is_used_up() {
    let mut stage = Stage::of(async |network| {
        account(network, Method::POST, "", json!({ "name": "acme" })).await;
        let made = account(network, Method::POST, "/acme/keys", json!({})).await;
        Some(made["key"].as_str().unwrap().to_owned())
    })
    .await;
    let session = stage.session().await;
    assert_eq!(stage.ask("pay").await, json!({ "paid": true }));
    // A few payments more are all that is left to it; the signer, the key and the deposit are well.
    let signed = async |network: &Network| {
        let all = network.get(&format!("{}/v1/payments", network.admin(Role::Signer))).await;
        let worth = |payment: &Value| {
            wei(&payment["ticket_ev_wei"]).times(payment["num_tickets"].as_u64().unwrap())
        };
        let spent = all.as_array().unwrap().iter().map(worth);
        spent.fold(Rational::ZERO, |all, one| &all + &one)
    };
    let budget = &signed(&stage.network).await + &Rational::from(80_000_000_000_u64);
    let rules = json!({ "policy": { "budget_month": format!("{} wei", budget.to_fixed(0)) } });
    account(&stage.network, Method::PATCH, "/acme", rules).await;

    let heard = stage.ask("heard").await;
    let ended = json!({ "event": "released", "session": session, "reason": "out_of_funds" });
    assert_eq!(heard, ended);
    let refused = stage.ask("call").await;
    assert!(refused["refused"].as_str().unwrap().contains("404"), "{refused}");
    // Whoever pays by the SDK hears whose budget it is.
    let failed = stage.ask("pay").await;
    let failed = failed["failed"].as_str().unwrap_or_else(|| panic!("{failed}"));
    assert!(failed.contains("429") && failed.contains("acme"), "{failed}");
    let rows = stage.operator("/v1/runner-sessions").await;
    assert_eq!(rows[0]["reason"], "out_of_funds", "{rows}");
    let account = stage.account(&session).await;
    assert!(!wei(&account["balance_wei"]).is_negative(), "{account}");
    let spent = signed(&stage.network).await;
    assert!(spent <= budget, "{spent} of {budget}");
    Books::read(&stage.network).await;
}

#[tokio::test]
async fn the_official_sdk_goes_on_when_its_orchestrator_was_killed() {
    let mut stage = Stage::start().await;
    let session = stage.session().await;
    assert_eq!(stage.ask("pay").await, json!({ "paid": true }));
    let offers = Books::read(&stage.network).await.credited_by_offer;
    stage.network.process(Role::Orchestrator).kill9();
    let failed = stage.ask("pay").await;
    assert!(failed["failed"].as_str().unwrap().contains("refused"), "{failed}");
    stage.network.process(Role::Orchestrator).restart().await;
    stage.network.ready(Role::Orchestrator).await;

    // What was paid is there, and a payment of the same terms is taken.
    let kept = Books::read(&stage.network).await.credited_by_offer;
    for (offer, was) in &offers {
        assert!(kept[offer].0 >= was.0, "{offer}: {was:?} {kept:?}");
    }
    assert_eq!(stage.ask("pay").await, json!({ "paid": true }));
    // The session lived in the process: the SDK is told when it pays on, and reserves another when its
    // runner has registered itself again.
    assert_eq!(stage.ask("released").await, json!({ "released": true }));
    // Its messages came by a channel of the dead process; it does not look for another.
    let again = stage.ask("reserve").await["session"].as_str().unwrap().to_owned();
    assert_ne!(again, session);
    assert_eq!(stage.ask("call").await, json!({ "data": { "echo": true } }));
    let first = stage.tickets(&again).await;
    until("the SDK pays on", || async { stage.tickets(&again).await > first }).await;
    Books::read(&stage.network).await;
}
