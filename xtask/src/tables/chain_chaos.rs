//! The table of redemption under chaos on the chain.

use serde_json::Value;

use super::{gateway::three, number, origin, text, whole};

/// What was broken, how fast many winners were redeemed, what the books say.
pub fn chaos(figures: &Value) -> Option<String> {
    let (many, broken) = (figures.get("many")?, figures.get("broken")?);
    let counts = figures.get("counts")?;
    let count = |name: &str| whole(counts.get(name)?);
    let died: u64 = broken.get("failpoints")?.as_object()?.values().filter_map(Value::as_u64).sum();
    let violations = figures.get("violations")?.as_array()?.len();
    let mut lines = vec![
        format!(
            "{} Seed {}, {} s.",
            origin(figures)?,
            figures.get("seed")?,
            whole(figures.get("run_s")?)?
        ),
        String::new(),
        "| what was broken | times | until all winners were redeemed: p50, p99, worst |".to_owned(),
        "| --- | --- | --- |".to_owned(),
    ];
    for (act, effect) in broken.get("acts")?.as_object()? {
        let settled = three(effect.get("settled_ms")?)?;
        lines.push(format!("| {act} | {} | {settled} |", whole(effect.get("times")?)?));
    }
    lines.extend([String::new(), "| what | count |".to_owned(), "| --- | --- |".to_owned()]);
    let rows = [
        ("winners that waited together, redeemed in a second in the order of policy", {
            let per_second = number(many.get("per_second")?, 1)?;
            format!("{}, {per_second}", whole(many.get("winners")?)?)
        }),
        ("transactions for them, questions to endpoints for each", {
            let questions = number(many.get("questions_per_winner")?, 1)?;
            format!("{}, {questions}", whole(many.get("transactions")?)?)
        }),
        ("redeemers killed (`kill -9`) with a transaction on its way, dead at failpoints", {
            format!("{}, {}", whole(broken.get("kills")?)?, whole(&Value::from(died))?)
        }),
        ("blocks taken back, redemptions that went with them", {
            let went = whole(broken.get("redemptions_taken_back")?)?;
            format!("{}, {went}", whole(broken.get("blocks_taken_back")?)?)
        }),
        ("winners held until their sender could pay", whole(broken.get("held")?)?),
        ("winners acknowledged, redeemed in the ledger, redeemed on the chain", {
            format!(
                "{}, {}, {}",
                count("winners")?,
                count("ledger_redeemed")?,
                count("redemptions")?
            )
        }),
        ("worth of the winners, wei (exact)", text(counts, "worth_wei")?),
        ("out of the senders' deposits and reserves", text(counts, "out_of_deposit_wei")?),
        ("earned by the recipient", text(counts, "earned_wei")?),
        ("transactions in blocks, times that one was given to an endpoint", {
            format!("{}, {}", count("transactions")?, count("sent")?)
        }),
        ("violations", violations.to_string()),
    ];
    lines.extend(rows.iter().map(|(what, count)| format!("| {what} | {count} |")));
    lines.push(String::new());
    Some(lines.join("\n"))
}
