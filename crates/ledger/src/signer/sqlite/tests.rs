//! What only SQLite has: a file, its rights, a disk that is full, and books of an older schema.

use crate::{DatabaseError, sqlite::writer::Tx};
use crate::{
    signer::{
        Committed, LedgerError, MIGRATIONS, Reserved, SignerLedger, Summary,
        conformance::{SqliteBooks, ask, hash, hold, id, pay, payment, verified},
        open,
    },
    sqlite::Sqlite,
};
use sqlx::{Executor, SqlitePool, migrate::Migrator};
use std::{borrow::Cow, os::unix::fs::PermissionsExt, sync::Arc};

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn nobody_else_may_read_the_files() {
    let books = SqliteBooks::new().await;
    let ledger = open(&books.url(), "one").await.unwrap();
    pay(&ledger, 1, 0, 1, 1).await;
    let files = || std::fs::read_dir(books.0.path()).unwrap().map(|f| f.unwrap().path());
    assert!(files().count() >= 3, "the file, its log and its index");
    for file in files() {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    ledger.close().await;
    // Rights that were too wide are taken back.
    let file = books.0.path().join("signer.db");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    open(&books.url(), "one").await.unwrap().close().await;
    assert_eq!(mode(&file), 0o600);
}

/// A full disk makes SQLite roll the whole transaction back by itself. That must be said, and must
/// not outlast the shortage.
#[tokio::test]
async fn writes_go_on_when_a_full_disk_has_room_again() {
    let books = SqliteBooks::new().await;
    let store = super::SqliteStore::open(&books.url(), "one").await.unwrap();
    let pages = async |most: u32, begun: Result<Tx, DatabaseError>| {
        let sql = format!("PRAGMA max_page_count = {most}");
        begun.unwrap().query_row(&sql, [], |_| Ok(())).unwrap();
    };
    let (fill, widen) = (store.writer.begin(), store.writer.begin());
    let ledger: Arc<dyn SignerLedger> = Arc::new(crate::signer::engine::Books::new(store, "one"));
    pay(&ledger, 0, 0, 0, 1).await;
    // Not a page more than are in use.
    pages(1, fill.await).await;
    let mut told = Vec::new();
    let refused = loop {
        let n = told.len() as u32 + 1;
        assert!(n < 5_000, "the disk was never full");
        match ledger.reserve(ask(n, 0, 1, 1)).await {
            Ok(Reserved::Nonces(held)) => told.push(held),
            Err(error) => break error,
            other => panic!("{other:?}"),
        }
        if told.len() == 600 {
            panic!("600 reservations fit into no page at all");
        }
    };
    assert!(matches!(refused, LedgerError::Unavailable(_)), "{refused}");
    assert!(ledger.reserve(ask(9_998, 0, 1, 50)).await.is_err(), "still full");
    pages(1_000_000, widen.await).await;
    let next = hold(&ledger, ask(9_999, 0, 1, 1)).await;
    assert_eq!(next.nonces.first as usize, told.len() + 1, "what was told is still there");
    for (n, held) in told.iter().enumerate() {
        let stored = ledger.commit(payment(n as u32 + 1, 0, *held)).await.unwrap();
        assert!(matches!(stored, Committed::Stored(_)));
    }
    let report = verified(&ledger).await;
    assert_eq!((report.faults, report.signatures), (vec![], told.len() as u64 + 2));
    ledger.close().await;
}

/// Books as the first schema left them, with rows in them.
async fn old_books(url: &str) {
    let first = MIGRATIONS.iter().filter(|m| m.version == 1).cloned().collect::<Vec<_>>();
    let migrator = Migrator { migrations: Cow::Owned(first), ..Migrator::DEFAULT };
    let old = Sqlite::open(url, &migrator).await.unwrap();
    let run = async |sql: String| {
        let writer: &SqlitePool = old.writer();
        writer.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    };
    for (n, h) in [(1, hash(1)), (2, hash(2))] {
        run(format!("INSERT INTO nonces VALUES ('{h:#x}', {})", 10 * n)).await;
    }
    // Two payments of one session, one of another; a reservation that came to nothing.
    for (n, first, last) in [(1, 1, 4), (2, 5, 6), (3, 7, 7), (4, 8, 10)] {
        run(format!(
            "INSERT INTO reservations VALUES ({n}, '{:#x}', {first}, {last}, '0000000{}', {}, 1)",
            hash(1),
            if n == 3 { 2 } else { 1 },
            i32::from(n == 2),
        ))
        .await;
    }
    for (state, key, sequence, tickets, credit, fee, balance) in
        [(1, "'key'", 1, 6, "210", "600/7", "870/7"), (2, "NULL", 0, 1, "35", "1/3", "104/3")]
    {
        run(format!(
            "INSERT INTO sessions VALUES ('0000000{state}', 'gateway', {key}, 'x:1', '0x{}', \
             'app', 'lv2v', 'm1', 1, 1, {}, {sequence}, 7, {tickets}, '{credit}', '{fee}', \
             '{balance}', 5)",
            "07".repeat(20),
            if state == 1 { 7 } else { 3 },
        ))
        .await;
    }
    for (n, state, sequence, first, last, fee, balance) in [
        (1, 1, 0, 1, 4, "300/7", "680/7"),
        (2, 1, 1, 5, 6, "300/7", "870/7"),
        (3, 2, 0, 7, 7, "1/3", "104/3"),
    ] {
        run(format!(
            "INSERT INTO payments VALUES ({n}, '0000000{state}', {sequence}, {n}, 'x:1', 'lv2v', \
             'm1', 1, '{:#x}', {first}, {last}, {}, '35', '{}', '35', 100, '{fee}', '{balance}', \
             x'616e73776572{n:02}', 86400000)",
            hash(1),
            last - first + 1,
            penstock_domain::U256::MAX,
        ))
        .await;
    }
    old.close().await;
}

#[tokio::test]
async fn books_of_the_first_schema_keep_all_they_hold() {
    let books = SqliteBooks::new().await;
    old_books(&books.url()).await;
    for _ in 0..2 {
        let ledger = open(&books.url(), "one").await.unwrap();
        let summary = ledger.summary().await.unwrap();
        let expected = Summary {
            payments: 3,
            tickets: 7,
            ticket_ev_total_wei: "245".parse().unwrap(),
            fee_total_wei: "1807/21".parse().unwrap(),
            fee_rounding_wei: 0,
            balance_total_wei: "3338/21".parse().unwrap(),
        };
        assert_eq!(summary, expected, "added up once, not at every start");
        let session = ledger.session(&id(1)).await.unwrap().unwrap();
        assert_eq!((session.sequence, session.tickets), (1, 6));
        assert_eq!(session.balance_wei, "870/7".parse().unwrap());
        let first = ledger.first_payment("gateway", "key").await.unwrap().unwrap();
        assert_eq!((first.sequence, first.answer.as_slice()), (0, b"answer\x01".as_slice()));
        let second = ledger.payment(&id(1), 1).await.unwrap().unwrap();
        assert_eq!(second.answer, b"answer\x02");
        let rows = ledger.payments(10).await.unwrap();
        let places: Vec<_> = rows.iter().map(|p| (p.state_id.clone(), p.sequence)).collect();
        assert_eq!(places, [(id(2), 0), (id(1), 1), (id(1), 0)], "newest first");
        assert_eq!((rows[0].account.as_str(), rows[0].first_nonce), ("gateway", 7));
        assert_eq!(ledger.sessions(10).await.unwrap()[0].state_id, id(2));
        ledger.close().await;
    }
    // Nonces go on behind the old ones, those of the lost reservation too; sessions go on.
    let ledger = open(&books.url(), "one").await.unwrap();
    let held = hold(&ledger, ask(1, 2, 1, 1)).await;
    assert_eq!(held.nonces.first, 11);
    let mut next = payment(1, 2, held);
    next.binding.app = "app".into();
    let Committed::Stored(balance) = ledger.commit(next).await.unwrap() else { panic!() };
    assert_eq!(balance, "-4885/7".parse().unwrap(), "870/7 + 35 − 6000/7");
    let again = ledger.reserve(ask(1, 1, 1, 1)).await.unwrap();
    assert!(matches!(again, Reserved::Answered(stored) if stored.answer == b"answer\x02"));
    ledger.close().await;
}
