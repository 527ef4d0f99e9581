//! The table of the money core's instructions.

use serde_json::Value;

use super::whole;

/// A row for each function.
pub fn table(figures: &Value) -> Option<String> {
    let mut lines =
        vec!["| function | instructions of a call |".to_owned(), "| --- | --- |".to_owned()];
    for (name, count) in figures.get("per_call")?.as_object()? {
        lines.push(format!("| {} | {} |", name.replace('_', " "), whole(count)?));
    }
    lines.push(String::new());
    Some(lines.join("\n"))
}
