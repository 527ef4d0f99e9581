//! The JSON of a version 3 keystore and its AES-128-CTR envelope.

use super::{
    KeystoreError,
    kdf::{Kdf, ScryptCost},
};
use crate::LocalKey;
use aes::Aes128;
use ctr::{
    Ctr128BE,
    cipher::{KeyIvInit, StreamCipher},
};
use penstock_domain::{keccak256, parse_address};
use rand::{TryRngCore, rngs::OsRng};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Largest keystore text read, in bytes; real ones are about 500.
pub(super) const MAX_FILE_BYTES: usize = 64 << 10;

const UNWRITABLE: KeystoreError = KeystoreError::BadFile("cannot be written as JSON");

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    id: uuid::Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// geth writes it in lower case, some older tools with a capital.
    #[serde(alias = "Crypto")]
    crypto: Crypto,
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    kdf: String,
    kdfparams: serde_json::Value,
    mac: String,
}

#[derive(Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

/// The keystore text of a key under a password.
pub fn encrypt(key: &LocalKey, password: &str, cost: ScryptCost) -> Result<String, KeystoreError> {
    let salt = random::<32>()?;
    let iv = random::<16>()?;
    let params = Kdf::scrypt(cost, &salt)?;
    let derived = params.derive(password)?;
    let mut ciphertext = Zeroizing::new(*key.secret());
    apply_cipher(&derived, &iv, ciphertext.as_mut());
    let file = File {
        version: 3,
        id: uuid::Builder::from_random_bytes(random::<16>()?).into_uuid(),
        address: Some(hex::encode(key.address())),
        crypto: Crypto {
            cipher: "aes-128-ctr".into(),
            cipherparams: CipherParams { iv: hex::encode(iv) },
            mac: hex::encode(mac(&derived, ciphertext.as_ref())),
            ciphertext: hex::encode(ciphertext.as_ref()),
            kdf: "scrypt".into(),
            kdfparams: serde_json::to_value(params).map_err(|_| UNWRITABLE)?,
        },
    };
    serde_json::to_string(&file).map_err(|_| UNWRITABLE)
}

/// The key in a keystore text. Files with `r` = 1 and an `n` of 2^16 or more, which a few old tools
/// wrote, are outside scrypt's own definition (RFC 7914) and are refused as out of bounds.
pub fn decrypt(text: &str, password: &str) -> Result<LocalKey, KeystoreError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(KeystoreError::BadFile("too large"));
    }
    let file: File =
        serde_json::from_str(text).map_err(|_| KeystoreError::BadFile("not keystore JSON"))?;
    if file.version != 3 {
        return Err(KeystoreError::BadFile("version is not 3"));
    }
    if file.crypto.cipher != "aes-128-ctr" {
        return Err(KeystoreError::BadFile("cipher is not aes-128-ctr"));
    }
    let iv: [u8; 16] = hex_array(&file.crypto.cipherparams.iv, "iv is not 16 bytes of hex")?;
    let mut text = Zeroizing::new(ciphertext(&file.crypto.ciphertext)?);
    let expected: [u8; 32] = hex_array(&file.crypto.mac, "mac is not 32 bytes of hex")?;
    let derived = Kdf::read(&file.crypto.kdf, file.crypto.kdfparams)?.derive(password)?;
    // Compared in plain time: whoever could measure it has the file and can compute the mac.
    if mac(&derived, &text) != expected {
        return Err(KeystoreError::WrongPassword);
    }
    apply_cipher(&derived, &iv, &mut text);
    let mut secret = Zeroizing::new([0; 32]);
    for (slot, byte) in secret.iter_mut().rev().zip(text.iter().rev()) {
        *slot = *byte;
    }
    let key = LocalKey::from_bytes(secret).map_err(|_| KeystoreError::WrongAccount)?;
    match file.address.as_deref() {
        Some(text) if parse_address(text) != Some(key.address()) => {
            Err(KeystoreError::WrongAccount)
        }
        _ => Ok(key),
    }
}

/// Encrypts and decrypts: counter mode does both alike. The key is the first half of `derived`.
fn apply_cipher(derived: &[u8; 32], iv: &[u8; 16], data: &mut [u8]) {
    let halves = halves(derived);
    let [key, _] = &*halves;
    Ctr128BE::<Aes128>::new(key.into(), iv.into()).apply_keystream(data);
}

/// Keccak-256 of the second half of `derived` and the ciphertext.
fn mac(derived: &[u8; 32], ciphertext: &[u8]) -> [u8; 32] {
    let halves = halves(derived);
    let [_, key] = &*halves;
    let mut input = Zeroizing::new(Vec::with_capacity(48));
    input.extend_from_slice(key);
    input.extend_from_slice(ciphertext);
    keccak256(input.as_slice()).0
}

fn halves(derived: &[u8; 32]) -> Zeroizing<[[u8; 16]; 2]> {
    let mut out = Zeroizing::new([[0; 16]; 2]);
    for (half, chunk) in out.iter_mut().zip(derived.chunks_exact(16)) {
        half.copy_from_slice(chunk);
    }
    out
}

/// The encrypted key. Some old files left out its leading zero bytes, so it may be short.
fn ciphertext(text: &str) -> Result<Vec<u8>, KeystoreError> {
    const BAD: KeystoreError = KeystoreError::BadFile("ciphertext is not up to 32 bytes of hex");
    if text.is_empty() || text.len() > 64 {
        return Err(BAD);
    }
    hex::decode(text).map_err(|_| BAD)
}

fn hex_array<const N: usize>(text: &str, what: &'static str) -> Result<[u8; N], KeystoreError> {
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out).map_err(|_| KeystoreError::BadFile(what))?;
    Ok(out)
}

fn random<const N: usize>() -> Result<[u8; N], KeystoreError> {
    let mut out = [0; N];
    OsRng.try_fill_bytes(&mut out).map_err(|e| KeystoreError::Random(e.to_string()))?;
    Ok(out)
}

#[cfg(test)]
mod tests;
