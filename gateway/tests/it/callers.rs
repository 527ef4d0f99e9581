//! Who is let in, and on whose account.

use crate::{
    audio::wav,
    world::{CONFIG, SOURCE, World, error},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use penstock_testkit::{sim::orchestrator::Terms, until};
use reqwest::{
    RequestBuilder, Response,
    multipart::{Form, Part},
};
use serde_json::{Value, json};

async fn transcribe(w: &World, token: Option<&str>) -> Response {
    let form = Form::new().part("audio", Part::bytes(wav(20)).file_name("a.wav"));
    let request = w.http.post(format!("{}/audio-to-text", w.url)).multipart(form);
    with(request, token).send().await.unwrap()
}

fn with(request: RequestBuilder, token: Option<&str>) -> RequestBuilder {
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

#[tokio::test]
async fn a_key_that_the_signer_knows_opens_and_its_account_pays() {
    let w = World::start(1, &["--caller-auth=signer"]).await;
    w.signer.admit("psk_bob", "acme:bob", json!({ "tier": "gold" }));
    w.signer.admit("psk_eve", "evil:eve", json!({}));
    for token in ["psk_bob", "psk_eve", "psk_bob"] {
        let answer = transcribe(&w, Some(token)).await;
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }
    // Each pays with their own payment session: neither uses up what the other has bought.
    assert_eq!(*w.signer.auth_ids.lock().unwrap(), ["acme:bob", "evil:eve"]);
}

#[tokio::test]
async fn strangers_cost_nothing() {
    let w = World::start(1, &["--caller-auth=signer"]).await;
    let refused = transcribe(&w, None).await;
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    assert_eq!(error(refused).await.0, 401);
    assert_eq!(*w.signer.verify_requests.lock().unwrap(), 0, "no token, no question");
    for _ in 0..3 {
        let (status, code, _) = error(transcribe(&w, Some("psk_made_up")).await).await;
        assert_eq!((status, code.as_str()), (401, "unauthorized"));
    }
    assert_eq!(*w.signer.verify_requests.lock().unwrap(), 1, "a refusal is remembered");
    let pushed = w.push("/live/show/0.ts", SOURCE).await;
    assert_eq!(error(pushed).await.0, 401);
    let listed = w.http.get(format!("{}/api/streams", w.url)).send().await.unwrap();
    assert_eq!(error(listed).await.0, 401);
    assert_eq!((w.signer.asked(), w.segments()), (0, 0));
    // Health, the document and the player page are for everybody.
    for path in ["/healthz", "/openapi.json", "/"] {
        assert_eq!(w.get(path).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn a_key_that_is_taken_back_opens_no_more() {
    let w = World::start(1, &["--caller-auth=signer"]).await;
    w.signer.admit("psk_bob", "acme:bob", json!({}));
    assert_eq!(transcribe(&w, Some("psk_bob")).await.status(), 200);
    w.signer.revoke("psk_bob");
    // The answer is out of date at once here, so a request has it looked at again behind its back.
    until("it is refused", || async { transcribe(&w, Some("psk_bob")).await.status() == 403 })
        .await;
}

#[tokio::test]
async fn a_signer_that_is_away_fails_no_known_caller() {
    let w = World::start(1, &["--caller-auth=signer"]).await;
    w.signer.admit("psk_bob", "acme:bob", json!({}));
    assert_eq!(transcribe(&w, Some("psk_bob")).await.status(), 200);
    w.signer.faults.fail_one_in(1);
    for _ in 0..3 {
        assert_eq!(transcribe(&w, Some("psk_bob")).await.status(), 200, "credit is in hand");
    }
    let answer = transcribe(&w, Some("psk_new")).await;
    assert!(answer.headers().contains_key("retry-after"));
    let (status, code, _) = error(answer).await;
    assert_eq!((status, code.as_str()), (503, "auth_unavailable"), "nobody is let in by it");
}

#[tokio::test]
async fn the_lower_price_ceiling_counts() {
    let w = World::start(1, &["--caller-auth=signer"]).await;
    let price = w.orchestrator().terms.lock().unwrap().price.rational();
    assert_eq!(price, Terms::default().price.rational());
    w.signer.admit("psk_rich", "acme:rich", json!({ "max_price_wei_per_unit": "1000000" }));
    w.signer.admit("psk_poor", "acme:poor", json!({ "max_price_wei_per_unit": "1/1000000" }));
    assert_eq!(transcribe(&w, Some("psk_rich")).await.status(), 200);
    assert_eq!(error(transcribe(&w, Some("psk_poor")).await).await.0, 503);
    assert_eq!(*w.signer.auth_ids.lock().unwrap(), ["acme:rich"]);
}

#[tokio::test]
async fn watching_and_publishing_as_set() {
    let w = World::start(1, &["--caller-auth=signer", "--publish-auth=open"]).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!(w.get("/stream/show.m3u8").await.0, 200, "watching is open");
    let wrong = w.http.put(format!("{}/live/show/1.ts", w.url)).bearer_auth("psk_made_up");
    assert_eq!(error(wrong.body(SOURCE).send().await.unwrap()).await.0, 401);

    let w = World::start(1, &["--caller-auth=signer", "--playback-auth=caller"]).await;
    w.signer.admit("psk_bob", "acme:bob", json!({}));
    let put = w.http.put(format!("{}/live/show/0.ts", w.url)).bearer_auth("psk_bob");
    let put = put.header("livepeer-transcode-configuration", CONFIG).body(SOURCE);
    assert_eq!(put.send().await.unwrap().status(), 200);
    let playlist = format!("{}/stream/show.m3u8", w.url);
    assert_eq!(error(w.http.get(&playlist).send().await.unwrap()).await.0, 401);
    let watched = w.http.get(&playlist).bearer_auth("psk_bob").send().await.unwrap();
    assert_eq!(watched.status(), 200);
}

#[tokio::test]
async fn limits_are_the_callers_own() {
    let flags = ["--caller-auth=signer", "--caller-requests-per-day=2"];
    let w = World::start(1, &flags).await;
    w.signer.admit("psk_bob", "acme:bob", json!({}));
    w.signer.admit("psk_eve", "evil:eve", json!({}));
    for left in ["1", "0"] {
        let answer = transcribe(&w, Some("psk_bob")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["ratelimit-limit"], "2");
        assert_eq!(answer.headers()["ratelimit-remaining"], left);
    }
    let over = transcribe(&w, Some("psk_bob")).await;
    let wait: u64 = over.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((86_000..=86_400).contains(&wait), "{wait}");
    assert_eq!(over.headers()["ratelimit-remaining"], "0");
    assert_eq!(error(over).await.1, "quota_exceeded");
    assert_eq!(transcribe(&w, Some("psk_eve")).await.status(), 200);
    // An account may have a quota of its own.
    w.signer.admit("psk_kim", "acme:kim", json!({ "requests_per_day": 1 }));
    let answer = transcribe(&w, Some("psk_kim")).await;
    assert_eq!(answer.headers()["ratelimit-limit"], "1");
    assert_eq!(error(transcribe(&w, Some("psk_kim")).await).await.1, "quota_exceeded");
    // Looking costs nothing.
    let list = w.http.get(format!("{}/api/streams", w.url)).bearer_auth("psk_bob");
    assert_eq!(list.send().await.unwrap().status(), 200);
}

/// A token of an identity provider whose published key is in a file.
fn provider() -> (tempfile::TempDir, String, impl Fn(&str, i64) -> String) {
    let (folder, jwks, token) = provider_of();
    (folder, jwks, move |audience: &str, exp: i64| {
        token(json!({"iss": "https://i", "aud": audience, "sub": "bob", "exp": exp}))
    })
}

/// The same with any claims.
fn provider_of() -> (tempfile::TempDir, String, impl Fn(Value) -> String) {
    let pair = rcgen::KeyPair::generate().unwrap();
    let raw = pair.public_key_raw().to_vec();
    let point = &raw[raw.len() - 64..];
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
    let jwks = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "k"}]});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, jwks.to_string()).unwrap();
    let token = move |claims: Value| {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some("k".into());
        let key = jsonwebtoken::EncodingKey::from_ec_der(pair.serialized_der());
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    };
    (folder, format!("--oidc-jwks-file={}", file.display()), token)
}

