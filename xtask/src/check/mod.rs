//! `cargo xtask check`: what must hold before a test is worth running.

mod graph;
mod licences;
mod words;

use crate::{
    command,
    failure::Result,
    openapi,
    places::Places,
    setup::{self, Purpose},
    tables, term, test,
};

pub fn run(places: &Places) -> Result<()> {
    format(places)?;
    words::check(places)?;
    tables::check(places)?;
    graph::check(places)?;
    cargo_deny(places)?;
    // From here on C code is compiled.
    setup::install_programs(Purpose::Dev)?;
    clippy(places)?;
    // The same build that `cargo xtask test` does, so that CI compiles once.
    test::build_everything(places)?;
    openapi::compare(places)
}

fn format(places: &Places) -> Result<()> {
    if !has(places, "fmt") {
        term::warn("SKIPPED: formatting is NOT checked, rustfmt is not installed");
        return Ok(());
    }
    term::step("formatting");
    command::run(
        command::cargo(places).args(["fmt", "--all", "--check"]),
        "run `cargo fmt --all` and commit the result",
    )
}

fn clippy(places: &Places) -> Result<()> {
    if !has(places, "clippy") {
        term::warn("SKIPPED: lints are NOT checked, clippy is not installed");
        return Ok(());
    }
    term::step("lints");
    command::run(
        command::cargo(places).args([
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--features",
            // The fuzzer's own program, which no test builds.
            "penstock-fuzz/engine",
            "--",
            "-D",
            "warnings",
        ]),
        "mend the findings above; clippy.toml gives the reasons of the house rules",
    )
}

/// The graph check covers licences and sources by itself; cargo-deny adds more where it is there.
fn cargo_deny(places: &Places) -> Result<()> {
    if command::find("cargo-deny").is_none() {
        term::note("cargo-deny is not installed; licences, bans and sources are checked by xtask");
        return Ok(());
    }
    term::step("cargo-deny");
    command::run(
        command::cargo(places).args(["deny", "--offline", "check", "licenses", "bans", "sources"]),
        "mend the findings above or change deny.toml with a reason",
    )
}

fn has(places: &Places, subcommand: &str) -> bool {
    command::succeeds(command::cargo(places).args([subcommand, "--version"]))
}
