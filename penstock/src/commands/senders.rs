//! `penstock senders`: what senders credited at the orchestrator, and what their jobs cost.

use clap::Args;
use penstock_domain::Rational;
use serde::Deserialize;

use super::{
    CommandError,
    amount::amount,
    args::{DataDir, Limit, OrchestratorAdmin, Output},
    places,
    table::{Side, facts, short, table},
};

/// Settings of `penstock senders`.
#[derive(Debug, Args)]
pub struct SendersArgs {
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    orchestrator: OrchestratorAdmin,
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    output: Output,
}

/// What one sender has in one session.
#[derive(Debug, Deserialize)]
struct Account {
    sender: String,
    session_id: String,
    credited_wei: Rational,
    debited_wei: Rational,
    balance_wei: Rational,
}

/// The totals over all accounts.
#[derive(Debug, Deserialize)]
struct Summary {
    tickets: u64,
    credited_wei: Rational,
    debited_wei: Rational,
    balance_wei: Rational,
}

pub(super) async fn run(args: &SendersArgs) -> Result<String, CommandError> {
    let orchestrator = places::orchestrator_admin(&args.orchestrator, &args.data)?;
    let path = format!("/v1/accounts?limit={}", args.limit.limit);
    let accounts = orchestrator.get(&path).await?;
    let summary = orchestrator.get("/v1/summary").await?;
    if args.output.json {
        let both = serde_json::json!({ "accounts": accounts, "summary": summary });
        return Ok(format!("{both:#}\n"));
    }
    let accounts: Vec<Account> = orchestrator.read(&path, &accounts)?;
    Ok(render(&accounts, &orchestrator.read("/v1/summary", &summary)?))
}

fn render(accounts: &[Account], total: &Summary) -> String {
    if accounts.is_empty() {
        return "No sender has paid yet.\n".to_owned();
    }
    let columns = [
        ("sender", Side::Left),
        ("session", Side::Left),
        ("credited", Side::Right),
        ("debited", Side::Right),
        ("balance", Side::Right),
    ];
    let rows: Vec<Vec<String>> = accounts
        .iter()
        .map(|a| {
            vec![
                a.sender.clone(),
                short(&a.session_id, 20),
                amount(&a.credited_wei),
                amount(&a.debited_wei),
                amount(&a.balance_wei),
            ]
        })
        .collect();
    let mut out = table(&columns, &rows);
    out.push('\n');
    out.push_str(&facts(&[
        ("tickets", total.tickets.to_string()),
        ("credited", amount(&total.credited_wei)),
        ("debited", amount(&total.debited_wei)),
        ("balance", amount(&total.balance_wei)),
    ]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_and_totals() {
        let accounts: Vec<Account> = serde_json::from_value(serde_json::json!([{
            "sender": "0xaa", "session_id": "s1", "credited_wei": "1/2", "debited_wei": "1/3",
            "balance_wei": "1/6", "tickets": 3
        }]))
        .unwrap();
        let total: Summary = serde_json::from_value(serde_json::json!({
            "tickets": 7, "credited_wei": "1", "debited_wei": "2/3", "balance_wei": "1/3",
            "winners": 0
        }))
        .unwrap();
        let want = "\
sender  session  credited     debited     balance
0xaa    s1        0.5 wei  ≈0.333 wei  ≈0.167 wei

tickets   7
credited  1 wei
debited   ≈0.667 wei
balance   ≈0.333 wei
";
        assert_eq!(render(&accounts, &total), want);
        assert_eq!(render(&[], &total), "No sender has paid yet.\n");
    }
}
