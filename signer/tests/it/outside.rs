//! Services of others that authentication asks: an auth webhook and an identity provider, over real
//! sockets, with everything that they may do wrong.

use crate::world::{World, reply, request};
use axum::{
    Router,
    body::Bytes,
    response::Redirect,
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode};
use penstock_domain::{Address, B256, PriceInfo, Rational, StateId};
use penstock_http_kit::tls::install_crypto_provider;
use penstock_oidc::{self as oidc, AccountFrom, Oidc, OidcSettings, Source, TokenError};
use penstock_payments::BillingType;
use penstock_signer::auth::webhook::{NewState, Refusal, Webhook, WebhookSettings};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

async fn server(router: Router) -> String {
    install_crypto_provider();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

fn state() -> NewState {
    NewState {
        state_id: StateId::new("0a0b0c0d").unwrap(),
        recipient_rand_hash: B256::repeat_byte(1),
        last_update_ns: 1_800_000_000_000_000_000,
        orchestrator: Address::repeat_byte(2),
        app: String::new(),
        auth_expiry_s: 0,
        sender_nonce: 1,
        balance_wei: Rational::default(),
        initial_price: PriceInfo::new(1, 1).unwrap(),
        job_type: BillingType::Live,
        sequence: 0,
        auth_id: None,
    }
}

async fn asked(url: &str, path: &str) -> Result<(), Refusal> {
    let headers = WebhookSettings::headers("X-Secret: s3").unwrap();
    let settings = WebhookSettings { url: format!("{url}{path}").parse().unwrap(), headers };
    let caller = HeaderMap::from_iter([("x-request-id".parse().unwrap(), "r1".parse().unwrap())]);
    Webhook::new(settings).unwrap().ask(&caller, &state()).await.map(|_| ())
}

#[tokio::test]
async fn a_webhook_decides_and_its_failures_are_not_a_yes() {
    let seen: Arc<Mutex<Vec<(HeaderMap, Value)>>> = Arc::default();
    let router = Router::new()
        .route(
            "/yes",
            post({
                let seen = Arc::clone(&seen);
                async move |headers: HeaderMap, body: Bytes| {
                    seen.lock().unwrap().push((headers, serde_json::from_slice(&body).unwrap()));
                    r#"{"status":200}"#
                }
            }),
        )
        .route("/no", post(async || r#"{"status":402,"reason":"top up"}"#))
        .route("/401", post(async || (StatusCode::UNAUTHORIZED, r#"{"status":200}"#)))
        .route("/elsewhere", post(async || Redirect::temporary("/yes")))
        .route(
            "/long",
            post(async || format!(r#"{{"status":200,"reason":"{}"}}"#, "x".repeat(70_000))),
        )
        .route("/empty", post(async || ""));
    let url = server(router).await;
    asked(&url, "/yes").await.unwrap();
    let (headers, body) = seen.lock().unwrap().pop().unwrap();
    assert_eq!(
        (&headers["content-type"], &headers["x-secret"]),
        (&"application/json".parse().unwrap(), &"s3".parse().unwrap())
    );
    assert_eq!(body["headers"], json!({"X-Request-Id": ["r1"]}));
    assert_eq!(body["state"]["StateID"], "0a0b0c0d");
    let no = asked(&url, "/no").await.unwrap_err();
    assert_eq!((no.status().as_u16(), no.to_string().as_str()), (402, "top up"));
    for path in ["/401", "/elsewhere", "/long", "/empty", "/nowhere"] {
        let refusal = asked(&url, path).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Failed(_)), "{path}: {refusal:?}");
    }
    assert!(seen.lock().unwrap().is_empty(), "redirects are not followed");
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(asked(&format!("http://{gone}"), "/").await.is_err());
}

#[tokio::test]
async fn an_identity_providers_keys_come_over_http_and_only_from_there() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let raw = pair.public_key_raw();
    let point = &raw[raw.len() - 64..];
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
    let jwks =
        json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "k1"}]}).to_string();
    let long = format!("{jwks}{}", " ".repeat(300_000));
    let router = Router::new()
        .route("/keys", get(async move || jwks))
        .route("/long", get(async move || long))
        .route("/elsewhere", get(async || Redirect::temporary("/keys")));
    let url = server(router).await;
    let claims = json!({"iss": "i", "aud": "a", "sub": "bob", "exp": 2_000});
    let key = jsonwebtoken::EncodingKey::from_ec_der(pair.serialized_der());
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    header.kid = Some("k1".into());
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    let verify = async |path: &str| {
        let settings = OidcSettings {
            issuer: "i".into(),
            audiences: vec!["a".into()],
            algorithms: vec![oidc::algorithm("ES256").unwrap()],
            source: Source::Url(format!("{url}{path}").parse().unwrap()),
            account: AccountFrom::Fixed("acme".into()),
            subject_claim: "sub".into(),
            leeway_s: 0,
        };
        Oidc::new(settings).unwrap().verify(&token, 1_000).await
    };
    assert_eq!(verify("/keys").await.unwrap().auth_id().unwrap().as_str(), "acme:bob");
    for path in ["/long", "/elsewhere", "/none"] {
        let said = verify(path).await;
        assert_eq!(said, Err(TokenError::KeysUnknown), "{path}");
    }
}

#[tokio::test]
async fn a_token_is_its_account_and_its_subject() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let raw = pair.public_key_raw();
    let point = &raw[raw.len() - 64..];
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let jwks = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "k1"}]});
    std::fs::write(&file, jwks.to_string()).unwrap();
    let flag = format!("--oidc-jwks-file={}", file.display());
    let world = World::with(&[
        "--oidc-issuer=https://id.example",
        "--oidc-audience=signer",
        "--oidc-algorithms=ES256",
        "--oidc-account-claim=org",
        &flag,
    ])
    .await;
    let key = jsonwebtoken::EncodingKey::from_ec_der(pair.serialized_der());
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    header.kid = Some("k1".into());
    let token = |org: &str| {
        let exp = world.now_s() + 60;
        let claims = json!({"iss": "https://id.example", "aud": "signer", "sub": "bob", "org": org, "exp": exp});
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    };
    let made = world.client.post(format!("{}/v1/accounts", world.admin));
    assert_eq!(reply(made.body(json!({"name": "acme"}).to_string())).await.status, 201);
    let before = world.books().await;
    let pay = async |token: &str| {
        let body = request(&world.offer(3, 1, 3), json!({"type": "fixed"}));
        let bearer = format!("Bearer {token}");
        let named = [("authorization", bearer.as_str()), ("signer-auth-id", "acme:root")];
        world.pay_with(&body, &named).await
    };
    for (bad, status) in
        [(token("else"), 403), (format!("{}x", token("acme")), 401), ("x".to_owned(), 401)]
    {
        assert_eq!(pay(&bad).await.status, status);
    }
    let old = token("acme");
    world.pass_s(121);
    let said = pay(&old).await;
    assert_eq!(
        (said.status, said.message().as_str()),
        (401, "the token is not accepted: it has expired")
    );
    assert_eq!(world.books().await, before);
    assert_eq!(pay(&token("acme")).await.status, 200);
    let row = world.admin("/v1/payments?limit=1").await[0].clone();
    assert_eq!(
        (&row["account"], &row["auth_id"]),
        (&json!("acme"), &json!("acme:bob")),
        "not root"
    );
    // Nor where headers are believed: the token has said who it is.
    let trust = world.client.patch(format!("{}/v1/accounts/acme", world.admin));
    let trust = trust.body(json!({"policy": {"may_name_subjects": true}}).to_string());
    assert_eq!(reply(trust).await.status, 200);
    let before = world.books().await;
    let said = pay(&token("acme")).await;
    assert_eq!(said.status, 403, "{said:?}");
    assert!(said.message().contains("acme:bob"), "{said:?}");
    assert_eq!(world.books().await, before);
}
