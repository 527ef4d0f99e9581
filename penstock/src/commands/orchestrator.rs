//! `penstock orchestrator …`: the orchestrator's stake, terms and name on the chain, by its admin address. The command
//! line holds no key: the orchestrator sends the transactions.
//!
//! What would be done is shown first. It is done with `--yes` or when it is agreed to, and answered when it is on the chain.

use clap::{Args, Subcommand};
use penstock_domain::{Rational, U256, Wei};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    CommandError, Report,
    amount::{amount, parse_amount},
    api::Api,
    args::{DataDir, IdempotencyKey, OrchestratorAdmin, Output},
    consent::Consent,
    examples, places,
    table::{facts, plain},
    voting::{self, PollArgs, ProposalArgs},
};

const STAKE: &str = "/v1/stake";

/// `penstock orchestrator …`
#[derive(Debug, Subcommand)]
pub enum OrchestratorCommand {
    /// Show stake, rounds, rewards, fees and what is on its way out.
    #[command(after_help = examples!["penstock orchestrator show --json"])]
    Show(ShowArgs),
    /// Bond stake, set rates and service address: what an orchestrator needs to be active from the next round on.
    #[command(after_help = examples!["penstock orchestrator activate --stake 1000lpt --reward-cut 10% --fee-share 50% --yes"])]
    #[command(visible_alias = "register")]
    Activate(ActivateArgs),
    /// Set a price of transcoding, for one gateway or all, until the process ends. No transaction.
    #[command(after_help = examples!["penstock orchestrator set-price --price 500 --pixels 1 --yes"])]
    SetPrice(PriceArgs),
    /// Set how earnings are shared with delegators; while active only after the round's reward call.
    #[command(after_help = examples!["penstock orchestrator set-rates --reward-cut 10% --fee-share 50% --yes"])]
    SetRates(RatesArgs),
    /// Say on the chain where the orchestrator is reached.
    #[command(after_help = examples!["penstock orchestrator set-service-uri https://orch.example:8935 --yes"])]
    SetServiceUri(UriArgs),
    /// Call this round's reward, once. The setting --call-rewards does it in each round.
    #[command(after_help = examples!["penstock orchestrator reward --yes"])]
    Reward(ChangeArgs),
    /// Begin the current round, for everybody. The setting --initialize-rounds does it in each round.
    #[command(after_help = examples!["penstock orchestrator initialize-round --yes"])]
    InitializeRound(ChangeArgs),
    /// Add tokens of the account to its stake.
    #[command(after_help = examples!["penstock orchestrator bond 100lpt --yes"])]
    Bond(StakeArgs),
    /// Take stake out; it can be withdrawn after the contract's rounds. All of it leaves the pool.
    #[command(after_help = examples!["penstock orchestrator unbond 100lpt --yes"])]
    Unbond(StakeArgs),
    /// Take an unbonding back.
    #[command(after_help = examples!["penstock orchestrator rebond 3 --yes"])]
    Rebond(LockArgs),
    /// Take unbonded tokens back to the account, once their round has come.
    #[command(after_help = examples!["penstock orchestrator withdraw-stake 3 --yes"])]
    WithdrawStake(LockArgs),
    /// Take earned fees to the account.
    #[command(after_help = examples!["penstock orchestrator withdraw-fees --yes"])]
    WithdrawFees(FeesArgs),
    /// Book what was earned up to this round; every change of stake does it too.
    #[command(after_help = examples!["penstock orchestrator claim --yes"])]
    Claim(ChangeArgs),
    /// Vote in a poll. A later vote takes the place of an earlier one.
    #[command(after_help = examples!["penstock orchestrator vote 0x6b175474e89094c44da98b954eedeac495271d0f yes --yes"])]
    Vote(PollArgs),
    /// List the proposals for the treasury and the polls that are voted on now, with their tallies.
    #[command(visible_alias = "polls", after_help = examples!["penstock orchestrator proposals", "penstock orchestrator polls --json"])]
    Proposals(ShowArgs),
    /// Show how a proposal for the treasury stands; vote on it, once, with the stake of its snapshot's round.
    #[command(after_help = examples![r#"penstock orchestrator proposal 1234 --vote for --reason "pays for itself" --yes"#])]
    Proposal(ProposalArgs),
}

