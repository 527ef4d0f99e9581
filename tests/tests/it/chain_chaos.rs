//! The short form of `cargo xtask chaos chain`: many winners together, and then each kind of death, lie and reorganisation
//! once while winners are on their way to anvil.

use penstock_loadtest::{
    chain_chaos::{self, Settings},
    machine::Origin,
};
use penstock_testkit::{figure, places};

/// Decides what is broken in which order.
const SEED: u64 = 20_261_122;
/// Winners together.
const MANY: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn winners_are_redeemed_once_whatever_the_chain_and_the_process_do() {
    let settings = Settings {
        programs: places::binary("penstock-orchestrator").parent().unwrap().to_owned(),
        many: MANY,
        // One round: everything once.
        kills: 1,
        seed: SEED,
    };
    let report = chain_chaos::run(&settings, Origin::here("test", "dev"), |_| ()).await;
    assert_eq!(report.violations, Vec::<String>::new());
    let (many, broken, counts) = (&report.many, &report.broken, &report.counts);
    assert_eq!(broken.failpoints.len(), 7, "{broken:?}");
    assert_eq!(broken.acts.len(), 7 + 13, "every kind of act: {broken:?}");
    assert!(broken.redemptions_taken_back >= 3, "{broken:?}");
    assert!(broken.held >= 3, "{broken:?}");
    assert!(counts.winners > MANY as u64 && counts.redemptions == counts.winners, "{counts:?}");
    assert!(many.transactions < many.winners, "in batches: {many:?}");
    figure(
        "chain chaos: many winners together: in a second, transactions, questions for each",
        format!(
            "{} winners: {:.1}, {}, {:.1}",
            many.winners, many.per_second, many.transactions, many.questions_per_winner
        ),
    );
    figure(
        "chain chaos: deaths, blocks taken back, redemptions that went with them",
        format!(
            "{}, {}, {}",
            broken.deaths(),
            broken.blocks_taken_back,
            broken.redemptions_taken_back
        ),
    );
    figure(
        "chain chaos: winners, redeemed once each, wei won = earned",
        format!(
            "{}, {}, {} = {}",
            counts.winners, counts.redemptions, counts.worth_wei, counts.earned_wei
        ),
    );
}
