//! `cargo xtask instructions`: how many instructions the money core's hot functions take, counted by callgrind,
//! beside those of docs/data. They do not depend on the machine's load, so CI fails when they grow.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;
use serde_json::json;

use crate::{
    command,
    failure::{Doing as _, Failure, Result},
    origin,
    places::Places,
    setup::{self, Purpose},
    tables, term,
};

/// A function may take so much more than is written down, in percent: libraries choose a little
/// differently on other processors.
const SLACK_PERCENT: f64 = 3.0;
/// The difference of these is what is counted, so that what surrounds the function falls away.
const TIMES: [u64; 2] = [20, 120];
const AGAIN: &str = "if it is meant: `cargo xtask instructions --record`, and commit docs/data and docs/performance.md";

/// Instructions of one call, by function.
pub type Counts = BTreeMap<String, f64>;

/// What is written down, as far as it is compared.
#[derive(Deserialize)]
struct Recorded {
    per_call: Counts,
}

/// Counts, and fails when a function takes more than is written down; `record`: writes it down.
pub fn run(places: &Places, record: bool) -> Result<()> {
    setup::install_programs(Purpose::Test)?;
    count_and_compare(places, record)
}

/// The same where all programs are there.
pub fn count_and_compare(places: &Places, record: bool) -> Result<()> {
    term::step("counting the money core's instructions (callgrind)");
    let program = build(places)?;
    let counts = count_all(&program)?;
    let file = places.root.join(tables::FOLDER).join(tables::INSTRUCTIONS);
    if record {
        let origin = origin::of(&origin::commit(places)?, "release");
        let figures = json!({ "origin": origin, "per_call": counts });
        let text = serde_json::to_string_pretty(&figures).unwrap_or_default();
        fs::write(&file, text + "\n").doing(format!("write {}", file.display()))?;
        return tables::write(places);
    }
    let text = fs::read_to_string(&file).doing(format!("read {}", file.display()))?;
    let Recorded { per_call: known } = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("{}: {error}", file.display()), AGAIN))?;
    for (name, count) in &counts {
        let was = known.get(name).copied().unwrap_or(f64::NAN);
        term::note(format!("{name:40} {count:12.0} ({:+.1} %)", (count / was - 1.0) * 100.0));
    }
    match findings(&known, &counts).as_slice() {
        [] => Ok(()),
        findings => Err(Failure::new(findings.join("\n"), AGAIN)),
    }
}

fn build(places: &Places) -> Result<PathBuf> {
    let mut cargo = command::cargo(places);
    cargo.args(["build", "--release", "--locked", "--package", "penstock-instructions"]);
    command::run(&mut cargo, "mend the compiler errors above")?;
    Ok(places.release().join("penstock-instructions"))
}

fn count_all(program: &Path) -> Result<Counts> {
    let names = command::output(&mut Command::new(program), "the program names its functions")?;
    let mut counts = Counts::new();
    for name in String::from_utf8_lossy(&names).lines() {
        let [few, many] = TIMES.map(|times| count(program, name, times));
        let (few, many) = (few?, many?);
        let calls = TIMES.iter().rev().copied().reduce(|many, few| many - few).unwrap_or(1);
        counts.insert(name.to_owned(), (many.saturating_sub(few) / calls) as f64);
    }
    Ok(counts)
}

/// All instructions of one process.
fn count(program: &Path, name: &str, times: u64) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(program).arg(name).arg(times.to_string());
    let output = valgrind.output().doing("run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then(|| collected(&said)).flatten().ok_or_else(|| {
        Failure::new(format!("callgrind counted nothing:\n{said}"), "run it by hand and look")
    })
}

/// `==123== Collected : 4567`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.split_once("Collected :"))?.1;
    line.split_whitespace().next()?.parse().ok()
}

fn findings(known: &Counts, counts: &Counts) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, count) in counts {
        match known.get(name) {
            None => findings.push(format!("{name}: nothing is written down of it")),
            Some(was) if *count > was * (1.0 + SLACK_PERCENT / 100.0) => findings.push(format!(
                "{name} takes {count:.0} instructions, {:.1} % more than the {was:.0} written down",
                (count / was - 1.0) * 100.0
            )),
            Some(_) => {}
        }
    }
    let gone = known.keys().filter(|name| !counts.contains_key(*name));
    findings.extend(gone.map(|name| format!("{name} is written down and is not counted")));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, f64)]) -> Counts {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn what_grows_is_found() {
        let known = counts(&[("a", 1000.0), ("b", 1000.0)]);
        assert!(findings(&known, &counts(&[("a", 1029.0), ("b", 500.0)])).is_empty());
        assert_eq!(findings(&known, &counts(&[("a", 1031.0), ("b", 1000.0)])).len(), 1);
        assert_eq!(findings(&known, &counts(&[("a", 1.0), ("c", 1.0)])).len(), 2);
    }

    #[test]
    fn what_is_written_down_is_read_with_and_without_its_origin() {
        for text in
            [r#"{"per_call": {"a": 1.0}}"#, r#"{"origin": {"cores": 2}, "per_call": {"a": 1.0}}"#]
        {
            let Recorded { per_call } = serde_json::from_str(text).unwrap();
            assert_eq!(per_call, counts(&[("a", 1.0)]));
        }
    }

    #[test]
    fn callgrinds_word_is_read() {
        assert_eq!(collected("==1== Events    : Ir\n==1== Collected : 123456\n"), Some(123_456));
        assert_eq!(collected("==1== Collected : nothing"), None);
    }
}
