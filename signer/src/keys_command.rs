//! `keys create` and `keys show`.

use crate::{args::KeysCommand, settings::KeySource};
use penstock_config::{ConfigError, read_secret_file};
use penstock_domain::Address;
use penstock_keys::{
    KeyError, LocalKey,
    keystore::{self, KeystoreError, ScryptCost},
};
use thiserror::Error;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The password file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The keystore file.
    #[error("--key {path}: {source}")]
    Keystore {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: KeystoreError,
    },
    /// No randomness.
    #[error("no key could be made: {0}")]
    Key(#[from] KeyError),
    /// The folder of a new keystore.
    #[error("--key: cannot make the folder: {0}")]
    Folder(#[from] std::io::Error),
}

/// Opens the keystore. Takes a second of work by intention: call it from a blocking thread.
pub fn open(source: &KeySource) -> Result<LocalKey, KeysError> {
    let password = read_secret_file(&source.password_file, "--key-password-file")?;
    keystore::open(&source.keystore, password.expose()).map_err(|e| of_file(source, e))
}

/// Runs the subcommand; the address is what there is to print.
pub fn run(command: &KeysCommand, source: &KeySource) -> Result<Address, KeysError> {
    match command {
        KeysCommand::Show => open(source).map(|key| key.address()),
        KeysCommand::Create { scrypt_log_n } => {
            let password = read_secret_file(&source.password_file, "--key-password-file")?;
            let folder = source.keystore.parent().filter(|p| !p.as_os_str().is_empty());
            folder.map_or(Ok(()), std::fs::create_dir_all)?;
            let key = LocalKey::random()?;
            let cost = ScryptCost { log2_n: *scrypt_log_n, ..ScryptCost::default() };
            keystore::create(&source.keystore, &key, password.expose(), cost)
                .map_err(|e| of_file(source, e))?;
            Ok(key.address())
        }
    }
}

fn of_file(source: &KeySource, error: KeystoreError) -> KeysError {
    KeysError::Keystore { path: source.keystore.display().to_string(), source: error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let source = KeySource {
            keystore: folder.path().join("deep/key.json"),
            password_file: folder.path().join("password"),
        };
        let create = KeysCommand::Create { scrypt_log_n: 4 };
        assert!(run(&create, &source).is_err(), "no password file");
        std::fs::write(&source.password_file, "secret\n").unwrap();
        let address = run(&create, &source).unwrap();
        assert_eq!(run(&KeysCommand::Show, &source).unwrap(), address);
        let again = run(&create, &source).unwrap_err();
        assert!(matches!(again, KeysError::Keystore { source: KeystoreError::Exists, .. }));
        std::fs::write(&source.password_file, "wrong").unwrap();
        assert!(run(&KeysCommand::Show, &source).is_err());
    }
}
