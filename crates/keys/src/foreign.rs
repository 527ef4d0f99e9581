//! From what tokens and clouds answer to what the network verifies.
//!
//! They return `r ‖ s` or its DER form, with a high `s` half of the time and never a recovery id. The
//! id is found by recovering with both and comparing with the known account, which also proves that
//! the answer is a signature by this key over this digest: a wrong one never leaves the process.

use crate::{KeyError, TypedDigest};
use k256::{PublicKey, elliptic_curve::sec1::ToEncodedPoint, pkcs8::DecodePublicKey};
use penstock_domain::{Address, keccak256};
use penstock_payments::Signature;
use secp256k1::ecdsa;

/// From 64 bytes `r ‖ s`, as PKCS#11 tokens answer.
pub fn signature_from_raw(
    rs: &[u8],
    digest: TypedDigest,
    address: Address,
) -> Result<Signature, KeyError> {
    finish(ecdsa::Signature::from_compact(rs), digest, address)
}

/// From a DER `SEQUENCE { r, s }`, as key services answer.
pub fn signature_from_der(
    der: &[u8],
    digest: TypedDigest,
    address: Address,
) -> Result<Signature, KeyError> {
    finish(ecdsa::Signature::from_der(der), digest, address)
}

fn finish(
    parsed: Result<ecdsa::Signature, secp256k1::Error>,
    digest: TypedDigest,
    address: Address,
) -> Result<Signature, KeyError> {
    let mut signature =
        parsed.map_err(|_| KeyError::BadAnswer("what came back is no signature"))?;
    signature.normalize_s();
    let rs = signature.serialize_compact();
    [27_u8, 28]
        .into_iter()
        .map(|v| {
            let mut out = [v; 65];
            for (slot, byte) in out.iter_mut().zip(rs) {
                *slot = byte;
            }
            Signature::from_bytes(out)
        })
        .find(|signature| signature.recover(digest.as_b256()) == Ok(address))
        .ok_or(KeyError::BadAnswer("the signature is not by this key over this digest"))
}

/// The account of a point of the curve: 33 or 65 bytes (SEC 1), or those in a DER OCTET STRING, as
/// `CKA_EC_POINT` has them.
pub fn address_of_point(bytes: &[u8]) -> Result<Address, KeyError> {
    let inner = match bytes {
        [0x04, length, point @ ..] if usize::from(*length) == point.len() => Some(point),
        _ => None,
    };
    let parsed = PublicKey::from_sec1_bytes(bytes).ok();
    let parsed = parsed.or_else(|| PublicKey::from_sec1_bytes(inner?).ok());
    parsed.map(|key| address_of(&key)).ok_or(KeyError::WrongCurve)
}

/// The account of a `SubjectPublicKeyInfo` in DER.
pub fn address_of_spki_der(der: &[u8]) -> Result<Address, KeyError> {
    PublicKey::from_public_key_der(der)
        .map(|key| address_of(&key))
        .map_err(|_| KeyError::WrongCurve)
}

/// The account of a `SubjectPublicKeyInfo` in PEM.
pub fn address_of_spki_pem(pem: &str) -> Result<Address, KeyError> {
    PublicKey::from_public_key_pem(pem)
        .map(|key| address_of(&key))
        .map_err(|_| KeyError::WrongCurve)
}

