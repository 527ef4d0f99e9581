//! Where the account's key is, and the keys of payment states: `--key` and `--state-keys-file` become
//! something that signs and something that seals.

pub mod args;
mod open_key;
pub mod state_keys;

pub use args::{KeyArgs, Surroundings};
pub(crate) use open_key::blocking;
#[cfg(any(feature = "pkcs11", feature = "kms-aws", feature = "kms-gcp"))]
pub(crate) use open_key::of_place;
pub use open_key::{Homes, open};

use penstock_config::ConfigError;
#[cfg(feature = "kms-aws")]
use penstock_keys_kms::aws::AwsKmsUri;
#[cfg(feature = "kms-gcp")]
use penstock_keys_kms::gcp::GcpKmsUri;
#[cfg(feature = "pkcs11")]
use penstock_keys_pkcs11::Pkcs11Uri;
use penstock_keys_vault::VaultUri;
use std::path::PathBuf;

/// Where the account's key is.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A Web3 Secret Storage v3 file, and the file with its password.
    Keystore {
        /// The v3 file.
        path: PathBuf,
        /// The file with its password.
        password_file: PathBuf,
    },
    /// A token.
    #[cfg(feature = "pkcs11")]
    Pkcs11 {
        /// Which, and which key in it.
        uri: Pkcs11Uri,
        /// The file with the user's PIN.
        pin_file: PathBuf,
    },
    /// A vault's KV store.
    Vault {
        /// Which secret.
        uri: VaultUri,
        /// The file with the password of a keystore that has none beside it.
        password_file: Option<PathBuf>,
    },
    /// AWS KMS.
    #[cfg(feature = "kms-aws")]
    AwsKms(AwsKmsUri),
    /// Google Cloud KMS.
    #[cfg(feature = "kms-gcp")]
    GcpKms(GcpKmsUri),
}

/// The flag that names the key.
const KEY: &str = "--key";
/// Kinds that a build may be without.
const OPTIONAL: [&str; 3] = ["pkcs11", "awskms", "gcpkms"];
const KINDS: &str = "must be keystore:PATH, pkcs11:token=…;object=…?module-path=…, \
                     vault:MOUNT/PATH, awskms:KEY?region=… or gcpkms:projects/…";

fn bad(error: penstock_keys::LocatorError) -> ConfigError {
    ConfigError::value(KEY, error.to_string())
}

impl KeySource {
    /// From `--key` and what else is said.
    pub fn of(args: &KeyArgs, around: &Surroundings) -> Result<Self, ConfigError> {
        let Some(text) = &args.key else {
            return Ok(Self::Keystore {
                path: around.data_dir.join("keystore.json"),
                password_file: args.password_file(around),
            });
        };
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        if rest.is_empty() {
            return Err(ConfigError::value(KEY, KINDS));
        }
        match kind {
            "keystore" => {
                Ok(Self::Keystore { path: rest.into(), password_file: args.password_file(around) })
            }
            "vault" => Ok(Self::Vault {
                uri: VaultUri::parse(rest).map_err(bad)?,
                password_file: args.given_password_file(around),
            }),
            #[cfg(feature = "pkcs11")]
            "pkcs11" => {
                let uri = Pkcs11Uri::parse(rest).map_err(bad)?;
                let pin_file = uri.pin_file.clone().unwrap_or_else(|| args.pin_file(around));
                Ok(Self::Pkcs11 { uri, pin_file })
            }
            #[cfg(feature = "kms-aws")]
            "awskms" => {
                Ok(Self::AwsKms(AwsKmsUri::parse(rest, around.aws_region.clone()).map_err(bad)?))
            }
            #[cfg(feature = "kms-gcp")]
            "gcpkms" => Ok(Self::GcpKms(GcpKmsUri::parse(rest).map_err(bad)?)),
            other if OPTIONAL.contains(&other) => Err(ConfigError::value(
                KEY,
                format!("this program was built without {kind} (see the features of its crate)"),
            )),
            _ => Err(ConfigError::value(KEY, KINDS)),
        }
    }

    /// For messages: where the key is, without anything secret.
    pub fn place(&self) -> String {
        match self {
            Self::Keystore { path, .. } => path.display().to_string(),
            #[cfg(feature = "pkcs11")]
            Self::Pkcs11 { uri, .. } => format!("token `{}`, key `{}`", uri.token, uri.object),
            Self::Vault { uri, .. } => format!("vault secret {}", uri.place()),
            #[cfg(feature = "kms-aws")]
            Self::AwsKms(uri) => format!("AWS KMS key {} in {}", uri.key_id, uri.region),
            #[cfg(feature = "kms-gcp")]
            Self::GcpKms(uri) => format!("Google Cloud KMS key {}", uri.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn args(words: &[&str]) -> KeyArgs {
        let argv = std::iter::once("penstock-signer").chain(words.iter().copied());
        penstock_config::try_parse_from::<crate::Args>(argv).unwrap().keys
    }

    fn around() -> Surroundings {
        Surroundings { data_dir: "/d".into(), credentials_dir: None, aws_region: None }
    }

    #[test]
    fn a_keystore_is_the_default() {
        let KeySource::Keystore { path, password_file } =
            KeySource::of(&args(&[]), &around()).unwrap()
        else {
            panic!()
        };
        assert_eq!(path, Path::new("/d/keystore.json"));
        assert_eq!(password_file, Path::new("/d/keystore-password"));
    }

    #[test]
    fn passwords_come_from_a_flag_then_the_credential_directory_then_the_data_folder() {
        let credentials = tempfile::tempdir().unwrap();
        let with =
            Surroundings { credentials_dir: Some(credentials.path().to_owned()), ..around() };
        let of = |words: &[&str], around: &Surroundings| match KeySource::of(&args(words), around) {
            Ok(KeySource::Keystore { password_file, .. }) => password_file,
            other => panic!("{other:?}"),
        };
        assert_eq!(of(&[], &with), Path::new("/d/keystore-password"), "nothing there");
        let credential = credentials.path().join("keystore-password");
        std::fs::write(&credential, "x").unwrap();
        assert_eq!(of(&[], &with), credential);
        assert_eq!(of(&["--key-password-file", "/p"], &with), Path::new("/p"));
    }

    #[test]
    fn every_kind_is_known() {
        let gcp = "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1";
        for (text, place) in [
            ("keystore:/k", "/k"),
            ("pkcs11:token=t;object=o?module-path=/m.so", "token `t`, key `o`"),
            ("vault:secret/a/b", "vault secret secret/a/b"),
            ("awskms:alias/a?region=eu-west-1", "AWS KMS key alias/a in eu-west-1"),
            (gcp, "Google Cloud KMS key projects/p"),
        ] {
            let source = KeySource::of(&args(&["--key", text]), &around()).unwrap();
            assert!(source.place().starts_with(place), "{}", source.place());
        }
        let region = Surroundings { aws_region: Some("eu-west-2".into()), ..around() };
        assert!(KeySource::of(&args(&["--key", "awskms:alias/a"]), &region).is_ok());
        for bad in ["x", "keystore:", "vault:x", "awskms:alias/a", "gcpkms:x", "pkcs11:x", "y:z"] {
            let error = KeySource::of(&args(&["--key", bad]), &around()).unwrap_err();
            assert!(error.to_string().starts_with("--key"), "{error}");
        }
    }
}
