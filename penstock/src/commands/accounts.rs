//! `penstock accounts`: what senders credited at the orchestrator, and what their jobs cost.

use clap::Args;
use penstock_domain::Rational;
use serde::Deserialize;

use super::{
    CommandError,
    amount::amount,
    args::{DataDir, OrchestratorAdmin, Output},
    places,
    table::{Side, facts, short, table},
};

/// Settings of `penstock accounts`.
#[derive(Debug, Args)]
pub struct AccountsArgs {
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

pub(super) async fn run(args: &AccountsArgs) -> Result<String, CommandError> {
    let orchestrator = places::orchestrator_admin(&args.orchestrator, &args.data)?;
    let accounts = orchestrator.get("/v1/accounts").await?;
    if args.output.json {
        return Ok(format!("{accounts:#}\n"));
    }
    let accounts: Vec<Account> = orchestrator.read("/v1/accounts", &accounts)?;
    Ok(render(&accounts))
}

fn render(accounts: &[Account]) -> String {
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
    let sum = |part: fn(&Account) -> &Rational| {
        accounts.iter().fold(Rational::ZERO, |mut sum, account| {
            sum += part(account);
            sum
        })
    };
    let mut out = table(&columns, &rows);
    out.push('\n');
    out.push_str(&facts(&[
        ("accounts", accounts.len().to_string()),
        ("credited", amount(&sum(|a| &a.credited_wei))),
        ("debited", amount(&sum(|a| &a.debited_wei))),
        ("balance", amount(&sum(|a| &a.balance_wei))),
    ]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_exact() {
        let account = |session: &str, credited: &str| {
            serde_json::json!({
                "sender": "0xaa", "session_id": session, "credited_wei": credited,
                "debited_wei": "1/3", "balance_wei": "1/6"
            })
        };
        let accounts: Vec<Account> =
            serde_json::from_value(serde_json::json!([account("s1", "1/2"), account("s2", "1/2")]))
                .unwrap();
        let want = "\
sender  session  credited     debited     balance
0xaa    s1        0.5 wei  ≈0.333 wei  ≈0.167 wei
0xaa    s2        0.5 wei  ≈0.333 wei  ≈0.167 wei

accounts  2
credited  1 wei
debited   ≈0.667 wei
balance   ≈0.333 wei
";
        assert_eq!(render(&accounts), want);
        assert_eq!(render(&[]), "No sender has paid yet.\n");
    }
}
