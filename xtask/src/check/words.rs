//! The repository speaks of itself only: no committed text names a package registry's host or a
//! path of someone's machine, because either is wrong on the next machine.

use std::{fs, process::Command};

use crate::{
    command,
    failure::{Doing as _, Failure, Result},
    places::Places,
    term,
};

/// Written in pieces, so that this file passes its own check.
const FORBIDDEN: [&[&str]; 9] = [
    &["crates", ".io/"],
    &["index.", "crates.io"],
    &["py", "pi.org"],
    &["python", "hosted.org"],
    &["registry.", "npmjs"],
    &["deb.", "debian.org"],
    &["proxy.", "golang.org"],
    &["/wo", "rk/"],
    &["/ho", "me/"],
];

/// Lock files are written by their tools, and name where things come from.
const EXEMPT: [&str; 2] = ["Cargo.lock", "package-lock.json"];

pub fn check(places: &Places) -> Result<()> {
    term::step("house rules on the text of files");
    let listed = command::output(
        Command::new("git").current_dir(&places.root).args(["ls-files", "-z"]),
        "run this in a git checkout",
    )?;
    let forbidden: Vec<String> = FORBIDDEN.iter().map(|pieces| pieces.concat()).collect();
    let mut findings = Vec::new();
    for name in String::from_utf8_lossy(&listed).split('\0').filter(|name| !name.is_empty()) {
        if EXEMPT.iter().any(|exempt| name.ends_with(exempt)) || is_vendored(name) {
            continue;
        }
        let path = places.root.join(name);
        if !path.is_file() {
            continue;
        }
        let bytes = fs::read(&path).doing(format!("read {name}"))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = forbidden.iter().find(|word| line.contains(word.as_str())) {
                findings.push(format!("{name}:{}: contains `{word}`", number + 1));
            }
        }
    }
    if findings.is_empty() {
        return Ok(());
    }
    Err(Failure::new(findings.join("\n"), "say it without naming a host or a machine's path"))
}

/// Other people's files that we ship unchanged.
fn is_vendored(name: &str) -> bool {
    name.split('/').any(|part| part == "vendor")
}
