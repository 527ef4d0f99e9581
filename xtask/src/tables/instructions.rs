//! The table of the money core's instructions.

use serde_json::Value;

use super::{origin, whole};

/// A row for each function.
pub fn table(figures: &Value) -> Option<String> {
    // Older figures do not say where they come from.
    let from = figures.get("origin").map(|_| origin(figures));
    let mut lines = Vec::new();
    if let Some(from) = from {
        lines.extend([from?, String::new()]);
    }
    lines.extend(["| function | instructions of a call |".to_owned(), "| --- | --- |".to_owned()]);
    for (name, count) in figures.get("per_call")?.as_object()? {
        lines.push(format!("| {} | {} |", name.replace('_', " "), whole(count)?));
    }
    lines.push(String::new());
    Some(lines.join("\n"))
}
