//! The dashboard and the alert rules name metrics and labels that there are, Prometheus takes both, and the rules
//! that watch over money tell when they have to.

use penstock_testkit::places;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path, process::Command};

use crate::documented;

/// What others count: the scraper itself, and node_exporter.
const OF_OTHERS: [&str; 3] = ["up", "node_filesystem_avail_bytes", "node_filesystem_size_bytes"];
/// What scraping and histograms add, and node_exporter has.
const LABELS_OF_OTHERS: [&str; 4] = ["job", "instance", "le", "fstype"];
/// What histograms are called in expressions.
const ENDS: [&str; 3] = ["_bucket", "_count", "_sum"];
/// Words of PromQL that stand where a metric could, and those that a list of labels follows.
const WORDS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];
const GROUPS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

#[test]
fn every_metric_and_label_of_dashboard_and_rules_exists() {
    let (shown, rules) = (dashboard(), expressions_of_rules());
    assert!(shown.len() > 40 && rules.len() > 25, "{} {}", shown.len(), rules.len());
    let sources = documented::sources_of_all_roles();
    let real = documented::metrics(&sources);
    let (mut metrics, mut labels) = (BTreeSet::new(), BTreeSet::new());
    for expression in shown.iter().chain(&rules) {
        read(expression, &mut metrics, &mut labels);
    }
    let is_real = |name: &str| {
        let histogram = ENDS.iter().filter_map(|end| name.strip_suffix(end));
        histogram.chain([name]).any(|name| real.contains(name)) || OF_OTHERS.contains(&name)
    };
    let missing: Vec<_> = metrics.iter().filter(|name| !is_real(name)).collect();
    assert!(missing.is_empty(), "no process has the metrics {missing:#?}");
    let is_label = |name: &str| {
        sources.contains(&format!("\"{name}\" =>")) || LABELS_OF_OTHERS.contains(&name)
    };
    let missing: Vec<_> = labels.iter().filter(|name| !is_label(name)).collect();
    assert!(missing.is_empty(), "no metric has the labels {missing:#?}");
}

/// What Grafana shows wrongly and says nothing of.
#[test]
fn panels_have_places_of_their_own_units_and_names_of_labels_that_are_left() {
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has another panel's id");
        let [x, y, width, height] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        for place in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(place.0 < 24 && taken.insert(place), "{title} is not alone at {place:?}");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        let targets = panel["targets"].as_array().unwrap();
        let names: BTreeSet<_> =
            targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert!(!targets.is_empty() && names.len() == targets.len(), "{title}: {names:?}");
        for target in targets {
            let left = left(target["expr"].as_str().unwrap());
            for label in in_braces(target["legendFormat"].as_str().unwrap()) {
                assert!(left.contains(label), "{title} has no {label} left");
            }
        }
    }
}

#[test]
fn alerts_say_how_bad_it_is_and_name_labels_that_are_left() {
    let text = fs::read_to_string(rules_file()).unwrap();
    let alerts: Vec<_> = text.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 25, "{}", alerts.len());
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        let (before, said) = alert.split_once("annotations:").expect(name);
        let (expression, labels) = before.split_once("labels:").expect(name);
        assert!(["page", "warn"].iter().any(|how| labels.contains(how)), "{name}: {labels}");
        assert!(said.contains("summary: \""), "{name}");
        let is_sum = ["sum", "min", "max", "avg", "count"].iter().any(|function| {
            expression.contains(&format!("{function}("))
                || expression.contains(&format!("{function} by"))
        });
        let left = left(expression);
        for label in in_braces(said).filter_map(|name| name.strip_prefix("$labels.")) {
            assert!(!is_sum || left.contains(label), "{name} has no {label} left");
        }
    }
}

/// Labels that sums of an expression keep.
fn left(expression: &str) -> BTreeSet<&str> {
    let kept = expression.split(" by (").skip(1).filter_map(|rest| rest.split(')').next());
    kept.flat_map(|labels| labels.split(',').map(str::trim)).collect()
}

/// What stands in a text as `{{this}}`.
fn in_braces(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()).map(str::trim)
}

#[test]
fn expressions_are_read() {
    let (mut metrics, mut labels) = (BTreeSet::new(), BTreeSet::new());
    let text = r#"sum by (le, who) (rate(a_bucket{x!="b_total{",y=~"c"}[5m])) > 10e6 * (d or vector(0))
        unless e offset 1h == 0"#;
    read(text, &mut metrics, &mut labels);
    assert_eq!(metrics, BTreeSet::from(["a_bucket", "d", "e"].map(str::to_owned)));
    assert_eq!(labels, BTreeSet::from(["le", "who", "x", "y"].map(str::to_owned)));
}