/// Settings of `penstock orchestrator show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    orchestrator: OrchestratorAdmin,
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    output: Output,
}

/// Settings of what changes something.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    key: IdempotencyKey,
    #[command(flatten)]
    pub(super) orchestrator: OrchestratorAdmin,
    #[command(flatten)]
    pub(super) data: DataDir,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Settings of `penstock orchestrator activate`.
#[derive(Debug, Args)]
pub struct ActivateArgs {
    /// Tokens to bond, with their unit: 1000lpt, 5lptu (10^18 are one LPT). Default: none more.
    #[arg(long, value_name = "AMOUNT", value_parser = parse_lpt)]
    stake: Option<Wei>,

    /// What the orchestrator keeps of minted tokens, in percent: 10%.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    reward_cut: u32,

    /// What delegators get of fees, in percent: 50%.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    fee_share: u32,

    /// Where it is reached. Default: what the orchestrator tells gateways.
    #[arg(long, value_name = "URL")]
    service_uri: Option<String>,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Settings of `penstock orchestrator set-price`.
#[derive(Debug, Args)]
pub struct PriceArgs {
    /// A decimal number.
    #[arg(long, value_name = "NUMBER")]
    price: String,

    /// Pixels that it is for.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pixels: String,

    /// Of the price: wei, eth or usd.
    #[arg(long, default_value = "wei")]
    currency: String,

    /// Only for this gateway: its account.
    #[arg(long, value_name = "ADDRESS", default_value = "default")]
    gateway: String,

    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    orchestrator: OrchestratorAdmin,
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    output: Output,
}

/// Settings of `penstock orchestrator set-rates`.
#[derive(Debug, Args)]
pub struct RatesArgs {
    /// What the orchestrator keeps of minted tokens, in percent: 10%.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    reward_cut: u32,

    /// What delegators get of fees, in percent: 50%.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    fee_share: u32,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Settings of `penstock orchestrator set-service-uri`.
#[derive(Debug, Args)]
pub struct UriArgs {
    /// With scheme and host, for example https://orch.example:8935.
    #[arg(value_name = "URL")]
    uri: String,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Settings of what has an amount of tokens.
#[derive(Debug, Args)]
pub struct StakeArgs {
    /// With its unit: 100lpt, 0.5lpt, 7lptu (10^18 are one LPT).
    #[arg(value_parser = parse_lpt)]
    amount: Wei,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Settings of what has an unbonding lock.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// The lock's number, as `show` says it.
    lock: u64,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Settings of `penstock orchestrator withdraw-fees`.
#[derive(Debug, Args)]
pub struct FeesArgs {
    /// How much, with its unit: 0.5eth. Default: all that is there now.
    #[arg(long, value_name = "AMOUNT", value_parser = parse_amount)]
    amount: Option<Wei>,

