//! Where the roles are: a flag or its variable says it, else the file in which the role announced
//! itself to `penstock dev`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use penstock_config::read_secret_file;

use super::{
    CommandError,
    api::Api,
    args::{ChainArgs, DataDir, OrchestratorAdmin, SignerAdmin},
};

/// Address files are a line long.
const MAX_FILE: u64 = 64 * 1024;

/// The signer's operator endpoint.
pub(super) fn signer_admin(args: &SignerAdmin, data: &DataDir) -> Result<Api, CommandError> {
    admin(
        ("signer", "--signer-admin-url"),
        args.signer_admin_url.as_deref(),
        args.admin_token_file.as_deref(),
        data,
    )
}

/// The orchestrator's operator endpoint.
pub(super) fn orchestrator_admin(
    args: &OrchestratorAdmin,
    data: &DataDir,
) -> Result<Api, CommandError> {
    admin(
        ("orchestrator", "--orchestrator-admin-url"),
        args.orchestrator_admin_url.as_deref(),
        args.admin_token_file.as_deref(),
        data,
    )
}

fn admin(
    (role, setting): (&'static str, &'static str),
    given: Option<&str>,
    token_file: Option<&Path>,
    data: &DataDir,
) -> Result<Api, CommandError> {
    let base = match given {
        Some(url) => checked(url, setting)?,
        None => announced(data, role, "admin", setting)?,
    };
    let token = match token_file {
        Some(path) => Some(read_secret_file(path, "--admin-token-file").map_err(|error| {
            let reason = error.to_string();
            let reason = reason.trim_start_matches("--admin-token-file: ").to_owned();
            CommandError::Setting { setting: "--admin-token-file", reason }
        })?),
        None => None,
    };
    Api::new(role, setting, base, token)
}

/// The development chain. Any other kind of chain is refused: its deposits are real money.
pub(super) fn devnet(args: &ChainArgs, data: &DataDir) -> Result<Api, CommandError> {
    const SETTING: &str = "--chain";
    let base = match args.chain.as_deref() {
        None => announced(data, "devnet", "http", SETTING)?,
        Some(chain) => match chain.strip_prefix("devnet:") {
            Some(url) => checked(url, SETTING)?,
            None => {
                let reason = "this command is for development chains: devnet:http://HOST:PORT";
                return Err(CommandError::Setting { setting: SETTING, reason: reason.to_owned() });
            }
        },
    };
    Api::new("devnet", SETTING, base, None)
}

/// The file in which `penstock dev` lets a role announce its addresses.
pub(super) fn addr_file(data: &DataDir, role: &str) -> PathBuf {
    data.data_dir.join("addrs").join(format!("{role}.json"))
}

/// The addresses of a role by name (`http`, `admin`, `metrics`…), if it announced any.
pub(super) fn addresses(data: &DataDir, role: &str) -> Option<BTreeMap<String, String>> {
    let path = addr_file(data, role);
    if std::fs::metadata(&path).ok()?.len() > MAX_FILE {
        return None;
    }
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

fn announced(
    data: &DataDir,
    role: &'static str,
    key: &str,
    setting: &'static str,
) -> Result<String, CommandError> {
    addresses(data, role)
        .and_then(|mut addresses| addresses.remove(key))
        .map(|address| format!("http://{address}"))
        .ok_or_else(|| CommandError::NoAddress { role, setting, looked_for: addr_file(data, role) })
}

/// A base address without a trailing slash.
fn checked(url: &str, setting: &'static str) -> Result<String, CommandError> {
    let bad = |reason: &str| CommandError::Setting { setting, reason: reason.to_owned() };
    let parsed = reqwest::Url::parse(url)
        .map_err(|error| bad(&format!("not an address: {error}; expected http://HOST:PORT")))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(bad("expected http://HOST:PORT"));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(bad("an address has no ? and no #"));
    }
    Ok(parsed.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(folder: &Path) -> DataDir {
        DataDir { data_dir: folder.to_owned() }
    }

    fn signer(url: Option<&str>) -> SignerAdmin {
        SignerAdmin { signer_admin_url: url.map(str::to_owned), admin_token_file: None }
    }

    #[test]
    fn a_flag_wins_over_the_data_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("addrs")).unwrap();
        let file = folder.path().join("addrs/signer.json");
        std::fs::write(file, r#"{"http":"127.0.0.1:1","admin":"127.0.0.1:2"}"#).unwrap();
        let found = signer_admin(&signer(None), &data(folder.path())).unwrap();
        assert_eq!(found.base(), "http://127.0.0.1:2");
        let given = Some("http://127.0.0.1:3/");
        let found = signer_admin(&signer(given), &data(folder.path())).unwrap();
        assert_eq!(found.base(), "http://127.0.0.1:3");
    }

    #[test]
    fn what_is_missing_or_wrong_names_the_setting() {
        let folder = tempfile::tempdir().unwrap();
        let error = signer_admin(&signer(None), &data(folder.path())).unwrap_err();
        assert_eq!(error.exit_status(), 64);
        let text = error.to_string();
        for part in ["--signer-admin-url", "--data-dir", "addrs/signer.json"] {
            assert!(text.contains(part), "{text}");
        }
        for bad in ["", "x", "ftp://h", "http://", "http://h/?a", "127.0.0.1:1"] {
            let error = signer_admin(&signer(Some(bad)), &data(folder.path())).unwrap_err();
            assert!(error.to_string().starts_with("--signer-admin-url"), "{bad}: {error}");
        }
        let chain = ChainArgs { chain: Some("https://arb1.example".to_owned()) };
        let error = devnet(&chain, &data(folder.path())).unwrap_err();
        assert!(error.to_string().starts_with("--chain"), "{error}");
        let args = SignerAdmin {
            admin_token_file: Some(folder.path().join("none")),
            ..signer(Some("http://h"))
        };
        let error = signer_admin(&args, &data(folder.path())).unwrap_err().to_string();
        assert!(error.starts_with("--admin-token-file: cannot read"), "{error}");
    }
}
