//! `penstock funds`, `deposit`, `reserve`, `unlock`, `cancel-unlock` and `withdraw`: the signer's own deposit and reserve,
//! by its admin address. The command line holds no key: the signer sends the transactions.
//!
//! What would be done is shown first. It is done with `--yes` or when it is agreed to, and answered when it is on the chain.

use clap::Args;
use penstock_domain::{Rational, Wei};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    CommandError, Report,
    amount::{amount, parse_amount},
    api::Api,
    args::{DataDir, IdempotencyKey, Output, SignerAdmin},
    consent::Consent,
    places,
    table::facts,
};

/// Settings of `penstock funds`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    signer: SignerAdmin,
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
    signer: SignerAdmin,
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    output: Output,
}

/// Settings of `penstock deposit`.
#[derive(Debug, Args)]
pub struct DepositArgs {
    /// Added to the deposit, with its unit: 0.5eth, 20gwei, 1000wei.
    #[arg(value_name = "AMOUNT", value_parser = parse_amount)]
    amount: Wei,

    /// Added to the reserve in the same transaction, with its unit.
    #[arg(long, value_name = "AMOUNT", value_parser = parse_amount, default_value = "0wei")]
    reserve: Wei,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Settings of `penstock reserve`.
#[derive(Debug, Args)]
pub struct ReserveArgs {
    /// Added to the reserve, with its unit: 0.5eth, 20gwei, 1000wei.
    #[arg(value_name = "AMOUNT", value_parser = parse_amount)]
    amount: Wei,

    #[command(flatten)]
    change: ChangeArgs,
}

/// What the signer says of its funds.
#[derive(Debug, Clone, Deserialize)]
struct Funds {
    address: String,
    deposit_wei: Rational,
    reserve_wei: Rational,
    claimed_in_current_round_wei: Rational,
    withdraw_round: u64,
    current_round: u64,
    transactions: bool,
    /// Signers from before it do not say these.
    #[serde(default)]
    spent_wei_per_day: Option<Rational>,
    #[serde(default)]
    runway_days: Option<u64>,
    #[serde(default)]
    reserve_at_round_start_wei: Option<Rational>,
    #[serde(default)]
    orchestrators: u64,
    #[serde(default)]
    reserve_float_wei: Option<Rational>,
    #[serde(default)]
    max_chain_spend_per_transaction_wei: Option<Rational>,
    #[serde(default)]
    max_chain_spend_per_day_wei: Option<Rational>,
    #[serde(default)]
    chain_spend_today_wei: Rational,
    #[serde(default)]
    troubles: Vec<String>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
enum Change {
    Add { deposit: Wei, reserve: Wei },
    Unlock,
    CancelUnlock,
    Withdraw,
}

impl Change {
    fn path(self) -> &'static str {
        match self {
            Self::Add { .. } => "/v1/deposit/fund",
            Self::Unlock => "/v1/deposit/unlock",
            Self::CancelUnlock => "/v1/deposit/cancel-unlock",
            Self::Withdraw => "/v1/deposit/withdraw",
        }
    }

    fn body(self) -> Value {
        match self {
            Self::Add { deposit, reserve } => {
                json!({ "deposit_wei": deposit, "reserve_wei": reserve })
            }
            Self::Unlock | Self::CancelUnlock | Self::Withdraw => json!({}),
        }
    }

    /// In words.
    fn words(self, funds: &Funds) -> String {
        match self {
            Self::Add { deposit, reserve } => format!(
                "{} go from {} to its deposit, {} to its reserve",
                amount(&exact(deposit)),
                funds.address,
                amount(&exact(reserve)),
            ),
            Self::Unlock => format!(
                "the deposit and the reserve of {} begin their way out; tickets are paid until it ends",
                funds.address
            ),
            Self::CancelUnlock => format!(
                "the deposit and the reserve of {} stay; tickets go on to be paid",
                funds.address
            ),
            Self::Withdraw => format!(
                "{} and {} go back to {}; tickets are not paid any more",
                amount(&funds.deposit_wei),
                amount(&funds.reserve_wei),
                funds.address
            ),
        }
    }