    #[command(flatten)]
    change: ChangeArgs,
}

/// What the orchestrator says of its stake.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Standing {
    address: String,
    current_round: u64,
    is_initialized: bool,
    is_locked: bool,
    is_registered: bool,
    is_active: bool,
    activation_round: u64,
    deactivation_round: Option<u64>,
    last_reward_round: u64,
    reward_cut_ppm: u32,
    fee_share_ppm: u32,
    total_stake_lptu: Wei,
    own_stake_lptu: Wei,
    pending_fees_wei: Wei,
    balance_lptu: Wei,
    balance_wei: Wei,
    service_uri: String,
    own_service_uri: String,
    pool_size: u64,
    unbonding_locks: Vec<Lock>,
}

#[derive(Debug, Clone, Deserialize)]
struct Lock {
    lock_id: u64,
    amount_lptu: Wei,
    withdraw_round: u64,
}

/// An action, and what it is in words.
pub(super) struct Step {
    words: String,
    action: Value,
}

pub(super) fn step(words: String, operation: &str, mut action: Value) -> Step {
    if let Some(action) = action.as_object_mut() {
        action.insert("operation".to_owned(), json!(operation));
    }
    Step { words, action }
}

fn rates(reward_cut: u32, fee_share: u32) -> Step {
    let words = format!(
        "the orchestrator keeps {} of minted tokens, delegators get {} of fees",
        percent(reward_cut),
        percent(fee_share)
    );
    let action = json!({ "reward_cut_ppm": reward_cut, "fee_share_ppm": fee_share });
    step(words, "set-rates", action)
}

fn bond(from: &str, amount: Wei) -> Step {
    let words = format!("{} go from {from} into its stake", lpt(amount));
    step(words, "bond", json!({ "amount_lptu": amount }))
}

fn uri(text: &str) -> Step {
    let words = format!("the chain says {}", plain(text));
    step(words, "set-service-uri", json!({ "service_uri": text }))
}

pub(super) async fn run(command: &OrchestratorCommand) -> Result<Report, CommandError> {
    use OrchestratorCommand as C;
    match command {
        C::Show(args) => {
            let api = places::orchestrator_admin(&args.orchestrator, &args.data)?;
            let (said, standing) = read(&api).await?;
            let text = if args.output.json { pretty(&said) } else { render(&standing) };
            Ok(Report::well(text))
        }
        C::SetPrice(args) => set_price(args).await,
        C::Activate(args) => {
            make(&args.change, |now| {
                let mut steps = Vec::new();
                steps.extend(args.stake.map(|stake| bond(&now.address, stake)));
                steps.push(rates(args.reward_cut, args.fee_share));
                steps.push(uri(args.service_uri.as_ref().unwrap_or(&now.own_service_uri)));
                steps
            })
            .await
        }
        C::SetRates(args) => {
            make(&args.change, |_| vec![rates(args.reward_cut, args.fee_share)]).await
        }
        C::SetServiceUri(args) => make(&args.change, |_| vec![uri(&args.uri)]).await,
        C::Bond(args) => make(&args.change, |now| vec![bond(&now.address, args.amount)]).await,
        C::Unbond(args) => {
            make(&args.change, |_| {
                let words = format!("{} leave the stake", lpt(args.amount));
                vec![step(words, "unbond", json!({ "amount_lptu": args.amount }))]
            })
            .await
        }
        C::Rebond(args) => {
            let words = format!("unbonding lock {} goes back into the stake", args.lock);
            let action = json!({ "lock_id": args.lock });
            make(&args.change, |_| vec![step(words, "rebond", action)]).await
        }
        C::WithdrawStake(args) => {
            let words = format!("unbonding lock {} goes back to the account", args.lock);
            let action = json!({ "lock_id": args.lock });
            make(&args.change, |_| vec![step(words, "withdraw-stake", action)]).await
        }
        C::WithdrawFees(args) => {
            make(&args.change, |now| {
                let wei = args.amount.unwrap_or(now.pending_fees_wei);
                let words = format!("{} of fees go to {}", ether(wei), now.address);
                vec![step(words, "withdraw-fees", json!({ "amount_wei": args.amount }))]
            })
            .await
        }
        C::Reward(args) => of_round(args, "reward", "the reward is called").await,
        C::InitializeRound(args) => of_round(args, "initialize-round", "the round begins").await,
        C::Claim(args) => of_round(args, "claim", "earnings are booked").await,
        C::Vote(args) => voting::in_poll(args).await,
        C::Proposal(args) => voting::on_proposal(args).await,
        C::Proposals(args) => {
            let api = places::orchestrator_admin(&args.orchestrator, &args.data)?;
            voting::list(&api, args.output.json).await
        }
    }
}

async fn of_round(args: &ChangeArgs, operation: &str, words: &str) -> Result<Report, CommandError> {
    make(args, |now| {
        let round = now.current_round;
        vec![step(format!("{words}, round {round}"), operation, json!({ "round": round }))]
    })
    .await
}

pub(super) async fn make(
    args: &ChangeArgs,
    steps: impl FnOnce(&Standing) -> Vec<Step>,
) -> Result<Report, CommandError> {
    let api = places::orchestrator_admin(&args.orchestrator, &args.data)?;
    let (before, now) = read(&api).await?;
    let steps = steps(&now);
    let words: Vec<&str> = steps.iter().map(|step| step.words.as_str()).collect();
    let words = words.join("; ");
    // What was asked for before is the orchestrator's to answer, whatever stands in the way of doing it again. Of
    // several steps the contract can try the first one only.
    let first = steps.first().map(|step| step.action.clone()).unwrap_or_default();
    let path = "/v1/stake/preview";
    let obstacle = api.post(path, &first).await?;
    let obstacle = obstacle.get("obstacle").and_then(Value::as_str).map(str::to_owned);
    if !(args.consent.yes && (obstacle.is_none() || args.key.is_given())) {
        let is_possible = obstacle.is_none();
        if args.output.json {
            let said = json!({ "would": words, "obstacle": obstacle, "before": before });
            return Ok(Report { text: pretty(&said), well: is_possible, offers: false });
        }
        let what = match obstacle {
            Some(obstacle) => format!("cannot be done: {}", plain(&obstacle)),
            None => format!("would be done with --yes: {words}"),
        };
        return Ok(Report::preview(format!("{}{what}\n", render(&now)), is_possible));
    }
    let key = args.key.announced();
    let mut done = Vec::new();
    for (place, step) in steps.iter().enumerate() {
        let key = if place == 0 { key.clone() } else { format!("{key}.{place}") };
        done.push(api.post_to_chain("/v1/stake/act", &key, &step.action).await?);
    }
    let (after, now) = read(&api).await?;
    let text = if args.output.json {
        pretty(&json!({
            "transactions": done, "idempotency_key": key, "before": before, "after": after,
        }))
    } else {
        let hashes: Vec<(&str, String)> =
            done.iter().map(|done| ("transaction", text_of(done, "tx_hash"))).collect();
        format!("done: {words}\n{}{}", facts(&hashes), render(&now))
    };
    Ok(Report::well(text))
}

async fn set_price(args: &PriceArgs) -> Result<Report, CommandError> {
    let api = places::orchestrator_admin(&args.orchestrator, &args.data)?;
    let (price, pixels, gateway) = (&args.price, &args.pixels, &args.gateway);
    let words = format!("{price} {} for {pixels} pixels, for {gateway}", args.currency);
    if !args.consent.yes {
        if args.output.json {
            let said = json!({ "would": words, "before": api.get("/v1/prices").await? });
            return Ok(Report::well(pretty(&said)));
        }
        return Ok(Report::preview(format!("would be done with --yes: {words}\n"), true));
    }
    let query = [
        ("pricePerUnit", price),
        ("pixelsPerUnit", pixels),
        ("currency", &args.currency),
        ("broadcasterEthAddr", gateway),
    ];
    let said = api.get_text_with("/setPriceForBroadcaster", &query).await?;
    let text = if args.output.json {
        pretty(&json!({ "done": said.trim_end(), "after": api.get("/v1/prices").await? }))
    } else {
        said
    };
    Ok(Report::well(text))
}

async fn read(api: &Api) -> Result<(Value, Standing), CommandError> {
    let said = api.get(STAKE).await?;
    let standing = api.read(STAKE, &said)?;
    Ok((said, standing))
}

fn text_of(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn render(now: &Standing) -> String {
    let round = match (now.is_initialized, now.is_locked) {
        (false, _) => format!("{}, not initialized", now.current_round),
        (true, true) => format!("{}, locked: terms stay", now.current_round),
        (true, false) => now.current_round.to_string(),
    };
    let state = match (now.is_active, now.is_registered) {
        (true, _) => "active".to_owned(),
        (false, true) if now.activation_round > now.current_round => {
            format!("active from round {} on", now.activation_round)
        }
        (false, true) => "registered, not in the pool".to_owned(),
        (false, false) => "not registered: nothing is bonded".to_owned(),
    };
    let left = now.deactivation_round.map(|round| format!(", until round {round} begins"));
    let reward = match now.last_reward_round {
        0 => "never".to_owned(),
        round if round == now.current_round => "this round".to_owned(),
        round => format!("round {round}"),
    };
    let mut lines = vec![
        ("account", now.address.clone()),
        ("round", round),
        ("state", state + &left.unwrap_or_default()),
        ("service address", plain(&now.service_uri)),
        ("stake", format!("{}, own {}", lpt(now.total_stake_lptu), lpt(now.own_stake_lptu))),
        (
            "reward cut, fee share",
            format!("{}, {}", percent(now.reward_cut_ppm), percent(now.fee_share_ppm)),
        ),
        ("reward called", reward),
        ("fees", ether(now.pending_fees_wei)),
        ("in the account", format!("{}, {}", lpt(now.balance_lptu), ether(now.balance_wei))),
        ("orchestrators in the pool", now.pool_size.to_string()),
    ];
    for lock in &now.unbonding_locks {
        let (id, amount, round) = (lock.lock_id, lpt(lock.amount_lptu), lock.withdraw_round);
        lines.push(("unbonding lock", format!("{id}: {amount}, from round {round} on")));
    }
    facts(&lines)
}

fn ether(wei: Wei) -> String {
    amount(&Rational::from(wei))
}

/// Exact.
pub(super) fn lpt(lptu: Wei) -> String {
    let one = U256::from(1_000_000_000_000_000_000_u64);
    let (whole, rest) = (lptu.0 / one, lptu.0 % one);
    let rest = format!("{rest:0>18}");
    match rest.trim_end_matches('0') {
        "" => format!("{whole} LPT"),
        rest => format!("{whole}.{rest} LPT"),
    }
}

fn parse_lpt(text: &str) -> Result<Wei, &'static str> {
    const BAD: &str =
        "an amount of tokens with its unit: 100lpt, 0.5lpt, 7lptu (10^18 are one LPT)";
    // An LPT has as many parts as an ether.
    let as_ether = match (text.strip_suffix("lptu"), text.strip_suffix("lpt")) {
        (Some(units), _) => format!("{units}wei"),
        (None, Some(tokens)) => format!("{tokens}eth"),
        (None, None) => return Err(BAD),
    };
    parse_amount(&as_ether).map_err(|_| BAD)
}

/// Of a million, exact.
fn parse_percent(text: &str) -> Result<u32, &'static str> {
    const BAD: &str = "a percentage from 0% to 100% with at most four decimals";
    let number = text.strip_suffix('%').unwrap_or(text);
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 4 || whole.len() > 3 {
        return Err(BAD);
    }
    let ppm: u32 = format!("{whole}{part:0<4}").parse().map_err(|_| BAD)?;
    if ppm > 1_000_000 { Err(BAD) } else { Ok(ppm) }
}

fn percent(ppm: u32) -> String {
    let (whole, part) = (ppm / 10_000, ppm % 10_000);
    let part = format!("{part:0>4}");
    match part.trim_end_matches('0') {
        "" => format!("{whole}%"),
        part => format!("{whole}.{part}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_exact() {
        for (text, ppm) in [("10%", 100_000), ("0", 0), ("100%", 1_000_000), ("12.3456%", 123_456)]
        {
            assert_eq!(parse_percent(text), Ok(ppm));
        }
        for bad in ["101%", "100.0001%", "1.23456%", "-1%", "", "%", ".5%", "1e1", "5.%"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
        assert_eq!((percent(100_000), percent(123_456)), ("10%".to_owned(), "12.3456%".to_owned()));
    }

    #[test]
    fn tokens_are_exact() {
        for (text, units) in
            [("7lptu", 7), ("1lpt", 10_u64.pow(18)), ("0.5lpt", 5 * 10_u64.pow(17))]
        {
            assert_eq!(parse_lpt(text), Ok(Wei::from_u64(units)));
        }
        for bad in ["1", "1eth", "lpt", "0.1lptu", "1.0000000000000000001lpt"] {
            assert!(parse_lpt(bad).is_err(), "{bad}");
        }
        assert_eq!(lpt(Wei::from_u64(1_500_000_000_000_000_000)), "1.5 LPT");
        assert_eq!(lpt(Wei::from_u64(1)), "0.000000000000000001 LPT");
        assert_eq!(lpt(Wei::ZERO), "0 LPT");
    }
}
