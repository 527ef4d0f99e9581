//! What every implementation of the accounts must do, run over both databases.

use super::*;
use futures::future::join_all;
use penstock_domain::AuthId;
use penstock_testkit::postgres::{Database, database};
use std::{collections::BTreeMap, sync::Arc};

fn tier(name: &str, policy: &str) -> Record {
    let (name, policy) = (name.to_owned(), policy.to_owned());
    Record::Tier(TierRecord { name, policy, deleted: false, stamp: Stamp::default() })
}

fn account(name: &str, tier: Option<&str>, policy: &str) -> Record {
    Record::Account(AccountRecord {
        name: name.to_owned(),
        tier: tier.map(str::to_owned),
        policy: policy.to_owned(),
        note: "a note".to_owned(),
        blocked: false,
        stamp: Stamp::default(),
    })
}

fn credential(id: &str, account: &str, hash: u8) -> Record {
    Record::Credential(CredentialRecord {
        id: id.to_owned(),
        account: account.to_owned(),
        kind: CredentialKind::ApiKey,
        hash: [hash; 32],
        note: String::new(),
        revoked: false,
        expires_at_ms: None,
        stamp: Stamp::default(),
    })
}

fn subject(account: &str, auth_id: &str, policy: &str) -> Record {
    Record::Subject(SubjectRecord {
        account: account.to_owned(),
        auth_id: AuthId::new(auth_id).unwrap(),
        policy: policy.to_owned(),
        blocked: false,
        deleted: false,
        stamp: Stamp::default(),
    })
}

fn new(record: Record) -> Put {
    Put { record, expect: Expect::Absent }
}

fn over(record: Record, version: u64) -> Put {
    Put { record, expect: Expect::Version(version) }
}

async fn done(ledger: &dyn AccountLedger, puts: Vec<Put>, now_ms: i64) -> Vec<Record> {
    match ledger.apply(puts, now_ms).await.unwrap() {
        Applied::Done(records) => records,
        refused => panic!("{refused:?}"),
    }
}

async fn refused(ledger: &dyn AccountLedger, puts: Vec<Put>) -> (usize, Refusal) {
    match ledger.apply(puts, 9).await.unwrap() {
        Applied::Refused(place, refusal) => (place, refusal),
        done => panic!("{done:?}"),
    }
}

async fn all(ledger: &dyn AccountLedger) -> Vec<Record> {
    ledger.changes(0, 1_000).await.unwrap().records
}

async fn records_come_back_in_the_order_of_their_changes(ledger: &dyn AccountLedger) {
    let first =
        done(ledger, vec![new(tier("gold", "{}")), new(account("a", Some("gold"), "{}"))], 5);
    let first = first.await;
    let mut certificate = credential("c1", "a", 2);
    let Record::Credential(c) = &mut certificate else { unreachable!() };
    (c.kind, c.expires_at_ms, c.revoked) = (CredentialKind::Certificate, Some(7), true);
    let second = vec![new(certificate), new(subject("a", "x:y", "{\"z\":1}"))];
    let second = done(ledger, second, 6).await;
    let written: Vec<Record> = first.into_iter().chain(second).collect();
    assert_eq!(all(ledger).await, written);
    let stamps: Vec<_> = written.iter().map(|r| *r.stamp()).collect();
    for (stamp, changed) in stamps.iter().zip(1..) {
        assert_eq!((stamp.version, stamp.changed), (1, changed));
    }
    assert_eq!((stamps[0].created_at_ms, stamps[3].updated_at_ms), (5, 6));
    // A change moves a record to the end and keeps its birth.
    let renewed = done(ledger, vec![over(tier("gold", "{\"n\":2}"), 1)], 8).await;
    let stamp = Stamp { version: 2, changed: 5, created_at_ms: 5, updated_at_ms: 8 };
    assert_eq!(renewed[0].stamp(), &stamp);
    assert_eq!(ledger.changes(4, 10).await.unwrap().records, renewed);
    let page = ledger.changes(1, 2).await.unwrap();
    assert_eq!(page.records, written[1..3]);
    assert!(page.more);
    let rest = ledger.changes(3, 2).await.unwrap();
    assert_eq!((rest.records.len(), rest.more), (2, false));
    assert_eq!(ledger.changes(5, 10).await.unwrap(), Changes { records: vec![], more: false });
}

async fn a_refused_write_leaves_nothing(ledger: &dyn AccountLedger) {
    done(ledger, vec![new(account("a", None, "{}")), new(credential("k1", "a", 1))], 1).await;
    let before = all(ledger).await;
    let cases = [
        (
            vec![new(account("b", None, "{}")), new(account("a", None, "{}"))],
            (1, Refusal::Exists(1)),
        ),
        (vec![over(account("a", None, "{}"), 2)], (0, Refusal::Version(1))),
        (vec![over(account("c", None, "{}"), 1)], (0, Refusal::Absent)),
        (vec![new(account("b", Some("none"), "{}"))], (0, Refusal::NoParent)),
        (vec![new(credential("k2", "none", 2))], (0, Refusal::NoParent)),
        (vec![new(subject("none", "x", "{}"))], (0, Refusal::NoParent)),
        (vec![new(tier("t", "{}")), new(credential("k2", "a", 1))], (1, Refusal::HashTaken)),
    ];
    for (puts, why) in cases {
        assert_eq!(refused(ledger, puts.clone()).await, why, "{puts:?}");
        assert_eq!(all(ledger).await, before);
    }
    let stolen = over(credential("k1", "b", 1), 1);
    done(ledger, vec![new(account("b", None, "{}"))], 2).await;
    assert!(matches!(ledger.apply(vec![stolen], 3).await, Err(LedgerError::Misuse(_))));
    // A parent of the same write counts.
    let together = vec![
        new(tier("t", "{}")),
        new(account("d", Some("t"), "{}")),
        new(credential("k3", "d", 3)),
        new(subject("d", "x", "{}")),
    ];
    done(ledger, together, 4).await;
}

