//! libsecp256k1 against k256: every operation of one, tested against the other. And the order in
//! which bad signatures are refused (payments.md section 4).

use crate::common::Key;
use penstock_domain::{Address, B256};
use penstock_payments::{Signature, SignatureError, verify_bytes};
use proptest::prelude::*;

/// The curve order n and its half, rounded down.
const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
const HALF: &str = "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0";

fn bytes32(text: &str) -> [u8; 32] {
    hex::decode(text).unwrap().try_into().unwrap()
}

fn minus(a: [u8; 32], b: &[u8]) -> [u8; 32] {
    let number = |bytes: &[u8]| penstock_domain::U256::from_be_slice(bytes);
    (number(&a) - number(b)).to_be_bytes()
}

fn good() -> (Key, B256, [u8; 65]) {
    let (key, digest) = (Key::new("signer"), B256::repeat_byte(0x5a));
    let signature = *key.sign(&digest).as_bytes();
    (key, digest, signature)
}

/// The same signature with s in the upper half: valid mathematics, refused.
fn with_high_s(signature: [u8; 65]) -> [u8; 65] {
    let mut out = signature;
    out[32..64].copy_from_slice(&minus(bytes32(ORDER), &signature[32..64]));
    out[64] = 27 + 28 - signature[64];
    out
}

#[test]
fn refusals_come_in_the_documented_order() {
    let (key, digest, signature) = good();
    let check = |bytes: &[u8]| verify_bytes(bytes, &digest, key.address()).map(|_| ());
    assert_eq!(check(&signature), Ok(()));

    assert_eq!(check(&[]), Err(SignatureError::Length(0)));
    assert_eq!(check(&signature[..64]), Err(SignatureError::Length(64)));
    let long = [signature.as_slice(), &[0]].concat();
    assert_eq!(check(&long), Err(SignatureError::Length(66)));

    // High s is found before a wrong v.
    let mut high = with_high_s(signature);
    assert_eq!(check(&high), Err(SignatureError::HighS));
    high[64] = 99;
    assert_eq!(check(&high), Err(SignatureError::HighS));

    // A wrong v is found before numbers that recover to nothing.
    for v in [0, 1, 26, 29, 255] {
        let mut bad = signature;
        bad[64] = v;
        assert_eq!(check(&bad), Err(SignatureError::RecoveryId(v)));
        bad[..32].fill(0);
        assert_eq!(check(&bad), Err(SignatureError::RecoveryId(v)));
    }

    // No key has r = 0, s = 0 or r = n.
    let mut bad = signature;
    bad[..32].fill(0);
    assert_eq!(check(&bad), Err(SignatureError::Unrecoverable));
    let mut bad = signature;
    bad[32..64].fill(0);
    assert_eq!(check(&bad), Err(SignatureError::Unrecoverable));
    let mut bad = signature;
    bad[..32].copy_from_slice(&bytes32(ORDER));
    assert_eq!(check(&bad), Err(SignatureError::Unrecoverable));

    // The other v recovers to another account.
    let mut other = signature;
    other[64] = 27 + 28 - signature[64];
    assert_eq!(check(&other), Err(SignatureError::WrongSigner));
    let stranger = verify_bytes(&signature, &digest, Address::repeat_byte(1));
    assert_eq!(stranger, Err(SignatureError::WrongSigner));
}

#[test]
fn half_the_order_itself_is_a_low_s() {
    let (_, digest, mut signature) = good();
    signature[32..64].copy_from_slice(&bytes32(HALF));
    assert_ne!(Signature::from_bytes(signature).recover(&digest), Err(SignatureError::HighS));
    signature[63] += 1;
    assert_eq!(Signature::from_bytes(signature).recover(&digest), Err(SignatureError::HighS));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn both_recover_the_signer(secret in any::<[u8; 32]>(), digest in any::<[u8; 32]>()) {
        prop_assume!(k256::ecdsa::SigningKey::from_slice(&secret).is_ok());
        let (key, digest) = (Key::from_bytes(secret), B256::from(digest));
        let signature = key.sign(&digest);
        prop_assert_eq!(signature.recover(&digest), Ok(key.address()));
        prop_assert_eq!(signature.recover_reference(&digest), Ok(key.address()));
        prop_assert_eq!(
            Signature::from_bytes(with_high_s(*signature.as_bytes())).recover(&digest),
            Err(SignatureError::HighS)
        );
    }

    /// On any bytes the two agree: the same account or the same refusal.
    #[test]
    fn both_agree_on_rubbish(
        rs in any::<[[u8; 32]; 2]>(), v in 25_u8..31, digest in any::<[u8; 32]>()
    ) {
        let mut bytes = [v; 65];
        bytes[..32].copy_from_slice(&rs[0]);
        bytes[32..64].copy_from_slice(&rs[1]);
        // Half of all random s are high and tell little.
        bytes[32] &= 0x7f;
        let (signature, digest) = (Signature::from_bytes(bytes), B256::from(digest));
        prop_assert_eq!(signature.recover(&digest), signature.recover_reference(&digest));
    }

    /// Numbers at the edges of the field and of the order.
    #[test]
    fn both_agree_at_the_edges(
        r in edge(), s in edge(), v in 27_u8..29, digest in edge()
    ) {
        let mut bytes = [v; 65];
        bytes[..32].copy_from_slice(&r);
        bytes[32..64].copy_from_slice(&s);
        let (signature, digest) = (Signature::from_bytes(bytes), B256::from(digest));
        prop_assert_eq!(signature.recover(&digest), signature.recover_reference(&digest));
    }
}

/// Numbers near 0, n/2, n and the field's prime.
fn edge() -> impl Strategy<Value = [u8; 32]> {
    const PRIME: &str = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f";
    let base = prop_oneof![
        Just([0_u8; 32]),
        Just(bytes32(HALF)),
        Just(bytes32(ORDER)),
        Just(bytes32(PRIME)),
        Just([0xff_u8; 32]),
        any::<[u8; 32]>(),
    ];
    (base, -3_i8..=3).prop_map(|(base, step)| {
        let number = penstock_domain::U256::from_be_bytes(base);
        let step_size = penstock_domain::U256::from(step.unsigned_abs());
        let moved =
            if step < 0 { number.wrapping_sub(step_size) } else { number.wrapping_add(step_size) };
        moved.to_be_bytes()
    })
}
