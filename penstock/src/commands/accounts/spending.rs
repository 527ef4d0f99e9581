//! `penstock accounts usage`, `forecast` and `limits`.

use clap::Args;
use penstock_domain::Rational;
use serde::Deserialize;
use serde_json::Value;

use super::{Place, element};
use crate::commands::{
    CommandError,
    amount::amount,
    table::{Side, facts, table},
};

/// Settings of `penstock accounts usage`.
#[derive(Debug, Args)]
pub struct UsageArgs {
    /// First day, YYYY-MM-DD. Default: the first of this month.
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// Day after the last. Default: tomorrow.
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// Of this account only.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// For subjects of this client only, whoever named them.
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Print CSV.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    place: Place,
}

/// Settings of `penstock accounts forecast`.
#[derive(Debug, Args)]
pub struct ForecastArgs {
    /// Of this account only. Default: of all that spent something in the last seven days.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Deserialize)]
struct Line {
    day: String,
    account: String,
    auth_id: Option<String>,
    payments: u64,
    tickets: u64,
    charged_wei: Rational,
    fee_wei: Rational,
}

pub(super) async fn usage(args: &UsageArgs) -> Result<String, CommandError> {
    let api = args.place.api()?;
    let asked = [
        ("from", args.from.as_deref()),
        ("to", args.to.as_deref()),
        ("account", args.account.as_deref()),
        ("client", args.client.as_deref()),
        ("format", args.csv.then_some("csv")),
    ];
    let query: Vec<String> = asked
        .iter()
        .filter_map(|(name, value)| value.map(|v| format!("{name}={}", element(v))))
        .collect();
    let path = format!("/v1/usage?{}", query.join("&"));
    if args.csv {
        return api.get_text(&path).await;
    }
    let answer = api.get(&path).await?;
    args.place.shown(&api, &path, &answer, |lines: &Vec<Line>| render_usage(lines))
}

fn render_usage(lines: &[Line]) -> String {
    if lines.is_empty() {
        return "Nobody paid anything in that time.\n".to_owned();
    }
    let columns = [
        ("day", Side::Left),
        ("account", Side::Left),
        ("subject", Side::Left),
        ("payments", Side::Right),
        ("tickets", Side::Right),
        ("charged", Side::Right),
        ("fees", Side::Right),
    ];
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|l| {
            vec![
                l.day.clone(),
                l.account.clone(),
                l.auth_id.clone().unwrap_or_default(),
                l.payments.to_string(),
                l.tickets.to_string(),
                amount(&l.charged_wei),
                amount(&l.fee_wei),
            ]
        })
        .collect();
    let sum = |of: fn(&Line) -> &Rational| {
        lines.iter().fold(Rational::default(), |sum, line| sum + of(line).clone())
    };
    let mut out = table(&columns, &rows);
    out.push('\n');
    out.push_str(&facts(&[
        ("charged", amount(&sum(|l| &l.charged_wei))),
        ("fees", amount(&sum(|l| &l.fee_wei))),
    ]));
    out
}

#[derive(Debug, Deserialize)]
struct Forecast {
    account: String,
    rate_wei_per_day: Rational,
    day: Period,
    month: Period,
}

#[derive(Debug, Deserialize)]
struct Period {
    charged_wei: Rational,
    budget_wei: Option<Rational>,
    projected_wei: Rational,
    runs_out_at: Option<String>,
}

pub(super) async fn forecast(args: &ForecastArgs) -> Result<String, CommandError> {
    let api = args.place.api()?;
    let path = match &args.account {
        Some(name) => format!("/v1/forecast?account={}", element(name)),
        None => "/v1/forecast".to_owned(),
    };
    let answer = api.get(&path).await?;
    args.place.shown(&api, &path, &answer, |all: &Vec<Forecast>| render_forecast(all))
}

