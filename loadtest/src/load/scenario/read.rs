//! From a file's text to a scenario: its form, and every number within its limits.

use super::{
    Ai, Arrivals, End, LiveRunner, Load, MAX_AT_ONCE, MAX_COUNT, MAX_DURATION_S, MAX_GATEWAYS,
    MAX_LOADS, MAX_ORCHESTRATORS, MAX_PER_SECOND, NetworkPlan, Pace, Payments, Push, Rtmp,
    Scenario, ScenarioError, Trickle, Work, one,
};
use serde::Deserialize;
use std::{fmt::Display, ops::RangeInclusive, time::Duration};

/// Bytes of a scenario's file, at most.
const MAX_FILE: usize = 256 << 10;

fn default_in_flight() -> usize {
    1_000
}
fn default_timeout() -> u64 {
    60_000
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    about: String,
    #[serde(default = "one")]
    seed: u64,
    #[serde(default)]
    network: NetworkPlan,
    load: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: Option<String>,
    count: Option<u64>,
    duration_s: Option<u64>,
    #[serde(default)]
    warm_up: u64,
    #[serde(default = "default_timeout")]
    timeout_ms: u64,
    open: Option<Open>,
    closed: Option<Closed>,
    ai: Option<Ai>,
    push: Option<Push>,
    rtmp: Option<Rtmp>,
    live_runner: Option<LiveRunner>,
    payments: Option<Payments>,
    trickle: Option<Trickle>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    per_second: f64,
    #[serde(default)]
    arrivals: Arrivals,
    #[serde(default = "default_in_flight")]
    max_in_flight: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Closed {
    clients: usize,
}

/// The tables of which a load has one.
const KINDS: &str = "ai, push, rtmp, live_runner, payments, trickle";

impl Scenario {
    /// Reads and checks a file's text.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        within("bytes of the file", text.len(), 1..=MAX_FILE)?;
        let mut file: File =
            toml::from_str(text).map_err(|error| ScenarioError::Toml(error.to_string()))?;
        named("name", &file.name)?;
        let plan = &file.network;
        within("network.gateways", plan.gateways, 1..=MAX_GATEWAYS)?;
        within("network.orchestrators", plan.orchestrators, 1..=MAX_ORCHESTRATORS)?;
        within("network.orchestrator_latency_ms", plan.orchestrator_latency_ms, 0..=60_000)?;
        within("number of [[load]]", file.load.len(), 1..=MAX_LOADS)?;
        let mut loads: Vec<Load> = Vec::new();
        for table in std::mem::take(&mut file.load) {
            let load = Load::check(table)?;
            if loads.iter().any(|other| other.name == load.name) {
                return Err(ScenarioError::Twice(load.name));
            }
            loads.push(load);
        }
        let File { name, about, seed, network, .. } = file;
        Ok(Self { name, about, seed, network, loads })
    }
}

impl Load {
    fn check(table: Table) -> Result<Self, ScenarioError> {
        let works: Vec<Work> = [
            table.ai.map(Work::Ai),
            table.push.map(Work::Push),
            table.rtmp.map(Work::Rtmp),
            table.live_runner.map(Work::LiveRunner),
            table.payments.map(Work::Payments),
            table.trickle.map(Work::Trickle),
        ]
        .into_iter()
        .flatten()
        .collect();
        let found = works.len();
        let at = table.name.clone().unwrap_or_else(|| "load".to_owned());
        let Ok([work]) = <[Work; 1]>::try_from(works) else {
            return Err(ScenarioError::OneOf { load: at, names: KINDS, found });
        };
        let name = table.name.unwrap_or_else(|| work.kind().to_owned());
        named("load.name", &name)?;
        let key = |what: &str| format!("{name}: {what}");
        let pace = match (table.open, table.closed) {
            (Some(open), None) => {
                within(key("open.per_second"), open.per_second, 0.01..=MAX_PER_SECOND)?;
                within(key("open.max_in_flight"), open.max_in_flight, 1..=MAX_AT_ONCE)?;
                let Open { per_second, arrivals, max_in_flight } = open;
                Pace::Open { per_second, arrivals, max_in_flight }
            }
            (None, Some(Closed { clients })) => {
                within(key("closed.clients"), clients, 1..=MAX_AT_ONCE)?;
                Pace::Closed { clients }
            }
            (open, closed) => {
                let found = usize::from(open.is_some()) + usize::from(closed.is_some());
                return Err(ScenarioError::OneOf { load: name, names: "open, closed", found });
            }
        };
        if let Some(count) = table.count {
            within(key("count"), count, 1..=MAX_COUNT)?;
        }
        if let Some(duration_s) = table.duration_s {
            within(key("duration_s"), duration_s, 1..=MAX_DURATION_S)?;
        }
        let end = End { count: table.count, duration: table.duration_s.map(Duration::from_secs) };
        if end == End::default() {
            return Err(ScenarioError::Endless(name));
        }
        within(key("warm_up"), table.warm_up, 0..=100_000)?;
        within(key("timeout_ms"), table.timeout_ms, 1..=900_000)?;
        work.check(&key)?;
        let timeout = Duration::from_millis(table.timeout_ms);
        Ok(Self { pace, end, warm_up: table.warm_up, timeout, work, name })
    }
}

