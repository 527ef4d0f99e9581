//! `penstock accounts subjects …`

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{NameArgs, Place, element, policy};
use crate::commands::{
    CommandError, examples,
    table::{Side, table},
};

/// `penstock accounts subjects …`
#[derive(Debug, Subcommand)]
pub enum SubjectsCommand {
    /// List the subjects of an account that have rules of their own.
    #[command(after_help = examples![
        "penstock accounts subjects list acme",
    ])]
    List(NameArgs),
    /// Give a subject its own budgets, in place of those it had.
    #[command(after_help = examples![
        r#"penstock accounts subjects set acme app:alice --budget-day "1 usd""#,
    ])]
    Set(SetArgs),
    /// The account's rules hold for the subject again.
    #[command(after_help = examples![
        "penstock accounts subjects clear acme app:alice",
    ])]
    Clear(ClearArgs),
}

/// A subject's rules.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The account.
    account: String,
    /// The subject as it is named to the signer, client:subject.
    auth_id: String,
    /// Its spend in a UTC day; `none` for no limit. As the account says when absent.
    #[arg(long, value_name = "BUDGET")]
    budget_day: Option<String>,
    /// Its spend in a UTC calendar month.
    #[arg(long, value_name = "BUDGET")]
    budget_month: Option<String>,
    /// Sign nothing for it.
    #[arg(long)]
    block: bool,
    #[command(flatten)]
    place: Place,
}

/// A subject.
#[derive(Debug, Args)]
pub struct ClearArgs {
    /// The account.
    account: String,
    /// The subject.
    auth_id: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Deserialize)]
pub(super) struct Subject {
    auth_id: String,
    state: String,
    policy: Value,
}

pub(super) async fn run(command: &SubjectsCommand) -> Result<String, CommandError> {
    match command {
        SubjectsCommand::List(args) => {
            let api = args.place.api()?;
            let path = format!("/v1/accounts/{}/subjects", element(&args.name));
            let answer = api.get(&path).await?;
            args.place.shown(&api, &path, &answer, |subjects: &Vec<Subject>| render(subjects))
        }
        SubjectsCommand::Set(args) => {
            let api = args.place.api()?;
            let mut rules = Map::new();
            for (rule, value) in
                [("budget_day", &args.budget_day), ("budget_month", &args.budget_month)]
            {
                if let Some(text) = value {
                    rules.insert(rule.to_owned(), text.as_str().into());
                }
            }
            let state = if args.block { "blocked" } else { "active" };
            let path = path_of(&args.account, &args.auth_id);
            let answer = api.put(&path, &json!({ "policy": rules, "state": state })).await?;
            args.place.shown(&api, &path, &answer, |s: &Subject| render(core::slice::from_ref(s)))
        }
        SubjectsCommand::Clear(args) => {
            let api = args.place.api()?;
            api.delete(&path_of(&args.account, &args.auth_id)).await?;
            Ok(format!("The rules of {} hold for {} again.\n", args.account, args.auth_id))
        }
    }
}

fn path_of(account: &str, auth_id: &str) -> String {
    format!("/v1/accounts/{}/subjects/{}", element(account), element(auth_id))
}

pub(super) fn render(subjects: &[Subject]) -> String {
    if subjects.is_empty() {
        return "No subject has rules of its own.\n".to_owned();
    }
    let columns = [
        ("subject", Side::Left),
        ("state", Side::Left),
        ("budget/day", Side::Right),
        ("budget/month", Side::Right),
    ];
    let rows: Vec<Vec<String>> = subjects
        .iter()
        .map(|s| {
            vec![
                s.auth_id.clone(),
                s.state.clone(),
                policy::shown(policy::rule(&s.policy, "budget_day")),
                policy::shown(policy::rule(&s.policy, "budget_month")),
            ]
        })
        .collect();
    table(&columns, &rows)
}
