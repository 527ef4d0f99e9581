//! The crate graph against `deny.toml`: licences, banned crates, where crates come from. The file is
//! cargo-deny's, so that both tools read one list.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::licences;
use crate::{
    command,
    failure::{Doing as _, Failure, Result},
    places::Places,
    term,
};

#[derive(Deserialize)]
struct DenyFile {
    licenses: Licences,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

/// A package that is really compiled for this machine.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    /// Name and version.
    name: String,
    licence: String,
    /// Where it comes from, when that is neither the workspace nor the registry.
    elsewhere: Option<String>,
}

pub fn check(places: &Places) -> Result<()> {
    term::step("licences, bans and sources of the crate graph");
    let path = places.root.join("deny.toml");
    let text = std::fs::read_to_string(&path).doing("read deny.toml")?;
    let rules: DenyFile = toml::from_str(&text)
        .map_err(|error| Failure::new(format!("deny.toml: {error}"), "mend deny.toml"))?;
    // `cargo tree` and not `cargo metadata`: the latter lists what a lock file might need with
    // other features or on other systems.
    let tree = command::output(
        command::cargo(places)
            .args(["tree", "--workspace", "--locked", "--all-features", "--prefix", "none"])
            .args(["--edges", "normal,build,dev", "--format", "{p}\t{l}"]),
        "Cargo.lock must fit the manifests: run `cargo metadata` and commit Cargo.lock",
    )?;
    let packages = packages(&String::from_utf8_lossy(&tree));
    let findings = findings(&rules, &packages);
    if findings.is_empty() {
        term::note(format!("{} packages", packages.len()));
        return Ok(());
    }
    Err(Failure::new(findings.join("\n"), "take another crate, or change deny.toml with a reason"))
}

fn packages(tree: &str) -> BTreeSet<Package> {
    tree.lines()
        .filter_map(|line| {
            let (package, licence) = line.split_once('\t')?;
            let mut words = package.split(' ');
            let name = format!("{} {}", words.next()?, words.next()?);
            let elsewhere = words.find(|word| word.contains("://")).map(str::to_owned);
            // A repeated package carries the mark `(*)`.
            let licence = licence.trim_end_matches("(*)").trim().to_owned();
            Some(Package { name, licence, elsewhere })
        })
        .collect()
}

fn findings(rules: &DenyFile, packages: &BTreeSet<Package>) -> Vec<String> {
    let mut findings = Vec::new();
    for Package { name, licence, elsewhere } in packages {
        if licence.is_empty() {
            findings.push(format!("{name}: states no licence"));
        } else if !licences::allowed(licence, &rules.licenses.allow) {
            findings.push(format!("{name}: licence `{licence}` is not in the allow list"));
        }
        if let Some(elsewhere) = elsewhere {
            findings.push(format!("{name}: comes from {elsewhere}, not from the registry"));
        }
        let crate_name = name.split(' ').next();
        if let Some(ban) = rules.bans.deny.iter().find(|ban| crate_name == Some(&ban.name)) {
            findings.push(format!("{name}: banned: {}", ban.reason));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_breach_and_nothing_else() {
        let rules: DenyFile = toml::from_str(
            "[licenses]\nallow = [\"MIT\"]\n[bans]\ndeny = [{ crate = \"bad\", reason = \"no\" }]\n",
        )
        .unwrap();
        let tree = "bad v1.0.0\tMIT\ncopyleft v1.0.0\tGPL-3.0\n\n\
            from-git v1.0.0 (https://host/repo#abc)\tMIT\ngood v1.0.0 (proc-macro)\tMIT OR GPL-3.0\n\
            good v1.0.0 (proc-macro)\tMIT OR GPL-3.0 (*)\nours v1.0.0 (/some/path)\tMIT\nsilent v1.0.0\t\n";
        let packages = packages(tree);
        assert_eq!(packages.len(), 6);
        let found = findings(&rules, &packages);
        let named: Vec<&str> = found.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(named, ["bad", "copyleft", "from-git", "silent"]);
    }
}