impl Work {
    fn check(&self, key: &impl Fn(&str) -> String) -> Result<(), ScenarioError> {
        match self {
            Self::Ai(ai) => {
                within(key("bytes of ai.model"), ai.model.len(), 0..=256)?;
                within(key("ai.seconds"), ai.seconds, 1..=600)?;
                within(key("ai.side"), ai.side, 64..=4_096)?;
                within(key("ai.max_tokens"), ai.max_tokens, 1..=1_000_000)?;
            }
            Self::Push(push) => {
                within(key("push.streams"), push.streams, 1..=10_000)?;
                within(key("push.segment_s"), push.segment_s, 1..=10)?;
                picture(key, "push", push.width, push.height)?;
                within(key("number of push.renditions"), push.renditions.len(), 1..=16)?;
                for rendition in &push.renditions {
                    named(&key("push.renditions.name"), &rendition.name)?;
                    picture(key, "push.renditions", rendition.width, rendition.height)?;
                    let bitrate = key("push.renditions.bitrate");
                    within(bitrate, rendition.bitrate, 1_000..=100_000_000)?;
                }
            }
            Self::Rtmp(rtmp) => {
                within(key("rtmp.seconds"), rtmp.seconds, 3..=600)?;
                picture(key, "rtmp", rtmp.width, rtmp.height)?;
            }
            Self::LiveRunner(runner) => {
                within(key("live_runner.calls"), runner.calls, 0..=100_000)?;
                within(key("live_runner.every_ms"), runner.every_ms, 0..=60_000)?;
                within(key("live_runner.body_bytes"), runner.body_bytes, 0..=8 << 20)?;
                within(key("bytes of live_runner.path"), runner.path.len(), 0..=1_024)?;
            }
            Self::Payments(payments) => {
                within(key("payments.sessions"), payments.sessions, 1..=100_000)?;
                within(key("payments.units"), payments.units, 1..=1_000_000_000_000)?;
            }
            Self::Trickle(trickle) => {
                within(key("trickle.channels"), trickle.channels, 1..=1_000)?;
                within(key("trickle.readers"), trickle.readers, 1..=5_000)?;
                let all = trickle.channels.saturating_mul(trickle.readers);
                within(key("trickle.channels × trickle.readers"), all, 1..=5_000)?;
                // The first sixteen say which segment it is and when it was due.
                within(key("trickle.bytes"), trickle.bytes, 16..=8 << 20)?;
            }
        }
        Ok(())
    }
}

fn picture(
    key: &impl Fn(&str) -> String,
    of: &str,
    width: u32,
    height: u32,
) -> Result<(), ScenarioError> {
    within(key(&format!("{of}.width")), width, 16..=7_680)?;
    within(key(&format!("{of}.height")), height, 16..=4_320)
}

fn within<T: PartialOrd + Display>(
    key: impl Into<String>,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), ScenarioError> {
    if range.contains(&value) {
        return Ok(());
    }
    let (key, value) = (key.into(), value.to_string());
    let range = format!("{} to {}", range.start(), range.end());
    Err(ScenarioError::Range { key, value, range })
}

