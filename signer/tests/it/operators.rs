//! The operator's lists, health, methods and paths.

use crate::world::{World, r, request};
use penstock_chain::Chain as _;
use penstock_testkit::{until, until_some};
use serde_json::{Value, json};

#[tokio::test]
async fn lists_agree_with_the_tickets_to_the_wei() {
    let world = World::new().await;
    assert_eq!(world.admin("/v1/payments").await, json!([]));
    let offer = world.offer(150, 175, 35);
    let first = world
        .pay_with(
            &request(&offer, json!({"inPixels": 1000, "ManifestID": "m", "app": "x"})),
            &[("signer-auth-id", "c:s")],
        )
        .await;
    world.pay(&request(&world.offer(3, 1, 3), json!({"type": "fixed"}))).await;
    let tickets = world.tickets(&first);
    let list = world.admin("/v1/payments?limit=10").await;
    assert_eq!(list.as_array().unwrap().len(), 2);
    let row = &list[1];
    let hash = hex::encode(&offer.ticket_params.unwrap().recipient_rand_hash);
    let expected = json!({
        "sequence": 0, "account": "local", "auth_id": "c:s", "manifest_id": "m", "type": "",
        "orchestrator": "0x0707070707070707070707070707070707070707", "num_tickets": 25,
        "face_value_wei": "105", "win_prob": tickets[0].win_prob.to_string(),
        "ticket_ev_wei": "35", "units": 1000, "fee_wei": "6000/7", "balance_wei": "125/7",
        "first_nonce": 1, "last_nonce": 25, "recipient_rand_hash": format!("0x{hash}"),
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&row[key], value, "{key}");
    }
    assert!(row["created_at"].as_str().unwrap().ends_with('Z'));
    let total = world.admin("/v1/summary").await;
    assert_eq!((&total["payments"], &total["tickets"]), (&json!(2), &json!(26)));
    let number = |key: &str| r(total[key].as_str().unwrap());
    assert_eq!(number("ticket_ev_total_wei"), r("878"));
    assert_eq!(
        number("ticket_ev_total_wei") - number("fee_total_wei"),
        number("balance_total_wei")
    );
    let sessions = world.admin("/v1/sessions").await;
    assert_eq!(sessions[1]["app"], "x");
    assert_eq!(sessions[1]["initial_price_wei"], "6/7");
    assert_eq!(sessions[1]["balance_wei"], row["balance_wei"]);
    assert_eq!(sessions[1]["state_id"], row["state_id"]);
    assert_eq!(world.admin("/v1/payments?limit=1").await.as_array().unwrap().len(), 1);
    let bad = world.get(&format!("{}/v1/payments?limit=x", world.admin)).await;
    assert_eq!(bad.status, 400);
    bad.message();
}

#[tokio::test]
async fn deposit_and_reserve_are_shown_and_stay_unless_the_setting_says_otherwise() {
    let world = World::new().await;
    let shown = world.admin("/v1/deposit").await;
    let info = world.chain.sender_info(world.account).await.unwrap();
    assert_eq!(shown["address"], penstock_domain::address_lower(&world.account));
    assert_eq!(shown["deposit_wei"], info.deposit.to_string());
    assert_eq!(shown["reserve_wei"], info.reserve.funds_remaining.to_string());
    assert_eq!((&shown["withdraw_round"], &shown["transactions"]), (&json!(0), &json!(false)));
    let fund = json!({ "deposit_wei": "5", "reserve_wei": "0" });
    for (path, body) in [
        ("fund", &fund),
        ("unlock", &json!({})),
        ("cancel-unlock", &json!({})),
        ("withdraw", &json!({})),
    ] {
        let url = format!("{}/v1/deposit/{path}", world.admin);
        let keyless = world.client.post(&url).json(body).send().await.unwrap();
        assert_eq!(keyless.status(), 400, "{path}: a key is needed");
        let request = world.client.post(url).header("idempotency-key", path).json(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 403, "{path}");
        let said: Value = answer.json().await.unwrap();
        assert!(said["error"]["message"].as_str().unwrap().contains("--deposit-transactions"));
    }
    assert_eq!(world.chain.sender_info(world.account).await.unwrap(), info);
}

