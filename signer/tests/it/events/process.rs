//! From a payment over HTTP to the sink, and a process that dies after the sink took the events.

use crate::{
    crash::{Killable, offer},
    startup::spec,
    world::{devnet, keystore_in, request},
};
use penstock_testkit::{Process, sim::SimSink, until, until::DEADLINE};
use serde_json::json;

#[tokio::test]
async fn every_payment_is_one_event_even_if_the_deliverer_dies() {
    let folder = tempfile::tempdir().unwrap();
    let key = keystore_in(folder.path());
    let net = devnet(key.address()).await;
    let sink = SimSink::start().await;
    let log = folder.path().join("failpoints.log");
    let mut spec = spec(folder.path(), &net.chain_url);
    spec.args.push(format!("--events=webhook:{}/", sink.uri()));
    spec.args.push("--events-lease-ms=3000".to_owned());
    spec.args.push("--events-gateway=here".to_owned());
    spec.env.insert("PENSTOCK_FAILPOINTS".into(), "signer.after_delivery=abort@1".into());
    spec.env.insert("PENSTOCK_FAILPOINT_LOG".into(), log.display().to_string());
    let process = Process::start(spec, folder.path()).await;
    let client = reqwest::Client::builder().timeout(DEADLINE).build().unwrap();
    let mut signer = Killable { process, client, account: key.address() };
    signer.ready().await;

    let offer = offer(net.recipient, 10);
    let with = |members| request(&offer, members);
    // The sink takes nothing before the payment is answered: the process dies when it does.
    sink.faults.fail_one_in(1);
    let first = signer.pay(&with(json!({"inPixels": 30, "ManifestID": "m"}))).await.unwrap();
    sink.faults.fail_one_in(0);
    signer.process.ended().await;
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "signer.after_delivery abort\n");
    assert_eq!(sink.count(), 1, "the sink has it, the ledger does not know");
    // Once; oftener when a busy machine takes longer than a delivery may.
    let deliveries = sink.deliveries();

    signer.process.env_mut().clear();
    signer.process.restart().await;
    signer.ready().await;
    until("it was delivered again", || async { sink.deliveries() > deliveries }).await;
    assert_eq!(sink.count(), 1, "with the same id");
    let next = with(json!({"inPixels": 30, "ManifestID": "m", "state": first["state"]}));
    signer.pay(&next).await.unwrap();
    signer.pay(&next).await.unwrap();
    until("the second arrived", || async { sink.count() == 2 }).await;
    until("nothing waits", || async { signer.admin("/v1/events").await["pending"] == 0 }).await;
    assert_eq!(sink.count(), 2, "a repeated payment is no event");

    let payments = signer.admin("/v1/payments").await;
    for (event, payment) in sink.events().iter().zip(payments.as_array().unwrap().iter().rev()) {
        assert_eq!(event["type"], "create_signed_ticket");
        assert_eq!(event["gateway"], "here");
        assert_eq!(event["data"]["session_id"], payment["state_id"]);
        assert_eq!(event["data"]["sequence_number"], payment["sequence"]);
        assert_eq!(event["data"]["num_tickets"], payment["num_tickets"]);
        assert_eq!(event["data"]["manifest_id"], "m");
    }
    assert_eq!(signer.process.terminate().await.code(), Some(0));
}