#[test]
fn prometheus_takes_the_rules_and_what_the_dashboard_asks() {
    let folder = tempfile::tempdir().unwrap();
    let asked = dashboard().into_iter().enumerate().map(|(n, expression)| {
        json!({ "record": format!("panel:{n}"), "expr": expression.replace("$__rate_interval", "5m") })
    });
    let asked = json!({ "groups": [{ "name": "dashboard", "rules": asked.collect::<Vec<_>>() }] });
    let asked_file = folder.path().join("dashboard.json");
    fs::write(&asked_file, asked.to_string()).unwrap();
    for file in [rules_file().as_path(), &asked_file] {
        let said = promtool(&["check", "rules"], file);
        assert!(said.contains("rules found"), "{said}");
    }
}

/// What it is, the values of each minute, and the alerts at the end.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a [&'a str]);

#[test]
fn alerts_are_raised_when_there_is_something_to_look_at() {
    // Values of each minute, and what is told at the end of two hours.
    let calm = [
        ("livepeer_gateway_deposit{instance=\"a\"}", "50e6x120"),
        ("signer_deposit_runway_days{instance=\"a\"}", "400x120"),
        ("signer_reserve_float_wei{instance=\"a\"}", "120e12x120"),
        ("signer_reserve_claimed_wei{instance=\"a\"}", "0x120"),
        ("signer_withdraw_round{instance=\"a\"}", "0x120"),
        ("penstock_ready{instance=\"a\"}", "1x120"),
        ("penstock_missing{dependency=\"ledger\"}", "0x120"),
        ("penstock_gateway_jobs_total{capability=\"video\",outcome=\"done\"}", "0+100x120"),
        ("penstock_gateway_jobs_total{capability=\"video\",outcome=\"failed\"}", "0+1x120"),
        ("penstock_gateway_jobs_total{capability=\"video\",outcome=\"refused\"}", "0+500x120"),
        ("orchestrator_winners_stored_total", "0+1x120"),
        ("orchestrator_tickets_redeemed_total", "0+1x120"),
        ("orchestrator_redemptions_put_off_total", "0+1x120"),
        ("orchestrator_winners_lost_total", "0x120"),
        ("chain_block_lag_seconds{instance=\"a\"}", "2x120"),
    ];
    let but = |changed: &[(&'static str, &'static str)]| {
        let mut series = calm.to_vec();
        for &(name, values) in changed {
            series.retain(|(known, _)| *known != name);
            series.push((name, values));
        }
        series
    };
    let failed = "penstock_gateway_jobs_total{capability=\"video\",outcome=\"failed\"}";
    let cases: [Case; 12] = [
        ("calm", calm.to_vec(), &[]),
        (
            "another signer's account is nearly empty",
            but(&[("livepeer_gateway_deposit{instance=\"b\"}", "9e6x120")]),
            &["PenstockDepositLow"],
        ),
        (
            "the deposit lasts for two days",
            but(&[("signer_deposit_runway_days{instance=\"a\"}", "2x120")]),
            &["PenstockDepositRunsOut"],
        ),
        (
            "the reserve guarantees little",
            but(&[("signer_reserve_float_wei{instance=\"a\"}", "119e12x120")]),
            &["PenstockReserveLow"],
        ),
        (
            "the deposit was empty when a ticket won",
            but(&[("signer_reserve_claimed_wei{instance=\"a\"}", "0x100 1x20")]),
            &["PenstockReserveTaken"],
        ),
        (
            "somebody begins to take the deposit back",
            but(&[("signer_withdraw_round{instance=\"a\"}", "0x100 9x20")]),
            &["PenstockDepositLeaves"],
        ),
        (
            "the ledger is away",
            but(&[
                ("penstock_missing{dependency=\"ledger\"}", "1x120"),
                ("penstock_ready{instance=\"a\"}", "0x120"),
            ]),
            &["PenstockNotReady", "PenstockStoreAway"],
        ),
        (
            "nobody is there",
            but(&[("penstock_missing{dependency=\"orchestrators\"}", "1x120")]),
            &["PenstockNoOrchestrators"],
        ),
        ("one job in ten fails", but(&[(failed, "0+11x120")]), &["PenstockJobsFail"]),
        (
            "every endpoint stands still",
            but(&[("chain_block_lag_seconds{instance=\"a\"}", "2x60 2+60x60")]),
            &["PenstockChainBehind"],
        ),
        (
            "redemptions are stuck",
            but(&[("orchestrator_tickets_redeemed_total", "0x120")]),
            &["PenstockRedemptionsPutOff", "PenstockWinnersNotRedeemed"],
        ),
        (
            "a first winner expired",
            but(&[("orchestrator_winners_lost_total", "0x100 1x20")]),
            &["PenstockWinnersLost"],
        ),
    ];
    let tests = cases.into_iter().map(|(what, series, alerts)| {
        let series =
            series.into_iter().map(|(name, values)| json!({ "series": name, "values": values }));
        let alerts = alerts
            .iter()
            .map(|alert| json!({ "labels": format!("{{alertname=\"{alert}\"}}"), "value": 1 }));
        json!({
            "name": what,
            "interval": "1m",
            "input_series": series.collect::<Vec<_>>(),
            "promql_expr_test": [{
                "expr": "count by (alertname) (ALERTS{alertstate=\"firing\"})",
                "eval_time": "2h",
                "exp_samples": alerts.collect::<Vec<_>>(),
            }],
        })
    });
    let tests = json!({
        "rule_files": [rules_file()],
        "evaluation_interval": "1m",
        "tests": tests.collect::<Vec<_>>(),
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tests.json");
    fs::write(&file, tests.to_string()).unwrap();
    promtool(&["test", "rules"], &file);
}

fn rules_file() -> std::path::PathBuf {
    places::repository().join("deploy/prometheus/rules.yaml")
}

/// What it says; it must be content.
fn promtool(what: &[&str], file: &Path) -> String {
    let mut command = Command::new(places::program("promtool"));
    let output = command.args(what).arg(file).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn panels() -> Vec<Value> {
    let text = fs::read_to_string(places::repository().join("deploy/grafana/penstock.json"));
    let dashboard: Value = serde_json::from_str(&text.unwrap()).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}

/// What the panels ask.
fn dashboard() -> Vec<String> {
    let panels = panels();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// After each `expr:`, on its line or, after a `|`, on those below that are further in.
fn expressions_of_rules() -> Vec<String> {
    let text = fs::read_to_string(rules_file()).unwrap();
    let mut lines = text.lines().peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let Some((before, expression)) = line.split_once("expr: ") else { continue };
        let mut expression = expression.to_owned();
        if expression == "|" {
            expression.clear();
            let is_inside =
                |line: &&str| line.len() > before.len() && line[..=before.len()].trim().is_empty();
            while let Some(line) = lines.next_if(is_inside) {
                expression.push_str(line);
            }
        }
        found.push(expression);
    }
    found
}

/// The metrics and labels that an expression of PromQL names.
fn read(expression: &str, metrics: &mut BTreeSet<String>, labels: &mut BTreeSet<String>) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let bare = without_texts(expression);
    let mut rest = bare.as_str();
    while let Some(c) = rest.chars().next() {
        let words = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(words.max(c.len_utf8()));
        rest = after;
        if word.starts_with(['{', '[']) {
            let (inside, after) = rest.split_once(['}', ']']).unwrap();
            rest = after;
            if word == "{" {
                let matchers = inside.split(',').filter_map(|one| one.split(['=', '!']).next());
                labels.extend(matchers.map(|label| label.trim().to_owned()));
            }
        } else if GROUPS.contains(&word) {
            let (inside, after) =
                rest.trim_start().strip_prefix('(').unwrap().split_once(')').unwrap();
            rest = after;
            labels.extend(inside.split(',').map(|label| label.trim().to_owned()));
        } else if word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            let is_function = rest.trim_start().starts_with('(') || starts_group(rest);
            if !is_function && !WORDS.contains(&word) {
                metrics.insert(word.to_owned());
            }
        }
    }
}

/// `sum by (…) (…)` is a function too.
fn starts_group(rest: &str) -> bool {
    let rest = rest.trim_start();
    GROUPS.iter().any(|group| {
        rest.strip_prefix(group).is_some_and(|after| after.trim_start().starts_with('('))
    })
}

/// Without what is between quotes.
fn without_texts(expression: &str) -> String {
    expression.split('"').step_by(2).collect()
}
