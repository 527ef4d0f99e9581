//! `penstock winners`: the orchestrator's winning tickets, and what became of them.

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

/// Settings of `penstock winners`.
#[derive(Debug, Args)]
pub struct WinnersArgs {
    #[command(flatten)]
    limit: Limit,
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
    #[serde(default)]
    waits_for_text: Option<String>,
}

/// The totals over all winning tickets.
#[derive(Debug, Deserialize)]
struct Summary {
    winners: u64,
    redeemed: u64,
    redeemed_face_value_wei: Rational,
}

pub(super) async fn run(args: &WinnersArgs) -> Result<String, CommandError> {
    let orchestrator = places::orchestrator_admin(&args.orchestrator, &args.data)?;
    let path = format!("/v1/winners?limit={}", args.limit.limit);
    let winners = orchestrator.get(&path).await?;
    let summary = orchestrator.get("/v1/summary").await?;
    if args.output.json {
        let both = serde_json::json!({ "winners": winners, "summary": summary });
        return Ok(format!("{both:#}\n"));
    }
    let winners: Vec<Winner> = orchestrator.read(&path, &winners)?;
    Ok(render(&winners, &orchestrator.read("/v1/summary", &summary)?))
}

fn render(winners: &[Winner], total: &Summary) -> String {
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
            let what = match (&w.tx_hash, &w.reason, &w.waits_for_text) {
                // It was paid less than it promised.
                (Some(tx), Some(reason), _) if w.status == "redeemed" => format!("{tx}: {reason}"),
                (Some(tx), ..) => tx.clone(),
                // While nothing has changed, the one is what the other says.
                (None, Some(reason), Some(waits)) if reason != waits => {
                    format!("{reason}; {waits}")
                }
                (None, reason, waits) => {
                    reason.clone().or_else(|| waits.clone()).unwrap_or_default()
                }
            };
            vec![
                short(&w.ticket_hash, 14),
                w.sender.clone(),
                amount(&w.face_value_wei),
                w.status.clone(),
                what,
            ]
        })
        .collect();
    let mut out = table(&columns, &rows);
    out.push('\n');
    out.push_str(&facts(&[
        ("winning tickets", total.winners.to_string()),
        ("redeemed", total.redeemed.to_string()),
        ("face value redeemed", amount(&total.redeemed_face_value_wei)),
    ]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_and_totals() {
        let winners: Vec<Winner> = serde_json::from_value(serde_json::json!([
            {"ticket_hash": "0x01", "sender": "0xaa", "face_value_wei": "2000000000000000000",
             "status": "redeemed", "tx_hash": "0x02"},
            {"ticket_hash": "0x03", "sender": "0xaa", "face_value_wei": "5", "status": "failed",
             "tx_hash": null, "reason": "ticket is expired"},
            {"ticket_hash": "0x04", "sender": "0xaa", "face_value_wei": "5", "status": "queued",
             "reason": "gas is not paid", "waits_for_text": "tried again from L1 block 9"},
            {"ticket_hash": "0x05", "sender": "0xaa", "face_value_wei": "5", "status": "queued",
             "reason": "is not active", "waits_for_text": "is not active"},
            {"ticket_hash": "0x06", "sender": "0xaa", "face_value_wei": "5", "status": "redeemed",
             "tx_hash": "0x07", "reason": "paid 0 of 5 wei: the sender had no more"}
        ]))
        .unwrap();
        let total: Summary = serde_json::from_value(serde_json::json!({
            "winners": 3, "redeemed": 1, "redeemed_face_value_wei": "2000000000000000000"
        }))
        .unwrap();
        let want = "\
ticket  sender  face value  status    transaction or reason
0x01    0xaa         2 ETH  redeemed  0x02
0x03    0xaa         5 wei  failed    ticket is expired
0x04    0xaa         5 wei  queued    gas is not paid; tried again from L1 block 9
0x05    0xaa         5 wei  queued    is not active
0x06    0xaa         5 wei  redeemed  0x07: paid 0 of 5 wei: the sender had no more

winning tickets      3
redeemed             1
face value redeemed  2 ETH
";
        assert_eq!(render(&winners, &total), want);
        assert_eq!(render(&[], &total), "No ticket has won yet.\n");
    }
}
