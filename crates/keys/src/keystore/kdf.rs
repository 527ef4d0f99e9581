//! Password to key, with bounds: the parameters come from a file, and an absurd one must not take
//! the machine's memory or an hour.

use super::KeystoreError;
use hmac::Hmac;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Most memory that a file may ask for: twice what geth's own files take.
const MAX_SCRYPT_BYTES: u64 = 512 << 20;
/// Most work, as n × r × p: eight times geth's.
const MAX_SCRYPT_WORK: u64 = 1 << 24;
/// Most rounds of PBKDF2: forty times geth's.
const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;
/// Longest salt in bytes; usual is 32.
const MAX_SALT_BYTES: usize = 256;
/// Length of the derived key: 16 bytes encrypt, 16 authenticate.
const DERIVED_BYTES: usize = 32;

/// How hard a new keystore is to guess at. The default is geth's: n = 2^18, r = 8, p = 1, which is
/// 256 MiB and most of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScryptCost {
    /// Binary logarithm of n.
    pub log2_n: u8,
    /// Block size.
    pub r: u32,
    /// Parallelism.
    pub p: u32,
}

impl Default for ScryptCost {
    fn default() -> Self {
        Self { log2_n: 18, r: 8, p: 1 }
    }
}

/// `kdfparams` of scrypt.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ScryptParams {
    dklen: u32,
    n: u64,
    r: u32,
    p: u32,
    salt: String,
}

/// `kdfparams` of PBKDF2.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pbkdf2Params {
    c: u32,
    dklen: u32,
    prf: String,
    salt: String,
}

/// `kdf` and `kdfparams` of the file.
#[derive(Debug)]
pub(super) enum Kdf {
    /// scrypt.
    Scrypt(ScryptParams),
    /// PBKDF2 with HMAC-SHA256.
    Pbkdf2(Pbkdf2Params),
}

impl Kdf {
    /// From the file's two fields. (By hand: serde's adjacent tags lose the numbers when JSON
    /// numbers are kept as text.)
    pub(super) fn read(name: &str, params: serde_json::Value) -> Result<Self, KeystoreError> {
        const BAD: KeystoreError = KeystoreError::BadFile("kdfparams do not fit the kdf");
        match name {
            "scrypt" => serde_json::from_value(params).map(Self::Scrypt).map_err(|_| BAD),
            "pbkdf2" => serde_json::from_value(params).map(Self::Pbkdf2).map_err(|_| BAD),
            _ => Err(KeystoreError::BadFile("kdf is neither scrypt nor pbkdf2")),
        }
    }

    /// scrypt with a new salt.
    pub(super) fn scrypt(cost: ScryptCost, salt: &[u8]) -> Result<ScryptParams, KeystoreError> {
        let n = 1_u64
            .checked_shl(cost.log2_n.into())
            .ok_or(KeystoreError::BadFile("scrypt cost out of bounds"))?;
        let dklen = DERIVED_BYTES as u32;
        Ok(ScryptParams { dklen, n, r: cost.r, p: cost.p, salt: hex::encode(salt) })
    }

    /// The derived key.
    pub(super) fn derive(
        &self,
        password: &str,
    ) -> Result<Zeroizing<[u8; DERIVED_BYTES]>, KeystoreError> {
        match self {
            Self::Scrypt(params) => params.derive(password),
            Self::Pbkdf2(params) => {
                if params.prf != "hmac-sha256" {
                    return Err(KeystoreError::BadFile("prf is not hmac-sha256"));
                }
                pbkdf2(password, &checked(params.dklen, &params.salt)?, params.c)
            }
        }
    }
}

impl ScryptParams {
    /// The derived key.
    pub(super) fn derive(
        &self,
        password: &str,
    ) -> Result<Zeroizing<[u8; DERIVED_BYTES]>, KeystoreError> {
        let salt = checked(self.dklen, &self.salt)?;
        scrypt(password, &salt, self.n, self.r, self.p)
    }
}

/// The salt's bytes, after the checks that both functions share.
fn checked(dklen: u32, salt: &str) -> Result<Vec<u8>, KeystoreError> {
    if dklen as usize != DERIVED_BYTES {
        return Err(KeystoreError::BadFile("dklen is not 32"));
    }
    if salt.len() > 2 * MAX_SALT_BYTES {
        return Err(KeystoreError::BadFile("salt too long"));
    }
    hex::decode(salt).map_err(|_| KeystoreError::BadFile("salt is not hex"))
}

fn scrypt(
    password: &str,
    salt: &[u8],
    n: u64,
    r: u32,
    p: u32,
) -> Result<Zeroizing<[u8; DERIVED_BYTES]>, KeystoreError> {
    const OUT_OF_BOUNDS: KeystoreError = KeystoreError::BadFile("scrypt cost out of bounds");
    if n < 2 || !n.is_power_of_two() || r == 0 || p == 0 {
        return Err(OUT_OF_BOUNDS);
    }
    let block_bytes = u64::from(r).checked_mul(128).ok_or(OUT_OF_BOUNDS)?;
    let lanes = n.checked_add(p.into()).ok_or(OUT_OF_BOUNDS)?;
    let memory = block_bytes.checked_mul(lanes).ok_or(OUT_OF_BOUNDS)?;
    let work =
        n.checked_mul(r.into()).and_then(|w| w.checked_mul(p.into())).ok_or(OUT_OF_BOUNDS)?;
    if memory > MAX_SCRYPT_BYTES || work > MAX_SCRYPT_WORK {
        return Err(OUT_OF_BOUNDS);
    }
    let log_n = u8::try_from(n.trailing_zeros()).map_err(|_| OUT_OF_BOUNDS)?;
    let params = scrypt::Params::new(log_n, r, p, DERIVED_BYTES).map_err(|_| OUT_OF_BOUNDS)?;
    let mut out = Zeroizing::new([0_u8; DERIVED_BYTES]);
    scrypt::scrypt(password.as_bytes(), salt, &params, out.as_mut()).map_err(|_| OUT_OF_BOUNDS)?;
    Ok(out)
}

fn pbkdf2(
    password: &str,
    salt: &[u8],
    rounds: u32,
) -> Result<Zeroizing<[u8; DERIVED_BYTES]>, KeystoreError> {
    if rounds == 0 || rounds > MAX_PBKDF2_ROUNDS {
        return Err(KeystoreError::BadFile("pbkdf2 rounds out of bounds"));
    }
    let mut out = Zeroizing::new([0_u8; DERIVED_BYTES]);
    pbkdf2::pbkdf2::<Hmac<Sha256>>(password.as_bytes(), salt, rounds, out.as_mut())
        .map_err(|_| KeystoreError::BadFile("password unusable"))?;
    Ok(out)
}
