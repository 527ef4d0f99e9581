//! AWS KMS: a key of the spec `ECC_SECG_P256K1` and the usage `SIGN_VERIFY`.

mod call;
mod key;
mod uri;

pub use key::AwsKmsKey;
pub use uri::AwsKmsUri;
