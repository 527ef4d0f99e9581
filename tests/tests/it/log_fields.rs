//! Every field of a log line that has a unit says it in its name (docs/telemetry.md): read from the sources, since a line
//! that nobody provokes in a test is the one that operators puzzle over.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Things that are of a unit, and say nothing without it: `fee_wei`, `duration_ms`.
const OF_A_UNIT: [&str; 18] = [
    "fee",
    "balance",
    "price",
    "cost",
    "deposit",
    "reserve",
    "face_value",
    "amount",
    "duration",
    "elapsed",
    "took",
    "timeout",
    "latency",
    "interval",
    "pause",
    "wait",
    "lease",
    "backoff",
];
/// Where the roles' code is.
const FOLDERS: [&str; 6] = ["crates", "gateway", "signer", "orchestrator", "worker", "penstock"];
const MACROS: [&str; 5] = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// Fields of a log line without their unit: `%fee`, `fee = …`, a bare `fee`.
fn nameless(line: &str) -> Vec<&str> {
    // Words come after the fields, or are all there is.
    let fields = line.split('"').next().unwrap_or(line);
    let names = fields.split([',', '(']).map(|field| {
        let name = field.split('=').next().unwrap_or(field).trim();
        name.trim_start_matches(['%', '?'])
    });
    // A price in a currency says which.
    let is_said = |name: &str| name == "price" && fields.contains("currency");
    names.filter(|name| OF_A_UNIT.contains(name) && !is_said(name)).collect()
}

/// Log lines of a source, each up to its end.
fn lines(source: &str) -> impl Iterator<Item = &str> {
    source.match_indices("tracing::").filter_map(|(at, start)| {
        let line = &source[at + start.len()..];
        let is_log = MACROS.iter().any(|name| line.starts_with(name));
        is_log.then(|| line.split(';').next().unwrap_or(line))
    })
}

#[test]
fn a_log_line_says_its_units() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    FOLDERS.iter().for_each(|folder| sources(&root.join(folder), &mut files));
    let (mut looked_at, mut found) = (0, Vec::new());
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        for line in lines(&source) {
            looked_at += 1;
            let names = nameless(line);
            if !names.is_empty() {
                found.push(format!("{}: {names:?} in {line}", file.display()));
            }
        }
    }
    assert!(looked_at > 200, "only {looked_at} log lines were found");
    assert!(found.is_empty(), "name the unit (`fee_wei`):\n{}", found.join("\n"));
}

#[test]
fn a_field_without_its_unit_is_found() {
    let source = "fn f() { tracing::warn!(session, %fee, balance_wei = %balance, \"the fee\"); }";
    let line = lines(source).next().unwrap();
    assert_eq!(nameless(line), ["fee"]);
    assert_eq!(nameless("info!(price = %x.price(), \"p\")"), ["price"]);
    assert!(nameless("info!(fee_wei = %fee, \"fee, price\")").is_empty());
}
