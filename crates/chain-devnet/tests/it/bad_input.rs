//! Bad input at every endpoint: a documented 4xx in the error envelope, and nothing changes.

use crate::{
    devnet::{Devnet, signer},
    routes::winner,
};
use penstock_chain::Revert;
use penstock_chain_devnet::wire::{Action, Payload, RedeemRequest, TransactionRequest};
use penstock_domain::{B256, U256, Wei};
use reqwest::StatusCode;
use serde_json::{Value, json};

const ADDRESS: &str = "0x0101010101010101010101010101010101010101";

/// Sends, checks the envelope, and gives status and code.
async fn refused(request: reqwest::RequestBuilder) -> (StatusCode, String) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body: Value = response.json().await.expect("the error envelope");
    assert!(body["error"]["message"].is_string(), "{body}");
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

async fn post(devnet: &Devnet, path: &str, body: impl Into<reqwest::Body>) -> (StatusCode, String) {
    let client = reqwest::Client::builder().build().unwrap();
    let request = client.post(format!("{}{path}", devnet.http())).body(body);
    refused(request.header("content-type", "application/json")).await
}

#[tokio::test]
async fn bodies() {
    let devnet = Devnet::start().await;
    let before = devnet.client().status().await.unwrap();
    let huge = format!("{{\"account\":\"{}\"}}", "x".repeat(100_000));
    let deep = "[".repeat(10_000);
    for path in ["/v1/fund", "/v1/transactions", "/v1/tickets/redeem", "/mine"] {
        for body in ["", "{", "null", "[]", "\"x\"", "{\"a\":1}", "\u{0}", &deep] {
            let (status, _) = post(&devnet, path, body.to_owned()).await;
            assert_eq!(status, 400, "{path} {}", &body[..body.len().min(20)]);
        }
        let (status, code) = post(&devnet, path, huge.clone()).await;
        assert_eq!((status.as_u16(), code.as_str()), (413, "body_too_large"));
        let client = reqwest::Client::builder().build().unwrap();
        let plain = client.post(format!("{}{path}", devnet.http())).body("{}");
        assert_eq!(refused(plain).await.0, 415, "{path}");
        let get = client.get(format!("{}{path}", devnet.http()));
        // `/v1/tickets/redeem` by GET is the question about a ticket named "redeem".
        assert!(refused(get).await.0.is_client_error(), "{path}");
    }
    assert_eq!(devnet.client().status().await.unwrap(), before);
}

#[tokio::test]
async fn values() {
    let devnet = Devnet::start().await;
    let before = devnet.client().status().await.unwrap();
    let over = format!("1{}", U256::MAX);
    for body in [
        json!({"account": ADDRESS, "deposit_wei": 1}),
        json!({"account": ADDRESS, "deposit_wei": "-1"}),
        json!({"account": ADDRESS, "deposit_wei": "1.5"}),
        json!({"account": ADDRESS, "deposit_wei": "0x1"}),
        json!({"account": ADDRESS, "deposit_wei": over}),
        json!({"account": ADDRESS, "deposit": "1"}),
        json!({"account": "0x01", "deposit_wei": "1"}),
        json!({"account": [1], "deposit_wei": "1"}),
        json!({"deposit_wei": "1"}),
    ] {
        let (status, code) = post(&devnet, "/v1/fund", body.to_string()).await;
        assert_eq!((status.as_u16(), code.as_str()), (400, "bad_request"), "{body}");
    }
    for body in [
        json!({}),
        json!({"blocks": 0}),
        json!({"blocks": 1, "rounds": 1}),
        json!({"blocks": -1}),
        json!({"blocks": 1.5}),
        json!({"blocks": u64::MAX}),
        json!({"rounds": u64::MAX}),
        json!({"rounds": 1_001}),
        json!({"blocks": "1"}),
    ] {
        let (status, code) = post(&devnet, "/mine", body.to_string()).await;
        assert_eq!((status.as_u16(), code.as_str()), (400, "bad_request"), "{body}");
    }
    let all = json!({"account": ADDRESS, "deposit_wei": U256::MAX.to_string(), "reserve_wei": "1"});
    let (status, code) = post(&devnet, "/v1/fund", all.to_string()).await;
    assert_eq!((status.as_u16(), code.as_str()), (422, "reverted"));
    assert_eq!(devnet.client().status().await.unwrap(), before);
}

#[tokio::test]
async fn tickets() {
    let devnet = Devnet::start().await;
    let chain = devnet.client();
    let good = serde_json::to_value(RedeemRequest::from(&winner(&chain, 1, 1).await)).unwrap();
    let mut bad = Vec::new();
    for (field, value) in [
        ("sig", json!("0x1")),
        ("sig", json!("zz")),
        ("sig", json!(null)),
        ("recipient_rand", json!("-1")),
        ("recipient_rand", json!(1)),
        ("extra", json!(1)),
    ] {
        let mut body = good.clone();
        body[field] = value;
        bad.push(body);
    }
    for (field, value) in [
        ("recipient", json!("0x")),
        ("sender", json!("é".repeat(20))),
        ("face_value_wei", json!(1)),
        ("win_prob", json!("1e3")),
        ("sender_nonce", json!(null)),
        ("recipient_rand_hash", json!("0x00")),
        ("aux_data", json!("0x0")),
    ] {
        let mut body = good.clone();
        body["ticket"][field] = value;
        bad.push(body);
    }
    for body in bad {
        let (status, code) = post(&devnet, "/v1/tickets/redeem", body.to_string()).await;
        assert_eq!((status.as_u16(), code.as_str()), (400, "bad_request"), "{body}");
    }
    assert!(chain.redemptions(1).await.unwrap().is_empty());
}

