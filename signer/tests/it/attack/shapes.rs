//! Credentials and jobs made to look like tickets: refused before the audit has them, so that
//! the audit holds exactly what was signed.

use super::on_both_books;
use crate::world::{Books, World, b64, request};
use penstock_ledger::signer::AuditKind;
use penstock_wire::net;
use prost::Message;
use serde_json::{Value, json};
use std::collections::BTreeMap;

on_both_books!(nothing_shaped_like_a_ticket_is_signed_or_recorded);

/// How many records of each kind there are.
async fn records(world: &World) -> BTreeMap<AuditKind, u64> {
    let ledger = &world.signer().ledger;
    let mut kinds = BTreeMap::new();
    for chain in ledger.audit_chains().await.unwrap() {
        for record in ledger.audit_records(&chain.name, 1, 10_000).await.unwrap() {
            *kinds.entry(record.entry.kind).or_default() += 1;
        }
    }
    kinds
}

async fn nothing_shaped_like_a_ticket_is_signed_or_recorded(books: Books) {
    let world = World::on(books, &[]).await;
    // 40 + 32 + 32 + 8 × 8 = 168 bytes, a packed ticket; 40 + 64 + 16 × 8 = 232, one with a round.
    let manifest = "m".repeat(40);
    let offer = world.offer(1, 1, 10);
    let start = json!({"inPixels": 30, "ManifestID": manifest});
    let state = world.pay(&request(&offer, start)).await.state();
    let segment = |manifest: &str, renditions: usize| net::SegData {
        manifest_id: manifest.as_bytes().to_vec(),
        seq: 3,
        hash: vec![5; 32],
        full_profiles: (0..renditions)
            .map(|n| net::VideoProfile {
                name: format!("p{n}"),
                width: 64,
                height: 64,
                bitrate: 100_000,
                fps: 30,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let sign = async |segment: net::SegData| {
        let body: Value = json!({"state": state, "segment": b64(segment.encode_to_vec())});
        world.post("/sign-segment-credentials", body.to_string(), &[]).await.status
    };
    let object = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
    let job = async |request: String, parameters: &str| {
        let body = json!({"id": "1", "capability": "c", "request": request,
            "parameters": parameters, "timeout_seconds": 1});
        world.post("/sign-byoc-job", body.to_string(), &[]).await.status
    };
    let (before, operations) = (records(&world).await, world.books().await.key_operations);
    assert_eq!(sign(segment(&manifest, 8)).await, 400);
    assert_eq!(sign(segment(&manifest, 16)).await, 400);
    assert_eq!(sign(segment("another", 1)).await, 400);
    for (request, parameters) in
        [(object(168), ""), (object(232), ""), (object(32), ""), (object(166), "{}")]
    {
        assert_eq!(job(request, parameters).await, 400);
    }
    // A manifest id with the bytes of an address, or longer than any, begins no session.
    for manifest in ["\u{0}".repeat(20), "m".repeat(65), "é".to_owned()] {
        let ask = request(&world.offer(1, 1, 10), json!({"inPixels": 30, "ManifestID": manifest}));
        assert_eq!(world.pay(&ask).await.status, 400);
    }
    assert_eq!(records(&world).await, before, "nothing was recorded");
    assert_eq!(world.books().await.key_operations, operations, "nor signed");
    // What is signed is recorded, one by one.
    assert_eq!(sign(segment(&manifest, 1)).await, 200);
    assert_eq!(job(object(169), "").await, 200);
    let after = records(&world).await;
    let more = |kind| after.get(&kind).unwrap_or(&0) - before.get(&kind).unwrap_or(&0);
    assert_eq!((more(AuditKind::Segment), more(AuditKind::Byoc)), (1, 1));
    let signatures: u64 =
        after.iter().filter(|(kind, _)| kind.is_signature()).map(|(_, count)| count).sum();
    assert_eq!(signatures, world.books().await.key_operations);
}
