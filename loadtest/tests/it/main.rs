//! Every scenario that comes along, with a handful of operations, against one real network: what the report
//! counts is what gateways, signers and orchestrators count. And what the command refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{fs, path::PathBuf, process::Command};

use penstock_loadtest::{
    load::{
        self, counters,
        network::{Network, Plan},
        report::{LoadReport, Run},
        scenario::{End, Load, NetworkPlan, Pace, Scenario, Work},
    },
    machine::Origin,
};
use penstock_testkit::{figure, places, until, until::DEADLINE};

/// A machine that does other things too answers late.
const PATIENT: [&str; 5] = [
    "--orchestrator-ping-ms=15000",
    "--segment-head-timeout-ms=15000",
    "--segment-hedge-after-ms=0",
    "--payment-timeout-ms=15000",
    "--signer-timeout-ms=10000",
];
/// Operations of a load.
const COUNT: u64 = 6;
/// Calls in a live runner's session.
const CALLS: u64 = 2;
/// Readers of a channel.
const READERS: usize = 3;

fn folder() -> PathBuf {
    places::repository().join("loadtest/scenarios")
}

/// A few of everything, as fast as they go, and as patient as a busy machine needs.
fn tiny(mut load: Load) -> Load {
    load.end = End { count: Some(COUNT), duration: None };
    load.warm_up = 0;
    load.timeout = DEADLINE;
    load.pace = match load.pace {
        Pace::Open { arrivals, .. } => {
            Pace::Open { per_second: 1_000.0, arrivals, max_in_flight: 3 }
        }
        Pace::Closed { .. } => Pace::Closed { clients: 3 },
    };
    match &mut load.work {
        Work::Ai(_) => {}
        Work::Push(push) => {
            (push.streams, push.width, push.height) = (2, 128, 72);
            push.renditions.truncate(1);
        }
        Work::Rtmp(rtmp) => {
            (rtmp.seconds, load.end.count) = (4, Some(1));
        }
        Work::LiveRunner(runner) => (runner.calls, runner.every_ms) = (CALLS, 0),
        Work::Payments(payments) => payments.sessions = 2,
        Work::Trickle(trickle) => (trickle.channels, trickle.readers) = (2, READERS),
    }
    load
}

fn scenarios() -> Vec<Scenario> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        let mut scenario = Scenario::parse(&fs::read_to_string(path).unwrap()).unwrap();
        scenario.loads = scenario.loads.into_iter().map(tiny).collect();
        scenario.network = NetworkPlan { orchestrators: 2, ..NetworkPlan::default() };
        scenario
    };
    files.into_iter().map(read).collect()
}

/// How often a series was recorded in loads of this kind.
fn recorded(run: &Run, kind: &str, series: &str) -> u64 {
    let loads = run.loads.iter().filter(|load| load.kind == kind);
    let all = loads.flat_map(|load| &load.series).filter(|found| found.name == series);
    all.map(|found| found.count).sum()
}

fn ok(run: &Run, kind: &str) -> u64 {
    run.loads.iter().filter(|load| load.kind == kind).map(|load| load.ok).sum()
}

