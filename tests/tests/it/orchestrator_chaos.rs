//! The short form of `cargo xtask chaos orchestrator`: three orchestrators on one PostgreSQL, and each kind
//! of death, pause and restart once or more while clients pay and work.

use penstock_loadtest::{
    machine::Origin,
    orchestrator_chaos::{self, Postgres, Settings},
};
use penstock_testkit::{figure, places, postgres};

/// Decides what is broken in which order.
const SEED: u64 = 20_261_122;
const TICKETS: u64 = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn orchestrators_that_die_take_every_good_ticket_once() {
    let books = postgres::database().await;
    let settings = Settings {
        programs: places::binary("penstock-orchestrator").parent().unwrap().to_owned(),
        // The server is everybody's: it is not stopped here.
        postgres: Postgres::Url(books.url().to_owned()),
        processes: 3,
        clients: 8,
        tickets: TICKETS,
        max_tickets: 5,
        // One round: everything once.
        kills: 1,
        seed: SEED,
    };
    let report = orchestrator_chaos::run(&settings, Origin::here("test", "dev"), |_| ()).await;
    assert_eq!(report.violations, Vec::<String>::new());
    let (broken, counts) = (&report.broken, &report.counts);
    assert!(counts.tickets >= TICKETS, "{counts:?}");
    assert!(counts.winners > 0 && counts.jobs_answered > 0 && counts.replays > 0, "{counts:?}");
    assert!(counts.brought.answered > 0 && counts.brought.seconds > 0, "{counts:?}");
    let sessions = &counts.live_runner;
    assert!(sessions.sessions > 0 && sessions.seconds > 0 && sessions.moves > 0, "{counts:?}");
    // Those that may not have cost too little either.
    assert!(sessions.undisturbed > 0, "{counts:?}");
    assert_eq!(broken.failpoints.len(), 6, "{broken:?}");
    assert!(broken.kills > 0 && broken.ended > 0 && broken.connections > 0, "{broken:?}");
    figure(
        "orchestrator chaos: tickets, accounts, winners paid",
        format!("{}, {}, {}", counts.tickets, counts.accounts, counts.redemptions),
    );
    figure(
        "orchestrator chaos: jobs of a brought capability, sessions of a live runner, moves, undisturbed",
        format!(
            "{}, {}, {}, {}",
            counts.brought.answered, sessions.sessions, sessions.moves, sessions.undisturbed
        ),
    );
    figure("orchestrator chaos: deaths of orchestrators", broken.deaths());
    figure(
        "orchestrator chaos: wei at clients = ledger",
        format!("{} = {}", counts.credited_wei, counts.ledger_credited_wei),
    );
    figure("orchestrator chaos: longest wait of a client, ms", report.waits.worst_ms);
}
