//! The matrix of wires and faults.

use serde_json::Value;

use super::{origin, whole};

/// Each cell: what it promises, whether it was kept, and how long it took.
pub fn table(figures: &Value) -> Option<String> {
    let sums = figures.get("sums")?;
    let cells = figures.get("cells")?.as_array()?;
    // Figures of a part of the matrix are no figures of it. Older ones do not say how large it was.
    let whole_matrix = figures.get("matrix").and_then(Value::as_u64);
    if whole_matrix.is_some_and(|matrix| matrix != cells.len() as u64) {
        return None;
    }
    let is_kept = |cell: &Value| Some(cell.get("missing")?.as_array()?.is_empty());
    let kept = cells.iter().map(is_kept).collect::<Option<Vec<_>>>()?;
    let violations = figures.get("violations")?.as_array()?.len();
    let mut lines = vec![
        format!(
            "{} Seed {}, {} s under load.",
            origin(figures)?,
            figures.get("seed")?,
            whole(figures.get("load_s")?)?
        ),
        String::new(),
        "| wire | fault | what is promised while it lasts | kept | seen after | well again after | \
         charged once more |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for (cell, kept) in cells.iter().zip(&kept) {
        let text = |name: &str| cell.get(name)?.as_str();
        let verdict = match (kept, cell.get("cause")?) {
            (true, _) => "yes".to_owned(),
            (false, Value::String(cause)) => format!("**no**: {cause}"),
            (false, _) => {
                format!("**no**; missing: {}", lines_of(cell.get("missing")?)?.join("; "))
            }
        };
        lines.push(format!(
            "| {} | {} | {} | {verdict} | {} ms | {} ms | {} |",
            text("pair")?,
            text("trouble")?,
            text("promise")?,
            whole(cell.get("seen_after_ms")?)?,
            whole(cell.get("well_after_ms")?)?,
            whole(cell.get("charged_again")?)?,
        ));
    }
    let mut answered = Vec::new();
    for (kind, count) in figures.get("answered")?.as_object()? {
        answered.push(format!("{kind} {}", whole(count)?));
    }
    let exact = |name: &str| Some(sums.get(name)?.as_str()?.to_owned());
    let winners = sums.get("winners")?.as_array()?.iter().map(whole);
    let rows = [
        ("cells, of them kept", {
            let kept = kept.iter().filter(|kept| **kept).count();
            format!("{}, {kept}", cells.len())
        }),
        ("answered", answered.join(", ")),
        ("worth of the tickets signed, wei (exact)", exact("signed_wei")?),
        ("worth credited by orchestrators", exact("credited_wei")?),
        ("charged for work", exact("debited_wei")?),
        (
            "winners, handed over, redeemed, paid by the chain",
            winners.collect::<Option<Vec<_>>>()?.join(", "),
        ),
        ("violations", violations.to_string()),
    ];
    lines.extend([String::new(), "| what | count |".to_owned(), "| --- | --- |".to_owned()]);
    lines.extend(rows.iter().map(|(what, count)| format!("| {what} | {count} |")));
    lines.push(String::new());
    let violations = lines_of(figures.get("violations")?)?;
    if !violations.is_empty() {
        lines.push("What was found wrong:\n".to_owned());
        lines.extend(violations.iter().map(|violation| format!("- {violation}")));
        lines.push(String::new());
    }
    Some(lines.join("\n"))
}

/// Texts of a list, each on one line.
pub fn lines_of(list: &Value) -> Option<Vec<String>> {
    let line = |text: &Value| Some(text.as_str()?.replace('\n', " ").replace('|', "\\|"));
    list.as_array()?.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::table;
    use serde_json::{Value, json};

    #[test]
    fn a_cell_that_is_not_kept_shows_its_cause() {
        let cell = |missing: &[&str], cause: Option<&str>| {
            json!({"pair": "a → b", "trouble": "silent", "promise": "work goes on",
                "missing": missing, "cause": cause, "seen_after_ms": 1_234, "well_after_ms": 5,
                "charged_again": 0})
        };
        let mut figures = json!({
            "origin": {"commit": "c", "cores": 2, "cpu": "x", "memory_mib": 1, "kernel": "k",
                "profile": "dev"},
            "seed": 1, "load_s": 9, "violations": [], "answered": {"Words": 2_000},
            "cells": [cell(&[], None), cell(&["it did not"], Some("a reason"))],
            "sums": {"signed_wei": "7", "credited_wei": "7", "debited_wei": "6",
                "winners": [1, 1, 1, 1]},
        });
        let shown = table(&figures).unwrap();
        let row = "| a → b | silent | work goes on | yes | 1,234 ms | 5 ms | 0 |";
        assert!(shown.contains(row), "{shown}");
        assert!(
            shown.contains("| **no**: a reason |")
                && shown.contains("| cells, of them kept | 2, 1 |")
        );
        figures["violations"] = json!(["two\nlines"]);
        figures["cells"][1]["cause"] = Value::Null;
        let shown = table(&figures).unwrap();
        assert!(shown.contains("| **no**; missing: it did not |"), "{shown}");
        assert!(shown.ends_with("What was found wrong:\n\n- two lines\n"), "{shown}");
        figures["matrix"] = json!(2);
        assert!(table(&figures).is_some());
        figures["matrix"] = json!(3);
        assert_eq!(table(&figures), None, "a cell is missing");
        figures["matrix"] = json!(2);
        figures.as_object_mut().unwrap().remove("sums");
        assert_eq!(table(&figures), None);
    }
}
