//! Against a stand-in that enforces what Vault's documentation says; no Vault can be installed here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod login;
mod secrets;
mod tls;

use penstock_http_kit::tls::install_crypto_provider;
use penstock_keys_vault::{Vault, VaultAuth, VaultConfig, VaultError, VaultUri};
use penstock_testkit::key_homes::vault::{APPROLE, FakeVault, KUBERNETES, Listening, ROOT_TOKEN};
use std::{fs, net::SocketAddr};
use tempfile::TempDir;

/// A vault, and a folder with the files that one logs in with.
struct World {
    vault: Listening,
    folder: TempDir,
}

impl World {
    async fn start(vault: FakeVault) -> Self {
        install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("token", ROOT_TOKEN), ("secret-id", APPROLE.1), ("jwt", KUBERNETES.1)]
        {
            fs::write(folder.path().join(name), format!("{text}\n")).unwrap();
        }
        Self { vault: vault.listen().await, folder }
    }

    fn token(&self) -> VaultAuth {
        VaultAuth::TokenFile(self.folder.path().join("token"))
    }

    fn approle(&self) -> VaultAuth {
        VaultAuth::AppRole {
            mount: "approle".into(),
            role_id: APPROLE.0.into(),
            secret_id_file: self.folder.path().join("secret-id"),
        }
    }

    fn kubernetes(&self) -> VaultAuth {
        VaultAuth::Kubernetes {
            mount: "kubernetes".into(),
            role: KUBERNETES.0.into(),
            token_file: self.folder.path().join("jwt"),
        }
    }

    fn config(&self, auth: VaultAuth) -> VaultConfig {
        config(self.vault.addr, auth)
    }

    async fn connect(&self, auth: VaultAuth) -> Result<Vault, VaultError> {
        Vault::connect(&self.config(auth)).await
    }
}

fn config(addr: SocketAddr, auth: VaultAuth) -> VaultConfig {
    let address = format!("http://{addr}").parse().unwrap();
    VaultConfig { address, namespace: None, ca_file: None, auth }
}

fn uri(text: &str) -> VaultUri {
    VaultUri::parse(text).unwrap()
}
