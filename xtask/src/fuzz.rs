//! `cargo xtask fuzz`: libFuzzer over every target of `fuzz/`, on the stable compiler. Its instrumentation is
//! LLVM's own pass; what only a nightly compiler has (address sanitizer) is not needed where nothing is unsafe.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread::{self, available_parallelism},
};

use crate::{
    command,
    failure::{Doing as _, Failure, Result},
    places::Places,
    term,
};

/// Coverage by counters and by comparisons, as libFuzzer reads it.
const INSTRUMENTED: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Seconds after which an input is a finding, and memory of the process likewise.
const LIMITS: [&str; 3] = ["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"];
/// Longest input that goes into the repository.
const MAX_KEPT_BYTES: u64 = 2_048;

/// What is asked for.
pub struct Fuzz {
    /// Of all targets together.
    pub minutes: u64,
    /// Only this one.
    pub target: Option<String>,
    /// Whether what was found becomes part of the corpora.
    pub grow: bool,
}

pub fn run(places: &Places, fuzz: &Fuzz) -> Result<()> {
    let host = host()?;
    let folder = places.root.join("target/fuzz");
    term::step("building the fuzzer");
    let mut cargo = command::cargo(places);
    cargo.args(["build", "--release", "--locked", "--package", "penstock-fuzz"]);
    cargo.args(["--features", "engine", "--target", &host]).arg("--target-dir").arg(&folder);
    cargo.env("RUSTFLAGS", INSTRUMENTED).env("CARGO_PROFILE_RELEASE_LTO", "off");
    cargo.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    cargo.env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true");
    cargo.env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true");
    command::run(&mut cargo, "mend the compiler errors above")?;
    let program = folder.join(&host).join("release/penstock-fuzz");
    let targets = targets(places, fuzz.target.as_deref())?;
    let cores = available_parallelism().map_or(1, usize::from);
    let seconds = fuzz.minutes.saturating_mul(60).saturating_mul(cores as u64);
    let seconds = (seconds / targets.len() as u64).max(1);
    term::step(format!("{} targets, {seconds} s each, {cores} at a time", targets.len()));
    let work = Mutex::new(targets.iter());
    let worker = || -> Result<()> {
        loop {
            let next = work.lock().ok().and_then(|mut targets| targets.next());
            let Some(target) = next else { return Ok(()) };
            one(places, &program, &folder, target, seconds)?;
            if fuzz.grow {
                merge(places, &program, &folder, target)?;
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        for thread in threads {
            let fix = "run it again with one target";
            let died = |_| Err(Failure::new("a thread of the fuzzer ended badly", fix));
            thread.join().unwrap_or_else(died)?;
        }
        Ok(())
    })
}

/// Searches for so long; fails with a finding, whose input is kept.
fn one(places: &Places, program: &Path, folder: &Path, target: &str, seconds: u64) -> Result<()> {
    let found = made(folder.join("found").join(target))?;
    let findings = made(folder.join("findings").join(target))?;
    let log = folder.join(format!("{target}.log"));
    let mut fuzzer = Command::new(program);
    fuzzer.env("PENSTOCK_FUZZ_TARGET", target).args(LIMITS).arg(&found).arg(corpus(places, target));
    fuzzer.arg(format!("-max_total_time={seconds}"));
    fuzzer.arg(format!("-artifact_prefix={}/", findings.display()));
    fuzzer.stderr(fs::File::create(&log).doing(format!("write {}", log.display()))?);
    let fix = format!(
        "the input is in {}, what it did in {}: mend the decoder, and put the input into fuzz/corpus/{target}",
        findings.display(),
        log.display()
    );
    command::run(&mut fuzzer, &fix)?;
    let said = fs::read_to_string(&log).unwrap_or_default();
    let runs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let covered = said.lines().rev().find_map(|line| line.split_once("cov: ")?.1.split(' ').next());
    let (runs, covered) = (runs.unwrap_or("?").trim(), covered.unwrap_or("?"));
    term::note(format!("{target}: {runs} inputs, {covered} edges, no finding"));
    Ok(())
}

/// What was found beyond the corpus and reaches more than it becomes part of it.
fn merge(places: &Places, program: &Path, folder: &Path, target: &str) -> Result<()> {
    let mut fuzzer = Command::new(program);
    fuzzer.env("PENSTOCK_FUZZ_TARGET", target).arg("-merge=1");
    fuzzer.arg(format!("-max_len={MAX_KEPT_BYTES}"));
    fuzzer.arg(corpus(places, target)).arg(folder.join("found").join(target));
    let log = folder.join(format!("{target}.merge.log"));
    fuzzer.stderr(fs::File::create(&log).doing(format!("write {}", log.display()))?);
    command::run(&mut fuzzer, "the corpus is as it was")
}

fn made(folder: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&folder).doing(format!("make {}", folder.display()))?;
    Ok(folder)
}

fn corpus(places: &Places, target: &str) -> PathBuf {
    places.root.join("fuzz/corpus").join(target)
}

/// One of them, or all that have a corpus, which a test makes sure are all that there are.
fn targets(places: &Places, one: Option<&str>) -> Result<Vec<String>> {
    let folder = places.root.join("fuzz/corpus");
    let read = fs::read_dir(&folder).doing(format!("read {}", folder.display()))?;
    let names = read.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| one.is_none_or(|one| one == name)).collect();
    names.sort();
    if names.is_empty() {
        return Err(Failure::new("there is no such target", "see fuzz/corpus for their names"));
    }
    Ok(names)
}

/// The compiler's own platform. Named, so that only what is fuzzed is instrumented, and no build script.
fn host() -> Result<String> {
    let said = command::output(Command::new("rustc").arg("-vV"), "install Rust")?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("rustc names no host", "install Rust"))
}
