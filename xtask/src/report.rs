//! `cargo xtask bench`: every benchmark's short form, three rounds, as ratios to what is bare in the same
//! round. How far the rounds lie apart is the noise that a figure states.

mod figures;
mod html;

pub use figures::{WHOLE_PAYMENTS, figures};

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::{
    failure::{Doing as _, Failure, Result},
    places::Places,
    tables, term,
};

/// Where the page lies.
const PAGE: &str = "bench/report.html";

/// One ratio, measured once a round.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The baseline.
    pub beside: &'static str,
    /// What is aimed at, if anything is.
    pub target: Option<Target>,
    /// Of what both raw values are: `jobs per CPU-second`, `µs`…
    pub unit: &'static str,
    /// Of each round: what was measured, and the baseline's.
    pub raw: Vec<(f64, f64)>,
}

/// What a ratio should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

impl Figure {
    /// The ratio of each round.
    pub fn rounds(&self) -> Vec<f64> {
        self.raw.iter().map(|(measured, bare)| measured / bare).collect()
    }

    /// The middle round.
    pub fn median(&self) -> f64 {
        let mut sorted = self.rounds();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// From the lowest round to the highest.
    pub fn noise(&self) -> f64 {
        let rounds = self.rounds();
        let most = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        most - least
    }

    /// As data: what it is and every round, raw.
    fn json(&self) -> Value {
        let target = self.target.map(|target| match target {
            Target::AtLeast(ratio) => json!({"at_least": ratio}),
            Target::AtMost(ratio) => json!({"at_most": ratio}),
        });
        json!({
            "name": self.name, "beside": self.beside, "target": target, "unit": self.unit,
            "measured": self.raw.iter().map(|(measured, _)| measured).collect::<Vec<_>>(),
            "baseline": self.raw.iter().map(|(_, bare)| bare).collect::<Vec<_>>(),
            "ratios": self.rounds(), "median": self.median(), "noise": self.noise(),
        })
    }

    /// Whether two runs' medians lie no further apart than their noise together.
    pub fn agrees(&self, other: &Self) -> bool {
        (self.median() - other.median()).abs() <= self.noise() + other.noise()
    }

    /// Whether the target is met; nothing where there is none.
    pub fn met(&self) -> Option<bool> {
        self.target.map(|target| match target {
            Target::AtLeast(least) => self.median() >= least,
            Target::AtMost(most) => self.median() <= most,
        })
    }
}

/// The figures' file and the page; says which figures lie further from the last run than noise explains.
pub fn write(places: &Places, rounds: &[Value], took: Duration) -> Result<()> {
    let data = places.root.join(tables::FOLDER).join(tables::ALL_BENCH);
    let now = figures(rounds).ok_or_else(|| {
        Failure::new("a round lacks figures", "read the drivers' lines above, and measure again")
    })?;
    let before: Option<Value> =
        fs::read_to_string(&data).ok().and_then(|text| serde_json::from_str(&text).ok());
    let origin = rounds.first().and_then(|round| round.pointer("/signer/origin")).cloned();
    let compared = match (&before, &origin) {
        (Some(before), Some(origin)) => compare(before, origin, &now),
        _ => None,
    };
    match &compared {
        Some(compared) => say(compared),
        None if before.is_some() => term::note(
            "not compared: the last run was on another kind of machine, of another kind, or of one round only",
        ),
        None => {}
    }
    let report = json!({
        "origin": origin,
        "wall_s": took.as_secs(),
        "figures": now.iter().map(Figure::json).collect::<Vec<_>>(),
        "rounds": rounds,
        "compared": compared,
    });
    let text = lines(&report);
    fs::write(&data, text).doing(format!("write {}", data.display()))?;
    let page = places.root.join(PAGE);
    if let Some(folder) = page.parent() {
        fs::create_dir_all(folder).doing(format!("make {}", folder.display()))?;
    }
    fs::write(&page, html::page(&report, &now)).doing(format!("write {PAGE}"))?;
    term::note(format!("{PAGE} and {}/{} written", tables::FOLDER, tables::ALL_BENCH));
    Ok(())
}

/// A line for each figure and each round of raw values, whose histograms would be thousands.
fn lines(report: &Value) -> String {
    let parts = report.as_object().into_iter().flatten().map(|(name, part)| {
        let part = match part.as_array() {
            Some(all) => {
                let all: Vec<String> = all.iter().map(|one| format!("    {one}")).collect();
                format!("[\n{}\n  ]", all.join(",\n"))
            }
            None => part.to_string(),
        };
        format!("  {}: {part}", Value::from(name.as_str()))
    });
    format!("{{\n{}\n}}\n", parts.collect::<Vec<_>>().join(",\n"))
}

/// Whether figures of both may be compared: ratios, too, hang on how fast memory, caches and kernel calls are
/// beside the curve. Kernels of the same machine may differ, and what they leave of its memory.
fn same_machine(one: &Value, other: &Value) -> bool {
    let same = |what: &str| one.get(what).is_some() && one.get(what) == other.get(what);
    let memory = |origin: &Value| origin.get("memory_mib").and_then(Value::as_f64);
    let near =
        memory(one).zip(memory(other)).is_some_and(|(a, b)| (a - b).abs() <= a.max(b) * 0.05);
    same("cpu") && same("cores") && same("profile") && near
}

/// What the last run's medians are to these; nothing where another kind of machine ran, or where one of the two
/// has no noise.
fn compare(before: &Value, origin: &Value, now: &[Figure]) -> Option<Value> {
    if !same_machine(before.get("origin")?, origin) {
        return None;
    }
    let then = figures(before.get("rounds")?.as_array()?)?;
    if [now, &then].into_iter().flatten().any(|figure| figure.raw.len() < 2) {
        return None;
    }
    let apart: Vec<&str> = now
        .iter()
        .filter(|figure| then.iter().any(|old| old.name == figure.name && !old.agrees(figure)))
        .map(|figure| figure.name.as_str())
        .collect();
    Some(json!({
        "commit": before.pointer("/origin/commit")?,
        "figures": now.iter().filter(|f| then.iter().any(|old| old.name == f.name)).count(),
        "apart": apart,
    }))
}

fn say(compared: &Value) {
    let apart = compared.get("apart").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    term::note(format!(
        "{} figures beside the last run's ({}): {} further apart than both runs' noise",
        compared["figures"],
        compared["commit"],
        apart.len()
    ));
    for name in apart {
        term::note(format!("  {name}"));
    }
}

#[cfg(test)]
mod tests {
    use super::{figures::tests::round, *};

