//! What a fresh local network needs before it can pay: keys, money on the chain, an orchestrator
//! that is active. Every step looks first whether it was done, so that every start may run it.

use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use super::{DevError, Layout, Network, Role};

/// The sender's deposit and reserve on a fresh chain: 10 of the chain's coins each.
pub const FUNDS_WEI: u64 = 10_000_000_000_000_000_000;

/// Makes the key of `role` when it is missing and returns its address. `create` is the role's own
/// key command; the address is read from the keystore file, where it stands in the clear.
pub async fn ensure_key(network: &Network, role: Role) -> Result<String, DevError> {
    let file = network.layout.key(role);
    if !file.exists() {
        // Both keys are made by the signer's command: a keystore file is the same for all. Its
        // password is 32 random bytes, which no slow key derivation makes harder to guess.
        let mut command = Command::new(network.bin_dir.join(Role::Signer.program()));
        command
            .args(["keys", "create", "--scrypt-log-n=12"])
            .arg(format!("--key=keystore:{}", file.display()))
            .arg(format!("--key-password-file={}", network.layout.key_password(role).display()));
        run(command).await?;
    }
    address_in(&network.layout, role)
}

#[derive(Deserialize)]
struct Keystore {
    address: String,
}

fn address_in(layout: &Layout, role: Role) -> Result<String, DevError> {
    let path = layout.key(role);
    let text = std::fs::read_to_string(&path)
        .map_err(|source| DevError::DataDir { path: path.clone(), source })?;
    let keystore: Keystore = serde_json::from_str(&text).map_err(|error| DevError::Request {
        request: format!("reading {}", path.display()),
        reason: error.to_string(),
    })?;
    Ok(format!("0x{}", keystore.address.trim_start_matches("0x")))
}

async fn run(mut command: Command) -> Result<(), DevError> {
    let program = command.as_std().get_program().to_owned();
    let output = command
        .output()
        .await
        .map_err(|source| DevError::Program { program: program.clone().into(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Err(DevError::Command {
        command: program.to_string_lossy().into_owned(),
        status: output.status,
        output: text,
    })
}

/// A client for the local network; loopback answers at once or something is wrong.
pub fn http() -> Result<reqwest::Client, DevError> {
    reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .build()
        .map_err(|error| failed("making an HTTP client", &error))
}

fn failed(request: &str, error: &dyn std::fmt::Display) -> DevError {
    DevError::Request { request: request.to_owned(), reason: error.to_string() }
}

async fn answer(
    request: &str,
    sent: reqwest::RequestBuilder,
) -> Result<serde_json::Value, DevError> {
    let response = sent.send().await.map_err(|error| failed(request, &error))?;
    let status = response.status();
    let body = response.text().await.map_err(|error| failed(request, &error))?;
    if !status.is_success() {
        return Err(failed(request, &format!("{status}: {body}")));
    }
    serde_json::from_str(&body).map_err(|error| failed(request, &error))
}

/// Gives the signer's account a deposit and a reserve, once.
pub async fn ensure_funds(
    http: &reqwest::Client,
    devnet: &str,
    account: &str,
) -> Result<(), DevError> {
    let sender = answer(
        "asking the devnet for the signer's deposit",
        http.get(format!("{devnet}/v1/senders/{account}")),
    )
    .await?;
    if sender.get("deposit_wei").and_then(serde_json::Value::as_str).is_some_and(|wei| wei != "0") {
        return Ok(());
    }
    let body = serde_json::json!({
        "account": account,
        "deposit_wei": FUNDS_WEI.to_string(),
        "reserve_wei": FUNDS_WEI.to_string(),
    });
    answer("funding the signer", http.post(format!("{devnet}/v1/fund")).json(&body)).await?;
    Ok(())
}

/// An orchestrator is active from the round after it joined; the devnet can be asked to hurry.
pub async fn ensure_active(
    http: &reqwest::Client,
    devnet: &str,
    account: &str,
) -> Result<(), DevError> {
    // It registers while it begins to serve: that it is ready does not say that its transaction is in a block.
    let mut patience = 1_200_u32;
    let orchestrator = loop {
        let orchestrator = answer(
            "asking the devnet for the orchestrator",
            http.get(format!("{devnet}/v1/orchestrators/{account}")),
        )
        .await?;
        if orchestrator.get("registered").and_then(serde_json::Value::as_bool) == Some(true) {
            break orchestrator;
        }
        patience = patience.saturating_sub(1);
        if patience == 0 {
            return Err(failed("registering the orchestrator", &"it is not in the pool"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let is = |field: &str| orchestrator.get(field).and_then(serde_json::Value::as_bool);
    if is("active") != Some(true) {
        let body = serde_json::json!({ "rounds": 1 });
        answer("mining a round", http.post(format!("{devnet}/mine")).json(&body)).await?;
    }
    Ok(())
}

/// Writes the list of models that the worker serves.
pub fn write_models_file(network: &Network) -> Result<(), DevError> {
    let path = network.layout.models_file();
    std::fs::write(&path, Network::models_json().to_string())
        .map_err(|source| DevError::DataDir { path, source })
}
