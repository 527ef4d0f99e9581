//! `penstock payments`: what the signer paid.

use clap::Args;
use penstock_domain::Rational;
use serde::Deserialize;

use super::{
    CommandError,
    amount::amount,
    api::Api,
    args::{DataDir, Limit, Output, SignerAdmin},
    places,
    table::{Side, facts, short, table},
};

/// Settings of `penstock payments`.
#[derive(Debug, Args)]
pub struct PaymentsArgs {
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    signer: SignerAdmin,
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    output: Output,
}

/// A payment, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Payment {
    created_at: String,
    manifest_id: String,
    orchestrator: String,
    num_tickets: u64,
    first_nonce: u64,
    last_nonce: u64,
    ticket_ev_wei: Rational,
    fee_wei: Rational,
    balance_wei: Rational,
}

/// The totals.
#[derive(Debug, Deserialize)]
struct Summary {
    payments: u64,
    tickets: u64,
    ticket_ev_total_wei: Rational,
    fee_total_wei: Rational,
    balance_total_wei: Rational,
}

pub(super) async fn run(args: &PaymentsArgs) -> Result<String, CommandError> {
    let signer: Api = places::signer_admin(&args.signer, &args.data)?;
    let path = format!("/v1/payments?limit={}", args.limit.limit);
    let payments = signer.get(&path).await?;
    let summary = signer.get("/v1/summary").await?;
    if args.output.json {
        let both = serde_json::json!({ "payments": payments, "summary": summary });
        return Ok(format!("{both:#}\n"));
    }
    let payments: Vec<Payment> = signer.read(&path, &payments)?;
    Ok(render(&payments, &signer.read("/v1/summary", &summary)?))
}

fn render(payments: &[Payment], total: &Summary) -> String {
    let columns = [
        ("when", Side::Left),
        ("job", Side::Left),
        ("orchestrator", Side::Left),
        ("tickets", Side::Right),
        ("nonces", Side::Right),
        ("ticket worth", Side::Right),
        ("fee", Side::Right),
        ("balance", Side::Right),
    ];
    let rows: Vec<Vec<String>> = payments
        .iter()
        .map(|p| {
            vec![
                p.created_at.clone(),
                short(&p.manifest_id, 20),
                short(&p.orchestrator, 12),
                p.num_tickets.to_string(),
                format!("{}–{}", p.first_nonce, p.last_nonce),
                amount(&p.ticket_ev_wei),
                amount(&p.fee_wei),
                amount(&p.balance_wei),
            ]
        })
        .collect();
    let mut out =
        if rows.is_empty() { "No payments yet.\n".to_owned() } else { table(&columns, &rows) };
    out.push('\n');
    out.push_str(&facts(&[
        ("payments", total.payments.to_string()),
        ("tickets", total.tickets.to_string()),
        ("worth of the tickets", amount(&total.ticket_ev_total_wei)),
        ("fees", amount(&total.fee_total_wei)),
        ("paid in advance", amount(&total.balance_total_wei)),
    ]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(json: serde_json::Value) -> Summary {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_table_and_totals() {
        let payments: Vec<Payment> = serde_json::from_value(serde_json::json!([{
            "created_at": "2026-01-02T03:04:05Z", "manifest_id": "speech", "sequence": 1,
            "orchestrator": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "num_tickets": 2,
            "first_nonce": 1, "last_nonce": 2, "ticket_ev_wei": "8000000000",
            "fee_wei": "25/2", "balance_wei": "16000000000"
        }]))
        .unwrap();
        let text = render(
            &payments,
            &total(serde_json::json!({
                "payments": 1, "tickets": 2, "ticket_ev_total_wei": "16000000000",
                "fee_total_wei": "25/2", "balance_total_wei": "1500000000000000000"
            })),
        );
        let want = "\
when                  job     orchestrator  tickets  nonces       ticket worth       fee             balance
2026-01-02T03:04:05Z  speech  0x70997970C…        2     1–2  8,000,000,000 wei  12.5 wei  16,000,000,000 wei

payments              1
tickets               2
worth of the tickets  16,000,000,000 wei
fees                  12.5 wei
paid in advance       1.5 ETH
";
        assert_eq!(text, want);
    }

    #[test]
    fn nothing_yet_is_said() {
        let zero = total(serde_json::json!({
            "payments": 0, "tickets": 0, "ticket_ev_total_wei": "0",
            "fee_total_wei": "0", "balance_total_wei": "0"
        }));
        assert!(render(&[], &zero).starts_with("No payments yet.\n"));
    }
}
