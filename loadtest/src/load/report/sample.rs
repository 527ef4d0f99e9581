//! A report whose times are known, for tests.

use super::{super::tally::Tally, *};
use crate::load::scenario::Scenario;
use tokio::time::Instant;

const SCENARIO: &str = r#"
    name = "sample"
    about = "Speech & <pictures>"
    [[load]]
    count = 1000
    open = { per_second = 100 }
    ai = { pipeline = "audio-to-text" }
    [[load]]
    duration_s = 10
    closed = { clients = 4 }
    payments = {}
"#;

/// Milliseconds of 1 to 1,000, each once, a hundred due in each second; on two replicas twice as much.
pub fn report(replicas: usize) -> Report {
    let scenario = Scenario::parse(SCENARIO).unwrap();
    let runs = (1..=replicas).map(|number| run(&scenario, number)).collect();
    let origin = Origin {
        commit: "0123456789ab".to_owned(),
        cpu: "a processor".to_owned(),
        cores: 2,
        memory_mib: 1_024,
        kernel: "6.1".to_owned(),
        profile: "release".to_owned(),
        seed: None,
    };
    Report {
        form: FORM,
        origin,
        scenario: scenario.name,
        about: scenario.about,
        text: SCENARIO.to_owned(),
        seed: scenario.seed,
        runs,
    }
}

fn run(scenario: &Scenario, replicas: usize) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let loads = runtime.block_on(async {
        let jobs = Tally::default();
        jobs.begin();
        let began = jobs.began();
        // The slowest last: what was due at 9.99 s ended a second later.
        for ms in 1..=1_000_u64 {
            let due = began + Duration::from_millis((ms - 1) * 10);
            tokio::time::sleep_until(due + Duration::from_millis(ms)).await;
            jobs.started();
            jobs.record("job", due, Instant::now() - Duration::from_millis(1));
            jobs.went_well();
        }
        let payments = Tally::default();
        payments.begin();
        for _ in 0..50 * replicas {
            let begun = Instant::now();
            tokio::time::sleep(Duration::from_millis(20)).await;
            payments.started();
            payments.record("payment", begun, begun);
            payments.went_well();
        }
        payments.reason("503 <busy>", 3);
        let second = Duration::from_secs(1);
        let took = [11 * second, second];
        let tallies = [jobs, payments];
        let all = scenario.loads.iter().zip(&tallies).zip(took);
        all.map(|((load, tally), took)| LoadReport::of(load, &tally.counted(), took)).collect()
    });
    Run {
        replicas: Some(replicas),
        target: "gateway http://127.0.0.1:1".to_owned(),
        wall_s: 11.0,
        loads,
        counters: Counters::from([("penstock_gateway_ai_jobs_total".to_owned(), 1_000.0)]),
    }
}
