//! What was paid for a session that nobody has begun.

use super::*;

const OTHER: Address = Address::repeat_byte(8);

fn attempt(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

/// A payment for the `n`th attempt.
fn for_start(session: &str, nonce: u32, n: u128) -> PaymentReceipt {
    PaymentReceipt { for_start: Some(attempt(n)), ..receipt(session, 1, vec![signed(nonce)]) }
}

async fn end(ledger: &Ledger, session: &str, n: u128, end: StartEnd) {
    let start = Start { account: key(session), attempt: attempt(n) };
    ledger.end_start(&start, end).await.unwrap();
}

/// The account that the `n`th attempt begins with.
async fn adopt(ledger: &Ledger, sender: Address, n: u128) -> Option<AccountKey> {
    ledger.adopt_start(sender, attempt(n)).await.unwrap()
}

async fn balance(ledger: &Ledger, session: &str) -> Rational {
    ledger.account(&key(session)).await.unwrap().unwrap().balance()
}

pub async fn what_was_paid_for_a_start_is_there_for_the_next(books: &impl Books) {
    let ledger = books.open().await;
    assert_eq!(adopt(&ledger, SENDER, 1).await, None);
    ledger.receive_payment(&for_start("a", 1, 1)).await.unwrap();
    assert_eq!(adopt(&ledger, SENDER, 2).await, None, "it is being started");
    // Nobody began it. It is said twice, as after a crash just between.
    end(&ledger, "a", 1, StartEnd::Void).await;
    end(&ledger, "a", 1, StartEnd::Void).await;
    assert_eq!(adopt(&ledger, OTHER, 2).await, None, "another sender's");
    assert_eq!(adopt(&ledger, SENDER, 2).await, Some(key("a")));
    assert_eq!(adopt(&ledger, SENDER, 3).await, None, "one start at a time");
    // The next payment adds to it, and the first one's tickets do not count again.
    ledger.receive_payment(&for_start("a", 1, 2)).await.unwrap();
    ledger.receive_payment(&for_start("a", 2, 2)).await.unwrap();
    assert_eq!(balance(&ledger, "a").await, times(2, &ev()));
    // Nobody heard of it.
    end(&ledger, "a", 2, StartEnd::Void).await;
    assert_eq!(adopt(&ledger, SENDER, 3).await, Some(key("a")));
    end(&ledger, "a", 3, StartEnd::Begun).await;
    assert_eq!(adopt(&ledger, SENDER, 4).await, None);

    // A process that dies in the middle leaves it to the next one, once.
    ledger.receive_payment(&for_start("b", 3, 5)).await.unwrap();
    ledger.close().await;
    let ledger = books.open().await;
    assert_eq!(adopt(&ledger, SENDER, 6).await, Some(key("b")));
    assert_eq!(adopt(&ledger, SENDER, 7).await, None);
    assert_eq!(balance(&ledger, "b").await, ev());

    // What is spent is not there, nor what nobody has paid.
    ledger.debit(&fee_of("b", "all of it", ev())).await.unwrap();
    end(&ledger, "b", 6, StartEnd::Void).await;
    end(&ledger, "nobody's", 7, StartEnd::Void).await;
    let twice = ledger.receive_payment(&for_start("c", 3, 8)).await.unwrap();
    assert_eq!(twice.credited_tickets, 0);
    end(&ledger, "c", 8, StartEnd::Void).await;
    assert_eq!(adopt(&ledger, SENDER, 9).await, None);
    ledger.close().await;
    assert!(books.column("SELECT session FROM starts").await.is_empty());
}

/// Whoever is not told that his word was written says it again, whatever has happened meanwhile.
pub async fn what_is_said_late_of_a_start_changes_nothing(books: &impl Books) {
    let ledger = books.open().await;
    let late = async || {
        end(&ledger, "a", 1, StartEnd::Void).await;
        end(&ledger, "a", 1, StartEnd::Begun).await;
        end(&ledger, "a", 1, StartEnd::Void).await;
    };
    ledger.receive_payment(&for_start("a", 1, 1)).await.unwrap();
    end(&ledger, "a", 1, StartEnd::Void).await;
    // While nobody has it, it is said to be begun.
    end(&ledger, "a", 1, StartEnd::Begun).await;
    assert_eq!(adopt(&ledger, SENDER, 2).await, Some(key("a")));
    // While it is being started by a later attempt.
    late().await;
    assert_eq!(adopt(&ledger, SENDER, 3).await, None, "it is the second one's");
    // The same, once that has paid.
    ledger.receive_payment(&for_start("a", 2, 2)).await.unwrap();
    late().await;
    assert_eq!(adopt(&ledger, SENDER, 3).await, None);
    end(&ledger, "a", 2, StartEnd::Begun).await;
    // Once it has begun: it is in use.
    late().await;
    end(&ledger, "a", 2, StartEnd::Void).await;
    assert_eq!(adopt(&ledger, SENDER, 3).await, None);
    assert_eq!(balance(&ledger, "a").await, times(2, &ev()));
    ledger.close().await;

    // Nor is it for one process to say what became of another's.
    let ledger = books.open().await;
    ledger.receive_payment(&for_start("b", 3, 4)).await.unwrap();
    ledger.close().await;
    let ledger = books.open().await;
    end(&ledger, "b", 4, StartEnd::Begun).await;
    assert_eq!(adopt(&ledger, SENDER, 5).await, Some(key("b")));
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_processes_goes_on_with_a_start() {
    let books = PostgresBooks::new().await;
    let (one, two) = (books.open().await, books.open().await);
    for nonce in 1..=8 {
        let n = u128::from(nonce);
        one.receive_payment(&for_start(&format!("s{nonce}"), nonce, n)).await.unwrap();
        end(&one, &format!("s{nonce}"), n, StartEnd::Void).await;
    }
    let all = async |ledger: &Ledger| {
        let mut mine = Vec::new();
        for n in 10..18 {
            mine.extend(adopt(ledger, SENDER, n).await);
        }
        mine
    };
    let (mut mine, theirs) = tokio::join!(all(&one), all(&two));
    mine.extend(theirs);
    mine.sort_unstable();
    mine.dedup();
    // One that the other had under its lock just then was passed over, not lost.
    mine.extend(all(&one).await);
    assert_eq!(mine.len(), 8, "each once: {mine:?}");
    assert_eq!(all(&two).await, []);
    // The first one dies, with one in its hands.
    one.receive_payment(&for_start("s9", 9, 20)).await.unwrap();
    end(&one, "s9", 20, StartEnd::Void).await;
    assert_eq!(all(&one).await.len(), 1);
    drop(one);
    books.meddle("UPDATE processes SET lease_until = now() - interval '1 second'").await;
    assert!(!all(&two).await.is_empty());
    two.close().await;
}
