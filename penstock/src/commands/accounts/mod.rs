//! `penstock accounts …`: who may call the signer, what they may spend and what they spent, over the
//! signer's operator endpoint.

mod keys;
mod policy;
mod spending;
mod subjects;
mod tiers;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    CommandError,
    api::Api,
    args::{DataDir, Output, SignerAdmin},
    examples, places,
    table::{Side, facts, table},
};
use policy::PolicyFlags;

/// `penstock accounts …`
#[derive(Debug, Subcommand)]
pub enum AccountsCommand {
    /// List all accounts.
    #[command(after_help = examples![
        "penstock accounts list",
    ])]
    List(ListArgs),
    /// Show one account with the rules that count for it, its keys and its subjects.
    #[command(after_help = examples![
        "penstock accounts show acme --json",
    ])]
    Show(NameArgs),
    /// Make an account.
    #[command(after_help = examples![
        r#"penstock accounts create acme --tier gold --budget-month "500 usd""#,
    ])]
    Create(CreateArgs),
    /// Change an account's tier, note or rules; what is not said stays.
    #[command(after_help = examples![
        r#"penstock accounts set acme --budget-day "25 usd""#,
    ])]
    Set(SetArgs),
    /// Let an account in no more.
    #[command(after_help = examples![
        "penstock accounts block acme",
    ])]
    Block(NameArgs),
    /// Let a blocked account in again.
    #[command(after_help = examples![
        "penstock accounts unblock acme",
    ])]
    Unblock(NameArgs),
    /// API keys and client certificates.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Named rules that accounts inherit.
    #[command(subcommand)]
    Tiers(tiers::TiersCommand),
    /// Rules for single subjects of an account.
    #[command(subcommand)]
    Subjects(subjects::SubjectsCommand),
    /// Show who used how much, day by day.
    #[command(after_help = examples![
        "penstock accounts usage --from 2027-01-01 --to 2027-02-01 --account acme",
        "penstock accounts usage --csv",
    ])]
    Usage(spending::UsageArgs),
    /// Show where spending leads and when budgets run out.
    #[command(after_help = examples![
        "penstock accounts forecast --account acme",
    ])]
    Forecast(spending::ForecastArgs),
    /// Show the signer's own limits, which hold for everyone together.
    #[command(after_help = examples![
        "penstock accounts limits --json",
    ])]
    Limits(ListArgs),
}

/// Where the signer is, and how to print.
#[derive(Debug, Args)]
pub struct Place {
    #[command(flatten)]
    signer: SignerAdmin,
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    output: Output,
}

impl Place {
    fn api(&self) -> Result<Api, CommandError> {
        places::signer_admin(&self.signer, &self.data)
    }

    /// The answer itself, or what `render` makes of it.
    fn shown<T: serde::de::DeserializeOwned>(
        &self,
        api: &Api,
        path: &str,
        answer: &Value,
        render: impl Fn(&T) -> String,
    ) -> Result<String, CommandError> {
        if self.output.json {
            return Ok(format!("{answer:#}\n"));
        }
        Ok(render(&api.read(path, answer)?))
    }
}

/// Only where.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    place: Place,
}

/// One account.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// The account.
    name: String,
    #[command(flatten)]
    place: Place,
}

/// A new account.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its name: letters, digits, '-', '_', '.'.
    name: String,
    /// The tier that it inherits rules from.
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
    /// A note for yourself.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    policy: PolicyFlags,
    #[command(flatten)]
    place: Place,
}

/// Changes of an account.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The account.
    name: String,
    /// The tier that it inherits rules from; `none` for no tier.
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
    /// A note for yourself.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    policy: PolicyFlags,
    #[command(flatten)]
    place: Place,
}

/// An account as the signer shows it.
#[derive(Debug, Deserialize)]
struct Account {
    name: String,
    tier: Option<String>,
    state: String,
    #[serde(default)]
    effective_policy: Value,
    note: String,
    created_at: String,
}

#[derive(Debug, Deserialize)]
struct Page {
    accounts: Vec<Value>,
    next: Option<String>,
}

pub(super) async fn run(command: &AccountsCommand) -> Result<String, CommandError> {
    match command {
        AccountsCommand::List(args) => list(&args.place).await,
        AccountsCommand::Show(args) => show(args).await,
        AccountsCommand::Create(args) => create(args).await,
        AccountsCommand::Set(args) => set(args).await,
        AccountsCommand::Block(args) => state(args, "blocked").await,
        AccountsCommand::Unblock(args) => state(args, "active").await,
        AccountsCommand::Keys(command) => keys::run(command).await,
        AccountsCommand::Tiers(command) => tiers::run(command).await,
        AccountsCommand::Subjects(command) => subjects::run(command).await,
        AccountsCommand::Usage(args) => spending::usage(args).await,
        AccountsCommand::Forecast(args) => spending::forecast(args).await,
        AccountsCommand::Limits(args) => spending::limits(&args.place).await,
    }
}

/// All pages.
async fn list(place: &Place) -> Result<String, CommandError> {
    let api = place.api()?;
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/accounts?limit=1000&after={}", element(&after));
        let answer = api.get(&path).await?;
        let page: Page = api.read(&path, &answer)?;
        all.extend(page.accounts);
        match page.next {
            // A name that does not move on would never end.
            Some(next) if next > after => after = next,
            _ => break,
        }
    }
    place.shown(&api, "/v1/accounts", &Value::from(all), |all: &Vec<Account>| render(all))
}

