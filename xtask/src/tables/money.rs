//! The table of the money simulator.

use serde_json::Value;

use super::{number, origin, whole};

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
    // Older figures name their commit alone.
    let from = match figures.get("origin") {
        Some(_) => origin(figures)?,
        None => format!("Commit `{}`.", figures.get("commit")?.as_str()?),
    };
    let mut lines = vec![
        format!(
            "{from} Seeds from {}, {} threads, {} minutes.",
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

#[cfg(test)]
mod tests {
    use super::table;
    use serde_json::json;

    #[test]
    fn figures_with_and_without_their_machine_are_shown() {
        let mut figures = json!({
            "commit": "c0ffee", "first_seed": 0, "seconds": 120, "threads": 2, "histories": 10_000,
            "broken_laws": 0,
            "happened": {"steps": 1, "deaths": 2, "jobs": 3, "served": 2, "payments": 5, "tickets": 6,
                "redemptions": 7},
        });
        let old = table(&figures).unwrap();
        assert!(old.starts_with("Commit `c0ffee`. Seeds from 0, 2 threads, 2 minutes.\n"), "{old}");
        figures["origin"] = json!({"commit": "c0ffee", "cores": 2, "cpu": "x", "memory_mib": 1,
            "kernel": "k", "profile": "release"});
        let new = table(&figures).unwrap();
        assert!(new.starts_with("Commit `c0ffee`, 2 cores of x,"), "{new}");
    }
}
