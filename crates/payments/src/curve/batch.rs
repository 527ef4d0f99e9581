//! Many signatures by one key, tried together: half the price of recovering each.
//!
//! A signature `(r, s, v)` over a digest `m` recovers to the key `Q` when `s·R = m·G + r·Q`, `R` being the point
//! that `r` and `v` name. The sum of all these equations, each times a factor of its own that whoever made the signatures cannot
//! steer, holds when all of them do, and else but once in 2^128 tries. It costs one
//! pass of doublings for all points together, and per point its square root and some additions. This says the same
//! as recovery does, `v` included, which verification by a known key does not look at.

use k256::{
    AffinePoint, FieldBytes, ProjectivePoint, PublicKey, Scalar, U256,
    elliptic_curve::{
        PrimeField as _,
        group::Group as _,
        ops::{LinearCombination as _, Reduce},
        point::DecompressPoint as _,
        subtle::Choice,
    },
};
use penstock_domain::B256;
use sha2::{Digest as _, Sha256};

/// Points whose tables are held at once: they stay in the processor's cache.
const CHUNK: usize = 64;
/// Bits of a digit of a factor.
const WINDOW_BITS: u32 = 5;
/// Odd multiples of a point, up to the greatest digit.
const TABLE: usize = 1 << (WINDOW_BITS - 2);
/// Digits of a factor of 128 bits, with what is carried.
const DIGITS: usize = 129;

/// One signature, its checks that need no curve being done.
pub(crate) struct Claim {
    pub digest: B256,
    pub rs: [u8; 64],
    pub odd: bool,
}

/// Whether the key signed all of them; `key` is compressed or not. `false` where one is not a signature at all.
pub(crate) fn all_by(key: &[u8], claims: &[Claim]) -> bool {
    let Ok(key) = PublicKey::from_sec1_bytes(key) else { return false };
    sums_to_nothing(&key.to_projective(), key.as_affine(), claims).unwrap_or(false)
}

/// `None` where one is not a signature.
fn sums_to_nothing(key: &ProjectivePoint, affine: &AffinePoint, claims: &[Claim]) -> Option<bool> {
    let parts = claims.iter().map(Parts::of).collect::<Option<Vec<_>>>()?;
    let inverses = inverses(&parts)?;
    let seed = seed(affine, claims);
    let (mut of_base, mut of_key) = (Scalar::ZERO, Scalar::ZERO);
    let mut sum = ProjectivePoint::IDENTITY;
    let all: Vec<(&Parts, Scalar)> = parts.iter().zip(inverses).collect();
    for (chunk, several) in all.chunks(CHUNK).enumerate() {
        let mut points = Vec::with_capacity(several.len());
        for (place, (one, inverse)) in several.iter().enumerate() {
            let factor = factor(&seed, chunk * CHUNK + place);
            let scaled = Scalar::from(factor) * inverse;
            of_base += one.digest * scaled;
            of_key += one.r * scaled;
            points.push((one.point, factor));
        }
        sum += weighted(&points);
    }
    let wanted = ProjectivePoint::lincomb(&ProjectivePoint::GENERATOR, &of_base, key, &of_key);
    Some(bool::from((sum - wanted).is_identity()))
}

/// A signature's numbers.
struct Parts {
    digest: Scalar,
    r: Scalar,
    s: Scalar,
    point: ProjectivePoint,
}

impl Parts {
    fn of(claim: &Claim) -> Option<Self> {
        let (r, s) = claim.rs.split_at(32);
        let (r, s) = (FieldBytes::from_slice(r), FieldBytes::from_slice(s));
        let point = AffinePoint::decompress(r, Choice::from(u8::from(claim.odd)));
        Some(Self {
            digest: <Scalar as Reduce<U256>>::reduce_bytes(FieldBytes::from_slice(
                claim.digest.as_slice(),
            )),
            r: nonzero(r)?,
            s: nonzero(s)?,
            point: Option::<AffinePoint>::from(point)?.into(),
        })
    }
}

