//! What every implementation must do: over the signer's and the orchestrator's databases, and in memory.

use super::{memory::OperationsInMemory, *};
use penstock_chain::ChainError;
use penstock_domain::B256;
use penstock_testkit::postgres::database;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

type Ledger = Arc<dyn OperationLedger>;

fn wanted(key: &str, content: &str) -> Wanted {
    Wanted { key: key.to_owned(), content: content.to_owned() }
}

fn terms(holder: &str, now_ms: i64) -> Terms {
    Terms { holder: holder.to_owned(), now_ms, lease_ms: 10 }
}

fn receipt(byte: u8) -> Receipt {
    Receipt { tx_hash: B256::repeat_byte(byte), l1_block: u64::from(byte) }
}

async fn yours(ledger: &Ledger, wanted: &Wanted, terms: &Terms) -> OperationFence {
    match ledger.begin(wanted, terms).await.unwrap() {
        Begun::Yours { fence, .. } => fence,
        other => panic!("{other:?}"),
    }
}

async fn the_same_key_gets_the_same_answer_and_stands_for_nothing_else(ledger: &Ledger) {
    let (add, me) = (wanted("k", "add 5"), terms("a", 100));
    let fence = yours(ledger, &add, &me).await;
    assert!(ledger.set_note("k", fence, Some(vec![1])).await.unwrap());
    assert!(ledger.end("k", fence, &Ended::Done(receipt(7)), 101).await.unwrap());
    assert_eq!(ledger.begin(&add, &terms("b", 102)).await.unwrap(), Begun::Done(receipt(7)));
    let other = wanted("k", "add 6");
    assert_eq!(ledger.begin(&other, &me).await.unwrap(), Begun::OtherContent);
    assert_eq!(ledger.note("k").await.unwrap(), None, "its end needs no note");
    // What failed on the chain stays failed; what was never sent may be asked for again.
    let fence = yours(ledger, &wanted("f", "x"), &me).await;
    assert!(ledger.set_note("f", fence, Some(vec![1])).await.unwrap());
    assert!(ledger.end("f", fence, &Ended::Refused("no".to_owned()), 103).await.unwrap());
    let again = ledger.begin(&wanted("f", "x"), &me).await.unwrap();
    assert_eq!(again, Begun::Failed("no".to_owned()));
    let fence = yours(ledger, &wanted("r", "x"), &me).await;
    assert!(ledger.end("r", fence, &Ended::Refused("no".to_owned()), 104).await.unwrap());
    yours(ledger, &wanted("r", "y"), &me).await;
}

async fn one_at_a_time_until_its_lease_lapses(ledger: &Ledger) {
    let first = yours(ledger, &wanted("1", "x"), &terms("a", 100)).await;
    let refused = ledger.begin(&wanted("2", "y"), &terms("b", 105)).await.unwrap();
    assert_eq!(refused, Begun::UnderWay { key: "1".to_owned(), until_ms: 110 });
    assert!(ledger.renew(first, 120).await.unwrap());
    let refused = ledger.begin(&wanted("2", "y"), &terms("b", 119)).await.unwrap();
    assert_eq!(refused, Begun::UnderWay { key: "1".to_owned(), until_ms: 120 });
    // Silent for too long, and nothing sent: the other one may begin, and the first writes nothing any more.
    let second = yours(ledger, &wanted("2", "y"), &terms("b", 120)).await;
    assert!(!ledger.renew(first, 130).await.unwrap());
    assert!(!ledger.set_note("1", first, Some(vec![1])).await.unwrap());
    assert!(!ledger.end("1", first, &Ended::Done(receipt(1)), 121).await.unwrap());
    assert!(ledger.set_note("2", second, Some(vec![2])).await.unwrap());
    assert!(!ledger.set_note("1", second, Some(vec![2])).await.unwrap(), "not its key");
    assert!(ledger.end("2", second, &Ended::Done(receipt(2)), 122).await.unwrap());
    // Its next life begins the first one anew.
    yours(ledger, &wanted("1", "x"), &terms("a", 123)).await;
}

