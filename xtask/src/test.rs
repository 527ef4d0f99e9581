//! `cargo xtask test`: everything that tests need, then every test. A server that does not start
//! fails the run. Only the runner's tests of packages that are not installed here (those of graphics cards and of larger
//! models) are left out, and named.

use std::{
    io::{IsTerminal as _, stdout},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    command, dev,
    failure::{Failure, Result},
    figures::Figures,
    instructions, origin,
    places::Places,
    services::{
        Service,
        postgres::{Durability, start_postgres},
        redis::start_redis,
    },
    setup::{self, Purpose},
    tables, term,
    watched::{self, Patience},
};

/// Which tests to run; nothing set means all.
pub struct Selection {
    pub filters: Vec<String>,
    pub package: Option<String>,
    pub nocapture: bool,
    /// For how long a test may run.
    pub hang_after_s: u64,
    /// Where the trace test writes its trace.
    pub trace_file: Option<PathBuf>,
}

impl Selection {
    fn is_everything(&self) -> bool {
        self.filters.is_empty() && self.package.is_none()
    }

    /// One that is slow, but within its limit, may be all that runs.
    fn patience(&self) -> Patience {
        let test = Duration::from_secs(self.hang_after_s);
        // And nobody hears of it within its first minute.
        Patience { test, silence: test.saturating_mul(2).max(Duration::from_secs(120)) }
    }
}

/// The test of one trace alone, which records it, and the picture.
pub fn record_trace(places: &Places) -> Result<()> {
    let selection = Selection {
        filters: vec!["traces::".to_owned()],
        package: Some("penstock-tests".to_owned()),
        nocapture: false,
        hang_after_s: 600,
        trace_file: Some(places.root.join(tables::FOLDER).join(tables::trace::DATA)),
    };
    run(places, &selection)?;
    if let Some(file) = &selection.trace_file {
        origin::note(file, &origin::commit(places)?, "dev")?;
    }
    tables::write(places)
}

pub fn run(places: &Places, selection: &Selection) -> Result<()> {
    setup::run(places, Purpose::Test)?;
    // Tests of all packages bring all features: the roles with fewer would be compiled for themselves.
    match selection.package {
        None => build_everything(places)?,
        Some(_) => dev::build_roles(places, &["penstock-heap/counted"])?,
    }
    term::step("starting Redis and PostgreSQL");
    let redis = start_redis()?;
    let postgres = start_postgres(Durability::None)?;
    term::note(format!("{} {}", redis.url, postgres.url));

    let figures = Figures::begin(places)?;
    // The runner's tests first: they take seconds, and the system tests rest on the runner.
    let runner = if selection.is_everything() { runner_tests(places, selection) } else { Ok(()) };
    let rust = rust_tests(places, selection, &redis, &postgres, &figures);
    figures.show();
    let counted = if selection.is_everything() {
        instructions::count_and_compare(places, false)
    } else {
        Ok(())
    };
    // All verdicts are shown; the first failure is the task's.
    for other in [&runner, &counted] {
        if let (Err(other), Err(_)) = (other, &rust) {
            term::warn(other.to_string());
        }
    }
    rust.and(runner).and(counted)
}

/// Binaries and tests in one build, with the features that `cargo test` will ask for: so nothing is
/// compiled twice and the binaries that system tests start are the ones just built.
pub fn build_everything(places: &Places) -> Result<()> {
    term::step("building the roles and the tests");
    command::run(
        command::cargo(places).args(["build", "--locked", "--workspace", "--all-targets"]),
        "mend the compiler errors above, then run the same command again",
    )
}

fn rust_tests(
    places: &Places,
    selection: &Selection,
    redis: &Service,
    postgres: &Service,
    figures: &Figures,
) -> Result<()> {
    term::step("Rust tests");
    // First what takes long without a word of any test.
    let mut build = cargo_test(places, selection);
    environment(&mut build, places);
    command::run(build.arg("--no-run"), "mend the compiler errors above")?;
    let mut cargo = cargo_test(places, selection);
    let is_terminal = stdout().is_terminal();
    if is_terminal {
        cargo.args(["--color", "always"]);
    }
    cargo.arg("--").args(&selection.filters);
    if is_terminal {
        cargo.args(["--color", "always"]);
    }
    if selection.nocapture {
        cargo.arg("--nocapture");
    }
    environment(&mut cargo, places);
    cargo.env("PENSTOCK_TEST_REDIS_URL", &redis.url);
    cargo.env("PENSTOCK_TEST_POSTGRES_URL", &postgres.url);
    cargo.env("PENSTOCK_FIGURES_FILE", figures.file());
    if let Some(file) = &selection.trace_file {
        cargo.env("PENSTOCK_TRACE_FILE", file);
    }
    let fix = "read the failing test above; `cargo xtask test NAME` runs it alone";
    watched::run(&mut cargo, selection.patience(), fix)
}

fn cargo_test(places: &Places, selection: &Selection) -> Command {
    let mut cargo = command::cargo(places);
    cargo.args(["test", "--locked"]);
    match &selection.package {
        Some(package) => cargo.args(["--package", package]),
        // After a failing binary the others still run: one run shows every failure.
        None => cargo.args(["--workspace", "--no-fail-fast"]),
    };
    cargo
}

/// What tests may rely on. `crates/testkit` reads the same names.
fn environment(cargo: &mut Command, places: &Places) {
    let set: [(&str, &Path); 12] = [
        ("PENSTOCK_BIN_DIR", &places.bin()),
        ("PENSTOCK_TEST_MEDIA_DIR", &places.media()),
        ("PENSTOCK_TEST_SDK_PYTHON", &places.sdk_python()),
        ("PENSTOCK_TEST_AI_SDKS_PYTHON", &places.ai_sdks_python()),
        ("PENSTOCK_TEST_SCHEMATHESIS", &places.schemathesis()),
        ("PENSTOCK_TEST_DEPLOY_PYTHON", &places.deploy_python()),
        ("PENSTOCK_TEST_MOTO_SERVER", &places.moto_server()),
        ("PENSTOCK_TEST_ANVIL", &places.anvil()),
        ("PENSTOCK_TEST_CONTRACTS", &places.contracts()),
        ("PENSTOCK_RUNNER_PYTHON", &places.runner_python()),
        ("PENSTOCK_MODELS_DIR", &places.models()),
        ("PENSTOCK_TEST_REPOSITORY", &places.root),
    ];
    for (name, value) in set {
        cargo.env(name, value);
    }
}

fn runner_tests(places: &Places, selection: &Selection) -> Result<()> {
    term::step("runner tests (Python)");
    let tests = places.root.join("runner/tests");
    if !tests.is_dir() {
        return Err(Failure::new("runner/tests is missing", "restore it from the repository"));
    }
    watched::run(
        Command::new(places.runner_python())
            .current_dir(places.root.join("runner"))
            .args(["-m", "unittest", "discover", "--start-directory", "tests", "--verbose"])
            .env("PENSTOCK_MODELS_DIR", places.models())
            .env("PENSTOCK_TEST_MEDIA_DIR", places.media()),
        selection.patience(),
        "read the failing test above",
    )
}