#[tokio::test]
async fn a_token_of_the_identity_provider_opens() {
    let (_folder, jwks, token) = provider();
    let flags = [
        "--caller-auth=jwt",
        "--oidc-issuer=https://i",
        "--oidc-audience=gateway",
        "--oidc-algorithms=ES256",
        "--oidc-account=acme",
        &jwks,
    ];
    let w = World::start(1, &flags).await;
    let later = i64::try_from(penstock_gateway::clock::now().0 / 1_000).unwrap() + 3_600;
    let answer = transcribe(&w, Some(&token("gateway", later))).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(*w.signer.auth_ids.lock().unwrap(), ["acme:bob"]);
    for bad in [token("other", later), token("gateway", 1_000), "a.b.c".into(), "psk_1".into()] {
        assert_eq!(error(transcribe(&w, Some(&bad)).await).await.0, 401, "{bad}");
    }
    assert_eq!(*w.signer.verify_requests.lock().unwrap(), 0, "checked here");
}

/// Whoever does as `Retry-After` says does not lose the day by it.
#[tokio::test]
async fn what_came_to_nothing_is_not_counted_among_the_days_requests() {
    let w = World::start(0, &["--caller-requests-per-day=1", "--ai-retry-timeout-ms=1"]).await;
    let ask = async |key: &str| {
        let form = Form::new().part("audio", Part::bytes(wav(20)).file_name("a.wav"));
        let request = w.http.post(format!("{}/audio-to-text", w.url)).multipart(form);
        request.header("idempotency-key", key).send().await.unwrap()
    };
    for n in 0..3 {
        until("nobody is there", || async {
            let answer = ask(&format!("k{n}")).await;
            let left = answer.headers()["ratelimit-remaining"].clone();
            let (status, code, _) = error(answer).await;
            // What the last one had may be on its way back.
            assert!(
                (status, code.as_str()) == (503, "no_orchestrators") && left == "1"
                    || status == 429
            );
            status == 503
        })
        .await;
    }
    let sim = penstock_testkit::sim::SimOrchestrator::start().await;
    w.signer.orchestrators.lock().unwrap().push(sim.uri());
    w.gateway.refresh_all().await;
    until("it is done", || async { ask("k").await.status() == 200 }).await;
    for _ in 0..2 {
        assert_eq!(error(ask("other").await).await.1, "quota_exceeded");
    }
}