async fn what_was_deleted_can_come_again(ledger: &dyn AccountLedger) {
    done(ledger, vec![new(tier("t", "{}")), new(account("a", Some("t"), "{}"))], 1).await;
    let gone = || {
        let Record::Tier(mut r) = tier("t", "{}") else { unreachable!() };
        r.deleted = true;
        Record::Tier(r)
    };
    assert_eq!(refused(ledger, vec![over(gone(), 1)]).await, (0, Refusal::InUse));
    done(ledger, vec![over(account("a", None, "{}"), 1), over(gone(), 1)], 2).await;
    let orphan = vec![over(account("a", Some("t"), "{}"), 2)];
    assert_eq!(refused(ledger, orphan).await, (0, Refusal::NoParent));
    assert_eq!(refused(ledger, vec![over(tier("t", "{}"), 2)]).await, (0, Refusal::Absent));
    let back = done(ledger, vec![new(tier("t", "{\"n\":3}"))], 3).await;
    assert_eq!((back[0].stamp().version, back[0].stamp().created_at_ms), (3, 3));
    assert_eq!(refused(ledger, vec![new(tier("t", "{}"))]).await, (0, Refusal::Exists(3)));
}

/// Writers that race, and a reader that follows by change numbers alone.
async fn one_of_many_wins_and_a_follower_misses_nothing(ledger: Arc<dyn AccountLedger>) {
    const WRITERS: u64 = 8;
    const ROUNDS: u64 = 6;
    done(&*ledger, vec![new(account("shared", None, "0"))], 1).await;
    let write = |writer: u64| {
        let ledger = Arc::clone(&ledger);
        async move {
            let mut won = 0;
            for round in 0..ROUNDS {
                let own = new(account(&format!("w{writer}-{round}"), None, "{}"));
                done(&*ledger, vec![own], 2).await;
                let put = over(account("shared", None, &writer.to_string()), round + 1);
                match ledger.apply(vec![put], 2).await.unwrap() {
                    Applied::Done(_) => won += 1,
                    Applied::Refused(0, Refusal::Version(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
            won
        }
    };
    let expected = WRITERS * ROUNDS + 1;
    let follow = async {
        let (mut after, mut seen) = (0, BTreeMap::new());
        while seen.len() as u64 != expected {
            for record in ledger.changes(after, 5).await.unwrap().records {
                assert!(record.stamp().changed > after, "in order");
                after = record.stamp().changed;
                let Record::Account(r) = record else { panic!() };
                seen.insert(r.name, r.stamp);
            }
            tokio::task::yield_now().await;
        }
        seen
    };
    let (won, seen) = tokio::join!(join_all((0..WRITERS).map(write)), follow);
    let won: u64 = won.iter().sum();
    let now = all(&*ledger).await;
    let shared = now.iter().find(|r| matches!(r, Record::Account(a) if a.name == "shared"));
    assert_eq!(shared.unwrap().stamp().version, won + 1, "each version was written once");
    assert!((1..=ROUNDS).contains(&won));
    for record in now.iter().filter(|r| **r != *shared.unwrap()) {
        let Record::Account(r) = record else { panic!() };
        assert_eq!(seen[&r.name], r.stamp);
    }
}

macro_rules! suite {
    ($module:ident, $open:expr) => {
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn records_come_back_in_the_order_of_their_changes() {
                let (ledger, _place) = $open.await;
                super::records_come_back_in_the_order_of_their_changes(&*ledger).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_refused_write_leaves_nothing() {
                let (ledger, _place) = $open.await;
                super::a_refused_write_leaves_nothing(&*ledger).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn what_was_deleted_can_come_again() {
                let (ledger, _place) = $open.await;
                super::what_was_deleted_can_come_again(&*ledger).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn one_of_many_wins_and_a_follower_misses_nothing() {
                let (ledger, _place) = $open.await;
                super::one_of_many_wins_and_a_follower_misses_nothing(ledger).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn what_was_written_is_there_after_a_restart_and_a_closed_ledger_says_so() {
                let (ledger, place) = $open.await;
                let written = done(&*ledger, vec![new(account("a", None, "{}"))], 1).await;
                ledger.close().await;
                assert!(matches!(ledger.changes(0, 1).await, Err(LedgerError::Closed)));
                let ledger = open(&place.url()).await.unwrap();
                assert_eq!(all(&*ledger).await, written);
            }
        }
    };
}

suite!(sqlite, File::made());
suite!(postgres, Server::made());

struct File(tempfile::TempDir);

impl File {
    fn url(&self) -> String {
        format!("sqlite://{}/signer.db", self.0.path().display())
    }
}

impl File {
    async fn made() -> (Arc<dyn AccountLedger>, Self) {
        let file = Self(tempfile::tempdir().unwrap());
        (open(&file.url()).await.unwrap(), file)
    }
}

struct Server(Database);

impl Server {
    fn url(&self) -> String {
        self.0.url().to_owned()
    }

    async fn made() -> (Arc<dyn AccountLedger>, Self) {
        let server = Self(database().await);
        (open(&server.url()).await.unwrap(), server)
    }
}
