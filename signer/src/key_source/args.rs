//! The flags that say where keys are.

use super::state_keys::StateKeysSource;
use clap::Args;
use penstock_config::ConfigError;
use penstock_keys_vault::{VaultAuth, VaultConfig, VaultUri};
use std::path::{Path, PathBuf};
use url::Url;

const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Where keys are.
#[derive(Debug, Clone, Args)]
pub struct KeyArgs {
    /// The account's key: keystore:PATH of a Web3 Secret Storage v3 file,
    /// pkcs11:token=LABEL;object=LABEL?module-path=FILE&pin-source=file:FILE,
    /// vault:MOUNT/PATH?kv=2&field=NAME, awskms:KEY?region=REGION&endpoint=URL, or
    /// gcpkms:projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N. Default:
    /// keystore.json in the data folder.
    #[arg(long, env = "PENSTOCK_KEY", value_name = "KEY", global = true)]
    pub key: Option<String>,

    /// File holding the keystore's password, or the token's PIN. Default: keystore-password (or
    /// pkcs11-pin) in $CREDENTIALS_DIRECTORY if it is there, else in the data folder.
    #[arg(long, env = "PENSTOCK_KEY_PASSWORD_FILE", value_name = "FILE", global = true)]
    pub key_password_file: Option<PathBuf>,

    /// File with the keys under which payment states are sealed, one ID:KEY a line, the first one
    /// in use; made when missing. Or vault:MOUNT/PATH. Replicas share it. Default: state-keys in the
    /// data folder.
    #[arg(long, env = "PENSTOCK_STATE_KEYS_FILE", value_name = "FILE", global = true)]
    pub state_keys_file: Option<String>,

    /// The vault of vault:…, Vault or OpenBao.
    #[arg(long, env = "PENSTOCK_VAULT_ADDR", value_name = "URL", global = true)]
    pub vault_addr: Option<Url>,

    /// Namespace in the vault.
    #[arg(long, env = "PENSTOCK_VAULT_NAMESPACE", value_name = "NAME", global = true)]
    pub vault_namespace: Option<String>,

    /// PEM file with the authorities that the vault's certificate may be by. Default: the system's.
    #[arg(long, env = "PENSTOCK_VAULT_CA_FILE", value_name = "FILE", global = true)]
    pub vault_ca_file: Option<PathBuf>,

    /// Log in to the vault with the token in this file.
    #[arg(long, env = "PENSTOCK_VAULT_TOKEN_FILE", value_name = "FILE", global = true)]
    pub vault_token_file: Option<PathBuf>,

    /// Log in to the vault by AppRole with this role id. Needs --vault-approle-secret-id-file.
    #[arg(long, env = "PENSTOCK_VAULT_APPROLE_ROLE_ID", value_name = "ID", global = true)]
    pub vault_approle_role_id: Option<String>,

    /// File with the secret id of AppRole.
    #[arg(long, env = "PENSTOCK_VAULT_APPROLE_SECRET_ID_FILE", value_name = "FILE", global = true)]
    pub vault_approle_secret_id_file: Option<PathBuf>,

    /// Log in to the vault with the pod's service account for this role.
    #[arg(long, env = "PENSTOCK_VAULT_KUBERNETES_ROLE", value_name = "ROLE", global = true)]
    pub vault_kubernetes_role: Option<String>,

    /// File with the pod's token.
    #[arg(
        long,
        env = "PENSTOCK_VAULT_KUBERNETES_TOKEN_FILE",
        value_name = "FILE",
        default_value = POD_TOKEN,
        global = true
    )]
    pub vault_kubernetes_token_file: PathBuf,

    /// Where the login method is mounted in the vault. Default: approle or kubernetes.
    #[arg(long, env = "PENSTOCK_VAULT_AUTH_MOUNT", value_name = "MOUNT", global = true)]
    pub vault_auth_mount: Option<String>,
}

/// What else decides about places, and is not a flag.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// `--data-dir`
    pub data_dir: PathBuf,
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    pub credentials_dir: Option<PathBuf>,
    /// `$AWS_REGION`
    pub aws_region: Option<String>,
}

impl Surroundings {
    /// This process's.
    pub fn of_process(data_dir: &Path) -> Self {
        let path = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            data_dir: data_dir.to_owned(),
            credentials_dir: path("CREDENTIALS_DIRECTORY"),
            aws_region: text("AWS_REGION").or_else(|| text("AWS_DEFAULT_REGION")),
        }
    }

    /// A credential of that name, if systemd was told to give one.
    fn credential(&self, name: &str) -> Option<PathBuf> {
        self.credentials_dir.as_ref().map(|dir| dir.join(name)).filter(|path| path.is_file())
    }
}