    /// Why the signer or the chain would refuse it, if they would: what the contract says then (on-chain.md section 3).
    fn obstacle(self, funds: &Funds) -> Option<String> {
        if !funds.transactions {
            return Some("the signer does it only with --deposit-transactions".to_owned());
        }
        let (until, now) = (funds.withdraw_round, funds.current_round);
        match self {
            Self::Add { deposit, reserve } if deposit.is_zero() && reserve.is_zero() => {
                Some("say how much: 1eth, 20gwei or 1000wei".to_owned())
            }
            Self::Add { deposit, reserve } => too_much(&(exact(deposit) + exact(reserve)), funds),
            _ if funds.deposit_wei.is_zero() && funds.reserve_wei.is_zero() => {
                Some("deposit and reserve are both empty".to_owned())
            }
            Self::Unlock => {
                (until != 0).then(|| format!("an unlock is in progress, until round {until}"))
            }
            Self::CancelUnlock => (until == 0).then(|| "no unlock is in progress".to_owned()),
            Self::Withdraw if until == 0 => Some("they are locked: unlock them first".to_owned()),
            Self::Withdraw => (now < until)
                .then(|| format!("they are locked until round {until}, and now is round {now}")),
        }
    }
}

/// What the signer's limits would say to so much, gas aside.
fn too_much(wei: &Rational, funds: &Funds) -> Option<String> {
    if let Some(limit) = funds.max_chain_spend_per_transaction_wei.as_ref().filter(|n| wei > n) {
        let limit = amount(limit);
        return Some(format!("the signer's --max-chain-spend-per-transaction is {limit}"));
    }
    let of_day = funds.chain_spend_today_wei.clone() + wei.clone();
    let limit = funds.max_chain_spend_per_day_wei.as_ref().filter(|limit| of_day > **limit)?;
    Some(format!(
        "the signer's --max-chain-spend-per-day is {}, of which {} are counted today",
        amount(limit),
        amount(&funds.chain_spend_today_wei)
    ))
}

fn exact(wei: Wei) -> Rational {
    Rational::from(wei)
}

/// `penstock funds`
pub(super) async fn show(args: &ShowArgs) -> Result<Report, CommandError> {
    let signer = places::signer_admin(&args.signer, &args.data)?;
    let (said, funds) = read(&signer).await?;
    Ok(Report::well(if args.output.json { pretty(&said) } else { render(&funds) }))
}

/// `penstock deposit`
pub(super) async fn deposit(args: &DepositArgs) -> Result<Report, CommandError> {
    make(&args.change, Change::Add { deposit: args.amount, reserve: args.reserve }).await
}

/// `penstock reserve`
pub(super) async fn reserve(args: &ReserveArgs) -> Result<Report, CommandError> {
    make(&args.change, Change::Add { deposit: Wei::ZERO, reserve: args.amount }).await
}

/// `penstock unlock`
pub(super) async fn unlock(args: &ChangeArgs) -> Result<Report, CommandError> {
    make(args, Change::Unlock).await
}

/// `penstock cancel-unlock`
pub(super) async fn cancel_unlock(args: &ChangeArgs) -> Result<Report, CommandError> {
    make(args, Change::CancelUnlock).await
}

/// `penstock withdraw`
pub(super) async fn withdraw(args: &ChangeArgs) -> Result<Report, CommandError> {
    make(args, Change::Withdraw).await
}

async fn make(args: &ChangeArgs, change: Change) -> Result<Report, CommandError> {
    let signer = places::signer_admin(&args.signer, &args.data)?;
    let (before, funds) = read(&signer).await?;
    let (words, obstacle) = (change.words(&funds), change.obstacle(&funds));
    // What was asked for before is the signer's to answer, whatever stands in the way of doing it again.
    if !(args.consent.yes && (obstacle.is_none() || args.key.is_given())) {
        let is_possible = obstacle.is_none();
        if args.output.json {
            let said = json!({ "would": words, "obstacle": obstacle, "before": before });
            return Ok(Report { text: pretty(&said), well: is_possible, offers: false });
        }
        let what = match obstacle {
            Some(obstacle) => format!("cannot be done: {obstacle}"),
            None => format!("would be done with --yes: {words}"),
        };
        return Ok(Report::preview(format!("{}{what}\n", render(&funds)), is_possible));
    }
    let key = args.key.announced();
    let done = signer.post_to_chain(change.path(), &key, &change.body()).await?;
    let (after, funds) = read(&signer).await?;
    let text = if args.output.json {
        pretty(&json!({
            "transaction": done, "idempotency_key": key, "before": before, "after": after,
        }))
    } else {
        let hash = done.get("tx_hash").and_then(Value::as_str).unwrap_or_default();
        format!("done: {words}\n{}", facts(&[("transaction", hash.to_owned())]) + &render(&funds))
    };
    Ok(Report::well(text))
}

async fn read(signer: &Api) -> Result<(Value, Funds), CommandError> {
    const PATH: &str = "/v1/deposit";
    let said = signer.get(PATH).await?;
    let funds = signer.read(PATH, &said)?;
    Ok((said, funds))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn render(funds: &Funds) -> String {
    let (until, now) = (funds.withdraw_round, funds.current_round);
    let state = match until {
        0 => "locked: tickets are paid".to_owned(),
        _ if now < until => {
            format!("unlocking: tickets are paid until round {until} begins, now is {now}")
        }
        _ => format!("unlocked since round {until}: tickets are not paid, now is {now}"),
    };
    let mut lines = vec![
        ("account", funds.address.clone()),
        ("deposit", amount(&funds.deposit_wei)),
        ("lasts", lasts(funds)),
        ("reserve", reserve_left(funds)),
        ("claimed this round", amount(&funds.claimed_in_current_round_wei)),
    ];
    if let Some(float) = &funds.reserve_float_wei {
        let each = format!("{}, of {} that share it", amount(float), funds.orchestrators);
        lines.push(("guaranteed to each", each));
    }
    if funds.max_chain_spend_per_transaction_wei.is_some()
        || funds.max_chain_spend_per_day_wei.is_some()
    {
        let most = |limit: &Option<Rational>| limit.as_ref().map_or("any".to_owned(), amount);
        let spend = format!(
            "at most {} a transaction, {} a day; {} today",
            most(&funds.max_chain_spend_per_transaction_wei),
            most(&funds.max_chain_spend_per_day_wei),
            amount(&funds.chain_spend_today_wei)
        );
        lines.push(("transactions", spend));
    }
    lines.push(("state", state));
    lines.extend(funds.troubles.iter().map(|said| ("look", said.clone())));
    facts(&lines)
}

/// What is left of what there was when the round began.
fn reserve_left(funds: &Funds) -> String {
    let left = amount(&funds.reserve_wei);
    match &funds.reserve_at_round_start_wei {
        Some(all) if *all != funds.reserve_wei => {
            format!("{left}, of {} when the round began", amount(all))
        }
        _ => left,
    }
}

/// How long the deposit lasts.
fn lasts(funds: &Funds) -> String {
    match (funds.runway_days, &funds.spent_wei_per_day) {
        (Some(days), Some(per_day)) => {
            format!("{days} days at {} a day, as in the last seven", amount(per_day))
        }
        (None, Some(_)) => "nothing was spent in the last seven days".to_owned(),
        (_, None) => "the signer does not say".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_deposit_lasts_is_said_with_its_rate() {
        let mut said = funds(0, "9", true);
        assert_eq!(lasts(&said), "the signer does not say");
        said.spent_wei_per_day = Some(Rational::ZERO);
        assert_eq!(lasts(&said), "nothing was spent in the last seven days");
        said.spent_wei_per_day = Some(Rational::from_int(3));
        said.runway_days = Some(3);
        assert_eq!(lasts(&said), "3 days at 3 wei a day, as in the last seven");
    }

    fn funds(withdraw_round: u64, deposit_wei: &str, transactions: bool) -> Funds {
        serde_json::from_value(json!({
            "address": "0xaa", "deposit_wei": deposit_wei, "reserve_wei": "0",
            "claimed_in_current_round_wei": "0", "withdraw_round": withdraw_round,
            "current_round": 7, "transactions": transactions,
        }))
        .unwrap()
    }

    #[test]
    fn what_cannot_be_done_is_said_before_it_is_tried() {
        let add = |wei| Change::Add { deposit: Wei::from_u64(wei), reserve: Wei::ZERO };
        let refused = [
            (add(5), 0, "9", false, "--deposit-transactions"),
            (add(0), 0, "9", true, "say how much"),
            (Change::Unlock, 0, "0", true, "empty"),
            (Change::Unlock, 8, "9", true, "until round 8"),
            (Change::CancelUnlock, 0, "9", true, "no unlock"),
            (Change::Withdraw, 0, "9", true, "unlock them first"),
            (Change::Withdraw, 8, "9", true, "until round 8, and now is round 7"),
        ];
        for (change, round, deposit, transactions, word) in refused {
            let why = change.obstacle(&funds(round, deposit, transactions)).unwrap();
            assert!(why.contains(word), "{change:?}: {why}");
        }
        let allowed = [
            (add(5), 0, "0"),
            (add(5), 8, "9"),
            (Change::Unlock, 0, "9"),
            (Change::CancelUnlock, 8, "9"),
            (Change::CancelUnlock, 7, "9"),
            (Change::Withdraw, 7, "9"),
        ];
        for (change, round, deposit) in allowed {
            assert_eq!(change.obstacle(&funds(round, deposit, true)), None, "{change:?}");
        }
    }

    #[test]
    fn the_signers_limits_are_seen_before_they_refuse() {
        let add = |wei| Change::Add { deposit: Wei::from_u64(wei), reserve: Wei::from_u64(1) };
        let mut funds = funds(0, "9", true);
        funds.max_chain_spend_per_transaction_wei = Some(Rational::from_int(10));
        funds.max_chain_spend_per_day_wei = Some(Rational::from_int(25));
        funds.chain_spend_today_wei = Rational::from_int(15);
        assert_eq!(add(9).obstacle(&funds), None);
        let why = add(10).obstacle(&funds).unwrap();
        assert!(why.contains("--max-chain-spend-per-transaction is 10 wei"), "{why}");
        funds.chain_spend_today_wei = Rational::from_int(16);
        let why = add(9).obstacle(&funds).unwrap();
        assert!(why.contains("--max-chain-spend-per-day is 25 wei, of which 16 wei"), "{why}");
        assert_eq!(Change::Unlock.obstacle(&funds), None);
        let shown = render(&funds);
        assert!(shown.contains("at most 10 wei a transaction, 25 wei a day; 16 wei today"));
    }

    #[test]
    fn what_is_left_of_a_reserve_is_said_with_what_there_was() {
        let mut funds = funds(0, "9", true);
        assert!(!render(&funds).contains("guaranteed"));
        funds.reserve_wei = Rational::from_int(70);
        funds.reserve_at_round_start_wei = Some(Rational::from_int(100));
        funds.reserve_float_wei = Some(Rational::from_int(33));
        funds.orchestrators = 3;
        funds.troubles = vec!["add to it (penstock reserve)".to_owned()];
        let shown = render(&funds);
        for part in
            ["70 wei, of 100 wei when the round began", "33 wei, of 3 that share it", "look  "]
        {
            assert!(shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn what_is_done_is_said_with_its_sums_and_its_account() {
        let add = Change::Add { deposit: Wei::from_u64(2_500), reserve: Wei::from_u64(7) };
        let words = add.words(&funds(0, "9", true));
        assert_eq!(words, "2,500 wei go from 0xaa to its deposit, 7 wei to its reserve");
        assert!(
            Change::Withdraw.words(&funds(7, "9", true)).starts_with("9 wei and 0 wei go back")
        );
        assert!(render(&funds(8, "9", true)).contains("until round 8 begins, now is 7"));
    }
}
