//! What every kind of key has to do, whatever holds it: call [`check`] from the tests of each
//! implementation of [`DigestSigner`].
#![allow(clippy::panic, clippy::expect_used, reason = "a conformance suite fails by panicking")]

use crate::{DigestSigner, TypedDigest, TypedSigner};
use penstock_domain::{B256, U256, Wei, keccak256};
use penstock_payments::{
    ExpirationParams, Ticket, orchestrator_request_digest, ping_digest, transcode_result_digest,
};
use std::sync::Arc;

/// Digests signed; about half of all raw signatures have a high `s`, so a key that forgets to
/// normalise is found out for certain.
const DIGESTS: u32 = 64;

/// Runs the whole suite against one key.
pub async fn check(key: Arc<dyn DigestSigner>) {
    signatures_verify_by_both_curve_codes(key.as_ref()).await;
    extreme_digests_are_signed(key.as_ref()).await;
    parallel_requests_do_not_mix(&key).await;
    typed_signatures_are_the_networks_own(key).await;
}

async fn signatures_verify_by_both_curve_codes(key: &dyn DigestSigner) {
    for n in 0..DIGESTS {
        let digest = keccak256(n.to_be_bytes());
        let signature = key.sign_digest(TypedDigest::new(digest)).await.expect("signs");
        // `recover` refuses a high s and a v other than 27 and 28.
        assert_eq!(signature.recover(&digest), Ok(key.address()), "digest {n}");
        assert_eq!(signature.recover_reference(&digest), Ok(key.address()), "digest {n}");
        let other = keccak256(digest);
        assert_ne!(signature.recover(&other), Ok(key.address()), "digest {n}");
    }
}

async fn extreme_digests_are_signed(key: &dyn DigestSigner) {
    for digest in [B256::ZERO, B256::repeat_byte(0xff), B256::with_last_byte(1)] {
        let signature = key.sign_digest(TypedDigest::new(digest)).await.expect("signs");
        assert_eq!(signature.recover(&digest), Ok(key.address()), "{digest}");
    }
}

async fn parallel_requests_do_not_mix(key: &Arc<dyn DigestSigner>) {
    let tasks: Vec<_> = (0..8_u32)
        .map(|n| {
            let key = Arc::clone(key);
            tokio::spawn(async move {
                let digest = keccak256(n.to_le_bytes());
                (digest, key.sign_digest(TypedDigest::new(digest)).await)
            })
        })
        .collect();
    for task in tasks {
        let (digest, signature) = task.await.expect("does not panic");
        assert_eq!(signature.expect("signs").recover(&digest), Ok(key.address()));
    }
}

async fn typed_signatures_are_the_networks_own(key: Arc<dyn DigestSigner>) {
    let account = key.address();
    let signer = TypedSigner::new(key);
    assert_eq!(signer.address(), account);
    let ticket = Ticket {
        recipient: penstock_domain::Address::repeat_byte(0x11),
        sender: account,
        face_value: Wei::from_u64(1000),
        win_prob: U256::MAX,
        sender_nonce: 1,
        recipient_rand_hash: B256::repeat_byte(0x22),
        expiration_params: ExpirationParams {
            creation_round: 7,
            creation_round_block_hash: B256::repeat_byte(0x33),
        },
    };
    let signature = signer.sign_ticket(&ticket).await.expect("signs");
    assert_eq!(ticket.verify(&signature), Ok(()));

    let signature = signer.sign_orchestrator_request().await.expect("signs");
    assert_eq!(signature.verify(&orchestrator_request_digest(account), account), Ok(()));

    let value = B256::repeat_byte(0x44);
    let signature = signer.sign_ping(value.as_slice()).await.expect("signs");
    assert_eq!(signature.verify(&ping_digest(value.as_slice()), account), Ok(()));

    let hashes = [B256::repeat_byte(0x55), B256::repeat_byte(0x66)];
    let signature = signer.sign_transcode_result(&hashes).await.expect("signs");
    assert_eq!(signature.verify(&transcode_result_digest(&hashes), account), Ok(()));
    assert_eq!(signer.operations(), 4);
}
