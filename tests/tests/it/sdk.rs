//! The official Python SDK, unmodified, pays our orchestrator through our signer, on either ledger and
//! with the key in a keystore or in a PKCS#11 token.

use std::process::Command;

use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::{figure, places, postgres, softhsm::SoftHsm, until};
use serde_json::Value;

use crate::{
    books::Books,
    network::{Needs, Network, OtherKey, SignerOn},
};

#[tokio::test]
async fn the_official_sdk_pays_with_the_books_in_sqlite() {
    let network = Network::start(Needs::PAYMENTS).await;
    pays(&network, "SQLite").await;
    Books::read(&network).await;
}

#[tokio::test]
async fn the_official_sdk_pays_with_the_books_in_postgresql() {
    let books = postgres::database().await;
    let on = SignerOn { ledger: Some(books.url().to_owned()), ..SignerOn::default() };
    pays(&Network::start_on(Needs::PAYMENTS, on).await, "PostgreSQL").await;
}

#[tokio::test]
async fn the_official_sdk_pays_with_a_key_in_a_pkcs11_token() {
    let hsm = SoftHsm::start();
    let key = key_in(&hsm);
    let on = SignerOn { key: Some(key), ..SignerOn::default() };
    pays(&Network::start_on(Needs::PAYMENTS, on).await, "SQLite, key in SoftHSM").await;
}

/// A new key in the token, made by the signer's own command.
fn key_in(hsm: &SoftHsm) -> OtherKey {
    let (name, conf) = hsm.env();
    let flags = vec![format!("--key={}", hsm.uri("sdk"))];
    let made = Command::new(places::binary("penstock-signer"))
        .args(["keys", "create"])
        .args(&flags)
        .env(name, &conf)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let address = said.lines().last().unwrap_or_default().to_owned();
    let env = [(name.to_owned(), conf.display().to_string())].into();
    OtherKey { flags, address, env }
}

/// The SDK's unmodified payment session through the signer, at our orchestrator.
async fn pays(network: &Network, books: &str) {
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
    let wei = |value: &Value| value.as_str().unwrap().parse::<Rational>().unwrap();
    let signed = network.get(&format!("{}/v1/summary", network.admin(Role::Signer))).await;
    let taken = network.get(&format!("{}/v1/summary", network.admin(Role::Orchestrator))).await;
    let (signed_wei, credited_wei) =
        (wei(&signed["ticket_ev_total_wei"]), wei(&taken["credited_wei"]));
    assert!(credited_wei.is_positive());
    assert_eq!(&credited_wei + &credited_wei, signed_wei);
    figure(&format!("SDK with {books}: payments, tickets"), format!("2, {}", signed["tickets"]));
    let accounts = network.get(&format!("{}/v1/accounts", network.admin(Role::Orchestrator))).await;
    let credited: Vec<&Value> = accounts
        .as_array()
        .unwrap()
        .iter()
        .filter(|account| account["credited_wei"] == credited_wei.to_string())
        .collect();
    assert_eq!(credited.len(), 1, "{accounts}");
    assert_eq!(
        credited[0]["sender"].as_str().map(str::to_lowercase),
        Some(network.sender.to_lowercase())
    );
}