fn render(accounts: &[Account]) -> String {
    if accounts.is_empty() {
        return "No accounts yet: penstock accounts create NAME.\n".to_owned();
    }
    let columns = [
        ("account", Side::Left),
        ("state", Side::Left),
        ("tier", Side::Left),
        ("budget/day", Side::Right),
        ("budget/month", Side::Right),
        ("requests/s", Side::Right),
        ("note", Side::Left),
    ];
    let rows: Vec<Vec<String>> = accounts
        .iter()
        .map(|a| {
            let rule = |name: &str| policy::shown(policy::rule(&a.effective_policy, name));
            vec![
                a.name.clone(),
                a.state.clone(),
                a.tier.clone().unwrap_or_default(),
                rule("budget_day"),
                rule("budget_month"),
                rule("requests_per_second"),
                a.note.clone(),
            ]
        })
        .collect();
    table(&columns, &rows)
}

async fn show(args: &NameArgs) -> Result<String, CommandError> {
    let api = args.place.api()?;
    let path = format!("/v1/accounts/{}", element(&args.name));
    let account = api.get(&path).await?;
    let keys = api.get(&format!("{path}/keys")).await?;
    let subjects = api.get(&format!("{path}/subjects")).await?;
    if args.place.output.json {
        let all = json!({ "account": account, "keys": keys, "subjects": subjects });
        return Ok(format!("{all:#}\n"));
    }
    let mut out = render_one(&api.read(&path, &account)?);
    out.push('\n');
    out.push_str(&keys::render(&api.read::<Vec<keys::Key>>(&path, &keys)?));
    let subjects: Vec<subjects::Subject> = api.read(&path, &subjects)?;
    if !subjects.is_empty() {
        out.push('\n');
        out.push_str(&subjects::render(&subjects));
    }
    Ok(out)
}

fn render_one(account: &Account) -> String {
    let mut lines = vec![
        ("account", account.name.clone()),
        ("state", account.state.clone()),
        ("tier", account.tier.clone().unwrap_or_else(|| "none".to_owned())),
        ("created", account.created_at.clone()),
    ];
    if !account.note.is_empty() {
        lines.push(("note", account.note.clone()));
    }
    for (rule, name) in policy::RULES {
        let value = policy::rule(&account.effective_policy, rule);
        lines.push((name, if value.is_null() { "none".to_owned() } else { policy::shown(value) }));
    }
    facts(&lines)
}

async fn create(args: &CreateArgs) -> Result<String, CommandError> {
    let api = args.place.api()?;
    let mut body = Map::new();
    body.insert("name".to_owned(), args.name.as_str().into());
    body.insert("policy".to_owned(), args.policy.over(&Value::Null)?);
    if let Some(tier) = &args.tier {
        body.insert("tier".to_owned(), tier.as_str().into());
    }
    if let Some(note) = &args.note {
        body.insert("note".to_owned(), note.as_str().into());
    }
    let answer = api.post("/v1/accounts", &body.into()).await?;
    let hint = format!("\nIts first key: penstock accounts keys create {}\n", args.name);
    args.place.shown(&api, "/v1/accounts", &answer, |a: &Account| render_one(a) + &hint)
}

async fn set(args: &SetArgs) -> Result<String, CommandError> {
    let api = args.place.api()?;
    let path = format!("/v1/accounts/{}", element(&args.name));
    let now = api.get(&path).await?;
    let mut body = Map::new();
    body.insert("version".to_owned(), policy::rule(&now, "version").clone());
    if args.policy.any() {
        let rules = args.policy.over(policy::rule(&now, "policy"))?;
        body.insert("policy".to_owned(), rules);
    }
    if let Some(tier) = &args.tier {
        let tier = if tier == "none" { Value::Null } else { tier.as_str().into() };
        body.insert("tier".to_owned(), tier);
    }
    if let Some(note) = &args.note {
        body.insert("note".to_owned(), note.as_str().into());
    }
    let answer = api.patch(&path, &body.into()).await?;
    args.place.shown(&api, &path, &answer, render_one)
}

async fn state(args: &NameArgs, state: &str) -> Result<String, CommandError> {
    let api = args.place.api()?;
    let path = format!("/v1/accounts/{}", element(&args.name));
    let answer = api.patch(&path, &json!({ "state": state })).await?;
    args.place.shown(&api, &path, &answer, render_one)
}

/// An element of a path or a value of a query: everything but letters, digits and `-_.~` escaped.
fn element(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_have_a_table() {
        let accounts: Vec<Account> = serde_json::from_value(json!([
            {"name": "acme", "tier": "gold", "state": "active", "note": "ours", "created_at": "now",
             "effective_policy": {"budget_day": "25 usd", "requests_per_second": 5}},
            {"name": "bad", "tier": null, "state": "blocked", "note": "", "created_at": "now",
             "effective_policy": null},
        ]))
        .unwrap();
        let want = "\
account  state    tier  budget/day  budget/month  requests/s  note
acme     active   gold      25 usd                         5  ours
bad      blocked
";
        assert_eq!(render(&accounts), want);
        assert!(render(&[]).contains("penstock accounts create"));
        let one = render_one(&accounts[0]);
        assert!(one.contains("25 usd") && one.contains("none"), "{one}");
    }

    #[test]
    fn elements_are_escaped() {
        assert_eq!(element("a-b_c.9~"), "a-b_c.9~");
        assert_eq!(element("a/b c:é"), "a%2Fb%20c%3A%C3%A9");
    }
}
