//! The short form of `cargo xtask chaos faults`: some cells of the matrix, each kind of fault among them.

use penstock_loadtest::{
    faults::{self, Settings, cell},
    machine::Origin,
};
use penstock_testkit::{figure, places, postgres};

/// Decides the order of the cells.
const SEED: u64 = 20_261_122;

#[tokio::test(flavor = "multi_thread")]
async fn bad_wires_lose_no_job_and_no_wei() {
    let ledgers =
        [postgres::database().await, postgres::database().await, postgres::database().await];
    let settings = Settings {
        programs: places::binary("penstock-gateway").parent().unwrap().to_owned(),
        ledgers: ledgers.each_ref().map(|ledger| ledger.url().to_owned()),
        cells: cell::short(),
        seed: SEED,
    };
    let report = faults::run(&settings, Origin::here("test", "dev"), |_| ()).await;
    assert_eq!(report.violations, Vec::<String>::new());
    assert_eq!(report.cells.len(), settings.cells.len());
    for outcome in &report.cells {
        figure(
            &format!("faults: {}, {} (ms until seen, until well)", outcome.pair, outcome.trouble),
            format!("{}, {}", outcome.seen_after_ms, outcome.well_after_ms),
        );
    }
    figure("faults: answered", format!("{:?}", report.answered));
    figure(
        "faults: wei signed = credited; winners, handed over, redeemed, paid",
        format!(
            "{} = {}; {:?}",
            report.sums.signed_wei, report.sums.credited_wei, report.sums.winners
        ),
    );
}