async fn what_was_sent_comes_to_its_end_before_anything_else_begins(ledger: &Ledger) {
    let fence = yours(ledger, &wanted("sent", "x"), &terms("a", 100)).await;
    assert!(ledger.set_note("sent", fence, Some(vec![1, 2])).await.unwrap());
    // The next life of the same process takes over at once, another one when the lease is over.
    let next = ledger.begin(&wanted("new", "y"), &terms("a", 101)).await.unwrap();
    let Begun::First { fence: next, left } = next else { panic!("{next:?}") };
    assert_eq!(left, wanted("sent", "x"));
    assert!(!ledger.set_note("sent", fence, None).await.unwrap(), "the earlier life has lost it");
    assert_eq!(ledger.note("sent").await.unwrap(), Some(vec![1, 2]));
    assert!(ledger.end("sent", next, &Ended::Open, 102).await.unwrap());
    let other = ledger.begin(&wanted("new", "y"), &terms("b", 103)).await.unwrap();
    assert!(matches!(other, Begun::First { .. }), "{other:?}");
    let fence = yours(ledger, &wanted("sent", "x"), &terms("b", 104)).await;
    assert!(ledger.end("sent", fence, &Ended::Done(receipt(3)), 105).await.unwrap());
    yours(ledger, &wanted("new", "y"), &terms("b", 106)).await;
}

async fn keys_are_remembered_for_a_year(ledger: &Ledger) {
    let old = wanted("old", "x");
    let fence = yours(ledger, &old, &terms("a", 100)).await;
    assert!(ledger.end("old", fence, &Ended::Done(receipt(1)), 101).await.unwrap());
    let later = terms("a", 101 + KEPT_MS);
    assert_eq!(ledger.begin(&old, &later).await.unwrap(), Begun::Done(receipt(1)));
    yours(ledger, &old, &terms("a", 102 + KEPT_MS)).await;
}

async fn what_transactions_may_cost_is_counted_once_each_and_outlives_their_end(ledger: &Ledger) {
    let wei = penstock_domain::Wei::from_u64;
    let limits = SpendLimits { per_transaction: Some(wei(70)), per_day: Some(wei(100)) };
    let spend = |most: u64, day| Spend { most: wei(most), day };
    let first = yours(ledger, &wanted("1", "x"), &terms("a", 100)).await;
    assert_eq!(ledger.count("1", first, spend(50, 7), &limits).await.unwrap(), Counted::Yes);
    // Its replacement counts in its place, and one that is cheaper changes nothing.
    assert_eq!(ledger.count("1", first, spend(60, 7), &limits).await.unwrap(), Counted::Yes);
    assert_eq!(ledger.count("1", first, spend(1, 8), &limits).await.unwrap(), Counted::Yes);
    let above = ledger.count("1", first, spend(71, 7), &limits).await.unwrap();
    assert_eq!(above, Counted::AboveTransaction { limit: wei(70) });
    assert_eq!(ledger.counted(7).await.unwrap(), wei(60));
    assert!(ledger.set_note("1", first, Some(vec![1])).await.unwrap());
    assert!(ledger.end("1", first, &Ended::Done(receipt(1)), 101).await.unwrap());

    let second = yours(ledger, &wanted("2", "y"), &terms("a", 102)).await;
    assert_eq!(ledger.count("1", first, spend(1, 7), &limits).await.unwrap(), Counted::Lost);
    let above = ledger.count("2", second, spend(41, 7), &limits).await.unwrap();
    assert_eq!(above, Counted::AboveDay { limit: wei(100), others: wei(60) });
    assert_eq!(ledger.count("2", second, spend(40, 7), &limits).await.unwrap(), Counted::Yes);
    assert_eq!(ledger.counted(7).await.unwrap(), wei(100));
    // Nothing of it was sent: it takes its count with it. The next day is another one.
    assert!(ledger.end("2", second, &Ended::Open, 103).await.unwrap());
    assert_eq!(ledger.counted(7).await.unwrap(), wei(60));
    assert_eq!(ledger.counted(8).await.unwrap(), wei(0));
    let third = yours(ledger, &wanted("3", "z"), &terms("a", 104)).await;
    assert_eq!(ledger.count("3", third, spend(70, 8), &limits).await.unwrap(), Counted::Yes);
}