#[tokio::test]
async fn paths_and_queries() {
    let devnet = Devnet::start().await;
    for path in [
        "/v1/senders/x",
        "/v1/senders/%ff",
        "/v1/senders/0x0/claims/0x0",
        "/v1/orchestrators/1",
        "/v1/accounts/0xg101010101010101010101010101010101010101",
        "/v1/tickets/0x00",
        "/v1/redemptions?limit=-1",
        "/v1/redemptions?limit=1001",
        "/v1/redemptions?limit=99999999999999999999",
    ] {
        let request = reqwest::Client::builder().build().unwrap();
        let (status, code) = refused(request.get(format!("{}{path}", devnet.http()))).await;
        assert_eq!((status.as_u16(), code.as_str()), (400, "bad_request"), "{path}");
    }
    let client = reqwest::Client::builder().build().unwrap();
    assert_eq!(refused(client.get(format!("{}/nowhere", devnet.http()))).await.0, 404);
    assert_eq!(refused(client.delete(format!("{}/v1/status", devnet.http()))).await.0, 405);
}

/// A transaction by account `by` in the name of account `of`.
async fn transaction(by: usize, of: usize, chain_id: B256, nonce: u64) -> TransactionRequest {
    let action = Action::Fund { deposit_wei: Wei::from_u64(1), reserve_wei: Wei::ZERO };
    let payload = Payload { chain_id, account: signer(of).address(), nonce, action };
    let payload = serde_json::to_string(&payload).unwrap();
    let sig = signer(by).sign_devnet_transaction(payload.as_bytes()).await.unwrap();
    TransactionRequest { payload, sig: sig.as_bytes().to_vec() }
}

#[tokio::test]
async fn signed_transactions_are_good_for_one_account_one_chain_and_one_time() {
    let devnet = Devnet::start().await;
    let chain_id = devnet.client().status().await.unwrap().chain_id;
    let send = async |request: &TransactionRequest| {
        post(&devnet, "/v1/transactions", serde_json::to_string(request).unwrap()).await
    };
    let foreign = transaction(1, 0, chain_id, 0).await;
    assert_eq!(send(&foreign).await, (StatusCode::FORBIDDEN, "signature".to_owned()));
    let elsewhere = transaction(0, 0, B256::ZERO, 0).await;
    assert_eq!(send(&elsewhere).await, (StatusCode::CONFLICT, "wrong_chain".to_owned()));
    let early = transaction(0, 0, chain_id, 1).await;
    assert_eq!(send(&early).await, (StatusCode::CONFLICT, "nonce".to_owned()));
    let good = transaction(0, 0, chain_id, 0).await;
    for changed in [
        TransactionRequest { payload: good.payload.replace("\"1\"", "\"2\""), ..good.clone() },
        TransactionRequest { payload: format!("{} ", good.payload), ..good.clone() },
        TransactionRequest { sig: good.sig[..64].to_vec(), ..good.clone() },
        TransactionRequest { sig: vec![], ..good.clone() },
    ] {
        assert_eq!(send(&changed).await, (StatusCode::FORBIDDEN, "signature".to_owned()));
    }
    for payload in ["", "{}", "null", "[]", "{\"chain_id\":1}"] {
        let request = TransactionRequest { payload: payload.to_owned(), ..good.clone() };
        assert_eq!(send(&request).await, (StatusCode::BAD_REQUEST, "bad_request".to_owned()));
    }
    assert_eq!(devnet.client().status().await.unwrap().totals.funded_wei, Wei::ZERO);
    let client = reqwest::Client::builder().build().unwrap();
    let done = client.post(format!("{}/v1/transactions", devnet.http())).json(&good);
    assert_eq!(done.send().await.unwrap().status(), 200);
    assert_eq!(send(&good).await, (StatusCode::CONFLICT, "nonce".to_owned()));
    assert_eq!(devnet.client().status().await.unwrap().totals.funded_wei, Wei::from_u64(1));
}

#[tokio::test]
async fn reverts_keep_the_contracts_text() {
    let devnet = Devnet::start().await;
    let chain = devnet.client();
    let request = RedeemRequest::from(&winner(&chain, 1, 1).await);
    let response = reqwest::Client::builder()
        .build()
        .unwrap()
        .post(format!("{}/v1/tickets/redeem", devnet.http()))
        .json(&request)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 422);
    let body: Value = response.json().await.unwrap();
    let text = Revert::SenderEmpty.text();
    assert_eq!(body, json!({"error": {"message": text, "code": "reverted"}}));
}
