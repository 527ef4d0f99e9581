//! Key stores to measure: the real SoftHSM, and stand-ins of the services that cannot be installed,
//! with the round trip that the real ones have.

use crate::{draw, rig::OtherKey};
use penstock_domain::Address;
use penstock_keys::LocalKey;
use penstock_testkit::{
    key_homes::{
        aws_kms::{self, FakeAwsKms},
        gcp_kms::{self, FakeGcpKms},
        vault::{FakeVault, Listening, ROOT_TOKEN},
    },
    softhsm::SoftHsm,
};
use std::{
    any::Any, collections::BTreeMap, path::Path, process::Command, str::FromStr, time::Duration,
};
use tempfile::TempDir;

/// A kind of key store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A PKCS#11 token, the real SoftHSM.
    SoftHsm,
    /// The key is read from a stand-in once, then it is in the process.
    Vault,
    /// A stand-in that answers so many milliseconds later.
    AwsKms(u64),
    /// The same of Google.
    GcpKms(u64),
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ms = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        match text.split_once(':') {
            None if text == "softhsm" => Ok(Self::SoftHsm),
            None if text == "vault" => Ok(Self::Vault),
            Some(("awskms", latency)) => Ok(Self::AwsKms(ms(latency)?)),
            Some(("gcpkms", latency)) => Ok(Self::GcpKms(ms(latency)?)),
            _ => Err("expected softhsm, vault, awskms:MS or gcpkms:MS".to_owned()),
        }
    }
}

/// A store that runs, with a key in it. It ends with this value.
pub struct Home {
    /// For the report.
    pub name: String,
    /// How a signer opens it.
    pub key: OtherKey,
    _running: Box<dyn Any + Send>,
    _folder: TempDir,
}

impl Home {
    /// Starts one.
    pub async fn start(kind: Kind, signer: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let local = draw::key();
        let (name, key, running): (_, _, Box<dyn Any + Send>) = match kind {
            Kind::SoftHsm => {
                let hsm = SoftHsm::start();
                ("SoftHSM".to_owned(), in_token(&hsm, signer), Box::new(hsm))
            }
            Kind::Vault => {
                let (key, vault) = in_vault(&local, folder.path()).await;
                ("Vault (stand-in)".to_owned(), key, Box::new(vault))
            }
            Kind::AwsKms(ms) => {
                let kms = FakeAwsKms::start(local.expose_secret()).await;
                kms.set(aws_kms::Mood { latency: Duration::from_millis(ms), ..Default::default() });
                let key = other(kms.uri(), local.address(), FakeAwsKms::env());
                (format!("AWS KMS (stand-in, {ms} ms)"), key, Box::new(kms))
            }
            Kind::GcpKms(ms) => {
                let kms = FakeGcpKms::start(local.expose_secret()).await;
                kms.set(gcp_kms::Mood { latency: Duration::from_millis(ms), ..Default::default() });
                let file = folder.path().join("account.json");
                kms.write_credentials(&file);
                let key = other(kms.uri(Some(&file)), local.address(), []);
                (format!("Google Cloud KMS (stand-in, {ms} ms)"), key, Box::new(kms))
            }
        };
        Self { name, key, _running: running, _folder: folder }
    }
}

fn other(
    uri: String,
    address: Address,
    env: impl IntoIterator<Item = (String, String)>,
) -> OtherKey {
    OtherKey { flags: vec![format!("--key={uri}")], address, env: env.into_iter().collect() }
}

/// A new key, made inside the token by the signer's own command.
fn in_token(hsm: &SoftHsm, signer: &Path) -> OtherKey {
    let (name, conf) = hsm.env();
    let env = BTreeMap::from([(name.to_owned(), conf.display().to_string())]);
    let uri = hsm.uri("bench");
    let made = Command::new(signer)
        .args(["keys", "create", &format!("--key={uri}")])
        .envs(&env)
        .output()
        .expect("the signer's program runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = String::from_utf8_lossy(&made.stdout);
    let address = said.lines().last().and_then(|line| line.trim().parse().ok());
    other(uri, address.expect("the address of the new key"), env)
}

async fn in_vault(key: &LocalKey, folder: &Path) -> (OtherKey, Listening) {
    let vault = FakeVault::new().listen().await;
    let mut hex = String::new();
    for byte in key.expose_secret() {
        hex += &format!("{byte:02x}");
    }
    vault.vault.put("secret/signer", serde_json::json!({ "private_key": hex }));
    let token = folder.join("vault-token");
    std::fs::write(&token, ROOT_TOKEN).expect("the token's file");
    let mut opened = other("vault:secret/signer".to_owned(), key.address(), []);
    opened.flags.push(format!("--vault-addr=http://{}", vault.addr));
    opened.flags.push(format!("--vault-token-file={}", token.display()));
    (opened, vault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read() {
        let kind = |text: &str| text.parse::<Kind>();
        assert_eq!(kind("softhsm"), Ok(Kind::SoftHsm));
        assert_eq!(kind("vault"), Ok(Kind::Vault));
        assert_eq!(kind("awskms:10"), Ok(Kind::AwsKms(10)));
        assert_eq!(kind("gcpkms:20"), Ok(Kind::GcpKms(20)));
        for bad in ["", "awskms", "awskms:x", "softhsm:1", "keystore"] {
            assert!(kind(bad).is_err(), "{bad}");
        }
    }
}
