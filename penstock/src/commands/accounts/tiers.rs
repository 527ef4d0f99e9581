//! `penstock accounts tiers …`

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    ListArgs, NameArgs, Place, element,
    policy::{self, PolicyFlags},
};
use crate::commands::{
    CommandError, examples,
    table::{Side, table},
};

/// `penstock accounts tiers …`
#[derive(Debug, Subcommand)]
pub enum TiersCommand {
    /// List all tiers.
    #[command(after_help = examples![
        "penstock accounts tiers list",
    ])]
    List(ListArgs),
    /// Make a tier, or change its rules; what is not said stays.
    #[command(after_help = examples![
        r#"penstock accounts tiers set gold --budget-day "25 usd" --requests-per-second 50"#,
    ])]
    Set(Box<SetArgs>),
    /// Take a tier away that no account has.
    #[command(after_help = examples![
        "penstock accounts tiers delete gold",
    ])]
    Delete(NameArgs),
}

/// A tier's rules.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The tier.
    name: String,
    #[command(flatten)]
    policy: PolicyFlags,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Deserialize)]
struct Tier {
    name: String,
    policy: Value,
    version: u64,
}

pub(super) async fn run(command: &TiersCommand) -> Result<String, CommandError> {
    match command {
        TiersCommand::List(args) => {
            let api = args.place.api()?;
            let answer = api.get("/v1/tiers").await?;
            args.place.shown(&api, "/v1/tiers", &answer, |tiers: &Vec<Tier>| render(tiers))
        }
        TiersCommand::Set(args) => {
            let api = args.place.api()?;
            let answer = api.get("/v1/tiers").await?;
            let tiers: Vec<Tier> = api.read("/v1/tiers", &answer)?;
            let now = tiers.iter().find(|tier| tier.name == args.name);
            let rules = args.policy.over(now.map_or(&Value::Null, |tier| &tier.policy))?;
            let mut body = Map::from_iter([("policy".to_owned(), rules)]);
            if let Some(tier) = now {
                body.insert("version".to_owned(), tier.version.into());
            }
            let path = format!("/v1/tiers/{}", element(&args.name));
            let answer = api.put(&path, &body.into()).await?;
            args.place
                .shown(&api, &path, &answer, |tier: &Tier| render(core::slice::from_ref(tier)))
        }
        TiersCommand::Delete(args) => {
            let api = args.place.api()?;
            api.delete(&format!("/v1/tiers/{}", element(&args.name))).await?;
            Ok(format!("The tier {} is gone.\n", args.name))
        }
    }
}

fn render(tiers: &[Tier]) -> String {
    if tiers.is_empty() {
        return "No tiers yet: penstock accounts tiers set NAME --budget-day \"25 usd\".\n"
            .to_owned();
    }
    let columns = [("tier", Side::Left), ("rules", Side::Left)];
    let rows: Vec<Vec<String>> = tiers
        .iter()
        .map(|tier| {
            let rules = policy::RULES.iter().filter_map(|(rule, name)| {
                let value = policy::rule(&tier.policy, rule);
                (!value.is_null()).then(|| format!("{name}: {}", policy::shown(value)))
            });
            vec![tier.name.clone(), rules.collect::<Vec<_>>().join("; ")]
        })
        .collect();
    table(&columns, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tiers_show_their_rules() {
        let tiers: Vec<Tier> = serde_json::from_value(json!([
            {"name": "gold", "version": 1, "policy": {"budget_day": "5 usd", "requests_per_second": 3}},
        ]))
        .unwrap();
        let want = "tier  rules\ngold  budget a day: 5 usd; requests a second: 3\n";
        assert_eq!(render(&tiers), want);
    }
}
