//! What was paid for a session that nobody has begun.

use super::*;

const OTHER: Address = Address::repeat_byte(8);

fn for_start(session: &str, nonce: u32) -> PaymentReceipt {
    PaymentReceipt { for_start: true, ..receipt(session, 1, vec![signed(nonce)]) }
}

async fn end(ledger: &Ledger, session: &str, end: StartEnd) {
    ledger.end_start(&key(session), end, 2_000).await.unwrap();
}

async fn balance(ledger: &Ledger, session: &str) -> Rational {
    ledger.account(&key(session)).await.unwrap().unwrap().balance()
}

pub async fn what_was_paid_for_a_start_is_there_for_the_next(books: &impl Books) {
    let ledger = books.open().await;
    assert_eq!(ledger.adopt_start(SENDER).await.unwrap(), None);
    ledger.receive_payment(&for_start("a", 1)).await.unwrap();
    assert_eq!(ledger.adopt_start(SENDER).await.unwrap(), None, "it is being started");
    // Nobody began it. It is said twice, as after a crash just between.
    end(&ledger, "a", StartEnd::Void).await;
    end(&ledger, "a", StartEnd::Void).await;
    assert_eq!(ledger.adopt_start(OTHER).await.unwrap(), None, "another sender's");
    assert_eq!(ledger.adopt_start(SENDER).await.unwrap(), Some(key("a")));
    assert_eq!(ledger.adopt_start(SENDER).await.unwrap(), None, "one start at a time");
    // The next payment adds to it, and the first one's tickets do not count again.
    ledger.receive_payment(&for_start("a", 1)).await.unwrap();
    ledger.receive_payment(&for_start("a", 2)).await.unwrap();
    assert_eq!(balance(&ledger, "a").await, times(2, &ev()));
    end(&ledger, "a", StartEnd::Begun).await;
    assert_eq!(ledger.adopt_start(SENDER).await.unwrap(), None);
    // It had begun, but nobody heard of it.
    end(&ledger, "a", StartEnd::Void).await;
    assert_eq!(ledger.adopt_start(SENDER).await.unwrap(), Some(key("a")));
    end(&ledger, "a", StartEnd::Begun).await;

    // A process that dies in the middle leaves it to the next one, once.
    ledger.receive_payment(&for_start("b", 3)).await.unwrap();
    ledger.close().await;
    let ledger = books.open().await;
    assert_eq!(ledger.adopt_start(SENDER).await.unwrap(), Some(key("b")));
    assert_eq!(ledger.adopt_start(SENDER).await.unwrap(), None);
    assert_eq!(balance(&ledger, "b").await, ev());

    // What is spent is not there, nor what nobody has paid.
    ledger.debit(&fee_of("b", "all of it", ev())).await.unwrap();
    end(&ledger, "b", StartEnd::Void).await;
    end(&ledger, "nobody's", StartEnd::Void).await;
    let twice = ledger.receive_payment(&for_start("c", 3)).await.unwrap();
    assert_eq!(twice.credited_tickets, 0);
    end(&ledger, "c", StartEnd::Void).await;
    assert_eq!(ledger.adopt_start(SENDER).await.unwrap(), None);
    ledger.close().await;
    assert!(books.column("SELECT session FROM starts").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_processes_goes_on_with_a_start() {
    let books = PostgresBooks::new().await;
    let (one, two) = (books.open().await, books.open().await);
    for nonce in 1..=8 {
        one.receive_payment(&for_start(&format!("s{nonce}"), nonce)).await.unwrap();
        end(&one, &format!("s{nonce}"), StartEnd::Void).await;
    }
    let adopt = async |ledger: &Ledger| {
        let mut mine = Vec::new();
        for _ in 0..8 {
            mine.extend(ledger.adopt_start(SENDER).await.unwrap());
        }
        mine
    };
    let (mut mine, theirs) = tokio::join!(adopt(&one), adopt(&two));
    mine.extend(theirs);
    mine.sort_unstable();
    mine.dedup();
    // One that the other had under its lock just then was passed over, not lost.
    mine.extend(adopt(&one).await);
    assert_eq!(mine.len(), 8, "each once: {mine:?}");
    assert_eq!(adopt(&two).await, []);
    // The first one dies, with one in its hands.
    one.receive_payment(&for_start("s9", 9)).await.unwrap();
    end(&one, "s9", StartEnd::Void).await;
    assert_eq!(adopt(&one).await.len(), 1);
    drop(one);
    books.meddle("UPDATE processes SET lease_until = now() - interval '1 second'").await;
    assert!(!adopt(&two).await.is_empty());
    two.close().await;
}
