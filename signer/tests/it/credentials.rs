//! `/sign-segment-credentials`: what it signs, and what it does not.

use crate::world::{Reply, World, b64, request};
use penstock_domain::{B256, keccak256};
use penstock_payments::{Signature, segment_digest};
use penstock_wire::{header, net};
use prost::Message;
use serde_json::{Value, json};

fn segment(manifest: &str) -> net::SegData {
    net::SegData {
        manifest_id: manifest.into(),
        seq: 3,
        hash: keccak256(b"data").to_vec(),
        profiles: b"invalid".to_vec(),
        duration: 2000,
        auth_token: Some(net::AuthToken {
            token: vec![1],
            session_id: "a1b2c3d4".into(),
            expiration: 9,
        }),
        full_profiles: vec![profile("720p"), profile("360p")],
        ..Default::default()
    }
}

fn profile(name: &str) -> net::VideoProfile {
    net::VideoProfile {
        name: name.into(),
        width: 640,
        height: 360,
        bitrate: 400_000,
        fps: 30,
        ..Default::default()
    }
}

async fn sign(world: &World, state: &Value, segment: &net::SegData) -> Reply {
    let body = json!({"state": state, "segment": b64(segment.encode_to_vec())});
    world.post("/sign-segment-credentials", body.to_string(), &[]).await
}

async fn paid(world: &World, manifest: &str) -> Value {
    let offer = world.offer(3, 1, 35);
    world.pay(&request(&offer, json!({"inPixels": 100, "ManifestID": manifest}))).await.state()
}

#[tokio::test]
async fn a_segment_of_a_paid_session() {
    let world = World::new().await;
    let state = paid(&world, "m1").await;
    let before = world.books().await;
    let asked = segment("m1");
    let reply = sign(&world, &state, &asked).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let signed = header::decode_segment(reply.json()["segCreds"].as_str().unwrap()).unwrap();
    let digest = segment_digest(b"m1", 3, &B256::from_slice(&asked.hash), &["720p", "360p"]);
    Signature::from_slice(&signed.sig).unwrap().verify(&digest, world.account).unwrap();
    assert_eq!(net::SegData { sig: vec![], ..signed }, asked, "nothing else changed");
    let after = world.books().await;
    assert_eq!(after.key_operations, before.key_operations + 1);
    assert_eq!(after.summary, before.summary, "a credential costs nothing");
    // An older state of the session is as good; the session decides.
    let offer = world.offer(3, 1, 500);
    let next = json!({"inPixels": 100, "ManifestID": "m1", "state": state});
    let newer = world.pay(&request(&offer, next)).await.state();
    for state in [&state, &newer] {
        assert_eq!(sign(&world, state, &asked).await.status, 200);
    }
}

#[tokio::test]
async fn everything_else_is_refused_without_a_key_operation() {
    let world = World::new().await;
    let state = paid(&world, "m1").await;
    let before = world.books().await;
    let with = |change: fn(&mut net::SegData)| {
        let mut s = segment("m1");
        change(&mut s);
        s
    };
    let bad = [
        with(|s| s.manifest_id = b"m2".to_vec()),
        with(|s| s.manifest_id = vec![]),
        with(|s| s.manifest_id = vec![b'm'; 65]),
        with(|s| s.manifest_id = vec![0; 20]),
        with(|s| s.hash.truncate(31)),
        with(|s| s.hash = vec![]),
        with(|s| s.full_profiles = vec![profile("x"); 17]),
        with(|s| s.sig = vec![1; 65]),
        with(|s| s.duration = 300_001),
        with(|s| s.duration = -1),
        with(|s| s.full_profiles[0].name = "x".repeat(5_000)),
    ];
    for segment in bad {
        let reply = sign(&world, &state, &segment).await;
        assert_eq!(reply.status, 400, "{segment:?}");
        assert!(!reply.message().is_empty());
    }
    let asked = segment("m1");
    for (state, message) in [
        (json!(null), "missing state"),
        (json!({"State": "", "Sig": ""}), "missing state"),
        (json!({"State": state["State"], "Sig": b64([1; 33])}), "invalid sig"),
        (json!({"State": b64("{}"), "Sig": state["Sig"]}), "invalid sig"),
    ] {
        let reply = sign(&world, &state, &asked).await;
        assert_eq!((reply.status, reply.message().as_str()), (400, message));
    }
    for body in ["", "{", "[]", "{\"segment\":5}", "{\"segment\":\"%%\"}"] {
        let reply = world.post("/sign-segment-credentials", body, &[]).await;
        assert_eq!(reply.status, 400, "{body}");
    }
    let truncated = asked.encode_to_vec();
    let body = json!({"state": state, "segment": b64(&truncated[..truncated.len() - 3])});
    assert_eq!(world.post("/sign-segment-credentials", body.to_string(), &[]).await.status, 400);
    world.pass_s(24 * 3600 + 1);
    let reply = sign(&world, &state, &asked).await;
    assert_eq!(reply.message(), "the payment session is over: make a payment first");
    assert_eq!(world.books().await, before);
}

/// Rule 7: manifest id, sequence, hash and names can be made as long as a packed ticket. Such a
/// credential is a ticket signature, so it is not given.
#[tokio::test]
async fn a_credential_cannot_be_shaped_into_a_ticket() {
    let world = World::new().await;
    // 40 + 32 + 32 + 8 × 8 = 168, a packed ticket without a creation round.
    let manifest = "m".repeat(40);
    let state = paid(&world, &manifest).await;
    let mut forged = segment(&manifest);
    forged.full_profiles = (0..8).map(|n| profile(&format!("p{n}"))).collect();
    let before = world.books().await;
    let reply = sign(&world, &state, &forged).await;
    assert_eq!(reply.status, 400);
    assert!(reply.message().contains("could be a ticket"), "{}", reply.message());
    // 40 + 64 + 16 × 8 = 232, one with a creation round.
    forged.full_profiles = (0..16).map(|n| profile(&format!("p{n}"))).collect();
    assert_eq!(sign(&world, &state, &forged).await.status, 400);
    assert_eq!(world.books().await, before, "the key was not asked");
    // One rendition fewer is a credential like any other.
    forged.full_profiles.pop();
    assert_eq!(sign(&world, &state, &forged).await.status, 200);
}