fn went_well(scenario: &Scenario, load: &LoadReport) {
    let wanted = scenario.loads.iter().find(|one| one.name == load.name).unwrap();
    let all = (load.started, load.ok, load.failed);
    let count = wanted.end.count.unwrap();
    assert_eq!(all, (count, count, 0), "{}: {load:?}", scenario.name);
    let main = load.main().unwrap_or_else(|| panic!("{}: no times: {load:?}", scenario.name));
    assert!(main.count >= count, "{}: {main:?}", scenario.name);
    for series in &load.series {
        let in_buckets: u64 = series.buckets.iter().map(|bucket| bucket.1).sum();
        assert_eq!(in_buckets, series.count, "{}: {series:?}", scenario.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_load_counts_is_what_the_nodes_count() {
    load::prepare_process();
    let all = scenarios();
    let borrowed: Vec<&Scenario> = all.iter().collect();
    let programs = places::binary("penstock-gateway").parent().unwrap().to_owned();
    let plan = Plan {
        gateway_flags: PATIENT.map(str::to_owned).to_vec(),
        ..Plan::of(&programs, &borrowed)
    };
    let network = Network::start(&plan).await;
    let pages = &network.target.metrics;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut operations = 0;
    // Payments first: later gateways buy ahead, behind the back of jobs that are done.
    let (paying, others): (Vec<_>, _) = all.iter().partition(|one| one.name == "payments");
    for scenario in paying.into_iter().chain(others) {
        let before = counters::read(&http, pages).await.unwrap();
        let run = load::once(scenario, &|work| network.target_of(work), None, &|_| ()).await;
        let run = run.unwrap_or_else(|why| panic!("{}: {why}", scenario.name));
        assert_eq!(run.loads.len(), scenario.loads.len());
        run.loads.iter().for_each(|load| went_well(scenario, load));
        operations += run.loads.iter().map(|load| load.ok).sum::<u64>();

        let (name, counted) = (&scenario.name, async |what: &str| {
            let after = counters::read(&http, pages).await.unwrap();
            let more = counters::between(&before, &after);
            more.get(what).copied().unwrap_or(0.0) as u64
        });
        let agrees = async |what: &str, count: u64| {
            until(&format!("{name}: {what} rises by {count}"), || async {
                counted(what).await == count
            })
            .await;
        };
        agrees("penstock_gateway_ai_jobs_total", ok(&run, "ai")).await;
        let seen = recorded(&run, "rtmp", "behind live");
        match seen {
            0 => agrees("penstock_gateway_segments_total", ok(&run, "push")).await,
            // The last of a publication may come when nobody looks any more.
            _ => {
                assert!(counted("penstock_gateway_segments_total").await >= ok(&run, "push") + seen)
            }
        }
        agrees("orchestrator_released_total", ok(&run, "live_runner")).await;
        assert_eq!(recorded(&run, "live_runner", "call"), ok(&run, "live_runner") * CALLS);
        let paid = ok(&run, "payments") + recorded(&run, "live_runner", "payment");
        match name.as_str() {
            "payments" => {
                agrees("signer_payments_total", paid).await;
                assert_eq!(recorded(&run, "payments", "delivery"), paid);
                let rig = &network.fleet.as_ref().unwrap().rig;
                let refused: Vec<String> =
                    rig.orchestrators.iter().flat_map(|one| one.refusals()).collect();
                assert_eq!(refused, Vec::<String>::new());
                figure("loads: counters between, of payments", format!("{:?}", run.counters));
            }
            _ => assert!(counted("signer_payments_total").await >= paid, "{name}"),
        }
        let published = recorded(&run, "trickle", "published");
        assert_eq!(recorded(&run, "trickle", "delivery"), published * READERS as u64);
    }
    figure(
        "loads: scenarios and operations that went well",
        format!("{}, {operations}", all.len()),
    );
}

/// The command, with these arguments: its status and what it said.
fn command(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_penstock-loadtest")).args(args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn nobody_is_loaded_by_mistake() {
    let scratch = tempfile::tempdir().unwrap();
    let good = folder().join("ai.toml");
    let good = good.to_str().unwrap();
    let text = fs::read_to_string(good).unwrap();
    let bad = scratch.path().join("bad.toml");
    for (wrong, named) in [
        (text.replace("per_second = 50", "per_secnod = 50"), "per_secnod"),
        (text.replace("per_second = 50", "per_second = 50000"), "open.per_second = 50000"),
    ] {
        fs::write(&bad, wrong).unwrap();
        let (status, said) = command(&["run", bad.to_str().unwrap()]);
        assert!(status == Some(2) && said.contains(named), "{status:?} {said}");
    }
    for (args, named) in [
        (vec!["--target", "https://gateway.example"], "--i-own-this-target"),
        (vec!["--target", "signer=http://127.0.0.1:1"], "--target gateway=URL"),
        (vec!["--replicas", "4"], "1 to 3 gateways"),
        (vec!["--target", "http://127.0.0.1:1", "--json", "/nowhere/at/all"], "/nowhere/at/all"),
    ] {
        let (status, said) = command(&[&["run", good][..], &args[..]].concat());
        assert!(status == Some(2) && said.contains(named), "{args:?}: {status:?} {said}");
    }
}

/// Against what is there already, by the command, to its reports and their comparison.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_loaded_by_its_url() {
    let answers = axum::Router::new().fallback(async || "{}");
    let server = penstock_testkit::sim::Server::clear(answers).await;
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name).display().to_string();
    let scenario = folder().join("closed.toml").display().to_string();
    let (json, html, both) = (place("a.json"), place("a.html"), place("both.html"));
    let load = |url: &str, json: &str| {
        let outputs = ["--count", "5", "--json", json, "--html", &html, "--commit", "c0ffee"];
        let args = [&["run", &scenario, "--target", url][..], &outputs[..]].concat();
        command(&args)
    };
    let (url, other) = (server.uri.clone(), place("b.json"));
    let loaded = tokio::task::block_in_place(|| [load(&url, &json), load(&url, &other)]);
    for (status, said) in &loaded {
        assert!(*status == Some(0) && said.contains("5 of 5 went well"), "{status:?} {said}");
    }
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(report["origin"]["commit"], "c0ffee");
    assert_eq!(report["origin"]["cores"], Origin::here("", "").cores);
    assert_eq!(report["runs"][0]["loads"][0]["ok"], 5);
    assert!(fs::read_to_string(&html).unwrap().contains("<b>5 of 5</b>"));

    let (status, said) = command(&["compare", &json, &other, "--html", &both]);
    assert!(status == Some(0) && said.contains("a ") && said.contains("b "), "{status:?} {said}");
    assert!(fs::read_to_string(both).unwrap().contains("a, b compared"));

    // Nobody is there: nothing of the warm-up goes well.
    let nobody = format!("http://{}", penstock_testkit::sim::nobody());
    let (status, said) = tokio::task::block_in_place(|| load(&nobody, &json));
    assert!(status == Some(2) && said.contains("no connection"), "{status:?} {said}");
}
