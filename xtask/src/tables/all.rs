//! The table of ratios of all benchmarks.

use serde_json::Value;

use super::{number, origin, whole};
use crate::report::{self, Target};

/// A row for each figure.
pub fn bench(report: &Value) -> Option<String> {
    let rounds = report.get("rounds")?.as_array()?;
    let mut lines = vec![
        format!(
            "{} {} rounds in {} s.",
            origin(report)?,
            rounds.len(),
            whole(report.get("wall_s")?)?
        ),
        String::new(),
        "| figure | beside | ratio | noise | target | met |".to_owned(),
        "| --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for figure in report::figures(rounds)? {
        let target = match figure.target {
            Some(Target::AtLeast(ratio)) => format!("≥ {ratio:.2}"),
            Some(Target::AtMost(ratio)) => format!("≤ {ratio:.2}"),
            None => "–".to_owned(),
        };
        let met = match figure.met() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        lines.push(format!(
            "| {} | {} | {} | {} | {target} | {met} |",
            figure.name,
            figure.beside,
            number(&Value::from(figure.median()), 3)?,
            match rounds.len() {
                1 => "–".to_owned(),
                _ => number(&Value::from(figure.noise()), 3)?,
            },
        ));
    }
    if let Some(apart) = report.pointer("/compared/apart").and_then(Value::as_array) {
        let names: Vec<&str> = apart.iter().filter_map(Value::as_str).collect();
        let which =
            if names.is_empty() { String::new() } else { format!(" ({})", names.join("; ")) };
        lines.extend([
            String::new(),
            format!(
                "Beside the run before (`{}`), {} of {} figures lie further apart than both runs' noise{which}.",
                report.pointer("/compared/commit")?.as_str()?,
                names.len(),
                report.pointer("/compared/figures")?,
            ),
        ]);
    }
    lines.push(String::new());
    Some(lines.join("\n"))
}
