//! `POST /sign-byoc-job`: the signature that the network's nodes verify, and nothing else.

use crate::world::{Reply, World};
use penstock_domain::{Address, keccak256, parse_address};
use penstock_payments::{Signature, eip191_digest};
use serde_json::{Value, json};

/// As the SDK's `_sign_byoc_job` writes it.
fn job(request: &str, parameters: &str) -> Value {
    json!({
        "id": "0b5c7a4e-8f7e-4b3f-9a55-1c2d3e4f5a6b", "capability": "nano-banana",
        "request": request, "parameters": parameters, "timeout_seconds": 300,
    })
}

async fn sign(world: &World, job: &Value) -> Reply {
    world.post("/sign-byoc-job", job.to_string(), &[]).await
}

/// What an orchestrator of the Go node does with the job's header: cut `0x` off a signature longer
/// than 130 characters, decode it, and verify `K(request ‖ parameters)` behind the personal prefix.
fn orchestrator_accepts(sender: &str, sig: &str, request: &str, parameters: &str) -> bool {
    let digits = if sig.len() > 130 { &sig[2..] } else { sig };
    let Ok(bytes) = hex::decode(digits) else { return false };
    let Ok(signature) = Signature::from_slice(&bytes) else { return false };
    let Some(sender) = parse_address(sender) else { return false };
    let message = keccak256(format!("{request}{parameters}").as_bytes());
    signature.recover(&eip191_digest(message.as_slice())) == Ok(sender)
}

#[tokio::test]
async fn an_orchestrator_accepts_the_signature() {
    let world = World::new().await;
    let before = world.books().await;
    for (request, parameters) in [
        (r#"{"prompt": "a dragon", "n": 1}"#, ""),
        (r#"{"prompt": "caf\u00e9 \ud83d\udc09"}"#, r#"{"enable_video_egress": true}"#),
        ("{}", ""),
    ] {
        let reply = sign(&world, &job(request, parameters)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let answer = reply.json();
        let (sender, sig) =
            (answer["sender"].as_str().unwrap(), answer["signature"].as_str().unwrap());
        assert_eq!((sender, sig.len()), (world.account.to_string().as_str(), 132));
        assert!(orchestrator_accepts(sender, sig, request, parameters));
        assert!(!orchestrator_accepts(sender, sig, &format!("{request} "), parameters));
        let other = Address::repeat_byte(1).to_string();
        assert!(!orchestrator_accepts(&other, sig, request, parameters));
    }
    let after = world.books().await;
    assert_eq!(after.key_operations, before.key_operations + 3);
    assert_eq!(after.summary, before.summary, "it costs nothing");
    // The payload of an image job: far above what other bodies may be.
    let large = format!("{{\"image\":\"{}\"}}", "A".repeat(700 << 10));
    assert_eq!(sign(&world, &job(&large, "")).await.status, 200);
}

#[tokio::test]
async fn everything_else_is_refused_without_a_key_operation() {
    let world = World::new().await;
    let before = world.books().await;
    let object = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
    let large = format!("{{\"image\":\"{}\"}}", "A".repeat(800 << 10));
    for (request, parameters) in [
        ("", ""),
        ("[]", ""),
        ("{}", "null"),
        ("{", "}"),
        (object(168).as_str(), ""),
        (object(232).as_str(), ""),
        (object(100).as_str(), object(68).as_str()),
        (object(32).as_str(), ""),
        (&world.account.to_string(), ""),
        (large.as_str(), ""),
    ] {
        let reply = sign(&world, &job(request, parameters)).await;
        assert_eq!(reply.status, 400, "{} bytes", request.len() + parameters.len());
        assert!(reply.message().starts_with("refused to sign: "), "{}", reply.message());
    }
    for (key, value) in [
        ("id", Value::Null),
        ("capability", json!("")),
        ("timeout_seconds", json!(0)),
        ("request", json!({})),
    ] {
        let mut bad = job("{}", "");
        bad[key] = value;
        assert_eq!(sign(&world, &bad).await.status, 400, "{key}");
    }
    for (body, status) in [("", 400), ("{", 400), ("[]", 400)] {
        assert_eq!(world.post("/sign-byoc-job", body, &[]).await.status, status);
    }
    let huge = " ".repeat(3 << 20);
    assert_eq!(world.post("/sign-byoc-job", huge, &[]).await.status, 413);
    assert_eq!(world.books().await, before);
}
