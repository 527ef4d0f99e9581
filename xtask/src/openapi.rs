//! `openapi/*.json`: written by the services themselves, committed, and compared in CI, so that a
//! change of the API is a change that a reviewer sees.

use std::{fs, process::Command};

use crate::{
    command,
    failure::{Doing as _, Failure, Result},
    places::Places,
    term,
};

/// The services with an HTTP API of their own: package, what it is asked with, document.
const DOCUMENTS: [(&str, &[&str], &str); 4] = [
    ("penstock-gateway", &["openapi"], "gateway.json"),
    ("penstock-gateway", &["openapi", "--admin"], "gateway-admin.json"),
    ("penstock-signer", &["openapi"], "signer.json"),
    ("penstock-signer", &["openapi", "--admin"], "signer-admin.json"),
];

pub fn run(places: &Places, check: bool) -> Result<()> {
    term::step("building the services");
    let mut cargo = command::cargo(places);
    cargo.args(["build", "--quiet", "--locked", "--bins"]);
    for (package, _, _) in DOCUMENTS {
        cargo.args(["--package", package]);
    }
    command::run(&mut cargo, "mend the compiler errors above")?;
    if check { compare(places) } else { write(places) }
}

/// Fails when a committed document is not what the built services say.
pub fn compare(places: &Places) -> Result<()> {
    term::step("comparing openapi/ with the code");
    let mut stale = Vec::new();
    for (package, words, document) in DOCUMENTS {
        let committed = fs::read(places.root.join("openapi").join(document)).unwrap_or_default();
        if committed != generated(places, package, words)? {
            stale.push(format!("openapi/{document}"));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        format!("{} differs from the code", stale.join(", ")),
        "run `cargo xtask openapi` and commit the result",
    ))
}

fn write(places: &Places) -> Result<()> {
    let folder = places.root.join("openapi");
    fs::create_dir_all(&folder).doing("make openapi/")?;
    for (package, words, document) in DOCUMENTS {
        fs::write(folder.join(document), generated(places, package, words)?)
            .doing(format!("write openapi/{document}"))?;
        term::note(format!("openapi/{document} written"));
    }
    Ok(())
}

fn generated(places: &Places, package: &str, words: &[&str]) -> Result<Vec<u8>> {
    command::output(
        Command::new(places.bin().join(package)).args(words),
        "the service must print its API document with the subcommand `openapi`",
    )
}
