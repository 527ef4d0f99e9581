//! `OSInfo` ⇄ object stores that the other side may write to (orchestrator-wire.md section 12).

use crate::{
    error::{WireError, at_most, bounded},
    limits,
    net::{self, os_info::StorageType},
};

/// Which provider's form fields an upload uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketKind {
    /// AWS signature version 4.
    S3,
    /// Google's signed policy.
    Google,
}

/// Upload rights to one prefix of a bucket, by HTTP POST form.
#[derive(Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Provider.
    pub kind: BucketKind,
    /// URL of the bucket.
    pub host: String,
    /// Prefix of object names.
    pub key: String,
    /// Base64 policy document.
    pub policy: String,
    /// Over the policy. It grants writes, so it is not shown in logs.
    pub signature: String,
    /// Access id.
    pub credential: String,
    /// Date of the signature; S3 only.
    pub amz_date: String,
}

impl core::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Bucket")
            .field("kind", &self.kind)
            .field("host", &self.host)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// The first entry, if it is a bucket. Direct and unknown types are ignored, not refused.
pub fn read(list: &[net::OsInfo]) -> Result<Option<Bucket>, WireError> {
    at_most("storage list", list.len(), limits::STORAGES)?;
    let Some(first) = list.first() else { return Ok(None) };
    let kind = match StorageType::try_from(first.storage_type) {
        Ok(StorageType::S3) => BucketKind::S3,
        Ok(StorageType::Google) => BucketKind::Google,
        Ok(StorageType::Direct) | Err(_) => return Ok(None),
    };
    let s3 = first.s3info.as_ref().ok_or(WireError::Missing("storage access"))?;
    let fields = [&s3.host, &s3.key, &s3.policy, &s3.signature, &s3.credential, &s3.x_amz_date];
    for field in fields {
        bounded("storage access", field.len(), limits::STORAGE_FIELD_BYTES)?;
    }
    Ok(Some(Bucket {
        kind,
        host: s3.host.clone(),
        key: s3.key.clone(),
        policy: s3.policy.clone(),
        signature: s3.signature.clone(),
        credential: s3.credential.clone(),
        amz_date: s3.x_amz_date.clone(),
    }))
}

impl From<&Bucket> for net::OsInfo {
    fn from(b: &Bucket) -> Self {
        let kind = match b.kind {
            BucketKind::S3 => StorageType::S3,
            BucketKind::Google => StorageType::Google,
        };
        Self {
            storage_type: kind.into(),
            s3info: Some(net::S3osInfo {
                host: b.host.clone(),
                key: b.key.clone(),
                policy: b.policy.clone(),
                signature: b.signature.clone(),
                credential: b.credential.clone(),
                x_amz_date: b.amz_date.clone(),
            }),
        }
    }
}