    #[test]
    fn runs_agree_within_the_noise_of_both() {
        let of = |rounds: [f64; 3]| Figure {
            name: String::new(),
            beside: "",
            target: None,
            unit: "",
            raw: rounds.map(|ratio| (ratio * 7.0, 7.0)).to_vec(),
        };
        assert!(of([1.0, 1.1, 0.9]).agrees(&of([1.2, 1.25, 1.15])));
        assert!(!of([1.0, 1.01, 0.99]).agrees(&of([1.2, 1.21, 1.19])));
    }

    fn origin(cpu: &str, memory_mib: u64) -> Value {
        json!({"commit": "abc", "cpu": cpu, "cores": 2, "memory_mib": memory_mib, "profile": "release"})
    }

    #[test]
    fn a_run_is_compared_with_one_of_the_same_kind_of_machine_only() {
        let before = json!({"origin": origin("a", 24_105), "rounds": [round(1.0), round(1.01)]});
        let now = figures(&[round(2.0), round(2.01)]).unwrap();
        let compared = compare(&before, &origin("a", 24_099), &now).unwrap();
        let apart = compared["apart"].as_array().unwrap();
        assert!(apart.contains(&json!("gateway: jobs per CPU-second")), "{apart:?}");
        assert!(!apart.iter().any(|name| name.as_str().unwrap().contains("segment")), "{apart:?}");
        assert_eq!(compare(&before, &origin("b", 24_105), &now), None);
        assert_eq!(compare(&before, &origin("a", 12_000), &now), None);
        assert_eq!(compare(&before, &json!({}), &now), None);
        let once = figures(&[round(2.0)]).unwrap();
        assert_eq!(compare(&before, &origin("a", 24_105), &once), None, "it has no noise");
    }

    #[test]
    fn a_report_has_a_line_for_each_round_and_each_figure_with_its_raw_values() {
        let now = figures(&[round(1.0), round(2.0)]).unwrap();
        let report = json!({"figures": now.iter().map(Figure::json).collect::<Vec<_>>(),
            "origin": origin("a", 1), "rounds": [round(1.0), round(2.0)], "compared": null});
        let text = lines(&report);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), report);
        assert_eq!(text.lines().count(), 2 + 2 + 2 * 2 + 2 + now.len());
        let jobs = report["figures"].as_array().unwrap().iter();
        let jobs = jobs.into_iter().find(|f| f["name"] == "gateway: jobs per CPU-second").unwrap();
        assert_eq!(
            (&jobs["measured"], &jobs["baseline"]),
            (&json!([300.0, 600.0]), &json!([1000.0, 1000.0]))
        );
    }
}
