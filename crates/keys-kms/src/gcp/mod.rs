//! Google Cloud KMS: a key version of the algorithm `EC_SIGN_SECP256K1_SHA256` (protection level HSM).

mod call;
mod key;
mod token;
mod uri;

pub use key::GcpKmsKey;
pub use uri::GcpKmsUri;
