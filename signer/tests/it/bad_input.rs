//! Bad input at every endpoint: a documented 4xx in the envelope, and nothing changes.

use crate::world::{World, b64, request};
use prost::Message;
use serde_json::{Value, json};

#[tokio::test]
async fn bodies_that_are_no_requests() {
    let world = World::new().await;
    let offer = world.offer(3, 1, 35);
    let bytes = offer.encode_to_vec();
    let before = world.books().await;
    let mut bodies: Vec<Vec<u8>> = vec![
        vec![],
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"{}\"".to_vec(),
        b"{".to_vec(),
        vec![0xff; 100],
        vec![b'['; 60_000],
        b"{\"orchestrator\":\"%%%\"}".to_vec(),
        b"{\"orchestrator\":\"AQ\"}".to_vec(),
        b"{\"orchestrator\":[1,2]}".to_vec(),
    ];
    let members = [
        ("state", json!("x")),
        ("state", json!({"State": 1})),
        ("state", json!({"State": "AAAA", "Sig": "=="})),
        ("ManifestID", json!(1)),
        ("ManifestID", json!("with space")),
        ("ManifestID", json!("é")),
        ("ManifestID", json!("m".repeat(65))),
        ("app", json!("a".repeat(5_000))),
        ("app", json!([])),
        ("inPixels", json!("10")),
        ("inPixels", json!(1.5)),
        ("inPixels", json!(-1)),
        ("inPixels", json!(0)),
        ("type", json!("LIVE")),
        ("type", json!(7)),
        ("maxPrice", json!(7)),
        ("maxPrice", json!({})),
        ("maxPrice", json!({"price": {}})),
        ("capabilities", json!(b64([0xff; 9]))),
        ("capabilities", json!({})),
    ];
    for (name, value) in members {
        let mut ask = request(&offer, json!({"inPixels": 10}));
        ask[name] = value;
        bodies.push(ask.to_string().into_bytes());
    }
    // Numbers that no parser may choke on.
    for number in ["1e999999999", "-9223372036854775809", "1e-999"] {
        let text = request(&offer, json!({"inPixels": 10})).to_string();
        bodies.push(text.replace(":10", &format!(":{number}")).into_bytes());
        let bid = json!({"type": "live", "maxPrice": {"price": 10, "currency": "wei", "unit": "seconds"}});
        bodies.push(
            request(&offer, bid).to_string().replace(":10", &format!(":{number}")).into_bytes(),
        );
    }
    for cut in [1, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
        bodies.push(json!({"orchestrator": b64(&bytes[..cut])}).to_string().into_bytes());
    }
    for body in bodies {
        let text = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        let reply = world.post("/generate-live-payment", body, &[]).await;
        assert_eq!(reply.status, 400, "{text}");
        assert!(!reply.message().is_empty());
        assert!(reply.json()["error"]["code"].is_string());
    }
    assert_eq!(world.books().await, before);
}

