//! `penstock accounts …` against a server that answers as the signer does and notes what was asked.

use crate::network::{penstock, server, text};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, Uri},
    response::IntoResponse,
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

type Asked = Arc<Mutex<Vec<(Method, String, Value)>>>;

fn account() -> Value {
    json!({"name": "acme", "tier": "gold", "state": "active", "note": "", "version": 3,
        "policy": {"budget_day": "1 wei", "subject_day": "2 wei"}, "created_at": "now", "updated_at": "now",
        "effective_policy": {"budget_day": "1 wei", "requests_per_second": 9}})
}

fn key() -> Value {
    json!({"id": "psk_0a0b0c0d", "account": "acme", "kind": "api_key", "state": "active",
        "expires_at": null, "note": "", "created_at": "now"})
}

async fn answer(
    State(asked): State<Asked>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> impl IntoResponse {
    let sent = serde_json::from_slice(&body).unwrap_or(Value::Null);
    asked.lock().unwrap().push((method.clone(), uri.to_string(), sent));
    let path = uri.path();
    let json = match (method.as_str(), path) {
        ("DELETE", _) => return String::new(),
        ("GET", "/v1/accounts") => json!({"accounts": [account()], "next": null}),
        ("GET", "/v1/tiers") => {
            json!([{"name": "gold", "policy": {"budget_day": "1 wei"}, "version": 7}])
        }
        ("PUT", "/v1/tiers/gold") => json!({"name": "gold", "policy": {}, "version": 8}),
        ("GET", "/v1/usage") if uri.query().unwrap_or("").contains("csv") => {
            return "day,account\r\n".into();
        }
        ("GET", "/v1/usage" | "/v1/forecast") => json!([]),
        ("GET", p) if p.ends_with("/keys") => json!([key()]),
        ("GET", p) if p.ends_with("/subjects") => json!([]),
        ("POST", p)
            if p.ends_with("/keys")
                || p.ends_with("/rotate")
                || p.ends_with("/revoke")
                || p.ends_with("/certificates") =>
        {
            let mut key = key();
            key["key"] = "psk_0a0b0c0d_secret".into();
            key
        }
        ("PUT", p) if p.contains("/subjects/") => {
            json!({"auth_id": "c:bob", "state": "active", "policy": {}})
        }
        _ => account(),
    };
    json.to_string()
}

#[tokio::test]
async fn commands_ask_for_what_they_say() {
    let asked = Asked::default();
    let routes = Router::new().fallback(answer).with_state(Arc::clone(&asked));
    let url = format!("http://{}", server(routes).await);
    let run = async |words: &[&str]| {
        asked.lock().unwrap().clear();
        let words = [&["accounts"], words, &["--signer-admin-url", &url]].concat();
        let shown = text(&words).await;
        (shown, asked.lock().unwrap().clone())
    };
    let (shown, _) = run(&["list"]).await;
    assert!(
        shown.contains("acme     active  gold       1 wei                         9"),
        "{shown}"
    );
    let (shown, asked_for) = run(&["show", "acme"]).await;
    assert!(shown.contains("budget a day") && shown.contains("psk_0a0b0c0d"), "{shown}");
    assert_eq!(asked_for.len(), 3);
    for (words, method, path, body) in [
        (
            &[
                "create",
                "acme",
                "--tier",
                "gold",
                "--budget-day",
                "25 usd",
                "--may-name-subjects",
                "true",
            ][..],
            "POST",
            "/v1/accounts",
            json!({"name": "acme", "tier": "gold", "policy": {"budget_day": "25 usd", "may_name_subjects": true}}),
        ),
        (
            &[
                "set",
                "acme",
                "--budget-month",
                "1 eth",
                "--subject-day",
                "inherit",
                "--tier",
                "none",
            ],
            "PATCH",
            "/v1/accounts/acme",
            json!({"version": 3, "tier": null, "policy": {"budget_day": "1 wei", "budget_month": "1 eth"}}),
        ),
        (&["block", "acme"], "PATCH", "/v1/accounts/acme", json!({"state": "blocked"})),
        (&["unblock", "acme"], "PATCH", "/v1/accounts/acme", json!({"state": "active"})),
        (
            &["keys", "create", "acme", "--expires-in", "2h"],
            "POST",
            "/v1/accounts/acme/keys",
            json!({"expires_in_s": 7200}),
        ),
        (
            &["keys", "rotate", "psk_0a0b0c0d", "--overlap", "30m"],
            "POST",
            "/v1/keys/psk_0a0b0c0d/rotate",
            json!({"overlap_s": 1800}),
        ),
        (&["keys", "revoke", "psk_0a0b0c0d"], "POST", "/v1/keys/psk_0a0b0c0d/revoke", json!({})),
        (
            &["keys", "certificate", "acme", "AB:CD"],
            "POST",
            "/v1/accounts/acme/certificates",
            json!({"sha256": "AB:CD"}),
        ),
        (
            &["tiers", "set", "gold", "--requests-per-second", "5"],
            "PUT",
            "/v1/tiers/gold",
            json!({"version": 7, "policy": {"budget_day": "1 wei", "requests_per_second": 5}}),
        ),
        (&["tiers", "delete", "gold"], "DELETE", "/v1/tiers/gold", Value::Null),
        (
            &["subjects", "set", "acme", "c:bob/x", "--budget-day", "5 wei"],
            "PUT",
            "/v1/accounts/acme/subjects/c%3Abob%2Fx",
            json!({"policy": {"budget_day": "5 wei"}, "state": "active"}),
        ),
        (
            &["subjects", "clear", "acme", "c:bob"],
            "DELETE",
            "/v1/accounts/acme/subjects/c%3Abob",
            Value::Null,
        ),
        (&["forecast", "--account", "acme"], "GET", "/v1/forecast?account=acme", Value::Null),
        (
            &["usage", "--from", "2026-11-01", "--account", "a b"],
            "GET",
            "/v1/usage?from=2026-11-01&account=a%20b",
            Value::Null,
        ),
    ] {
        let (_, asked_for) = run(words).await;
        let last = asked_for.last().unwrap().clone();
        assert_eq!(last, (method.parse().unwrap(), path.to_owned(), body), "{words:?}");
    }
    let (shown, _) = run(&["keys", "create", "acme"]).await;
    assert!(shown.ends_with("psk_0a0b0c0d_secret\n"), "{shown}");
    let (csv, _) = run(&["usage", "--csv"]).await;
    assert_eq!(csv, "day,account\r\n");
    let (json, _) = run(&["list", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), json!([account()]));
    let words =
        ["accounts", "keys", "create", "acme", "--expires-in", "soon", "--signer-admin-url", &url];
    let error = penstock(&words).await.unwrap_err();
    assert_eq!((error.exit_status(), error.to_string().starts_with("--expires-in")), (64, true));
}
