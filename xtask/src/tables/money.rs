//! The table of the money simulator.

use serde_json::Value;

use super::{number, whole};

/// What happened in all histories together.
pub fn table(figures: &Value) -> Option<String> {
    let happened = figures.get("happened")?;
    let count = |name: &str| whole(happened.get(name)?);
    let (seconds, histories) = (figures.get("seconds")?, figures.get("histories")?);
    let rows = [
        ("histories", whole(histories)?),
        ("steps, after each of which the laws were asked", count("steps")?),
        ("processes that died", count("deaths")?),
        ("jobs that were begun, served", format!("{}, {}", count("jobs")?, count("served")?)),
        ("payments that left the signer", count("payments")?),
        ("tickets in them", count("tickets")?),
        ("winners that the chain paid", count("redemptions")?),
        ("broken laws", whole(figures.get("broken_laws")?)?),
    ];
    let mut lines = vec![
        format!(
            "Commit `{}`, seeds from {}, {} threads, {} minutes.",
            figures.get("commit")?.as_str()?,
            whole(figures.get("first_seed")?)?,
            figures.get("threads")?,
            number(&Value::from(seconds.as_f64()? / 60.0), 0)?,
        ),
        String::new(),
        "| what | count |".to_owned(),
        "| --- | --- |".to_owned(),
    ];
    lines.extend(rows.iter().map(|(what, count)| format!("| {what} | {count} |")));
    lines.push(String::new());
    Some(lines.join("\n"))
}
