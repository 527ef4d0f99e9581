//! The key, opened.

use super::{KeyArgs, KeySource, state_keys::StateKeysSource};
use crate::keys_command::KeysError;
use penstock_config::read_secret_file;
#[cfg(any(feature = "pkcs11", feature = "kms-aws", feature = "kms-gcp"))]
use penstock_keys::KeyError;
use penstock_keys::{DigestSigner, keystore};
#[cfg(any(feature = "kms-aws", feature = "kms-gcp"))]
use penstock_keys_kms::Environment;
use penstock_keys_vault::{Vault, load_key};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// What several keys may share: the one vault.
pub struct Homes {
    vault: Option<Arc<Vault>>,
}

impl Homes {
    /// Logs in to what these sources need.
    pub async fn connect(
        args: &KeyArgs,
        key: Option<&KeySource>,
        state_keys: Option<&StateKeysSource>,
    ) -> Result<Self, KeysError> {
        let needed = matches!(key, Some(KeySource::Vault { .. }))
            || matches!(state_keys, Some(StateKeysSource::Vault(_)));
        let vault = match needed {
            true => Some(Arc::new(Vault::connect(&args.vault()?).await?)),
            false => None,
        };
        Ok(Self { vault })
    }

    /// The vault, which [`Homes::connect`] was told of.
    pub fn vault(&self) -> Result<&Arc<Vault>, KeysError> {
        self.vault.as_ref().ok_or(KeysError::NoVault)
    }

    /// The vault, if there is one.
    pub fn vault_if_any(&self) -> Option<Arc<Vault>> {
        self.vault.clone()
    }
}

/// Opens the key. Keystores take a second of work by intention, and hardware its time, off the async
/// threads.
pub async fn open(source: &KeySource, homes: &Homes) -> Result<Arc<dyn DigestSigner>, KeysError> {
    match source.clone() {
        KeySource::Keystore { path, password_file } => {
            let password = read_secret_file(&password_file, "--key-password-file")?;
            let place = source.place();
            let key = blocking(move || keystore::open(&path, password.expose())).await?;
            let key = key.map_err(|error| KeysError::Keystore { path: place, source: error })?;
            Ok(Arc::new(key))
        }
        #[cfg(feature = "pkcs11")]
        KeySource::Pkcs11 { uri, pin_file } => {
            let pin = read_secret_file(&pin_file, "pin-source")?;
            let key = blocking(move || penstock_keys_pkcs11::Pkcs11Key::open(&uri, &pin)).await?;
            Ok(Arc::new(key.map_err(|error| of_place(source, error))?))
        }
        KeySource::Vault { uri, password_file } => {
            let password = password_file
                .map(|path| read_secret_file(&path, "--key-password-file"))
                .transpose()?;
            Ok(Arc::new(load_key(homes.vault()?, &uri, password).await?))
        }
        #[cfg(feature = "kms-aws")]
        KeySource::AwsKms(uri) => {
            let key = penstock_keys_kms::aws::AwsKmsKey::open(&uri, &Environment::Process).await;
            Ok(Arc::new(key.map_err(|error| of_place(source, error))?))
        }
        #[cfg(feature = "kms-gcp")]
        KeySource::GcpKms(uri) => {
            let key = penstock_keys_kms::gcp::GcpKmsKey::open(&uri, &Environment::Process).await;
            Ok(Arc::new(key.map_err(|error| of_place(source, error))?))
        }
    }
}

/// Runs what waits off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, KeysError> {
    spawn_blocking(work).await.map_err(|_| KeysError::Interrupted)
}

/// Of a key that a device or a service keeps.
#[cfg(any(feature = "pkcs11", feature = "kms-aws", feature = "kms-gcp"))]
pub(crate) fn of_place(source: &KeySource, error: KeyError) -> KeysError {
    KeysError::Key { place: source.place(), source: error }
}
