//! Where figures come from: the commit that was built and the machine, as the driver of load tests says it
//! (`loadtest/src/machine.rs`), for figures that other programs make.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    command,
    failure::{Doing as _, Failure, Result},
    places::Places,
};

/// The commit; `+` behind it: with changes that are not committed.
pub fn commit(places: &Places) -> Result<String> {
    let git = |args: &[&str]| -> Result<String> {
        let mut git = Command::new("git");
        git.current_dir(&places.root).args(args);
        let text = command::output(&mut git, "figures need to name a commit: run this in a clone")?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    };
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Ok(if changed { hash + "+" } else { hash })
}

/// Says in a file of figures, which is a JSON object, where they come from.
pub fn note(file: &Path, commit: &str, profile: &str) -> Result<()> {
    let text = fs::read_to_string(file).doing(format!("read {}", file.display()))?;
    let noted = with(&text, of(commit, profile)).ok_or_else(|| {
        Failure::new(format!("{} is no JSON object", file.display()), "look at what wrote it")
    })?;
    fs::write(file, noted).doing(format!("write {}", file.display()))
}

/// This machine, and a build of that commit.
pub fn of(commit: &str, profile: &str) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let kib = value(&memory, "MemTotal").trim_end_matches("kB").trim().parse::<u64>();
    json!({
        "commit": commit,
        "cpu": value(&processors, "model name"),
        "cores": processors.lines().filter(|line| line.starts_with("processor")).count(),
        "memory_mib": kib.unwrap_or(0) / 1024,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "profile": profile,
    })
}

/// The first `key : value` of that key.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim())
}

fn with(figures: &str, origin: Value) -> Option<String> {
    let mut figures: Value = serde_json::from_str(figures).ok()?;
    figures.as_object_mut()?.insert("origin".to_owned(), origin);
    Some(serde_json::to_string_pretty(&figures).ok()? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_figures_says_where_it_comes_from() {
        let noted = with("{\"spans\": [1]}", of("c0ffee", "dev")).unwrap();
        let noted: Value = serde_json::from_str(&noted).unwrap();
        assert_eq!(noted["spans"], json!([1]));
        assert_eq!(
            (&noted["origin"]["commit"], &noted["origin"]["profile"]),
            (&"c0ffee".into(), &"dev".into())
        );
        assert!(
            noted["origin"]["cores"].as_u64() > Some(0)
                && noted["origin"]["memory_mib"].as_u64() > Some(0)
        );
        assert!(crate::tables::origin(&noted).is_some(), "the tables read it: {noted}");
        assert_eq!(with("[]", of("c", "dev")), None);
        assert_eq!(value("MemTotal:  7 kB\nx", "MemTotal"), "7 kB");
    }
}