fn render_forecast(all: &[Forecast]) -> String {
    if all.is_empty() {
        return "Nobody spent anything in the last seven days.\n".to_owned();
    }
    let columns = [
        ("account", Side::Left),
        ("period", Side::Left),
        ("charged", Side::Right),
        ("a day", Side::Right),
        ("at its end", Side::Right),
        ("budget", Side::Right),
        ("runs out", Side::Left),
    ];
    let mut rows = Vec::new();
    for f in all {
        for (name, period) in [("today", &f.day), ("month", &f.month)] {
            rows.push(vec![
                f.account.clone(),
                name.to_owned(),
                amount(&period.charged_wei),
                amount(&f.rate_wei_per_day),
                amount(&period.projected_wei),
                period.budget_wei.as_ref().map_or_else(|| "none".to_owned(), amount),
                period.runs_out_at.clone().unwrap_or_else(|| "not before its end".to_owned()),
            ]);
        }
    }
    table(&columns, &rows)
}

#[derive(Debug, Deserialize)]
struct Limits {
    max_ticket_ev_wei: Rational,
    max_total_ev_wei: Rational,
    max_tickets: u64,
    deposit_multiplier: u64,
    spend_per_hour_wei: Option<Rational>,
    spend_per_orchestrator_hour_wei: Option<Rational>,
    charged_this_hour_wei: Rational,
    eth_usd: Option<String>,
}

pub(super) async fn limits(place: &Place) -> Result<String, CommandError> {
    let api = place.api()?;
    let answer: Value = api.get("/v1/limits").await?;
    place.shown(&api, "/v1/limits", &answer, render_limits)
}

fn render_limits(limits: &Limits) -> String {
    let or_none =
        |limit: &Option<Rational>| limit.as_ref().map_or_else(|| "none".to_owned(), amount);
    facts(&[
        ("a ticket's EV", amount(&limits.max_ticket_ev_wei)),
        ("a payment's EV", amount(&limits.max_total_ev_wei)),
        ("tickets a payment", limits.max_tickets.to_string()),
        ("deposit multiplier", limits.deposit_multiplier.to_string()),
        ("an hour, all", or_none(&limits.spend_per_hour_wei)),
        ("an hour, each recipient", or_none(&limits.spend_per_orchestrator_hour_wei)),
        ("spent this hour", amount(&limits.charged_this_hour_wei)),
        ("ether, usd", limits.eth_usd.clone().unwrap_or_else(|| "not known".to_owned())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn usage_has_totals() {
        let lines: Vec<Line> = serde_json::from_value(json!([
            {"day": "2026-11-20", "account": "acme", "client": "c", "auth_id": "c:bob", "payments": 2,
             "tickets": 3, "charged_wei": "10", "ticket_ev_wei": "9", "fee_wei": "1/2"},
            {"day": "2026-11-21", "account": "acme", "client": null, "auth_id": null, "payments": 1,
             "tickets": 1, "charged_wei": "5", "ticket_ev_wei": "5", "fee_wei": "1/2"},
        ]))
        .unwrap();
        let want = "\
day         account  subject  payments  tickets  charged     fees
2026-11-20  acme     c:bob           2        3   10 wei  0.5 wei
2026-11-21  acme                     1        1    5 wei  0.5 wei

charged  15 wei
fees     1 wei
";
        assert_eq!(render_usage(&lines), want);
    }

    #[test]
    fn a_forecast_says_when_a_budget_runs_out() {
        let all: Vec<Forecast> = serde_json::from_value(json!([{
            "account": "acme", "rate_wei_per_day": "10",
            "day": {"ends_at": "e", "charged_wei": "4", "budget_wei": null, "projected_wei": "9", "runs_out_at": null},
            "month": {"ends_at": "e", "charged_wei": "40", "budget_wei": "50", "projected_wei": "140", "runs_out_at": "soon"},
        }]))
        .unwrap();
        let want = "\
account  period  charged   a day  at its end  budget  runs out
acme     today     4 wei  10 wei       9 wei    none  not before its end
acme     month    40 wei  10 wei     140 wei  50 wei  soon
";
        assert_eq!(render_forecast(&all), want);
    }
}
