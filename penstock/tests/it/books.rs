//! `payments`, `senders` and `winners` against servers that answer as the roles do.

use crate::network::{announce, penstock, server, text};
use axum::{
    Json, Router,
    extract::{Query, State},
    http::HeaderMap,
    routing::get,
};
use penstock_http_kit::{ApiError, admin::require_token};
use serde_json::{Value, json};
use std::{collections::HashMap, sync::Arc};

fn payment(n: u64) -> Value {
    json!({
        "state_id": "s", "sequence": n, "account": "", "auth_id": null, "manifest_id": "speech",
        "orchestrator": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "type": "",
        "num_tickets": 1, "face_value_wei": "9", "win_prob": "1", "ticket_ev_wei": "8000000000",
        "units": 7, "fee_wei": "100000000000000", "balance_wei": "1/2",
        "first_nonce": n, "last_nonce": n, "recipient_rand_hash": "0x", "created_at": "now"
    })
}

/// The signer's two routes over a list of payments, newest first.
fn signer(payments: Vec<Value>) -> Router {
    let list = async |State(all): State<Arc<Vec<Value>>>,
                      Query(query): Query<HashMap<String, usize>>| {
        Json(Value::from(all.iter().take(query["limit"]).cloned().collect::<Vec<_>>()))
    };
    let summary = async |State(all): State<Arc<Vec<Value>>>| {
        Json(json!({
            "payments": all.len(), "tickets": all.len(), "ticket_ev_total_wei": "16000000000",
            "fee_total_wei": "200000000000000", "balance_total_wei": "1"
        }))
    };
    Router::new()
        .route("/v1/payments", get(list))
        .route("/v1/summary", get(summary))
        .with_state(Arc::new(payments))
}

#[tokio::test]
async fn payments_are_found_through_the_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let address = server(signer(vec![payment(2), payment(1)])).await;
    announce(folder.path(), "signer", "admin", &address);
    let data_dir = folder.path().to_str().unwrap();
    let shown = text(&["payments", "--data-dir", data_dir]).await;
    assert_eq!(shown.matches("0.0001 ETH").count(), 2, "{shown}");
    assert!(shown.contains("fees                  0.0002 ETH"), "{shown}");
    let one = text(&["payments", "--limit", "1", "--data-dir", data_dir]).await;
    assert_eq!(one.matches("0.0001 ETH").count(), 1, "{one}");
    let json = text(&["payments", "--json", "--data-dir", data_dir]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["payments"], json!([payment(2), payment(1)]));
    assert_eq!(json["summary"]["payments"], 2);
}

#[tokio::test]
async fn an_operator_token_is_sent_and_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let address = server(require_token(signer(vec![]), Some("hunter2".to_owned()))).await;
    let url = format!("http://{address}");
    let error = penstock(&["payments", "--signer-admin-url", &url]).await.unwrap_err().to_string();
    assert!(error.contains("--admin-token-file") && error.contains("401"), "{error}");
    let token = folder.path().join("token");
    std::fs::write(&token, "hunter2\n").unwrap();
    let token = token.to_str().unwrap();
    let shown = text(&["payments", "--signer-admin-url", &url, "--admin-token-file", token]).await;
    assert!(shown.starts_with("No payments yet."), "{shown}");
}

#[tokio::test]
async fn senders_and_winners() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = json!([{
        "sender": "0xaa", "session_id": "s1", "credited_wei": "10", "debited_wei": "4",
        "balance_wei": "6"
    }]);
    let winners = json!([{
        "ticket_hash": "0x01", "sender": "0xaa", "face_value_wei": "5", "status": "redeemed",
        "tx_hash": "0x02"
    }]);
    let summary = json!({
        "tickets": 1, "credited_wei": "10", "debited_wei": "4", "balance_wei": "6",
        "winners": 1, "redeemed": 1, "redeemed_face_value_wei": "5"
    });
    let (a, w, s) = (accounts.clone(), winners.clone(), summary.clone());
    let routes = Router::new()
        .route("/v1/accounts", get(async || Json(a)))
        .route("/v1/winners", get(async || Json(w)))
        .route("/v1/summary", get(async || Json(s)));
    announce(folder.path(), "orchestrator", "admin", &server(routes).await);
    let data_dir = folder.path().to_str().unwrap();
    let shown = text(&["senders", "--data-dir", data_dir]).await;
    assert!(shown.contains("0xaa    s1         10 wei    4 wei    6 wei"), "{shown}");
    let shown = text(&["winners", "--data-dir", data_dir]).await;
    assert!(shown.contains("face value redeemed  5 wei"), "{shown}");
    for (command, list, want) in
        [("senders", "accounts", accounts), ("winners", "winners", winners)]
    {
        let json = text(&[command, "--json", "--data-dir", data_dir]).await;
        let want = json!({ list: want, "summary": summary });
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), want);
    }
}

#[tokio::test]
async fn what_goes_wrong_is_said_with_the_setting() {
    let nonsense = Router::new()
        .route("/v1/accounts", get(async || Json(json!({ "a": 1 }))))
        .route("/v1/winners", get(async || "hello"))
        .route("/v1/summary", get(async || Json(json!([]))))
        .fallback(async |_: HeaderMap| ApiError::internal());
    let url = format!("http://{}", server(nonsense).await);
    for command in ["senders", "winners"] {
        let error = penstock(&[command, "--orchestrator-admin-url", &url]).await.unwrap_err();
        assert_eq!(error.exit_status(), 1);
        assert!(error.to_string().contains("--orchestrator-admin-url"), "{error}");
    }
    let error = penstock(&["payments", "--signer-admin-url", &url]).await.unwrap_err().to_string();
    assert!(error.contains("the signer refused: Internal Server Error (status 500)"), "{error}");

    // A port that nobody listens on: bound here, and let go.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{gone}");
    let error = penstock(&["payments", "--signer-admin-url", &url]).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("--signer-admin-url") && text.contains("refused"), "{text}");
    assert_eq!(error.exit_status(), 1);
}
