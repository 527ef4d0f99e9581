//! The key: its account at start, a signature for each digest.

use crate::{
    Environment,
    aws::{AwsKmsUri, call::Service},
};
use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use core::fmt;
use penstock_domain::Address;
use penstock_keys::{
    DigestSigner, KeyError, TypedDigest,
    foreign::{address_of_spki_der, signature_from_der},
};
use penstock_payments::Signature;
use serde::{Deserialize, Serialize};

const NOT_BASE64: KeyError = KeyError::BadAnswer("not base64");

/// A key in AWS KMS.
pub struct AwsKmsKey {
    address: Address,
    key_id: String,
    service: Service,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetPublicKey<'a> {
    key_id: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PublicKey {
    /// The key's ARN, whatever it was asked for by.
    key_id: String,
    public_key: String,
    key_spec: String,
    key_usage: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sign<'a> {
    key_id: &'a str,
    message: String,
    /// `DIGEST`: it is hashed already; `RAW` would hash the hash.
    message_type: &'static str,
    signing_algorithm: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Signed {
    signature: String,
}

impl AwsKmsKey {
    /// Finds the key and its account. From then on it is named by its ARN, so that an alias that is
    /// pointed elsewhere meanwhile changes nothing before the next start.
    pub async fn open(uri: &AwsKmsUri, environment: &Environment) -> Result<Self, KeyError> {
        let service = Service::new(uri, environment)?;
        let ask = GetPublicKey { key_id: &uri.key_id };
        let found: PublicKey = service.call("GetPublicKey", &ask).await?;
        if found.key_spec != "ECC_SECG_P256K1" || found.key_usage != "SIGN_VERIFY" {
            return Err(KeyError::Denied(format!(
                "AWS KMS: the key is {} for {}; it must be ECC_SECG_P256K1 for SIGN_VERIFY",
                crate::http::words(&found.key_spec),
                crate::http::words(&found.key_usage)
            )));
        }
        let der = BASE64_STANDARD.decode(&found.public_key).map_err(|_| NOT_BASE64)?;
        Ok(Self { address: address_of_spki_der(&der)?, key_id: found.key_id, service })
    }
}

impl fmt::Debug for AwsKmsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsKmsKey").field("address", &self.address).finish_non_exhaustive()
    }
}

#[async_trait]
impl DigestSigner for AwsKmsKey {
    fn address(&self) -> Address {
        self.address
    }

    async fn sign_digest(&self, digest: TypedDigest) -> Result<Signature, KeyError> {
        let ask = Sign {
            key_id: &self.key_id,
            message: BASE64_STANDARD.encode(digest.as_b256()),
            message_type: "DIGEST",
            signing_algorithm: "ECDSA_SHA_256",
        };
        let answer: Signed = self.service.call("Sign", &ask).await?;
        let der = BASE64_STANDARD.decode(&answer.signature).map_err(|_| NOT_BASE64)?;
        signature_from_der(&der, digest, self.address)
    }
}