fn address_of(key: &PublicKey) -> Address {
    let point = key.to_encoded_point(false);
    let hash = keccak256(point.as_bytes().get(1..).unwrap_or_default());
    Address::from_slice(hash.get(12..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k256::{
        ecdsa::{SigningKey, VerifyingKey},
        elliptic_curve::ops::Neg,
        pkcs8::EncodePublicKey,
    };
    use penstock_domain::B256;
    use proptest::prelude::*;

    fn known() -> (SigningKey, Address) {
        let secret =
            hex::decode("18222c4eb1dabe63c11f0ba348d0167f81d3c8e68ec71a4c0ff053823594cdb5");
        let key = SigningKey::from_slice(&secret.unwrap()).unwrap();
        let address = "0xD4148239446Dd07900D01F3D17513562b264BB65".parse().unwrap();
        (key, address)
    }

    #[test]
    fn every_form_of_a_public_key_gives_its_account() {
        let (key, address) = known();
        let point = VerifyingKey::from(&key).to_encoded_point(false);
        let wrapped = [&[0x04, 0x41], point.as_bytes()].concat();
        assert_eq!(address_of_point(point.as_bytes()), Ok(address));
        assert_eq!(address_of_point(&wrapped), Ok(address));
        let short = VerifyingKey::from(&key).to_encoded_point(true);
        assert_eq!(address_of_point(short.as_bytes()), Ok(address));
        assert_eq!(address_of_point(&[&[0x04, 0x21], short.as_bytes()].concat()), Ok(address));
        let public = PublicKey::from(VerifyingKey::from(&key));
        assert_eq!(
            address_of_spki_der(public.to_public_key_der().unwrap().as_bytes()),
            Ok(address)
        );
        let pem = public.to_public_key_pem(k256::pkcs8::LineEnding::LF).unwrap();
        assert_eq!(address_of_spki_pem(&pem), Ok(address));
    }

    #[test]
    fn keys_of_other_curves_are_refused() {
        // The base point of P-256.
        let p256 = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8e\
                    e7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
        let p256 = hex::decode(p256).unwrap();
        assert_eq!(address_of_point(&p256), Err(KeyError::WrongCurve));
        let prefix = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
        assert_eq!(address_of_spki_der(&[prefix, p256].concat()), Err(KeyError::WrongCurve));
        assert_eq!(address_of_spki_pem("-----BEGIN PUBLIC KEY-----"), Err(KeyError::WrongCurve));
    }

    #[test]
    fn answers_over_another_digest_or_by_another_key_do_not_pass() {
        let (key, address) = known();
        let digest = TypedDigest::new(B256::repeat_byte(7));
        let (made, _) = key.sign_prehash_recoverable(digest.as_b256().as_slice()).unwrap();
        let raw = made.to_bytes();
        assert!(signature_from_raw(&raw, digest, address).is_ok());
        let other = TypedDigest::new(B256::repeat_byte(8));
        for (bytes, digest, address) in [
            (raw.as_slice(), other, address),
            (raw.as_slice(), digest, Address::repeat_byte(1)),
            (&[0; 64], digest, address),
            (&[0xff; 64], digest, address),
            (&raw[1..], digest, address),
            (&[], digest, address),
        ] {
            let answer = signature_from_raw(bytes, digest, address);
            assert!(matches!(answer, Err(KeyError::BadAnswer(_))), "{answer:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn high_s_raw_and_der_all_become_the_reference_signature(digest in any::<[u8; 32]>()) {
            let (key, address) = known();
            let (low, id) = key.sign_prehash_recoverable(&digest).unwrap();
            let (r, s) = low.split_scalars();
            let high = k256::ecdsa::Signature::from_scalars(r, s.neg()).unwrap();
            prop_assert!(high.normalize_s().is_some());
            let mut expected = low.to_vec();
            expected.push(27 + id.to_byte());
            let digest = TypedDigest::new(B256::from(digest));
            for form in [low, high] {
                let raw = signature_from_raw(&form.to_bytes(), digest, address).unwrap();
                prop_assert_eq!(raw.as_bytes().as_slice(), expected.as_slice());
                let der = signature_from_der(form.to_der().as_bytes(), digest, address).unwrap();
                prop_assert_eq!(der.as_bytes().as_slice(), expected.as_slice());
            }
        }

        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let (_, address) = known();
            let digest = TypedDigest::new(B256::repeat_byte(7));
            prop_assert!(signature_from_raw(&bytes, digest, address).is_err());
            prop_assert!(signature_from_der(&bytes, digest, address).is_err());
            prop_assert!(address_of_spki_der(&bytes).is_err());
            prop_assert!(address_of_spki_pem(&String::from_utf8_lossy(&bytes)).is_err());
            let _ = address_of_point(&bytes);
        }
    }
}
