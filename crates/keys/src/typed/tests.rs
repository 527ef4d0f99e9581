//! Every shape of a ticket in disguise is refused, and a refusal never reaches the key.

use super::*;
use crate::LocalKey;
use penstock_domain::{U256, Wei, keccak256};
use penstock_payments::{EMPTY_DATA_HASH, ExpirationParams, eip191_digest, segment_digest};
use zeroize::Zeroizing;

fn signer() -> TypedSigner {
    TypedSigner::new(Arc::new(LocalKey::random().unwrap()))
}

fn ticket(sender: Address, creation_round: u64) -> Ticket {
    Ticket {
        recipient: Address::repeat_byte(0x61),
        sender,
        face_value: Wei::from_u64(1_000),
        win_prob: U256::MAX,
        sender_nonce: 1,
        recipient_rand_hash: B256::repeat_byte(0x22),
        expiration_params: ExpirationParams {
            creation_round,
            creation_round_block_hash: if creation_round == 0 {
                B256::ZERO
            } else {
                B256::repeat_byte(0x33)
            },
        },
    }
}

fn credential<'a>(
    id: &'a [u8],
    hash: &'a [u8],
    names: &'a [String],
) -> SegmentCredential<'a, String> {
    SegmentCredential { manifest_id: id, sequence: 0, data_hash: hash, rendition_names: names }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("rendition {n}")).collect()
}

