//! The key: its account at start, a signature for each digest. Checksums in both directions find
//! bits that changed on the way.

use crate::{
    Environment,
    gcp::{GcpKmsUri, call::Service},
};
use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use core::fmt;
use crc::{CRC_32_ISCSI, Crc};
use penstock_domain::Address;
use penstock_keys::{
    DigestSigner, KeyError, TypedDigest,
    foreign::{address_of_spki_pem, signature_from_der},
};
use penstock_payments::Signature;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
const CHANGED: KeyError = KeyError::BadAnswer("a checksum does not fit; bits changed on the way");

/// A key version in Google Cloud KMS.
pub struct GcpKmsKey {
    address: Address,
    name: String,
    service: Service,
}

/// 64-bit numbers are text in Google's JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublicKey {
    pem: String,
    algorithm: String,
    name: String,
    pem_crc32c: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    signature: String,
    signature_crc32c: String,
    #[serde(default)]
    verified_digest_crc32c: bool,
    name: String,
}

impl GcpKmsKey {
    /// Finds the key and its account.
    pub async fn open(uri: &GcpKmsUri, environment: &Environment) -> Result<Self, KeyError> {
        let service = Service::new(uri, environment)?;
        let found: PublicKey = service.call(Method::GET, "/publicKey", None).await?;
        if found.algorithm != "EC_SIGN_SECP256K1_SHA256" {
            return Err(KeyError::Denied(format!(
                "Google Cloud KMS: the key is {}; it must be EC_SIGN_SECP256K1_SHA256",
                crate::http::words(&found.algorithm)
            )));
        }
        if found.name != uri.name || !fits(found.pem.as_bytes(), &found.pem_crc32c) {
            return Err(CHANGED);
        }
        Ok(Self { address: address_of_spki_pem(&found.pem)?, name: found.name, service })
    }
}

fn fits(bytes: &[u8], crc32c: &str) -> bool {
    crc32c.parse() == Ok(CRC32C.checksum(bytes))
}

impl fmt::Debug for GcpKmsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcpKmsKey").field("address", &self.address).finish_non_exhaustive()
    }
}

#[async_trait]
impl DigestSigner for GcpKmsKey {
    fn address(&self) -> Address {
        self.address
    }

    async fn sign_digest(&self, digest: TypedDigest) -> Result<Signature, KeyError> {
        let bytes = digest.as_b256().as_slice();
        let ask = json!({
            "digest": { "sha256": BASE64_STANDARD.encode(bytes) },
            "digestCrc32c": CRC32C.checksum(bytes).to_string(),
        });
        let answer: Signed = self.service.call(Method::POST, ":asymmetricSign", Some(&ask)).await?;
        let der = BASE64_STANDARD
            .decode(&answer.signature)
            .map_err(|_| KeyError::BadAnswer("not base64"))?;
        let whole = answer.verified_digest_crc32c
            && answer.name == self.name
            && fits(&der, &answer.signature_crc32c);
        if !whole {
            return Err(CHANGED);
        }
        signature_from_der(&der, digest, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, appendix B.4.
        assert_eq!(CRC32C.checksum(&[0; 32]), 0x8a91_36aa);
        assert!(fits(&[0; 32], "2324772522"));
        assert!(!fits(&[0; 32], "2324772521"));
        assert!(!fits(&[0; 32], ""));
    }
}
