//! `keys create`, `import`, `show`, `rotate` and `rotate-state`.

#[cfg(feature = "pkcs11")]
use crate::key_source::of_place;
use crate::{
    key_source::{
        Homes, KeyArgs, KeySource, Surroundings, blocking, open, state_keys::StateKeysSource,
    },
    state_blob::{StateKeys, StateKeysError},
};
use clap::{Args, Subcommand};
use penstock_config::{ConfigError, Secret, read_secret_file};
use penstock_domain::Address;
use penstock_keys::{
    KeyError, LocalKey,
    keystore::{self, KeystoreError, ScryptCost},
};
use penstock_keys_vault::{VaultError, store_key};
use std::path::{Path, PathBuf};
use thiserror::Error;
use zeroize::Zeroizing;

/// `keys …`
#[derive(Debug, Clone, Subcommand)]
pub enum KeysCommand {
    /// Make a new key at --key and print its address. Never overwrites. A token makes it inside itself;
    /// for a cloud's key service this prints the command that does.
    Create {
        /// Of a keystore.
        #[command(flatten)]
        cost: Cost,
    },
    /// Write a key that exists already to --key and print its address. Never overwrites.
    Import {
        /// File with the key as 64 hex digits.
        #[arg(long, value_name = "FILE", required_unless_present = "from_keystore")]
        from_hex: Option<PathBuf>,
        /// A version 3 keystore file. Needs --from-password-file.
        #[arg(
            long,
            value_name = "FILE",
            conflicts_with = "from_hex",
            requires = "from_password_file"
        )]
        from_keystore: Option<PathBuf>,
        /// File with the password of --from-keystore.
        #[arg(long, value_name = "FILE")]
        from_password_file: Option<PathBuf>,
        /// Of a keystore.
        #[command(flatten)]
        cost: Cost,
    },
    /// Print the address of the key, after opening it.
    Show,
    /// Encrypt the keystore anew, under the password in another file.
    Rotate {
        /// File with the new password.
        #[arg(long, value_name = "FILE")]
        new_password_file: PathBuf,
        /// Of the keystore.
        #[command(flatten)]
        cost: Cost,
    },
    /// Begin to seal payment states with a new key; the one before it still opens them, older ones are
    /// dropped. Takes effect when a signer starts: with several, first --prepare and restart them all.
    RotateState {
        /// Only add the new key, so that every replica knows it before one of them uses it.
        #[arg(long)]
        prepare: bool,
    },
}

/// What opening a keystore costs.
#[derive(Debug, Clone, Copy, Args)]
pub struct Cost {
    /// Binary logarithm of scrypt's n: 18 is geth's, lower is faster to open and to guess at.
    #[arg(long, value_name = "N", default_value_t = 18, value_parser = clap::value_parser!(u8).range(1..=18))]
    scrypt_log_n: u8,
}

