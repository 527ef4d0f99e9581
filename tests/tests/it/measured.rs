//! The short form of `cargo xtask bench orchestrator`: everything that it measures works, and is counted
//! whole, and memory comes back. How long it takes says nothing here.

use penstock_loadtest::{
    machine::Origin,
    orchestrator_bench::{self, LivePlan, Settings},
};
use penstock_testkit::{places, postgres};

#[tokio::test(flavor = "multi_thread")]
async fn what_an_orchestrator_costs_can_be_measured() {
    let books = postgres::database().await;
    let settings = Settings {
        programs: places::binary("penstock-orchestrator").parent().unwrap().to_owned(),
        own: None,
        ledgers: vec!["sqlite".to_owned(), books.url().to_owned()],
        tickets: 24,
        tickets_per_payment: vec![1, 6],
        clients: 4,
        segments: 1,
        fan_outs: vec![3],
        fan_out_segments: 2,
        paced_segments: 5,
        crowd: 20,
        live: LivePlan { channels: 30, readers: 3, segments: 2, rounds: 2 },
        core: None,
        flags: Vec::new(),
    };
    let report = orchestrator_bench::run(&settings, Origin::here("test", "dev"), |_| ()).await;
    let loads: Vec<_> =
        report.tickets.iter().map(|l| (l.ledger.as_str(), l.payments, l.tickets)).collect();
    let each = [("sqlite", 24, 24), ("sqlite", 4, 24), ("postgres", 24, 24), ("postgres", 4, 24)];
    assert_eq!(loads, each);
    let validated = report.validation.iter();
    let validated: Vec<_> =
        validated.map(|of| (of.tickets_per_payment, of.rounds_ns.len())).collect();
    assert_eq!(validated, [(1, 5), (6, 5)]);
    assert!(report.validation.iter().all(|of| of.ticket_ns > 0), "{:?}", report.validation);
    let segments = report.segments.unwrap();
    assert_eq!((segments.through_ms.len(), segments.bare_ms.len()), (1, 1));
    assert!(segments.command[0].ends_with("ffmpeg"), "{:?}", segments.command);
    assert_eq!((report.first_byte.trickle.count, report.first_byte.bare.count), (15, 15));
    assert_eq!(report.fan_out[0].bytes, 3 * 2 * (1 << 20));
    let (crowd, live) = (report.crowd.unwrap(), report.live.unwrap());
    assert_eq!(crowd.trickle.count, crowd.bare.count);
    // Rounds, channels, readers, segments, writes.
    let counts: Vec<_> = live.rounds.iter().map(|round| round.times.count).collect();
    assert_eq!(counts, [30 * 3 * 2 * 4; 2]);
    assert_eq!(live.bare.unwrap().count, 30 * 3 * 2 * 4);
    assert_eq!(report.broken, Vec::<String>::new());
}
