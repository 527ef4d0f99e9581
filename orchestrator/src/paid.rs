//! Opening what only a paid network has: the key, the secret behind offers, the books, the chain.

use crate::{
    app::{AppError, OpenChain},
    background::ChainWork,
    chain_view::ChainView,
    config::Args,
    pricing::book::Prices,
    redeemer::{floats::Floats, remote::Remote},
    secrets,
    service::{cashier::Cashier, stake::Stake},
};
use penstock_chain::Chain;
use penstock_config::{ConfigError, read_secret_file};
use penstock_http_kit::CancellationToken;
use penstock_keys::{LocalKey, TypedSigner, keystore};
use penstock_ledger::{
    operations::{self, Operations},
    orchestrator::{self, LeaseTime, Mark, OrchestratorLedger},
};
use penstock_payments::{OfferConfig, RecipientSecret};
use sha2::{Digest, Sha256};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// The parts that only a paid network has.
pub struct Paid {
    /// Takes money.
    pub cashier: Cashier,
    /// The recipient's key.
    pub signer: TypedSigner,
    /// The own stake, on chains that have it.
    pub stake: Option<Stake>,
    /// To be spawned when the node runs.
    pub work: ChainWork,
}

impl Paid {
    /// Opens key, secrets, ledger and chain. The chain need not answer yet. What follows a separate
    /// redeemer ends with `stop`.
    pub async fn open(
        args: &Args,
        prices: Arc<Prices>,
        opener: OpenChain,
        stop: CancellationToken,
    ) -> Result<Self, AppError> {
        let remote = args.redeemer.client()?.map(|client| Arc::new(Remote::new(client)));
        let signer = open_key(args).await?;
        let recipient = signer.address();
        let chain = open_chain(args, signer.clone(), opener)?;
        let secret_path = args
            .recipient_secret_file
            .clone()
            .unwrap_or_else(|| args.data_dir.join("recipient.secret"));
        let recipient_secret = secrets::load_or_create(&secret_path)?;
        let auth_secret = secrets::load_or_create(&args.auth_token_secret_path())?;
        let secret = RecipientSecret::new(recipient_secret);
        let marks = [
            mark("--key", recipient.as_slice()),
            mark("--recipient-secret-file", &recipient_secret),
            mark("--auth-token-secret-file", &auth_secret),
        ];
        let ledger = open_ledger(args, Use::Orchestrator, &marks).await?;
        check_face_value(args)?;
        let stake = open_stake(args, chain.as_ref()).await?;
        let config = OfferConfig {
            ticket_ev: args.ticket_ev,
            redeem_gas: chain.redeem_gas(),
            max_face_value: args.max_face_value,
        };
        let work = ChainWork {
            chain: Arc::clone(&chain),
            poll: Duration::from_millis(args.chain_poll_ms),
            register: args.register,
            journal_ms: i64::try_from(args.journal_hours.saturating_mul(3_600_000))
                .unwrap_or(i64::MAX),
            lease: args.lease(),
            remote: remote.clone(),
            automatic: (&args.stake).into(),
        };
        let view = ChainView::new(chain, recipient, args.chain_max_age(), args.sender_questions());
        let view = Arc::new(view);
        let cashier = Cashier {
            recipient,
            secret,
            config,
            prices,
            auto_adjust: args.auto_adjust_price,
            ledger,
            chain: view,
            floats: remote.map(|remote| {
                let (patience, most) =
                    (args.redeemer.patience(), args.redeemer.redeemer_max_senders);
                Arc::new(Floats::new(remote, patience, most, stop))
            }),
        };
        Ok(Self { cashier, signer, work, stake })
    }
}

/// The stake of the chain's account, with the ledger's operations.
async fn open_stake(args: &Args, chain: &dyn Chain) -> Result<Option<Stake>, AppError> {
    let Some(staking) = chain.staking() else { return Ok(None) };
    let url = args.ledger_url();
    let ledger = operations::open_orchestrator(&url).await?;
    // One process has a file; its next life goes on at once with what it left.
    let holder = match url.starts_with("sqlite://") {
        true => "the only one".to_owned(),
        false => uuid::Uuid::new_v4().to_string(),
    };
    let operations = Operations::new(ledger, &holder);
    Ok(Some(Stake::new(staking, operations, args.stake.stake_transactions)))
}