fn named(key: &str, value: &str) -> Result<(), ScenarioError> {
    let is_good = (1..=64).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let (key, value) = (key.to_owned(), value.to_owned());
    if is_good { Ok(()) } else { Err(ScenarioError::Name { key, value }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "speech"
        [[load]]
        duration_s = 30
        open = { per_second = 20.5, arrivals = "poisson" }
        ai = { pipeline = "audio-to-text" }
    "#;

    fn error(text: &str) -> String {
        Scenario::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_scenario_and_its_defaults() {
        let scenario = Scenario::parse(GOOD).unwrap();
        assert_eq!((scenario.seed, scenario.network.clone()), (1, NetworkPlan::default()));
        let load = &scenario.loads[0];
        let pace =
            Pace::Open { per_second: 20.5, arrivals: Arrivals::Poisson, max_in_flight: 1_000 };
        assert_eq!((load.name.as_str(), load.pace, load.warm_up), ("ai", pace, 0));
        assert_eq!(load.expected(), Some(615));
        let Work::Ai(ai) = &load.work else { panic!("{load:?}") };
        assert_eq!((ai.model.as_str(), ai.seconds), ("", 1));
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (wrong, name) in [
            ("speed = 3\n", "speed"),
            ("network = { gateway = 3 }\n", "gateway"),
            ("name = \"twice\"\n", "name"),
        ] {
            let text = error(&format!("{wrong}{GOOD}"));
            assert!(text.contains(name), "{text}");
        }
        let text = error(&GOOD.replace("per_second", "per_secnod"));
        assert!(text.contains("per_secnod"), "{text}");
        let text = error(&GOOD.replace("pipeline =", "pipelines ="));
        assert!(text.contains("pipelines"), "{text}");
        let text = error(&GOOD.replace("audio-to-text", "audio-to-smell"));
        assert!(text.contains("audio-to-smell") && text.contains("text-to-image"), "{text}");
    }

    #[test]
    fn nobody_floods_by_mistake() {
        for (from, to, names) in [
            ("20.5", "20500.0", "open.per_second = 20500"),
            ("20.5", "-1.0", "open.per_second"),
            ("20.5", "nan", "open.per_second"),
            ("duration_s = 30", "duration_s = 86400", "duration_s = 86400"),
            ("duration_s = 30", "count = 100000000", "count"),
            ("duration_s = 30", "count = 0", "count = 0"),
            ("arrivals = \"poisson\"", "max_in_flight = 50000", "open.max_in_flight"),
            ("pipeline", "seconds = 90000, pipeline", "ai.seconds"),
        ] {
            let text = error(&GOOD.replace(from, to));
            assert!(text.contains(names), "{to}: {text}");
        }
        let many = "network = { orchestrators = 1001 }\n";
        assert!(error(&format!("{many}{GOOD}")).contains("network.orchestrators = 1001"));
        let trickle = GOOD.replace(
            "ai = { pipeline = \"audio-to-text\" }",
            "trickle = { channels = 1000, readers = 1000 }",
        );
        assert!(error(&trickle).contains("trickle.channels × trickle.readers"));
    }

    #[test]
    fn of_paces_and_kinds_there_is_one() {
        let none = GOOD.replace("ai = { pipeline = \"audio-to-text\" }", "");
        assert!(error(&none).contains("exactly one of ai, push"), "{}", error(&none));
        let two = format!("{GOOD}\n        payments = {{}}\n");
        assert!(error(&two).contains("there are 2"), "{}", error(&two));
        let both = format!("{GOOD}\n        closed = {{ clients = 3 }}\n");
        assert!(error(&both).contains("exactly one of open, closed"), "{}", error(&both));
        let endless = GOOD.replace("duration_s = 30", "");
        assert!(error(&endless).contains("count or duration_s"), "{}", error(&endless));
        let load = GOOD.split_once("[[load]]").unwrap().1;
        assert!(error(&format!("{GOOD}\n[[load]]{load}")).contains("two of that name"));
    }

    #[test]
    fn shorter_but_never_longer() {
        let scenario = Scenario::parse(GOOD).unwrap();
        let end = |count, seconds| scenario.clone().shortened(count, seconds).loads[0].end;
        let s = Duration::from_secs;
        assert_eq!(end(Some(5), None), End { count: Some(5), duration: Some(s(30)) });
        assert_eq!(end(None, Some(3)), End { count: None, duration: Some(s(3)) });
        assert_eq!(end(None, Some(300)), End { count: None, duration: Some(s(30)) });
    }

    #[test]
    fn the_scenarios_that_come_along_are_good() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut kinds = std::collections::BTreeSet::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let scenario = Scenario::parse(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"));
            assert_eq!(path.file_stem().unwrap().to_str(), Some(scenario.name.as_str()));
            assert!(!scenario.about.is_empty(), "{path:?} says what it is about");
            kinds.extend(scenario.loads.iter().map(|load| load.work.kind()));
        }
        let all = ["ai", "live_runner", "payments", "push", "rtmp", "trickle"];
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
    }
}
