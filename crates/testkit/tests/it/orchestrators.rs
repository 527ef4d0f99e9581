//! Offers, capacity, discovery, and many orchestrators in one process.

use penstock_clients::{OfferRequest, OrchestratorClient, OrchestratorOptions, Trust};
use penstock_testkit::sim::{
    SimOrchestrator, account,
    orchestrator::{Terms, app},
};
use penstock_testkit::until::DEADLINE;
use std::collections::HashSet;

pub fn client() -> OrchestratorClient {
    penstock_http_kit::tls::install_crypto_provider();
    let options = OrchestratorOptions {
        trust: Trust::AcceptAny,
        connect_timeout: DEADLINE,
        grpc_connect_timeout: DEADLINE,
        info_timeout: DEADLINE,
        ..Default::default()
    };
    OrchestratorClient::new(options).unwrap()
}

/// A request in the name of a fresh account.
pub async fn request(key: &penstock_keys::TypedSigner) -> OfferRequest {
    OfferRequest {
        address: key.address(),
        sig: key.sign_orchestrator_request().await.unwrap().as_bytes().to_vec(),
        capabilities: None,
        ignore_capacity_check: false,
        traceparent: None,
    }
}

#[tokio::test]
async fn a_hundred_orchestrators_answer_in_one_process() {
    let (client, key) = (client(), account());
    let request = request(&key).await;
    let mut all = Vec::new();
    for _ in 0..100 {
        all.push(SimOrchestrator::start().await);
    }
    let mut calls = tokio::task::JoinSet::new();
    for one in &all {
        let (client, request, uri) = (client.clone(), request.clone(), one.uri());
        calls.spawn(async move {
            let offered = client.get_orchestrator(&uri, &request, None).await.unwrap();
            assert_eq!(offered.offer.transcoder.as_deref(), Some(uri.as_str()));
            offered.offer.ticket_params.unwrap()
        });
    }
    let (mut recipients, mut hashes) = (HashSet::new(), HashSet::new());
    while let Some(params) = calls.join_next().await {
        let params = params.unwrap();
        recipients.insert(params.recipient);
        hashes.insert(params.recipient_rand_hash);
    }
    assert_eq!((recipients.len(), hashes.len()), (100, 100));
    assert!(all.iter().all(|one| one.seen.lock().unwrap().offers == 1));
}

#[tokio::test]
async fn only_the_sender_itself_gets_its_offer() {
    let (client, sim) = (client(), SimOrchestrator::start().await);
    let mut forged = request(&account()).await;
    forged.address = account().address();
    let refused = client.get_orchestrator(&sim.uri(), &forged, None).await.unwrap_err();
    assert!(format!("{refused:?}").contains("sig check failed"), "{refused:?}");
}

#[tokio::test]
async fn a_full_orchestrator_refuses_and_one_without_capacity_check_is_answered() {
    let terms = Terms { capacity: 0, ..Terms::default() };
    let sim = SimOrchestrator::with(terms, account()).await;
    let client = client();
    let mut request = request(&account()).await;
    let refused = client.get_orchestrator(&sim.uri(), &request, None).await.unwrap_err();
    assert!(format!("{refused:?}").contains("OrchestratorCapped"), "{refused:?}");
    request.ignore_capacity_check = true;
    client.get_orchestrator(&sim.uri(), &request, None).await.unwrap();
    sim.terms.lock().unwrap().capacity = 1;
    request.ignore_capacity_check = false;
    client.get_orchestrator(&sim.uri(), &request, None).await.unwrap();
}

#[tokio::test]
async fn apps_are_listed_and_without_them_there_is_no_list() {
    let sim = SimOrchestrator::start().await;
    penstock_http_kit::tls::install_crypto_provider();
    let http =
        reqwest::Client::builder().danger_accept_invalid_certs(true).no_proxy().build().unwrap();
    let ask = async || http.get(format!("{}/discovery", sim.uri())).send().await.unwrap();
    assert_eq!(ask().await.status(), 404);
    sim.runs(&[app("demo/app", 9)]);
    let list: serde_json::Value = ask().await.json().await.unwrap();
    assert_eq!(list[0]["address"], sim.uri());
    let runner = &list[0]["runners"][0];
    assert_eq!((&runner["app"], &runner["capacity_available"]), (&"demo/app".into(), &1.into()));
    assert_eq!(runner["price_info"]["price"], 9);
}