impl Cost {
    fn scrypt(self) -> ScryptCost {
        ScryptCost { log2_n: self.scrypt_log_n, ..ScryptCost::default() }
    }
}

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeysError {
    /// A flag, or a file with a password.
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
    /// A key elsewhere.
    #[error("--key, {place}: {source}")]
    Key {
        /// Where it is.
        place: String,
        /// What is wrong.
        source: KeyError,
    },
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The keys of payment states.
    #[error("--state-keys-file: {0}")]
    StateKeys(#[from] StateKeysError),
    /// No randomness.
    #[error("no key could be made: {0}")]
    Random(#[from] KeyError),
    /// This kind of key cannot do that here, and what does it instead.
    #[error("cannot {0}")]
    Cannot(String),
    /// Work was cut off.
    #[error("opening the key was cut off")]
    Interrupted,
    /// A vault is needed and none was connected to: a mistake of ours.
    #[error("no vault was connected to")]
    NoVault,
}

/// Runs the subcommand; what is returned is to be printed, and never secret.
pub async fn run(
    command: &KeysCommand,
    args: &KeyArgs,
    around: &Surroundings,
) -> Result<String, KeysError> {
    if let KeysCommand::RotateState { prepare } = command {
        return rotate_state(*prepare, args, around).await;
    }
    let source = KeySource::of(args, around)?;
    let homes = Homes::connect(args, Some(&source), None).await?;
    let address = match command {
        KeysCommand::Show => open(&source, &homes).await?.address(),
        KeysCommand::Create { cost } => create(&source, &homes, cost.scrypt()).await?,
        KeysCommand::Import { from_hex, from_keystore, from_password_file, cost } => {
            let key = existing(
                from_hex.as_deref(),
                from_keystore.as_deref().zip(from_password_file.as_deref()),
            )
            .await?;
            import(&source, &homes, key, cost.scrypt()).await?
        }
        KeysCommand::Rotate { new_password_file, cost } => {
            rotate(&source, new_password_file, cost.scrypt()).await?
        }
        KeysCommand::RotateState { .. } => return Err(KeysError::Interrupted),
    };
    Ok(address.to_string())
}

async fn create(source: &KeySource, homes: &Homes, cost: ScryptCost) -> Result<Address, KeysError> {
    match source.clone() {
        #[cfg(feature = "pkcs11")]
        KeySource::Pkcs11 { uri, pin_file } => {
            let pin = read_secret_file(&pin_file, "pin-source")?;
            blocking(move || penstock_keys_pkcs11::create(&uri, &pin))
                .await?
                .map_err(|error| of_place(source, error))
        }
        #[cfg(feature = "kms-aws")]
        KeySource::AwsKms(uri) => Err(KeysError::Cannot(format!(
            "create keys in AWS KMS with a signer's rights; this does:\n  aws kms create-key --region \
             {0} --key-spec ECC_SECG_P256K1 --key-usage SIGN_VERIFY\n  aws kms create-alias --region \
             {0} --alias-name alias/penstock-signer --target-key-id KEY_ID",
            uri.region
        ))),
        #[cfg(feature = "kms-gcp")]
        KeySource::GcpKms(uri) => Err(KeysError::Cannot(format!(
            "create keys in Google Cloud KMS with a signer's rights; this does:\n  gcloud kms keys \
             create {}",
            gcloud_flags(&uri.name)
        ))),
        _ => import(source, homes, LocalKey::random()?, cost).await,
    }
}

/// Flags of `gcloud kms keys create` for a resource name, which was checked to have these parts.
#[cfg(feature = "kms-gcp")]
fn gcloud_flags(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').collect();
    let part = |place: usize| parts.get(place).copied().unwrap_or_default();
    format!(
        "{} --project {} --location {} --keyring {} --purpose asymmetric-signing \
         --default-algorithm ec-sign-secp256k1-sha256 --protection-level hsm",
        part(7),
        part(1),
        part(3),
        part(5)
    )
}

async fn import(
    source: &KeySource,
    homes: &Homes,
    key: LocalKey,
    cost: ScryptCost,
) -> Result<Address, KeysError> {
    let address = key.address();
    match source.clone() {
        KeySource::Keystore { path, password_file } => {
            let password = read_secret_file(&password_file, "--key-password-file")?;
            let write = move || keystore::create(&path, &key, password.expose(), cost);
            blocking(write).await?.map_err(|error| of_file(source, error))?;
        }
        #[cfg(feature = "pkcs11")]
        KeySource::Pkcs11 { uri, pin_file } => {
            let pin = read_secret_file(&pin_file, "pin-source")?;
            blocking(move || penstock_keys_pkcs11::import(&uri, &pin, &key))
                .await?
                .map_err(|error| of_place(source, error))?;
        }
        KeySource::Vault { uri, .. } => store_key(homes.vault()?, &uri, &key).await?,
        #[cfg(feature = "kms-aws")]
        KeySource::AwsKms(uri) => {
            return Err(KeysError::Cannot(format!(
                "bring a key to AWS KMS from here; it takes keys wrapped for it alone: aws kms \
                 create-key --region {} --origin EXTERNAL --key-spec ECC_SECG_P256K1 --key-usage \
                 SIGN_VERIFY, then get-parameters-for-import and import-key-material",
                uri.region
            )));
        }
        #[cfg(feature = "kms-gcp")]
        KeySource::GcpKms(_) => {
            return Err(KeysError::Cannot(
                "bring a key to Google Cloud KMS from here; it takes keys wrapped by an import job: \
                 gcloud kms import-jobs create, then gcloud kms keys versions import --algorithm \
                 ec-sign-secp256k1-sha256"
                    .to_owned(),
            ));
        }
    }
    Ok(address)
}

/// The key that `import` brings.
async fn existing(
    hex_file: Option<&Path>,
    keystore: Option<(&Path, &Path)>,
) -> Result<LocalKey, KeysError> {
    if let Some((path, password_file)) = keystore {
        let password = read_secret_file(password_file, "--from-password-file")?;
        let place = path.display().to_string();
        let path = path.to_owned();
        let opened = blocking(move || keystore::open(&path, password.expose())).await?;
        return opened.map_err(|source| KeysError::Keystore { path: place, source });
    }
    let bad = || ConfigError::value("--from-hex", "must name a file with 64 hex digits");
    let text = read_secret_file(hex_file.ok_or_else(bad)?, "--from-hex")?;
    let mut secret = Zeroizing::new([0_u8; 32]);
    let digits = text.expose().trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    hex::decode_to_slice(digits, secret.as_mut()).map_err(|_| bad())?;
    Ok(LocalKey::from_bytes(secret)?)
}

async fn rotate(
    source: &KeySource,
    new_password_file: &Path,
    cost: ScryptCost,
) -> Result<Address, KeysError> {
    const OTHERWISE: &str = "rotate this kind of key: the account is the key, so that another key is \
        another account (make one, fund it, then withdraw from the old one). ";
    let instead = match source.clone() {
        KeySource::Keystore { path, password_file } => {
            let old = read_secret_file(&password_file, "--key-password-file")?;
            let new: Secret = read_secret_file(new_password_file, "--new-password-file")?;
            let work = move || keystore::rotate(&path, old.expose(), new.expose(), cost);
            return blocking(work).await?.map_err(|error| of_file(source, error));
        }
        KeySource::Vault { .. } => {
            "Who may read it is changed in the vault: its policies and logins"
        }
        #[cfg(feature = "pkcs11")]
        KeySource::Pkcs11 { .. } => {
            "The PIN is changed with the token's own tool, such as pkcs11-tool --login --change-pin"
        }
        #[cfg(feature = "kms-aws")]
        KeySource::AwsKms(_) => "Who may use it is changed in IAM and in the key's policy",
        #[cfg(feature = "kms-gcp")]
        KeySource::GcpKms(_) => "Who may use it is changed in IAM",
    };
    Err(KeysError::Cannot(format!("{OTHERWISE}{instead}")))
}

async fn rotate_state(
    prepare: bool,
    args: &KeyArgs,
    around: &Surroundings,
) -> Result<String, KeysError> {
    let source: StateKeysSource = args.state_keys(around)?;
    let homes = Homes::connect(args, None, Some(&source)).await?;
    let change = move |keys: &StateKeys| match prepare {
        true => keys.prepared(),
        false => Some(keys.rotated()),
    };
    let changed = source.change(&homes, change).await?;
    Ok(match changed {
        None => "a key is prepared already: restart every signer, then run this without --prepare"
            .to_owned(),
        Some(_) if prepare => {
            "a new key is prepared: restart every signer, then run this without --prepare"
                .to_owned()
        }
        Some(keys) => format!(
            "state key {:02x} seals from the next start of a signer on; the one before still opens",
            keys.current()
        ),
    })
}

fn of_file(source: &KeySource, error: KeystoreError) -> KeysError {
    KeysError::Keystore { path: source.place(), source: error }
}
