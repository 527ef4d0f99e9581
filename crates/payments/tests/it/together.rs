//! Many signatures at once against each by itself: the same answers, whatever is among them.

use crate::common::Key;
use penstock_domain::{Address, B256};
use penstock_payments::{Signature, SignatureError, verify_bytes, verify_many};
use proptest::prelude::*;

fn digest(number: u32) -> B256 {
    let mut bytes = [0x5a; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    B256::from(bytes)
}

fn signed(key: &Key, count: u32) -> Vec<(Vec<u8>, B256)> {
    let sign = |number| key.sign(&digest(number)).as_bytes().to_vec();
    (0..count).map(|number| (sign(number), digest(number))).collect()
}

fn many(all: &[(Vec<u8>, B256)], account: Address) -> Vec<Result<Signature, SignatureError>> {
    verify_many(all.iter().map(|(bytes, digest)| (bytes.as_slice(), *digest)), account)
}

fn each(all: &[(Vec<u8>, B256)], account: Address) -> Vec<Result<Signature, SignatureError>> {
    all.iter().map(|(bytes, digest)| verify_bytes(bytes, digest, account)).collect()
}

#[test]
fn any_number_of_good_ones_is_good() {
    let key = Key::new("signer");
    // None, too few to be tried together, just enough, more than are held at once, all that a payment can have.
    for count in [0, 1, 2, 7, 8, 9, 64, 65, 66, 129, 600] {
        let all = signed(&key, count);
        let results = many(&all, key.address());
        assert_eq!(results.len(), all.len());
        for (result, (bytes, _)) in results.iter().zip(&all) {
            assert_eq!(result.map(|signature| signature.as_bytes().to_vec()), Ok(bytes.clone()));
        }
    }
}

#[test]
fn the_same_signature_many_times_is_good_many_times() {
    let key = Key::new("signer");
    let all = vec![signed(&key, 1).remove(0); 40];
    assert!(many(&all, key.address()).iter().all(Result::is_ok));
}

#[test]
fn a_stranger_is_none_of_them() {
    let (key, other) = (Key::new("signer"), Key::new("other"));
    let all = signed(&key, 40);
    assert!(many(&all, other.address()).iter().all(|one| *one == Err(SignatureError::WrongSigner)));
}

/// Two that are wrong by what the other is wrong by, once their equations are divided by `s`: the plain sum would be right.
#[test]
fn faults_that_cancel_are_found() {
    use k256::{FieldBytes, Scalar, U256, elliptic_curve::ops::Reduce};
    let number =
        |bytes: &[u8]| <Scalar as Reduce<U256>>::reduce_bytes(FieldBytes::from_slice(bytes));
    let key = Key::new("signer");
    let mut all = signed(&key, 40);
    let s = |at: usize| number(&all[at].0[32..64]);
    let (one, two) = (s(3), s(7));
    let digest = |scalar: Scalar| B256::from_slice(&scalar.to_bytes());
    all[3].1 = digest(number(all[3].1.as_slice()) + one);
    all[7].1 = digest(number(all[7].1.as_slice()) - two);
    let results = many(&all, key.address());
    assert_eq!(results, each(&all, key.address()));
    let wrong: Vec<usize> = (0..40).filter(|at| results[*at].is_err()).collect();
    assert_eq!(wrong, [3, 7]);
}

/// Verification by a known key would not see it, and the winner could not be redeemed.
#[test]
fn a_wrong_v_is_found_wherever_it_is() {
    let key = Key::new("signer");
    for at in 0..20 {
        let mut all = signed(&key, 20);
        all[at].0[64] = 27 + 28 - all[at].0[64];
        let results = many(&all, key.address());
        let expected = |place| place != at;
        assert!((0..20).all(|place| results[place].is_ok() == expected(place)), "{at}");
        assert_eq!(results[at], Err(SignatureError::WrongSigner));
    }
}

/// What may be wrong with one of them.
#[derive(Debug, Clone)]
enum Fault {
    Bit(usize, u8),
    Cut(usize),
    Digest,
    Zero(usize),
    HighS,
    Stranger,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (0..65_usize, 0..8_u8).prop_map(|(byte, bit)| Fault::Bit(byte, bit)),
        (0..80_usize).prop_map(Fault::Cut),
        Just(Fault::Digest),
        (0..2_usize).prop_map(Fault::Zero),
        Just(Fault::HighS),
        Just(Fault::Stranger),
    ]
}

fn spoil((bytes, digest): &mut (Vec<u8>, B256), fault: &Fault) {
    match fault {
        Fault::Bit(byte, bit) => bytes[*byte] ^= 1 << bit,
        Fault::Cut(length) => bytes.resize(*length, 27),
        Fault::Digest => digest.0[31] ^= 1,
        Fault::Zero(half) => bytes[half * 32..half * 32 + 32].fill(0),
        Fault::HighS => bytes[32] |= 0x80,
        Fault::Stranger => {
            *bytes = Key::new("stranger").sign(digest).as_bytes().to_vec();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_answers_are_those_of_each_by_itself(
        count in 0_u32..80,
        faults in proptest::collection::vec((any::<prop::sample::Index>(), fault()), 0..3),
    ) {
        let key = Key::new("signer");
        let mut all = signed(&key, count);
        if !all.is_empty() {
            let mut spoiled = std::collections::HashSet::new();
            for (at, fault) in &faults {
                let at = at.index(all.len());
                if spoiled.insert(at) {
                    spoil(&mut all[at], fault);
                }
            }
        }
        prop_assert_eq!(many(&all, key.address()), each(&all, key.address()));
    }
}
