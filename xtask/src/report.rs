//! `cargo xtask bench`: every benchmark's short form, three rounds, as ratios to what is bare in the same
//! round. How far the rounds lie apart is the noise that a figure states.

mod html;

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
    /// Of each round.
    pub rounds: Vec<f64>,
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
    /// The middle round.
    pub fn median(&self) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// From the lowest round to the highest.
    pub fn noise(&self) -> f64 {
        let most = self.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let least = self.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        most - least
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

/// All figures of some rounds; nothing if one lacks what another has.
pub fn figures(rounds: &[Value]) -> Option<Vec<Figure>> {
    let mut all: Vec<Figure> = Vec::new();
    for round in rounds {
        let measured = [signer(round)?, gateway(round)?, orchestrator(round)?].concat();
        if all.is_empty() {
            all = measured;
            continue;
        }
        for figure in measured {
            let known = all.iter_mut().find(|known| known.name == figure.name)?;
            known.rounds.extend(figure.rounds);
        }
    }
    let whole =
        |figure: &Figure| figure.rounds.len() == rounds.len() && figure.median().is_finite();
    all.iter().all(whole).then_some(all)
}

fn once(name: String, beside: &'static str, target: Option<Target>, ratio: f64) -> Figure {
    Figure { name, beside, target, rounds: vec![ratio] }
}

fn signer(round: &Value) -> Option<Vec<Figure>> {
    let mut figures = Vec::new();
    for run in round.pointer("/signer/runs")?.as_array()? {
        let ledger = run.get("ledger")?.as_str()?;
        let ratio = run.pointer("/full/percent_of_raw")?.as_f64()? / 100.0;
        let target = if ledger == "sqlite" { 0.5 } else { 0.4 };
        figures.push(once(
            format!("signer: payments per CPU-second, {ledger}"),
            "two bare signatures",
            Some(Target::AtLeast(target)),
            ratio,
        ));
    }
    Some(figures)
}

fn gateway(round: &Value) -> Option<Vec<Figure>> {
    let ways = round.pointer("/gateway/ways")?.as_array()?;
    let way = |name: &str| ways.iter().find(|way| way.get("name").is_some_and(|n| n == name));
    let (gateway, keyed) = (way("gateway")?, way("gateway, jobs with `Idempotency-Key`")?);
    let (bare, itself) = (way("a bare proxy (axum, reqwest)")?, way("orchestrator itself")?);
    let of = |one: &Value, other: &Value, what: &str| {
        Some(one.get(what)?.as_f64()? / other.get(what)?.as_f64()?)
    };
    const PROXY: &str = "a bare proxy of the same libraries";
    Some(vec![
        once(
            "gateway: jobs per CPU-second".to_owned(),
            PROXY,
            Some(Target::AtLeast(0.6)),
            of(gateway, bare, "per_cpu_second")?,
        ),
        once(
            "gateway: jobs with a key per CPU-second".to_owned(),
            PROXY,
            None,
            of(keyed, bare, "per_cpu_second")?,
        ),
        once(
            "gateway: a job's median time at half load".to_owned(),
            "the orchestrator itself",
            None,
            of(gateway, itself, "p50_us")?,
        ),
    ])
}

fn orchestrator(round: &Value) -> Option<Vec<Figure>> {
    let all = round.get("orchestrator")?;
    let mut figures = Vec::new();
    for load in all.get("tickets")?.as_array()? {
        let (ledger, each) = (load.get("ledger")?.as_str()?, load.get("tickets_per_payment")?);
        figures.push(once(
            format!("orchestrator: tickets per CPU-second, {each} a payment, {ledger}"),
            "the faster of recovery and verification",
            Some(Target::AtLeast(0.6)),
            load.get("percent_of_raw")?.as_f64()? / 100.0,
        ));
    }
    figures.push(once(
        "orchestrator: a segment's time, transcoded".to_owned(),
        "a bare ffmpeg",
        Some(Target::AtMost(1.1)),
        all.pointer("/segments/ratio")?.as_f64()?,
    ));
    for fan_out in all.get("fan_out")?.as_array()? {
        figures.push(once(
            format!(
                "orchestrator: trickle bytes per CPU-second, readers: {}",
                fan_out.get("readers")?
            ),
            "a bare copy",
            None,
            fan_out.get("percent_of_bare")?.as_f64()? / 100.0,
        ));
    }
    Some(figures)
}

/// The figures' file and the page; says which figures lie further from the last run than noise explains.
pub fn write(places: &Places, rounds: &[Value], took: Duration) -> Result<()> {
    let data = places.root.join(tables::FOLDER).join(tables::ALL_BENCH);
    let now = figures(rounds).ok_or_else(|| {
        Failure::new("a round lacks figures", "read the drivers' lines above, and measure again")
    })?;
    let before: Option<Value> =
        fs::read_to_string(&data).ok().and_then(|text| serde_json::from_str(&text).ok());
    let compared = before.as_ref().and_then(|before| compare(before, &now));
    if let Some(compared) = &compared {
        say(compared);
    }
    let origin = rounds.first().and_then(|round| round.pointer("/signer/origin")).cloned();
    let report = json!({
        "origin": origin,
        "wall_s": took.as_secs(),
        "rounds": rounds,
        "compared": compared,
    });
    let text = serde_json::to_string_pretty(&report).unwrap_or_default() + "\n";
    fs::write(&data, text).doing(format!("write {}", data.display()))?;
    let page = places.root.join(PAGE);
    if let Some(folder) = page.parent() {
        fs::create_dir_all(folder).doing(format!("make {}", folder.display()))?;
    }
    fs::write(&page, html::page(&report, &now)).doing(format!("write {PAGE}"))?;
    term::note(format!("{PAGE} and {}/{} written", tables::FOLDER, tables::ALL_BENCH));
    Ok(())
}

/// What the last run's medians are to these; nothing where another kind of machine ran.
fn compare(before: &Value, now: &[Figure]) -> Option<Value> {
    let then = figures(before.get("rounds")?.as_array()?)?;
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
    use super::*;

    fn round(by: f64) -> Value {
        let way = |name: &str, per_cpu: f64| json!({"name": name, "per_cpu_second": per_cpu, "p50_us": 1000.0 * by});
        json!({
            "signer": {"runs": [{"ledger": "sqlite", "full": {"percent_of_raw": 34.0 * by}}]},
            "gateway": {"ways": [
                way("gateway", 300.0 * by), way("gateway, jobs with `Idempotency-Key`", 200.0 * by),
                way("a bare proxy (axum, reqwest)", 1000.0), way("orchestrator itself", 0.0),
            ]},
            "orchestrator": {
                "tickets": [{"ledger": "sqlite", "tickets_per_payment": 1, "percent_of_raw": 70.0}],
                "segments": {"ratio": 1.05},
                "fan_out": [{"readers": 10, "percent_of_bare": 69.0}],
            },
        })
    }

    #[test]
    fn rounds_make_medians_with_their_noise() {
        let all = figures(&[round(1.0), round(1.2), round(0.9)]).unwrap();
        let gateway = all.iter().find(|f| f.name == "gateway: jobs per CPU-second").unwrap();
        assert!((gateway.median() - 0.3).abs() < 1e-9, "{gateway:?}");
        assert!((gateway.noise() - 0.09).abs() < 1e-9, "{gateway:?}");
        assert_eq!(gateway.met(), Some(false));
        let segment = all.iter().find(|f| f.beside == "a bare ffmpeg").unwrap();
        assert_eq!((segment.noise(), segment.met()), (0.0, Some(true)));
    }

    #[test]
    fn a_round_without_a_figure_makes_no_report() {
        let mut short = round(1.0);
        short["orchestrator"]["fan_out"] = json!([]);
        assert_eq!(figures(&[round(1.0), short]), None);
        assert_eq!(figures(&[json!({})]), None);
    }

    #[test]
    fn runs_agree_within_the_noise_of_both() {
        let of = |rounds: [f64; 3]| Figure {
            name: String::new(),
            beside: "",
            target: None,
            rounds: rounds.to_vec(),
        };
        assert!(of([1.0, 1.1, 0.9]).agrees(&of([1.2, 1.25, 1.15])));
        assert!(!of([1.0, 1.01, 0.99]).agrees(&of([1.2, 1.21, 1.19])));
        let before = json!({"origin": {"commit": "abc"}, "rounds": [round(1.0), round(1.01)]});
        let now = figures(&[round(2.0), round(2.01)]).unwrap();
        let compared = compare(&before, &now).unwrap();
        let apart = compared["apart"].as_array().unwrap();
        assert!(apart.contains(&json!("gateway: jobs per CPU-second")), "{apart:?}");
        assert!(!apart.iter().any(|name| name.as_str().unwrap().contains("segment")), "{apart:?}");
    }
}