/// Tier and rules are in the token, where the operator says that they are.
#[tokio::test]
async fn a_token_carries_its_bearers_rules() {
    let (folder, jwks, token) = provider_of();
    let tiers = folder.path().join("tiers.json");
    std::fs::write(&tiers, r#"{"gold": {"requests_per_day": 1, "max_price": "1000"}}"#).unwrap();
    let tiers = format!("--tier-policies={}", tiers.display());
    let flags = [
        "--caller-auth=jwt",
        "--oidc-issuer=https://i",
        "--oidc-audience=gateway",
        "--oidc-algorithms=ES256",
        "--oidc-account=acme",
        "--caller-tier-claim=https://example.com/tier",
        "--caller-policy-claim=rules",
        "--caller-requests-per-day=5",
        &tiers,
        &jwks,
    ];
    let w = World::start(1, &flags).await;
    let later = penstock_gateway::clock::now().0 / 1_000 + 3_600;
    let token = |sub: &str, tier: Value, rules: Value| {
        token(json!({"iss": "https://i", "aud": "gateway", "sub": sub, "exp": later,
            "https://example.com/tier": tier, "rules": rules}))
    };
    let limit = async |answer: Response| {
        assert_eq!(answer.status(), 200);
        answer.headers()["ratelimit-limit"].to_str().unwrap().to_owned()
    };
    let (gold, none) = (json!("gold"), Value::Null);
    // The token's own rule counts before its tier's, and that before what is set for all.
    for (sub, tier, rules, day) in [
        ("bob", &gold, json!(null), "1"),
        ("eve", &gold, json!({"requests_per_day": 3}), "3"),
        ("kim", &none, json!({}), "5"),
        ("ann", &json!("unheard-of"), json!({"tier": "gold"}), "5"),
        ("tim", &none, json!({"tier": "gold"}), "1"),
    ] {
        let token = token(sub, tier.clone(), rules);
        assert_eq!(limit(transcribe(&w, Some(&token)).await).await, day, "{sub}");
    }
    let over = transcribe(&w, Some(&token("bob", gold.clone(), none.clone()))).await;
    assert_eq!(error(over).await.1, "quota_exceeded");
    for (rules, status, code) in [
        (json!({"allowed_capabilities": ["llm/*"]}), 403, "not_allowed"),
        (json!({"max_price_wei_per_unit": "1/1000000"}), 503, "no_orchestrators"),
        // What may have been a limit lets nobody in.
        (json!({"budget_day": "5 usd"}), 401, "unauthorized"),
        (json!("gold"), 401, "unauthorized"),
    ] {
        let token = token("zoe", none.clone(), rules.clone());
        let (got, said, _) = error(transcribe(&w, Some(&token)).await).await;
        assert_eq!((got, said.as_str()), (status, code), "{rules}");
    }
    // Video has a name too, however it is pushed.
    let words = token("zoe", none.clone(), json!({"allowed_capabilities": ["llm/*"]}));
    let video = token("zoe", none.clone(), json!({"allowed_capabilities": ["transcode/*"]}));
    let put = |token: &str| {
        let put = w.http.put(format!("{}/live/show/0.ts", w.url)).bearer_auth(token);
        put.header("livepeer-transcode-configuration", CONFIG).body(SOURCE).send()
    };
    let (status, code, why) = error(put(&words).await.unwrap()).await;
    assert_eq!((status, code.as_str()), (403, "not_allowed"), "{why}");
    assert!(why.contains("transcode/*"), "{why}");
    let publish = async |token: &str| {
        let caller = w.gateway.callers.bearer(token).await.unwrap();
        w.gateway.publish("/live/film", "rtmp://h/live/film".into(), caller).await
    };
    let why = publish(&words).await.unwrap_err().to_string();
    assert!(why.contains("transcode/*"), "{why}");
    assert_eq!(w.segments(), 0);
    assert_eq!(put(&video).await.unwrap().status(), 200);
    publish(&video).await.unwrap();
    let odd = token("zoe", json!(["gold"]), none);
    assert_eq!(error(transcribe(&w, Some(&odd)).await).await.0, 401);
}

#[tokio::test]
async fn only_the_pages_that_were_named_may_call() {
    let w = World::start(0, &["--cors-origin=https://app.example"]).await;
    // What openai-js says of itself, and what else there is to say here.
    let said = "authorization,content-type,idempotency-key,prefer,content-slice-from,\
                livepeer-transcode-configuration,x-stainless-lang,x-stainless-retry-count";
    let asked = |origin: &'static str| {
        let url = format!("{}/v1/chat/completions", w.url);
        let request = w.http.request(reqwest::Method::OPTIONS, url).header("origin", origin);
        let request = request.header("access-control-request-headers", said);
        request.header("access-control-request-method", "POST").send()
    };
    let yes = asked("https://app.example").await.unwrap();
    assert_eq!(yes.headers()["access-control-allow-origin"], "https://app.example");
    let allowed = yes.headers()["access-control-allow-headers"].to_str().unwrap().to_owned();
    assert_eq!(allowed, said);
    let no = asked("https://evil.example").await.unwrap();
    assert!(!no.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn who_makes_no_room_for_an_answer_loses_the_connection() {
    let least = ["--min-read-bytes-per-second=1048576", "--min-read-window-ms=100"];
    let w = World::start(0, &least).await;
    penstock_testkit::http2::ask_without_room(&w.url, "/nowhere").await;
}
