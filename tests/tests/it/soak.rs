//! The short form of `cargo xtask soak`: two of everything, some faults, and nothing lost. Some seconds say nothing of
//! memory, but that it is looked at.

use penstock_loadtest::{
    machine::Origin,
    soak::{self, Settings, memory::Verdict},
};
use penstock_testkit::{figure, places, postgres};
use std::time::Duration;

/// Decides what is broken.
const SEED: u64 = 20_261_123;

#[tokio::test(flavor = "multi_thread")]
async fn a_load_with_faults_loses_no_work_and_no_wei() {
    let ledgers =
        [postgres::database().await, postgres::database().await, postgres::database().await];
    let settings = Settings {
        programs: places::binary("penstock-gateway").parent().unwrap().to_owned(),
        ledgers: ledgers.each_ref().map(|ledger| ledger.url().to_owned()),
        seed: SEED,
        measure: Duration::from_secs(2),
        load: Duration::from_secs(8),
        sample: Duration::from_millis(200),
        fault: [Duration::from_millis(300), Duration::from_millis(900)],
        calm: Duration::from_millis(500),
        channels: 3,
    };
    let report = soak::run(&settings, Origin::here("test", "dev"), |_| ()).await;
    assert_eq!(report.violations, Vec::<String>::new());
    assert_eq!(report.agreed, report.faults.len() as u64 + 1, "after each fault, and in the end");
    assert!(!report.faults.is_empty());
    assert_eq!(report.sums.signed_wei, report.sums.credited_wei);
    let [winners, _, redeemed, paid] = report.sums.winners;
    assert_eq!([redeemed, paid], [winners; 2]);
    let channels = report.channels;
    assert_eq!((channels.channels, channels.readers, channels.missing), (3, 9, 0));
    assert!(channels.acknowledged > 0 && channels.read > 0, "{channels:?}");
    // Three roles twice, redeemers, a signer, and the channels' orchestrator.
    assert_eq!(report.memory.len(), 10);
    for memory in &report.memory {
        assert!(memory.samples.iter().all(|(_, kib)| *kib > 1_000), "{memory:?}");
        assert!(memory.samples.len() >= 2, "{memory:?}");
        // Whenever the books agreed under the load; the last time is after it.
        assert_eq!(memory.at_rest.len() as u64, report.agreed - 1, "{memory:?}");
        // Of the heap as well, which is a part of it.
        let heap = memory.heap_at_rest.iter().zip(&memory.at_rest);
        assert_eq!(memory.heap_at_rest.len(), memory.at_rest.len(), "{memory:?}");
        assert!(
            heap.into_iter().all(|((_, heap), (_, ram))| *heap > 100 && heap < ram),
            "{memory:?}"
        );
    }
    let roles: Vec<(&str, usize)> =
        report.roles.iter().map(|role| (role.role.as_str(), role.processes)).collect();
    let channels = "orchestrator of the channels";
    assert_eq!(
        roles,
        [
            ("gateway", 2),
            ("orchestrator", 2),
            (channels, 1),
            ("redeemer", 2),
            ("signer", 1),
            ("worker", 2)
        ]
    );
    for role in &report.roles {
        // A role's slope is that of its processes, if there were moments enough.
        let own = report.memory.iter().filter(|one| {
            one.process == role.role || one.process.starts_with(&format!("{} ", role.role))
        });
        let own = own.filter(|one| role.role == channels || one.process != channels);
        assert_eq!(own.count(), role.processes, "{role:?}");
        // Nine seconds at most say nothing of memory, and it is said that they do not.
        assert_eq!(role.ram.verdict == Verdict::Unknown, role.ram.slope.is_none(), "{role:?}");
        assert_eq!(role.heap.verdict == Verdict::Unknown, role.heap.slope.is_none(), "{role:?}");
    }
    figure("soak: jobs answered", format!("{:?}", report.answered));
    figure("soak: faults, moments at which the books agreed", report.agreed);
}
