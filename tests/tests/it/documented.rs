//! Nothing that an operator can set or watch is missing from the documents: every setting of a role
//! and every metric is named there.

use penstock_testkit::places;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const ROLES: [&str; 6] = ["gateway", "signer", "orchestrator", "worker", "devnet", "anvil"];

/// What `--help` and `--version` need is known to everybody.
const COMMON: [&str; 2] = ["--help", "--version"];

#[test]
fn every_setting_is_in_the_documents() {
    let documents = documents();
    let mut missing = Vec::new();
    for role in ROLES {
        let settings = settings(&format!("penstock-{role}"));
        assert!(settings.len() > 5, "{role}: {settings:?}");
        let unknown = settings.iter().filter(|name| !names(&documents, name));
        missing.extend(unknown.map(|name| format!("{role} {name}")));
    }
    assert!(missing.is_empty(), "name them in docs/: {missing:#?}");
}

#[test]
fn every_metric_is_in_the_documents() {
    let documents = documents();
    let metrics = metrics(&sources_of_all_roles());
    assert!(metrics.len() > 50, "{metrics:?}");
    // Documents may leave out what all metrics of a role begin with.
    let missing: Vec<_> = metrics.iter().filter(|m| !names(&documents, short(m))).collect();
    assert!(missing.is_empty(), "name them in docs/: {missing:#?}");
}

/// What the roles are made of.
pub fn sources_of_all_roles() -> String {
    let mut sources = String::new();
    for folder in ["gateway", "signer", "orchestrator", "worker", "crates"] {
        read_all(&places::repository().join(folder), &["rs"], &["tests", "testkit"], &mut sources);
    }
    sources
}

/// `--name` at the beginning of each line that explains one.
fn settings(program: &str) -> BTreeSet<String> {
    let output = Command::new(places::binary(program)).arg("--help").output().unwrap();
    assert!(output.status.success(), "{program} --help");
    let text = String::from_utf8(output.stdout).unwrap();
    let flags = text.lines().filter_map(|line| {
        let line = line.trim_start();
        let flag = line.strip_prefix('-').and_then(|short| short.split_once(", ")).map(|(_, l)| l);
        let flag = flag.unwrap_or(line);
        flag.starts_with("--").then(|| flag.split([' ', '=']).next().unwrap_or_default().to_owned())
    });
    flags.filter(|flag| !COMMON.contains(&flag.as_str())).collect()
}

/// First arguments of the macros that count, measure and describe.
pub fn metrics(sources: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for kind in ["counter!(", "gauge!(", "histogram!("] {
        for (place, _) in sources.match_indices(kind) {
            let rest = sources[place + kind.len()..].trim_start();
            if let Some((name, _)) = rest.strip_prefix('"').and_then(|name| name.split_once('"')) {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

fn short(metric: &str) -> &str {
    let name = metric.strip_prefix("penstock_").unwrap_or(metric);
    ROLES
        .iter()
        .find_map(|role| name.strip_prefix(role))
        .map_or(name, |n| n.trim_start_matches('_'))
}

/// Is it there as a whole word?
fn names(documents: &str, name: &str) -> bool {
    documents.match_indices(name).any(|(place, _)| {
        let next = documents[place + name.len()..].chars().next();
        !next.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    })
}

fn documents() -> String {
    let root = places::repository();
    let mut text = fs::read_to_string(root.join("README.md")).unwrap();
    read_all(&root.join("docs"), &["md"], &[], &mut text);
    text
}

fn read_all(folder: &Path, kinds: &[&str], without: &[&str], text: &mut String) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !without.contains(&name.as_str()) {
            read_all(&path, kinds, without, text);
        } else if path.extension().is_some_and(|e| kinds.iter().any(|kind| e == *kind)) {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
