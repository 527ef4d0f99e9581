//! Rules as flags: each is set, lifted (`none`) or left to the tier (`inherit`).

use clap::Args;
use serde_json::{Map, Value};

use crate::commands::CommandError;

/// The rules with their names for people.
pub(super) const RULES: &[(&str, &str)] = &[
    ("budget_day", "budget a day"),
    ("budget_month", "budget a month"),
    ("subject_day", "a subject's day"),
    ("subject_month", "a subject's month"),
    ("allowed_capabilities", "capabilities"),
    ("max_price_wei_per_unit", "max price"),
    ("max_ticket_ev_wei", "max ticket EV"),
    ("requests_per_second", "requests a second"),
    ("requests_per_day", "requests a day"),
    ("may_name_subjects", "names subjects"),
];

/// The rules. `none`: no limit, whatever the tier says; `inherit`: as the tier says.
#[derive(Debug, Default, Args)]
pub struct PolicyFlags {
    /// Spend of the account in a UTC day, for example "25 usd", "0.5 eth" or "1000 wei".
    #[arg(long, value_name = "BUDGET")]
    budget_day: Option<String>,
    /// Spend of the account in a UTC calendar month.
    #[arg(long, value_name = "BUDGET")]
    budget_month: Option<String>,
    /// Spend of each of its subjects in a UTC day.
    #[arg(long, value_name = "BUDGET")]
    subject_day: Option<String>,
    /// Spend of each of its subjects in a UTC calendar month.
    #[arg(long, value_name = "BUDGET")]
    subject_month: Option<String>,
    /// What it may pay for, separated by commas: pipeline/model, pipeline/*, or an application.
    #[arg(long, value_name = "NAME,…")]
    capabilities: Option<String>,
    /// Highest price, wei per unit: n, n/d or a decimal.
    #[arg(long, value_name = "WEI")]
    max_price: Option<String>,
    /// Highest expected value of one ticket, wei.
    #[arg(long, value_name = "WEI")]
    max_ticket_ev: Option<String>,
    /// Requests a second at each signer process.
    #[arg(long, value_name = "N")]
    requests_per_second: Option<String>,
    /// Requests in 24 hours of each of its callers, counted by gateways.
    #[arg(long, value_name = "N")]
    requests_per_day: Option<String>,
    /// Whether its Signer-Auth-Id is believed: true for your own gateways.
    #[arg(long, value_name = "true|false")]
    may_name_subjects: Option<String>,
}

impl PolicyFlags {
    fn given(&self) -> [(&'static str, &'static str, Option<&str>); 10] {
        [
            ("budget_day", "--budget-day", self.budget_day.as_deref()),
            ("budget_month", "--budget-month", self.budget_month.as_deref()),
            ("subject_day", "--subject-day", self.subject_day.as_deref()),
            ("subject_month", "--subject-month", self.subject_month.as_deref()),
            ("allowed_capabilities", "--capabilities", self.capabilities.as_deref()),
            ("max_price_wei_per_unit", "--max-price", self.max_price.as_deref()),
            ("max_ticket_ev_wei", "--max-ticket-ev", self.max_ticket_ev.as_deref()),
            ("requests_per_second", "--requests-per-second", self.requests_per_second.as_deref()),
            ("requests_per_day", "--requests-per-day", self.requests_per_day.as_deref()),
            ("may_name_subjects", "--may-name-subjects", self.may_name_subjects.as_deref()),
        ]
    }

    /// Whether any rule was said.
    pub(super) fn any(&self) -> bool {
        self.given().iter().any(|(_, _, value)| value.is_some())
    }

    /// The rules that there were, with what was said put over them.
    pub(super) fn over(&self, now: &Value) -> Result<Value, CommandError> {
        let mut rules: Map<String, Value> = now.as_object().cloned().unwrap_or_default();
        for (rule, setting, value) in self.given() {
            let Some(text) = value else { continue };
            if text == "inherit" {
                rules.remove(rule);
                continue;
            }
            rules.insert(rule.to_owned(), written(rule, setting, text)?);
        }
        Ok(rules.into())
    }
}

/// Text, but numbers, lists and truths where the signer wants those.
fn written(rule: &str, setting: &'static str, text: &str) -> Result<Value, CommandError> {
    let bad = |reason: &str| CommandError::Setting { setting, reason: reason.to_owned() };
    match rule {
        "may_name_subjects" => {
            text.parse::<bool>().map(Value::from).map_err(|_| bad("expected true or false"))
        }
        _ if text == "none" => Ok("none".into()),
        "requests_per_second" | "requests_per_day" => {
            text.parse::<u64>().map(Value::from).map_err(|_| bad("expected a whole number"))
        }
        "allowed_capabilities" => {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            Ok(names.map(Value::from).collect::<Vec<_>>().into())
        }
        _ => Ok(text.into()),
    }
}

/// A rule of a policy, as it is written; null if it is not.
pub(super) fn rule<'a>(policy: &'a Value, rule: &str) -> &'a Value {
    policy.get(rule).unwrap_or(&Value::Null)
}

/// A rule's value for people.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(yes) => (if *yes { "yes" } else { "no" }).to_owned(),
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_said_goes_over_what_there_was() {
        let flags = PolicyFlags {
            budget_day: Some("5 usd".into()),
            budget_month: Some("inherit".into()),
            capabilities: Some("a/*, b,".into()),
            requests_per_second: Some("7".into()),
            requests_per_day: Some("1000".into()),
            max_price: Some("none".into()),
            may_name_subjects: Some("true".into()),
            ..PolicyFlags::default()
        };
        let now = json!({"budget_month": "1 eth", "subject_day": "2 wei", "budget_day": "1 wei"});
        let want = json!({"budget_day": "5 usd", "subject_day": "2 wei", "requests_per_second": 7, "requests_per_day": 1000,
            "allowed_capabilities": ["a/*", "b"], "max_price_wei_per_unit": "none", "may_name_subjects": true});
        assert_eq!(flags.over(&now).unwrap(), want);
        assert!(flags.any() && !PolicyFlags::default().any());
        let bad = PolicyFlags { requests_per_second: Some("x".into()), ..PolicyFlags::default() };
        assert!(bad.over(&now).unwrap_err().to_string().starts_with("--requests-per-second"));
        assert_eq!(shown(&json!(["a", "b"])), "a, b");
    }
}