async fn asked_for_often_it_is_done_once(ledger: &Ledger) {
    let acts = Arc::new(AtomicU32::new(0));
    let act = |_: String, notes: Arc<dyn penstock_chain::Notes>| {
        let acts = Arc::clone(&acts);
        async move {
            notes.write(vec![1]).await?;
            acts.fetch_add(1, SeqCst);
            // Others ask meanwhile.
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            Ok(receipt(9))
        }
    };
    let (here, there) =
        (Operations::new(Arc::clone(ledger), "a"), Operations::new(Arc::clone(ledger), "b"));
    let add = || wanted("k", "add");
    let all = tokio::join!(
        here.perform(add(), act),
        there.perform(add(), act),
        here.perform(add(), act),
    );
    for one in [all.0, all.1, all.2] {
        match one {
            Ok(done) => assert_eq!(done, receipt(9)),
            Err(error) => assert!(matches!(error, OperationError::UnderWay { .. }), "{error}"),
        }
    }
    assert_eq!(here.perform(add(), act).await.unwrap(), receipt(9));
    let other = there.perform(wanted("k", "less"), act).await.unwrap_err();
    assert!(matches!(other, OperationError::OtherContent(_)), "{other}");
    assert_eq!(acts.load(SeqCst), 1);
}

async fn what_is_not_known_stays_open_and_a_revert_is_an_end(ledger: &Ledger) {
    let operations = Operations::new(Arc::clone(ledger), "a");
    let away = |_: String, notes: Arc<dyn penstock_chain::Notes>| async move {
        notes.write(vec![5]).await?;
        Err(ChainError::Unreachable { reason: "away".to_owned() })
    };
    operations.perform(wanted("k", "add"), away).await.unwrap_err();
    assert_eq!(ledger.note("k").await.unwrap(), Some(vec![5]));
    // Another one finds it, and brings it to its end first.
    let acting = |content: String, notes: Arc<dyn penstock_chain::Notes>| async move {
        let left = notes.read().await?;
        assert_eq!(left.is_some(), content == "add");
        if content == "withdraw" {
            notes.write(vec![6]).await?;
            return Err(ChainError::Reverted(penstock_chain::Revert::Locked));
        }
        Ok(receipt(4))
    };
    let reverted = operations.perform(wanted("w", "withdraw"), acting).await.unwrap_err();
    assert!(reverted.to_string().contains("account is locked"), "{reverted}");
    let done = operations.perform(wanted("k", "add"), away).await.unwrap();
    assert_eq!(done, receipt(4));
    let again = operations.perform(wanted("w", "withdraw"), away).await.unwrap_err();
    assert!(matches!(&again, OperationError::Failed(words) if words.contains("locked")), "{again}");
}

macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod memory_ {
            $(#[tokio::test]
            async fn $name() {
                let ledger: super::Ledger =
                    std::sync::Arc::new(super::OperationsInMemory::default());
                super::$name(&ledger).await;
            })*
        }
        mod sqlite_ {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}/books.db", folder.path().display());
                super::$name(&super::open_signer(&url).await.unwrap()).await;
            })*

            #[tokio::test]
            async fn in_an_orchestrators_books() {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}/books.db", folder.path().display());
                let ledger = super::open_orchestrator(&url).await.unwrap();
                super::what_was_sent_comes_to_its_end_before_anything_else_begins(&ledger).await;
                assert_eq!(ledger.counted(0).await.unwrap(), penstock_domain::Wei::ZERO);
            }
        }
        mod postgres_ {
            $(#[tokio::test]
            async fn $name() {
                let database = super::database().await;
                let ledger = super::open_signer(database.url()).await.unwrap();
                super::$name(&ledger).await;
                ledger.close().await;
            })*

            #[tokio::test]
            async fn in_an_orchestrators_books() {
                let database = super::database().await;
                let ledger = super::open_orchestrator(database.url()).await.unwrap();
                super::what_was_sent_comes_to_its_end_before_anything_else_begins(&ledger).await;
                ledger.close().await;
            }
        }
    };
}

suite! {
    the_same_key_gets_the_same_answer_and_stands_for_nothing_else,
    one_at_a_time_until_its_lease_lapses,
    what_was_sent_comes_to_its_end_before_anything_else_begins,
    keys_are_remembered_for_a_year,
    what_transactions_may_cost_is_counted_once_each_and_outlives_their_end,
    asked_for_often_it_is_done_once,
    what_is_not_known_stays_open_and_a_revert_is_an_end,
}