/// A number below the curve's order, and not 0.
fn nonzero(bytes: &FieldBytes) -> Option<Scalar> {
    Option::<Scalar>::from(Scalar::from_repr(*bytes)).filter(|scalar| !bool::from(scalar.is_zero()))
}

/// Of each `s`, by one inversion for all of them.
fn inverses(parts: &[Parts]) -> Option<Vec<Scalar>> {
    let mut product = Scalar::ONE;
    let before: Vec<Scalar> = parts
        .iter()
        .map(|one| {
            let before = product;
            product *= one.s;
            before
        })
        .collect();
    let mut left = Option::<Scalar>::from(product.invert())?;
    let mut all: Vec<Scalar> = parts
        .iter()
        .zip(before)
        .rev()
        .map(|(one, before)| {
            let inverse = left * before;
            left *= one.s;
            inverse
        })
        .collect();
    all.reverse();
    Some(all)
}

/// Of everything that is claimed: who changes one signature changes each factor.
fn seed(key: &AffinePoint, claims: &[Claim]) -> [u8; 32] {
    use k256::elliptic_curve::sec1::ToEncodedPoint as _;
    let mut hash = Sha256::new();
    hash.update(b"penstock: signatures tried together");
    hash.update(key.to_encoded_point(true).as_bytes());
    for claim in claims {
        hash.update(claim.digest);
        hash.update(claim.rs);
        hash.update([u8::from(claim.odd)]);
    }
    hash.finalize().into()
}

