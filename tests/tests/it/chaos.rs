//! The short form of `cargo xtask chaos signer`: two signers on one PostgreSQL, 64 clients, and the
//! replicas and their database connections die all the while.

use penstock_loadtest::{
    chaos::{self, Settings},
    machine::Origin,
};
use penstock_testkit::{figure, places, postgres};

/// Decides what is broken in which order.
const SEED: u64 = 20_250_711;
/// At least.
const PAYMENTS: u64 = 2_000;
const MAX_TICKETS: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_die_under_load_lose_and_repeat_nothing() {
    let books = postgres::database().await;
    let settings = Settings {
        signer: places::binary("penstock-signer"),
        postgres: Some(books.url().to_owned()),
        replicas: 2,
        clients: 64,
        tickets: PAYMENTS * MAX_TICKETS,
        max_tickets: MAX_TICKETS,
        payments_between: 70,
        seed: SEED,
        flags: vec![
            "--events=webhook:{sink}".to_owned(),
            "--events-lease-ms=1000".to_owned(),
            "--request-timeout-ms=5000".to_owned(),
        ],
        events: true,
    };
    let report = chaos::run(&settings, Origin::here("test", "dev"), |_| ()).await;
    assert_eq!(report.violations, Vec::<String>::new());
    let (counts, broken) = (&report.counts, &report.broken);
    assert!(counts.payments >= PAYMENTS, "{counts:?}");
    assert_eq!(counts.duplicate_nonces, 0);
    // The load went on until all of this had happened.
    assert!(counts.retries > 0 && counts.repeats > 0 && counts.twins > 0, "{counts:?}");
    assert_eq!(broken.lacks(true), None);
    figure("chaos: payments, tickets", format!("{}, {}", counts.payments, counts.tickets));
    figure("chaos: what was broken", broken);
    figure(
        "chaos: wei at clients = ledger = orchestrators",
        format!("{} = {} = {}", counts.ev_wei, counts.ledger_ev_wei, counts.credited_ev_wei),
    );
    figure(
        "chaos: retries, repeats, twins, events",
        format!("{}, {}, {}, {}", counts.retries, counts.repeats, counts.twins, counts.events),
    );
    figure(
        "chaos: tickets in the audit, of them never answered",
        format!("{}, {}", counts.audit_tickets, counts.audit_tickets_of_no_payment),
    );
}