/// No ticket's face value may be below what a ticket is worth.
fn check_face_value(args: &Args) -> Result<(), ConfigError> {
    let (most, worth) = (args.max_face_value, args.ticket_ev);
    if most.is_zero() || most >= worth {
        return Ok(());
    }
    let reason = format!(
        "is {most} wei, below --ticket-ev, {worth} wei: no ticket could be offered; 0 is no limit"
    );
    Err(ConfigError::value("--max-face-value", reason))
}

/// What a ledger is for.
#[derive(Debug, Clone, Copy)]
pub enum Use {
    /// Accounts, and the winners of one's own offers.
    Orchestrator,
    /// The winners that others bring.
    Redeemer,
}

/// Opens `--chain` as an account.
pub fn open_chain(
    args: &Args,
    account: TypedSigner,
    opener: OpenChain,
) -> Result<Arc<dyn Chain>, ConfigError> {
    let text = args.chain.as_deref().ok_or_else(|| needed("--chain"))?;
    opener(text, args, account).map_err(|reason| ConfigError::value("--chain", reason))
}

/// Opens `--ledger`, if it is one of this use, key and secrets.
pub async fn open_ledger(
    args: &Args,
    usage: Use,
    marks: &[Mark],
) -> Result<Arc<dyn OrchestratorLedger>, AppError> {
    let url = args.ledger_url();
    let ledger = orchestrator::open(&url, LeaseTime(args.lease())).await?;
    // A redeemer on an orchestrator's books would find the winners that it is brought there already,
    // and both would leave them to the other.
    let usage = mark("--redeemer", format!("{usage:?}").as_bytes());
    let reason = if ledger.claim(&[usage], false).await?.is_empty() {
        match ledger.claim(marks, args.replace_secrets).await?[..] {
            [] => return Ok(ledger),
            [setting, ..] => (
                setting,
                "is another than --ledger was used with: all processes on one ledger share it; \
                 --replace-secrets gives up what was offered under the old one",
            ),
        }
    } else {
        let reason = "and orchestrators cannot share a ledger: --ledger was used by the other kind";
        ("--redeemer", reason)
    };
    ledger.close().await;
    Err(ConfigError::value(reason.0, reason.1).into())
}

fn needed(setting: &str) -> ConfigError {
    ConfigError::value(setting, "is required unless --network is offchain")
}

/// What all processes on one ledger have in common, in a form that does not lead back to it.
pub fn mark(setting: &'static str, secret: &[u8]) -> Mark {
    let mut hash = Sha256::new();
    hash.update(b"penstock orchestrator ");
    hash.update(setting.as_bytes());
    hash.update(b"\0");
    hash.update(secret);
    Mark { name: setting, mark: hex::encode(hash.finalize()) }
}

/// Opens `--key`.
pub async fn open_key(args: &Args) -> Result<TypedSigner, AppError> {
    let text = args.key.as_deref().ok_or_else(|| needed("--key"))?;
    let path = text
        .strip_prefix("keystore:")
        .filter(|path| !path.is_empty())
        .ok_or_else(|| ConfigError::value("--key", "must be keystore:PATH"))?;
    let password_file =
        args.key_password_file.as_deref().ok_or_else(|| needed("--key-password-file"))?;
    let password = read_secret_file(password_file, "--key-password-file")?;
    let path = PathBuf::from(path);
    // Deriving the key takes most of a second of pure work.
    let key: LocalKey =
        tokio::task::spawn_blocking(move || keystore::open(&path, password.expose()))
            .await
            .map_err(|_| AppError::Task)??;
    Ok(TypedSigner::new(Arc::new(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_value_below_the_worth_of_a_ticket_is_refused_at_the_start() {
        let check = |settings: [&str; 2]| {
            let argv = ["penstock-orchestrator"].into_iter().chain(settings);
            check_face_value(&penstock_config::try_parse_from(argv).unwrap())
        };
        let refused = check(["--ticket-ev=8", "--max-face-value=5"]).unwrap_err().to_string();
        for part in ["--max-face-value", "5 wei", "--ticket-ev, 8 wei"] {
            assert!(refused.contains(part), "{refused}");
        }
        assert!(check(["--ticket-ev=8", "--max-face-value=8"]).is_ok());
        assert!(check(["--ticket-ev=8", "--max-face-value=0"]).is_ok(), "no limit");
    }
}