/// 128 bits, never 0: that would leave a signature out.
fn factor(seed: &[u8; 32], place: usize) -> u128 {
    let mut hash = Sha256::new();
    hash.update(seed);
    hash.update((place as u64).to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let half = digest.first_chunk::<16>().copied().unwrap_or_default();
    u128::from_be_bytes(half).max(1)
}

/// The sum of all points, each as often as its factor says.
fn weighted(points: &[(ProjectivePoint, u128)]) -> ProjectivePoint {
    let tables: Vec<([ProjectivePoint; TABLE], [i8; DIGITS])> =
        points.iter().map(|(point, factor)| (odd_multiples(point), digits(*factor))).collect();
    let mut sum = ProjectivePoint::IDENTITY;
    for place in (0..DIGITS).rev() {
        sum = sum.double();
        for (table, digits) in &tables {
            let digit = digits.get(place).copied().unwrap_or(0);
            let Some(multiple) = table.get(usize::from(digit.unsigned_abs() / 2)) else { continue };
            match digit.signum() {
                1 => sum += multiple,
                -1 => sum -= multiple,
                _ => {}
            }
        }
    }
    sum
}

/// The point, three times it, five times, …
fn odd_multiples(point: &ProjectivePoint) -> [ProjectivePoint; TABLE] {
    let twice = point.double();
    let mut next = *point;
    core::array::from_fn(|_| {
        let this = next;
        next += twice;
        this
    })
}

/// Digits of base 2, most of them 0 and all others odd, so that few of them count (the width-w non-adjacent form).
fn digits(factor: u128) -> [i8; DIGITS] {
    let mut digits = [0; DIGITS];
    // One bit more than the factor has: a negative digit adds to what is left.
    let (mut low, mut carry) = (factor, false);
    for digit in &mut digits {
        if low & 1 == 1 {
            let window = (low & ((1 << WINDOW_BITS) - 1)) as i8;
            let half = 1_i8 << (WINDOW_BITS - 1);
            let value = if window >= half { window - 2 * half } else { window };
            *digit = value;
            // `value` has the sign of what is taken away.
            if value > 0 {
                low -= value.unsigned_abs() as u128;
            } else {
                let (sum, over) = low.overflowing_add(u128::from(value.unsigned_abs()));
                low = sum;
                carry |= over;
            }
        }
        low = (low >> 1) | (u128::from(carry) << 127);
        carry = false;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use k256::ecdsa::SigningKey;

    fn key(number: u8) -> (SigningKey, Vec<u8>) {
        let key = SigningKey::from_slice(&[number; 32]).unwrap();
        let public = key.verifying_key().to_encoded_point(false).as_bytes().to_vec();
        (key, public)
    }

    fn claims(key: &SigningKey, count: usize) -> Vec<Claim> {
        let claim = |number: usize| {
            let mut digest = B256::ZERO;
            digest.0[24..].copy_from_slice(&(number as u64 + 7).to_be_bytes());
            let (rs, id) = key.sign_prehash_recoverable(digest.as_slice()).unwrap();
            Claim { digest, rs: rs.to_bytes().into(), odd: id.is_y_odd() }
        };
        (0..count).map(claim).collect()
    }

    /// Without falling back on anything: it says yes to good ones, and no when any of them is not.
    #[test]
    fn good_ones_sum_to_nothing_and_bad_ones_do_not() {
        let (signer, public) = key(3);
        let (_, other) = key(4);
        for count in [0, 1, 7, 64, 65, 129, 599] {
            let mut all = claims(&signer, count);
            assert!(all_by(&public, &all), "{count}");
            if count == 0 {
                continue;
            }
            assert!(!all_by(&other, &all), "{count}");
            let last = all.len() - 1;
            all[last].odd = !all[last].odd;
            assert!(!all_by(&public, &all), "{count}");
            all[last].odd = !all[last].odd;
            all[0].digest.0[31] ^= 1;
            assert!(!all_by(&public, &all), "{count}");
        }
        assert!(!all_by(&[4; 65], &claims(&signer, 3)));
    }

    /// A point's x may be an order above another number: `r` is that number, never both.
    #[test]
    fn numbers_outside_their_range_are_no_signature() {
        let (signer, public) = key(3);
        let order = [
            [0xff; 15].as_slice(),
            &[0xfe],
            &[0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b],
            &[0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41],
        ]
        .concat();
        for half in [0, 32] {
            for step in 0..4 {
                let mut all = claims(&signer, 8);
                all[5].rs[half..half + 32].copy_from_slice(&order);
                all[5].rs[half + 31] += step;
                assert!(!all_by(&public, &all));
                all[5].rs[half..half + 32].fill(0);
                assert!(!all_by(&public, &all));
            }
        }
    }

    #[test]
    fn digits_are_their_factor() {
        let edges =
            [1, 15, 16, 17, 1 << 127, u128::MAX - 15, u128::MAX - 14, u128::MAX - 1, u128::MAX];
        let more = (0..200).map(|place| factor(&[7; 32], place));
        for factor in edges.into_iter().chain(more) {
            let mut sum = Scalar::ZERO;
            for digit in digits(factor).iter().rev() {
                sum += sum;
                let size = Scalar::from(u64::from(digit.unsigned_abs()));
                assert!(*digit == 0 || digit % 2 != 0 && digit.unsigned_abs() < 16);
                sum = if *digit < 0 { sum - size } else { sum + size };
            }
            assert_eq!(sum, Scalar::from(factor), "{factor}");
        }
    }

    /// Who could change one part and keep the factors could make two faults cancel.
    #[test]
    fn every_part_of_what_is_claimed_changes_the_factors() {
        let (signer, public) = key(3);
        let of = |public: &[u8], all: &[Claim]| {
            seed(PublicKey::from_sec1_bytes(public).unwrap().as_affine(), all)
        };
        let mut seeds = vec![of(&public, &claims(&signer, 3)), of(&key(4).1, &claims(&signer, 3))];
        seeds.push(of(&public, &claims(&signer, 2)));
        let changes: [fn(&mut Claim); 4] = [
            |claim| claim.digest.0[0] ^= 1,
            |claim| claim.rs[0] ^= 1,
            |claim| claim.rs[63] ^= 1,
            |claim| claim.odd = !claim.odd,
        ];
        for change in changes {
            for at in 0..3 {
                let mut all = claims(&signer, 3);
                change(&mut all[at]);
                seeds.push(of(&public, &all));
            }
        }
        let count = seeds.len();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), count);
        assert_ne!(factor(&seeds[0], 0), factor(&seeds[0], 1));
        assert_ne!(factor(&seeds[0], 0), factor(&seeds[1], 0));
    }
}
