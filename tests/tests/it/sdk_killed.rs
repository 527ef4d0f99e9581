//! The official Python SDK, unmodified, as a client that dies by `kill -9` in a paid session: its lease ends, the
//! next client gets its room, and nothing more is charged.

use std::{
    convert::Infallible,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::{get, post},
};
use futures::StreamExt as _;
use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::{Sdk, sim::Server, until};
use serde_json::{Value, json};

use crate::{
    books::Books,
    network::{Needs, Network, SignerOn},
};

/// Dollars for an hour, and wei a second with an ether for 2,000: a ticket of the SDK's lasts for a minute and more,
/// so that it is not the money that ends.
const USD: &str = "0.00072";
const SECOND_WEI: u64 = 100_000_000;
const CLIENT: &str = "client.py";

/// An application whose streams say something and then go on until nobody listens; how many are open.
async fn application() -> (Server, Arc<AtomicU64>) {
    struct Open(Arc<AtomicU64>);
    impl Drop for Open {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    let open = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&open);
    let stream = async move || {
        counted.fetch_add(1, SeqCst);
        let open = Open(Arc::clone(&counted));
        let first = Ok::<_, Infallible>(Bytes::from_static(b"begun\n"));
        let rest = futures::stream::once(async move {
            let _open = open;
            std::future::pending().await
        });
        Body::from_stream(futures::stream::iter([first]).chain(rest))
    };
    let router =
        Router::new().route("/stream", post(stream)).route("/health", get(async || "well"));
    (Server::clear(router).await, open)
}

#[tokio::test]
async fn a_client_that_is_killed_gives_its_room_back_and_is_charged_no_more() {
    let (application, open) = application().await;
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("runners.json");
    let price = json!({ "price": USD, "unit": "hour" });
    let runner = json!({ "label": "live", "routing": "label", "app": "demo/live", "capacity": 1,
        "runner_url": application.uri, "health_url": "/health", "price_info": price });
    fs::write(&list, json!({ "runners": [runner] }).to_string()).unwrap();
    let settings = [
        "--eth-usd=2000".to_owned(),
        format!("--live-runner-config={}", list.display()),
        "--live-payment-interval-ms=200".to_owned(),
        "--live-runner-health-ms=200".to_owned(),
        "--live-runner-lease-ms=4000".to_owned(),
    ];
    let network = Network::start_with(Needs::PAYMENTS, SignerOn::default(), &settings).await;
    let (signer, orchestrator) = (network.url(Role::Signer), network.url(Role::Orchestrator));
    let client = || Sdk::start(CLIENT, [Path::new(&signer), Path::new(&orchestrator)]);
    let operator = async |path: &str| {
        network.get(&format!("{}/v1/{path}", network.admin(Role::Orchestrator))).await
    };
    let session = async |id: &str| {
        let all = operator("runner-sessions").await;
        let own = all.as_array().unwrap().iter().find(|row| row["session_id"] == id).cloned();
        own.unwrap_or_else(|| panic!("no {id}: {all}"))
    };
    let account = async |id: &str| {
        let all = operator("accounts").await;
        let own = all.as_array().unwrap().iter().find(|row| row["session_id"] == id).cloned();
        own.unwrap_or_else(|| panic!("no {id}: {all}"))
    };
    let units = |row: &Value| row["units_charged"].as_u64().unwrap();

    let mut first = client();
    let begun = heard(&mut first).await;
    let killed = begun["session"].as_str().unwrap().to_owned();
    assert_eq!(begun["heard"], "begun");
    until("its time is charged", || async { units(&session(&killed).await) > 0 }).await;
    let mut second = client();
    // There is room for one.
    let waits = second.hear().await;
    assert!(waits["waits"].is_string(), "{waits}");
    assert_eq!(operator("runner-sessions").await.as_array().unwrap().len(), 1);
    assert_eq!(open.load(SeqCst), 1);

    first.kill9().await;
    let begun = heard(&mut second).await;
    let next = begun["session"].as_str().unwrap().to_owned();
    assert_ne!(next, killed);
    let ended = session(&killed).await;
    assert_eq!(ended["reason"], "lease_expired", "{ended}");
    assert_eq!(open.load(SeqCst), 1, "the stream that nobody hears was let go");

    // Time passes, and is another's: what the one that died was charged is its own time, and stays.
    let charged = account(&killed).await;
    let before = units(&session(&next).await);
    until("the next one's time is charged", || async { units(&session(&next).await) > before + 1 })
        .await;
    assert_eq!(session(&killed).await, ended);
    assert_eq!(account(&killed).await, charged);
    let debited: Rational = charged["debited_wei"].as_str().unwrap().parse().unwrap();
    assert_eq!(debited, Rational::from(SECOND_WEI).times(units(&ended)));
    // The money was not at its end: what was left of it is the next session's of the same sender.
    assert_eq!(charged["balance_wei"], "0", "{charged}");
    let next_account = account(&next).await;
    let paid = |account: &Value| account["tickets"].as_u64().unwrap();
    let worth = |account: &Value| -> Rational {
        account["credited_wei"].as_str().unwrap().parse().unwrap()
    };
    let a_ticket = (&worth(&charged) + &worth(&next_account))
        .checked_div(&Rational::from(paid(&charged) + paid(&next_account)))
        .unwrap();
    let own = a_ticket.times(paid(&next_account));
    assert!(worth(&next_account) > own, "nothing was carried over: {charged} {next_account}");

    assert_eq!(second.end().await, json!({ "done": true }));
    assert_eq!(session(&next).await["reason"], "client_stopped");
    until("both streams are over", || async { open.load(SeqCst) == 0 }).await;
    Books::read(&network).await;
}

/// What a client says when it has a session.
async fn heard(client: &mut Sdk) -> Value {
    loop {
        let said = client.hear().await;
        if said["waits"].is_null() {
            return said;
        }
    }
}