#[tokio::test]
async fn operators_need_their_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin");
    std::fs::write(&file, "sesame").unwrap();
    let world = World::with(&["--admin-token-file", &file.display().to_string()]).await;
    let url = format!("{}/v1/summary", world.admin);
    assert_eq!(world.get(&url).await.status, 401);
    let reply = crate::world::reply(world.client.get(&url).bearer_auth("sesame")).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn methods_and_paths() {
    let world = World::new().await;
    for path in [
        "/generate-live-payment",
        "/sign-orchestrator-info",
        "/sign-segment-credentials",
        "/sign-byoc-job",
    ] {
        let reply = world.get(&format!("{}{path}", world.http)).await;
        assert_eq!(reply.status, 405, "{path}");
        reply.message();
    }
    for path in ["/discover-orchestrators", "/healthz", "/readyz", "/openapi.json"] {
        let reply = world.post(path, "", &[]).await;
        assert_eq!(reply.status, 405, "{path}");
        reply.message();
    }
    for path in ["/", "/sign", "/generate-live-payment/", "/v1/payments"] {
        let reply = world.post(path, "{}", &[]).await;
        assert_eq!(reply.status, 404, "{path}");
        reply.message();
    }
}

#[tokio::test]
async fn the_document_is_served_and_committed() {
    let world = World::new().await;
    let served = world.get(&format!("{}/openapi.json", world.http)).await.json();
    let committed = include_str!("../../../openapi/signer.json");
    assert_eq!(
        penstock_signer::routes::openapi_json(),
        committed,
        "run `cargo xtask openapi` and commit the result"
    );
    assert_eq!(served, serde_json::from_str::<Value>(committed).unwrap());
}

#[tokio::test]
async fn readiness_is_red_without_chain_or_ledger() {
    let world = World::with(&["--chain-max-age-ms=1500"]).await;
    let ready = format!("{}/readyz", world.http);
    until("it is ready", || async { world.get(&ready).await.status == 200 }).await;
    let offer = world.offer(3, 1, 35);
    let ask = request(&offer, json!({"type": "live", "ManifestID": "m"}));
    // The facts age while a busy machine does something else; the next poll makes them new.
    let first = until_some("a payment", || async {
        let reply = world.pay(&ask).await;
        (reply.status == 200).then_some(reply)
    })
    .await;
    world.kill_devnet().await;
    until("it notices", || async { world.get(&ready).await.status == 503 }).await;
    assert_eq!(world.get(&ready).await.json()["missing"][0]["dependency"], "chain");
    let before = world.books().await;
    let reply = world.pay(&ask).await;
    assert_eq!((reply.status, reply.message().as_str()), (503, "Service Unavailable Error"));
    assert_eq!(reply.headers["retry-after"], "1");
    let next = request(&offer, json!({"type": "live", "ManifestID": "m", "state": first.state()}));
    assert_eq!(world.pay(&next).await.status, 503);
    assert_eq!(world.books().await, before, "no payment on facts that are too old");
    assert_eq!(world.get(&format!("{}/healthz", world.http)).await.status, 200);
    world.signer().ledger.close().await;
    let missing = world.get(&ready).await.json();
    assert_eq!(missing["missing"].as_array().unwrap().len(), 2, "{missing}");
}

#[tokio::test]
async fn readiness_is_red_while_the_accounts_are_too_old() {
    let world = World::with(&["--accounts"]).await;
    let ready = format!("{}/readyz", world.http);
    let key = world.account("acme", json!({})).await;
    until("it is ready", || async { world.get(&ready).await.status == 200 }).await;
    world.signer().accounts.close().await;
    until("it notices", || async { world.get(&ready).await.status == 503 }).await;
    let missing = world.get(&ready).await.json()["missing"].clone();
    assert_eq!(missing.as_array().unwrap().len(), 1, "{missing}");
    assert_eq!(missing[0]["dependency"], "accounts");
    let reason = missing[0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("read ") && reason.contains(" s ago: "), "{reason}");
    let headers = [("authorization", key.as_str())];
    assert_eq!(world.post("/sign-orchestrator-info", "{}", &headers).await.status, 503);
}