#[tokio::test]
async fn offers_with_absurd_fields() {
    let world = World::new().await;
    let before = world.books().await;
    let with = |change: &dyn Fn(&mut penstock_wire::net::OrchestratorInfo)| {
        let mut info = world.offer(3, 1, 35);
        change(&mut info);
        request(&info, json!({"inPixels": 10}))
    };
    let bad = [
        with(&|i| i.address = vec![]),
        with(&|i| i.address = vec![1; 21]),
        with(&|i| i.price_info.as_mut().unwrap().price_per_unit = -3),
        with(&|i| i.price_info.as_mut().unwrap().pixels_per_unit = i64::MIN),
        with(&|i| i.ticket_params.as_mut().unwrap().face_value = vec![1; 33]),
        with(&|i| i.ticket_params.as_mut().unwrap().win_prob = vec![1; 100]),
        with(&|i| i.ticket_params.as_mut().unwrap().recipient = vec![1; 19]),
        with(&|i| i.ticket_params.as_mut().unwrap().recipient = vec![]),
        with(&|i| i.ticket_params.as_mut().unwrap().recipient_rand_hash = vec![1; 33]),
        with(&|i| i.ticket_params.as_mut().unwrap().seed = vec![1; 33]),
        with(&|i| i.ticket_params.as_mut().unwrap().expiration_block = vec![]),
        with(&|i| i.ticket_params.as_mut().unwrap().expiration_block = vec![1; 33]),
        with(&|i| {
            let params = i.ticket_params.as_mut().unwrap();
            params.expiration_params.as_mut().unwrap().creation_round = -1;
        }),
        with(&|i| i.auth_token.as_mut().unwrap().token = vec![]),
        with(&|i| i.auth_token.as_mut().unwrap().session_id = "x".repeat(100)),
    ];
    for ask in bad {
        let reply = world.pay(&ask).await;
        assert_eq!(reply.status, 400, "{reply:?}");
    }
    // Units and prices at the edge of 64 bits are arithmetic, not a crash.
    let mut dear = world.offer(i64::MAX, 1, 35);
    let reply = world.pay(&request(&dear, json!({"inPixels": i64::MAX}))).await;
    assert_eq!(reply.status, 400);
    assert!(reply.message().contains("exceeds maximum of 100"), "{}", reply.message());
    dear.auth_token.as_mut().unwrap().expiration = i64::MIN;
    assert_eq!(world.pay(&request(&dear, json!({"inPixels": 1}))).await.status, 480);
    assert_eq!(world.books().await, before);
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_everywhere() {
    let world = World::new().await;
    let before = world.books().await;
    let big = "x".repeat(64 * 1024 + 1);
    for path in ["/generate-live-payment", "/sign-segment-credentials"] {
        let reply = world.post(path, big.clone(), &[]).await;
        assert_eq!(reply.status, 413, "{path}");
        assert!(reply.message().contains("65536"), "the limit is named");
    }
    // What ignores its body does not mind.
    assert_eq!(world.post("/sign-orchestrator-info", big, &[]).await.status, 200);
    assert_eq!(world.books().await, before);
}

#[tokio::test]
async fn headers_that_are_no_names() {
    let world = World::new().await;
    let before = world.books().await;
    let ask = request(&world.offer(3, 1, 35), json!({"inPixels": 10}));
    for bad in ["with space", &"x".repeat(129)] {
        let reply = world.pay_with(&ask, &[("signer-auth-id", bad)]).await;
        assert_eq!(reply.status, 400, "{bad}");
    }
    assert_eq!(world.books().await, before);
}

#[tokio::test]
async fn strangers_get_401_and_cost_no_key_operation() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "t1\n").unwrap();
    let world = World::with(&["--auth-token-file", &tokens.display().to_string()]).await;
    let before = world.books().await;
    let ask = request(&world.offer(3, 1, 35), json!({"inPixels": 10})).to_string();
    for headers in [
        &[][..],
        &[("authorization", "Bearer t2")],
        &[("authorization", "Bearer")],
        &[("authorization", "Basic t1")],
    ] {
        for path in
            ["/generate-live-payment", "/sign-orchestrator-info", "/sign-segment-credentials"]
        {
            // Neither a right nor a wrong body is looked at.
            for body in [ask.as_str(), "{"] {
                let reply = world.post(path, body.to_owned(), headers).await;
                assert_eq!(reply.status, 401, "{path} {headers:?}");
                assert_eq!(reply.headers["www-authenticate"], "Bearer");
            }
        }
        let mut request = world.client.get(format!("{}/discover-orchestrators", world.http));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        assert_eq!(crate::world::reply(request).await.status, 401);
    }
    assert_eq!(world.books().await, before);
    let known = [("authorization", "bearer t1")];
    assert_eq!(world.post("/generate-live-payment", ask, &known).await.status, 200);
    // Health stays open for the load balancer.
    assert_eq!(world.get(&format!("{}/healthz", world.http)).await.status, 200);
}

#[tokio::test]
async fn foreign_states_are_no_states() {
    let world = World::new().await;
    let other = World::new().await;
    let offer = world.offer(3, 1, 35);
    let first = world.pay(&request(&offer, json!({"type": "live", "ManifestID": "m"}))).await;
    let before = other.books().await;
    let ask = request(
        &other.offer(3, 1, 35),
        json!({"type": "live", "ManifestID": "m", "state": first.state()}),
    );
    let reply = other.pay(&ask).await;
    assert_eq!((reply.status, reply.message().as_str()), (400, "invalid sig"));
    // A Go signer's state, signed with its account key.
    let go = json!({"State": b64("{\"StateID\":\"0a0b0c0d\"}"), "Sig": b64([27; 65])});
    let ask =
        request(&other.offer(3, 1, 35), json!({"type": "live", "ManifestID": "m", "state": go}));
    assert_eq!(other.pay(&ask).await.message(), "invalid sig");
    let state: Value = first.state();
    let halves = [json!({"State": state["State"]}), json!({"Sig": state["Sig"]})];
    for half in halves {
        let ask = request(&offer, json!({"type": "live", "ManifestID": "m", "state": half}));
        assert_eq!(world.pay(&ask).await.message(), "invalid sig");
    }
    assert_eq!(other.books().await, before);
}
