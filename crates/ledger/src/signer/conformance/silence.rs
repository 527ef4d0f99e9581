//! A PostgreSQL that says nothing any more, as when its host dies: no error, no end of connection.

use super::*;
use crate::signer::accounts::{self, Expect, Put, Record, Stamp, TierRecord};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Between the ledger and the server. Connections from before a cut stay silent for good, those
/// made while it lasts too.
struct Line {
    addr: SocketAddr,
    /// How often the line was cut or mended; odd: it is cut.
    turns: watch::Sender<u32>,
}

impl Line {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (turns, seen) = watch::channel(0_u32);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (server, mut seen) = (server.clone(), seen.clone());
                tokio::spawn(async move {
                    let now = *seen.borrow_and_update();
                    let mut server = TcpStream::connect(server).await.unwrap();
                    if now % 2 == 0 {
                        tokio::select! {
                            _ = copy_bidirectional(&mut client, &mut server) => return,
                            _ = seen.wait_for(|turns| *turns > now) => {}
                        }
                    }
                    // Silent, but open.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self { addr, turns }
    }

    fn turn(&self) {
        self.turns.send_modify(|turns| *turns += 1);
    }
}

/// The line, and the database's URL over it.
async fn line_to(books: &PostgresBooks) -> (Line, String) {
    let url = books.0.url();
    let (_, place) = url.rsplit_once('@').unwrap();
    let (server, _) = place.split_once('/').unwrap();
    let line = Line::to(server.to_owned()).await;
    let url = url.replace(server, &line.addr.to_string());
    (line, url)
}

/// Long enough for a busy machine to answer, short enough to wait for.
const LIMITS: Limits =
    Limits { answer: Duration::from_millis(1_500), report: Duration::from_millis(1_500) };

fn is_away<T: std::fmt::Debug>(answer: Result<T, LedgerError>) {
    assert!(matches!(answer, Err(LedgerError::Unavailable(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_goes_silent_is_away_and_may_come_back() {
    let books = PostgresBooks::new().await;
    let (line, url) = line_to(&books).await;
    let ledger = super::super::open_within(&url, "one", LIMITS).await.unwrap();
    pay(&ledger, 1, 0, 1, 1).await;
    let held = hold(&ledger, ask(1, 1, 1, 1)).await;

    line.turn();
    let id = id(1);
    let (reserved, committed, session, stored, summary) = tokio::join!(
        ledger.reserve(ask(2, 0, 1, 1)),
        ledger.commit(payment(1, 1, held)),
        ledger.session(&id),
        ledger.payment(&id, 0),
        ledger.summary(),
    );
    is_away(reserved);
    is_away(committed);
    is_away(session);
    is_away(stored);
    is_away(summary);
    let (anchored, taken, ping) =
        tokio::join!(ledger.anchor(2), ledger.take_events(1, 2, 1), ledger.ping());
    is_away(anchored);
    is_away(taken);
    is_away(ping);

    // Back, for new connections only: none of those from before is used, whoever asks.
    line.turn();
    let stored = ledger.commit(payment(1, 1, held)).await.unwrap();
    assert!(matches!(stored, Committed::Stored(_)));
    pay(&ledger, 2, 0, 1, 1).await;
    assert_eq!(ledger.summary().await.unwrap().payments, 3);
    assert_eq!(verified(&ledger).await.faults, []);
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_do_not_wait_for_a_silent_postgres() {
    let books = PostgresBooks::new().await;
    let (line, url) = line_to(&books).await;
    let ledger = accounts::open_within(&url, LIMITS).await.unwrap();
    let tier = |name: &str| Put {
        record: Record::Tier(TierRecord {
            name: name.into(),
            policy: "{}".into(),
            deleted: false,
            stamp: Stamp::default(),
        }),
        expect: Expect::Absent,
    };
    ledger.apply(vec![tier("one")], 1).await.unwrap();
    line.turn();
    let (changes, applied) =
        tokio::join!(ledger.changes(0, 10), ledger.apply(vec![tier("two")], 2));
    is_away(changes);
    is_away(applied);
    line.turn();
    ledger.apply(vec![tier("two")], 3).await.unwrap();
    assert_eq!(ledger.changes(0, 10).await.unwrap().records.len(), 2);
    ledger.close().await;
}