impl KeyArgs {
    /// The file with the keystore's password, if anything names one.
    pub fn given_password_file(&self, around: &Surroundings) -> Option<PathBuf> {
        self.key_password_file.clone().or_else(|| around.credential("keystore-password"))
    }

    /// The file with the keystore's password.
    pub fn password_file(&self, around: &Surroundings) -> PathBuf {
        let default = || around.data_dir.join("keystore-password");
        self.given_password_file(around).unwrap_or_else(default)
    }

    /// The file with the token's PIN.
    pub fn pin_file(&self, around: &Surroundings) -> PathBuf {
        let given = self.key_password_file.clone().or_else(|| around.credential("pkcs11-pin"));
        given.unwrap_or_else(|| around.data_dir.join("pkcs11-pin"))
    }

    /// Where the keys of payment states are.
    pub fn state_keys(&self, around: &Surroundings) -> Result<StateKeysSource, ConfigError> {
        let bad = |reason: String| ConfigError::value("--state-keys-file", reason);
        match &self.state_keys_file {
            None => Ok(StateKeysSource::File(around.data_dir.join("state-keys"))),
            Some(text) => match text.strip_prefix("vault:") {
                None => Ok(StateKeysSource::File(text.into())),
                Some(rest) => {
                    let uri = VaultUri::parse(rest).map_err(|error| bad(error.to_string()))?;
                    Ok(StateKeysSource::Vault(uri))
                }
            },
        }
    }

    /// The vault, which something named.
    pub fn vault(&self) -> Result<VaultConfig, ConfigError> {
        let address = self.vault_addr.clone().ok_or_else(|| {
            ConfigError::value("--vault-addr", "is needed for vault:…, like https://vault:8200")
        })?;
        let mount =
            |default: &str| self.vault_auth_mount.clone().unwrap_or_else(|| default.to_owned());
        let auth = match (
            &self.vault_token_file,
            &self.vault_approle_role_id,
            &self.vault_kubernetes_role,
        ) {
            (Some(path), None, None) => VaultAuth::TokenFile(path.clone()),
            (None, Some(role_id), None) => VaultAuth::AppRole {
                mount: mount("approle"),
                role_id: role_id.clone(),
                secret_id_file: self.vault_approle_secret_id_file.clone().ok_or_else(|| {
                    ConfigError::value("--vault-approle-secret-id-file", "is needed for AppRole")
                })?,
            },
            (None, None, Some(role)) => VaultAuth::Kubernetes {
                mount: mount("kubernetes"),
                role: role.clone(),
                token_file: self.vault_kubernetes_token_file.clone(),
            },
            _ => {
                return Err(ConfigError::value(
                    "--vault-token-file",
                    "vault:… needs exactly one of --vault-token-file, --vault-approle-role-id and \
                     --vault-kubernetes-role",
                ));
            }
        };
        Ok(VaultConfig {
            address,
            namespace: self.vault_namespace.clone(),
            ca_file: self.vault_ca_file.clone(),
            auth,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(words: &[&str]) -> Result<VaultConfig, ConfigError> {
        let argv = std::iter::once("penstock-signer").chain(words.iter().copied());
        penstock_config::try_parse_from::<crate::Args>(argv).unwrap().keys.vault()
    }

    #[test]
    fn exactly_one_way_into_the_vault() {
        let addr = "--vault-addr=https://vault:8200";
        let token = "--vault-token-file=/t";
        assert!(matches!(vault(&[addr, token]).unwrap().auth, VaultAuth::TokenFile(_)));
        let pod = vault(&[addr, "--vault-kubernetes-role=r", "--vault-auth-mount=k8s"]).unwrap();
        let VaultAuth::Kubernetes { mount, token_file, .. } = pod.auth else { panic!() };
        assert_eq!((mount.as_str(), token_file.as_path()), ("k8s", Path::new(POD_TOKEN)));
        let role = ["--vault-approle-role-id=r", "--vault-approle-secret-id-file=/s"];
        assert!(vault(&[&[addr][..], &role].concat()).is_ok());
        assert!(vault(&[addr]).is_err());
        assert!(vault(&[token]).is_err());
        assert!(vault(&[addr, token, "--vault-kubernetes-role=r"]).is_err());
        assert!(vault(&[addr, "--vault-approle-role-id=r"]).is_err());
    }
}