async fn refusal(signer: &TypedSigner, id: &[u8], hash: &[u8], names: &[String]) -> Refusal {
    let before = signer.operations();
    match signer.sign_segment(&credential(id, hash, names)).await {
        Err(KeyError::Refused(refusal)) => {
            assert_eq!(signer.operations(), before, "a refusal used the key");
            refusal
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn ping_signs_neither_packed_tickets_nor_anything_but_32_bytes() {
    let signer = signer();
    for round in [0, 9] {
        let packed = ticket(signer.address(), round).packed();
        assert!([168, 232].contains(&packed.len()));
        let refused = signer.sign_ping(&packed).await;
        assert_eq!(refused, Err(Refusal::PingValue(packed.len()).into()));
    }
    for length in (0..300).filter(|length| *length != 32) {
        let refused = signer.sign_ping(&vec![1; length]).await;
        assert_eq!(refused, Err(Refusal::PingValue(length).into()));
    }
    assert_eq!(signer.operations(), 0);
    assert!(signer.sign_ping(&[1; 32]).await.is_ok());
    assert_eq!(signer.operations(), 1);
}

#[tokio::test]
async fn a_ping_of_a_ticket_hash_is_no_ticket_signature() {
    let signer = signer();
    let ticket = ticket(signer.address(), 9);
    let signature = signer.sign_ping(ticket.hash().as_slice()).await.unwrap();
    assert!(ticket.verify(&signature).is_err());
}

#[tokio::test]
async fn credentials_of_a_tickets_length_are_refused() {
    let signer = signer();
    let hash = EMPTY_DATA_HASH;
    let mut found = Vec::new();
    for id_bytes in 1..=64_usize {
        for renditions in 0..=16_usize {
            let length = id_bytes + 64 + 8 * renditions;
            let (id, names) = ("x".repeat(id_bytes), names(renditions));
            let made =
                signer.sign_segment(&credential(id.as_bytes(), hash.as_slice(), &names)).await;
            if length == 168 || length == 232 {
                assert_eq!(made, Err(Refusal::TicketShaped(length).into()));
                found.push(length);
            } else {
                assert!(made.is_ok(), "{id_bytes} + {renditions}");
            }
        }
    }
    assert!(found.contains(&168) && found.contains(&232));
    assert_eq!(signer.operations() as usize, 64 * 17 - found.len());
}

/// The attack itself: a manifest id that is the front of a packed ticket and a "data hash" that is
/// its end, so that the credential's preimage would be the ticket byte by byte.
#[tokio::test]
async fn a_manifest_id_shaped_like_a_ticket_is_refused() {
    let signer = signer();
    for round in [0, 9] {
        let packed = ticket(signer.address(), round).packed();
        let (front, data_hash) = packed.split_at(packed.len() - 32);
        let (id, _sequence) = front.split_at(front.len() - 32);
        assert_eq!(refusal(&signer, id, data_hash, &[]).await, Refusal::ManifestId);
    }
}

#[tokio::test]
async fn manifest_ids_are_short_and_printable() {
    let signer = signer();
    let hash = EMPTY_DATA_HASH;
    let too_long = "a".repeat(65);
    for id in ["", "a b", "a\0", "caf\u{e9}", "a\n", too_long.as_str()] {
        let refused = refusal(&signer, id.as_bytes(), hash.as_slice(), &[]).await;
        assert_eq!(refused, Refusal::ManifestId, "{id:?}");
    }
    let refused = refusal(&signer, &[0xff, 0xfe], hash.as_slice(), &[]).await;
    assert_eq!(refused, Refusal::ManifestId);
    assert!(signer.sign_segment(&credential(&[b'~'; 64], hash.as_slice(), &[])).await.is_ok());
}

#[tokio::test]
async fn data_hashes_and_renditions_are_bounded() {
    let signer = signer();
    for length in [0, 31, 33, 168, 232] {
        let refused = refusal(&signer, b"m", &vec![0; length], &[]).await;
        assert_eq!(refused, Refusal::DataHash(length));
    }
    let refused = refusal(&signer, b"m", EMPTY_DATA_HASH.as_slice(), &names(17)).await;
    assert_eq!(refused, Refusal::TooManyRenditions(17));
    assert!(
        signer
            .sign_segment(&credential(b"m", EMPTY_DATA_HASH.as_slice(), &names(16)))
            .await
            .is_ok()
    );
}

#[test]
fn node_messages_of_a_tickets_shape_are_refused_by_the_last_guard() {
    assert_eq!(refuse_ticket_shapes(&[0; 168]), Err(Refusal::TicketShaped(168)));
    assert_eq!(refuse_ticket_shapes(&[0; 232]), Err(Refusal::TicketShaped(232)));
    assert_eq!(refuse_ticket_shapes(&[0; 32]), Err(Refusal::RawHash));
    for length in [0, 31, 33, 42, 167, 169, 231, 233] {
        assert_eq!(refuse_ticket_shapes(&vec![0; length]), Ok(()));
    }
}

/// The orchestrator request has no input: its preimage is the key's own address in 42 characters.
#[tokio::test]
async fn the_orchestrator_request_takes_nothing_from_its_caller() {
    let signer = signer();
    let signature = signer.sign_orchestrator_request().await.unwrap();
    let message = signer.address().to_checksum(None);
    assert_eq!(message.len(), 42);
    let digest = eip191_digest(keccak256(message.as_bytes()).as_slice());
    assert_eq!(signature.recover(&digest), Ok(signer.address()));
}

#[tokio::test]
async fn foreign_tickets_are_refused() {
    let signer = signer();
    let foreign = ticket(Address::repeat_byte(7), 9);
    assert_eq!(signer.sign_ticket(&foreign).await, Err(Refusal::ForeignTicket.into()));
    let own = ticket(signer.address(), 9);
    let batch = [own.clone(), foreign];
    assert_eq!(signer.sign_tickets(&batch).await, Err(Refusal::ForeignTicket.into()));
    let signatures = signer.sign_tickets(std::slice::from_ref(&own)).await.unwrap();
    assert_eq!(own.verify(&signatures[0]), Ok(()));
}

/// Transcode results go to the primitive as a 32-byte message, like a ticket hash. The message is
/// hashed from the list here, so a caller cannot pass a ticket hash as one.
#[tokio::test]
async fn transcode_results_cannot_carry_a_ticket_hash() {
    let signer = signer();
    let ticket = ticket(signer.address(), 9);
    let signature = signer.sign_transcode_result(&[ticket.hash()]).await.unwrap();
    assert!(ticket.verify(&signature).is_err());
    assert_eq!(signer.sign_transcode_result(&[]).await, Err(Refusal::NoRenditions.into()));
    let many = [B256::ZERO; 17];
    let refused = signer.sign_transcode_result(&many).await;
    assert_eq!(refused, Err(Refusal::TooManyRenditions(17).into()));
}

#[tokio::test]
async fn devnet_transactions_are_in_a_domain_of_their_own() {
    let signer = signer();
    let ticket = ticket(signer.address(), 9);
    for payload in [ticket.packed(), ticket.hash().to_vec(), b"x".to_vec(), Vec::new()] {
        let signature = signer.sign_devnet_transaction(&payload).await.unwrap();
        assert_eq!(
            signature.verify(&devnet_transaction_digest(&payload), signer.address()),
            Ok(())
        );
        assert!(ticket.verify(&signature).is_err());
        for digest in [eip191_digest(&payload), node_digest(&payload)] {
            assert!(signature.verify(&digest, signer.address()).is_err());
        }
    }
}

/// The signatures of the protocol vectors (`ping` has a value that we do not sign).
#[tokio::test]
async fn signs_the_golden_segments() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../../payments/vectors/payments.json")).unwrap();
    let bytes = |value: &serde_json::Value| {
        hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap()
    };
    let signer_of = |role: &str| {
        let secret = bytes(&golden["keys"][role]["private_key"]).try_into().unwrap();
        TypedSigner::new(Arc::new(LocalKey::from_bytes(Zeroizing::new(secret)).unwrap()))
    };
    let sender = signer_of("sender");
    for segment in golden["segments"].as_array().unwrap() {
        let names: Vec<String> = segment["profiles"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_str().unwrap().into())
            .collect();
        let id = segment["manifest_id"].as_str().unwrap().as_bytes();
        let hash = bytes(&segment["data_hash"]);
        let sequence = segment["seq"].as_i64().unwrap();
        let credential = SegmentCredential {
            manifest_id: id,
            sequence,
            data_hash: &hash,
            rendition_names: &names,
        };
        let signature = sender.sign_segment(&credential).await.unwrap();
        assert_eq!(signature.as_bytes().to_vec(), bytes(&segment["sig"]));
        let digest = segment_digest(id, sequence, &B256::from_slice(&hash), &names);
        assert_eq!(signature.verify(&digest, sender.address()), Ok(()));
    }
    let request = sender.sign_orchestrator_request().await.unwrap();
    assert_eq!(request.as_bytes().to_vec(), bytes(&golden["orchestrator_request"]["sig"]));
    let hashes: Vec<B256> = golden["transcode_result"]["renditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rendition| keccak256(bytes(rendition)))
        .collect();
    let result = signer_of("recipient").sign_transcode_result(&hashes).await.unwrap();
    assert_eq!(result.as_bytes().to_vec(), bytes(&golden["transcode_result"]["sig"]));
}

#[test]
fn debug_shows_the_account_and_nothing_else() {
    let signer = signer();
    assert_eq!(
        format!("{signer:?}"),
        format!("TypedSigner {{ address: {:?}, .. }}", signer.address())
    );
}
