//! The official Python SDK, unmodified, pays our orchestrator through our signer.

use std::process::Command;

use penstock::dev::Role;
use penstock_testkit::{places, until};
use serde_json::Value;

use crate::{
    books::Books,
    network::{Needs, Network},
};

#[tokio::test]
async fn the_official_sdk_pays_our_orchestrator_through_our_signer() {
    let network = Network::start(Needs::PAYMENTS).await;
    let (signer, orchestrator) = (network.url(Role::Signer), network.url(Role::Orchestrator));
    // Discovery polls in the background; the SDK asks once.
    until("the signer has discovered the orchestrator", || async {
        let answer = network.http.get(format!("{signer}/discover-orchestrators")).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    })
    .await;

    let output = Command::new(places::sdk_python())
        .arg(places::repository().join("tests/sdk/payments.py"))
        .args([&signer, &orchestrator])
        .output()
        .unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    let seen: Value = serde_json::from_str(said.trim()).unwrap();

    assert_eq!(seen["discovered"], serde_json::json!([orchestrator]));
    assert_eq!(seen["transcoder"], orchestrator.as_str());
    assert_eq!(
        seen["recipient"].as_str().map(str::to_lowercase),
        Some(network.recipient.to_lowercase())
    );

    // One payment was sent, so credited; the other was only made.
    let payments = network.get(&format!("{}/v1/payments", network.admin(Role::Signer))).await;
    let payments = payments.as_array().unwrap();
    assert_eq!(payments.len(), 2, "{payments:?}");
    assert!(payments.iter().all(|payment| payment["num_tickets"].as_u64() > Some(0)));
    let books = Books::read(&network).await;
    assert!(books.credited_wei.is_positive());
    assert_eq!(&books.credited_wei + &books.credited_wei, books.signed_ev_wei);
    let accounts = network.get(&format!("{}/v1/accounts", network.admin(Role::Orchestrator))).await;
    let credited: Vec<&Value> = accounts
        .as_array()
        .unwrap()
        .iter()
        .filter(|account| account["credited_wei"] == books.credited_wei.to_string())
        .collect();
    assert_eq!(credited.len(), 1, "{accounts}");
    assert_eq!(
        credited[0]["sender"].as_str().map(str::to_lowercase),
        Some(network.sender.to_lowercase())
    );
}
