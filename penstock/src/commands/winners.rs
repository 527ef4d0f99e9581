//! `penstock winners`: the orchestrator's winning tickets, and what became of them.

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

/// Settings of `penstock winners`.
#[derive(Debug, Args)]
pub struct WinnersArgs {
    #[command(flatten)]
    orchestrator: OrchestratorAdmin,
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    output: Output,
}

/// A winning ticket.
#[derive(Debug, Deserialize)]
struct Winner {
    ticket_hash: String,
    sender: String,
    face_value_wei: Rational,
    status: String,
    #[serde(default)]
    tx_hash: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

pub(super) async fn run(args: &WinnersArgs) -> Result<String, CommandError> {
    let orchestrator = places::orchestrator_admin(&args.orchestrator, &args.data)?;
    let winners = orchestrator.get("/v1/winners").await?;
    if args.output.json {
        return Ok(format!("{winners:#}\n"));
    }
    let winners: Vec<Winner> = orchestrator.read("/v1/winners", &winners)?;
    Ok(render(&winners))
}

fn render(winners: &[Winner]) -> String {
    if winners.is_empty() {
        return "No ticket has won yet.\n".to_owned();
    }
    let columns = [
        ("ticket", Side::Left),
        ("sender", Side::Left),
        ("face value", Side::Right),
        ("status", Side::Left),
        ("transaction or reason", Side::Left),
    ];
    let rows: Vec<Vec<String>> = winners
        .iter()
        .map(|w| {
            let what = w.tx_hash.as_deref().or(w.reason.as_deref()).unwrap_or_default();
            vec![
                short(&w.ticket_hash, 14),
                w.sender.clone(),
                amount(&w.face_value_wei),
                w.status.clone(),
                what.to_owned(),
            ]
        })
        .collect();
    let (redeemed, open): (Vec<&Winner>, Vec<&Winner>) =
        winners.iter().partition(|w| w.status == "redeemed");
    let sum = |winners: &[&Winner]| {
        winners.iter().fold(Rational::ZERO, |mut sum, winner| {
            sum += &winner.face_value_wei;
            sum
        })
    };
    let line = |winners: &[&Winner]| format!("{} of {}", winners.len(), amount(&sum(winners)));
    let mut out = table(&columns, &rows);
    out.push('\n');
    out.push_str(&facts(&[("redeemed", line(&redeemed)), ("not redeemed", line(&open))]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redeemed_and_open_are_told_apart() {
        let winners: Vec<Winner> = serde_json::from_value(serde_json::json!([
            {"ticket_hash": "0x01", "sender": "0xaa", "face_value_wei": "2000000000000000000",
             "status": "redeemed", "tx_hash": "0x02"},
            {"ticket_hash": "0x03", "sender": "0xaa", "face_value_wei": "5", "status": "failed",
             "tx_hash": null, "reason": "ticket is expired"}
        ]))
        .unwrap();
        let want = "\
ticket  sender  face value  status    transaction or reason
0x01    0xaa         2 ETH  redeemed  0x02
0x03    0xaa         5 wei  failed    ticket is expired

redeemed      1 of 2 ETH
not redeemed  1 of 5 wei
";
        assert_eq!(render(&winners), want);
        assert_eq!(render(&[]), "No ticket has won yet.\n");
    }
}
