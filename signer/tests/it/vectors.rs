//! The network's test vectors, byte for byte, through the front door: the vectors' sender signs two
//! tickets of the vectors' offer, and both headers come out as they are written there.

use crate::world::{World, request};
use penstock_domain::{U256, be_bytes};
use penstock_keys::LocalKey;
use penstock_wire::net;
use serde_json::{Value, json};

/// Before the vectors' auth token ends.
const NOW_S: i64 = 1_790_000_000;

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap().strip_prefix("0x").unwrap()).unwrap()
}

fn number(value: &Value) -> Vec<u8> {
    be_bytes(value.as_str().unwrap().parse::<U256>().unwrap())
}

fn key(value: &Value) -> LocalKey {
    let secret: [u8; 32] = bytes(&value["private_key"]).try_into().unwrap();
    LocalKey::from_bytes(secret.into()).unwrap()
}

#[tokio::test]
async fn both_headers_and_the_own_address() {
    let text = include_str!("../../../crates/payments/vectors/payments.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let keys = &vectors["keys"];
    let world = World::of(key(&keys["sender"]), key(&keys["recipient"]), &[]).await;
    world.pass_s(NOW_S - world.now_s());
    let identity = world.post("/sign-orchestrator-info", "", &[]).await.json();
    assert_eq!(identity["address"], keys["sender"]["checksum"]);
    assert_eq!(identity["signature"], vectors["orchestrator_request"]["sig"]);
    let (ticket, token) = (&vectors["tickets"][0], &vectors["auth_tokens"][0]);
    let offer = net::OrchestratorInfo {
        transcoder: "https://o:8935".into(),
        address: bytes(&keys["recipient"]["address"]),
        price_info: Some(net::PriceInfo {
            price_per_unit: 201,
            pixels_per_unit: 200,
            ..Default::default()
        }),
        ticket_params: Some(net::TicketParams {
            recipient: bytes(&ticket["recipient"]),
            face_value: number(&ticket["face_value"]),
            win_prob: number(&ticket["win_prob"]),
            recipient_rand_hash: bytes(&ticket["recipient_rand_hash"]),
            seed: bytes(&ticket["seed"]),
            expiration_block: be_bytes(U256::from(ticket["expiration_block"].as_u64().unwrap())),
            expiration_params: Some(net::TicketExpirationParams {
                creation_round: ticket["creation_round"].as_i64().unwrap(),
                creation_round_block_hash: bytes(&ticket["creation_round_block_hash"]),
            }),
        }),
        auth_token: Some(net::AuthToken {
            token: bytes(&token["token"]),
            session_id: token["session_id"].as_str().unwrap().into(),
            expiration: token["expiration"].as_i64().unwrap(),
        }),
        ..Default::default()
    };
    // 10^10 pixels at 1.005 wei are worth between one and two tickets.
    let manifest = &vectors["segment_header"]["manifest_id"];
    let ask = request(&offer, json!({"inPixels": 10_000_000_000_i64, "ManifestID": manifest}));
    let reply = world.pay(&ask).await;
    assert_eq!(reply.json()["payment"], vectors["payment_header"]["header"]);
    assert_eq!(reply.json()["segCreds"], vectors["segment_header"]["header"]);
}
