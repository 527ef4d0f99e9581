//! The outbox: an event is there exactly if its payment is, in order, for one deliverer at a time.

use super::*;
use uuid::Uuid;

fn told(mut payment: NewPayment, n: u128) -> NewPayment {
    let payload = format!("{{\"n\":{n}}}").into_bytes();
    payment.event = Some(NewEvent { id: Uuid::from_u128(n), payload });
    payment
}

fn names(taken: &TakenEvents) -> Vec<u128> {
    taken.events.iter().map(|event| event.id.as_u128()).collect()
}

pub async fn events_come_with_their_payments_and_in_order(books: &impl Books) {
    let ledger = books.open("one").await;
    assert_eq!(ledger.backlog().await.unwrap(), Backlog::default());
    for sequence in 0..5 {
        for state in 1..=2 {
            let held = hold(&ledger, ask(state, sequence, 1, 1)).await;
            let n = u128::from(sequence) * 10 + u128::from(state);
            ledger.commit(told(payment(state, sequence, held), n)).await.unwrap();
        }
    }
    // Neither a payment that came second nor one that expired is told of.
    let late = hold(&ledger, ask(3, 0, 1, 1)).await;
    ledger.release(late.id, 1).await.unwrap();
    ledger.commit(told(payment(3, 0, late), 99)).await.unwrap();
    // One event told twice is one event, and no reason to refuse a payment.
    let held = hold(&ledger, ask(4, 0, 1, 1)).await;
    ledger.commit(told(payment(4, 0, held), 42)).await.unwrap();
    assert_eq!(ledger.summary().await.unwrap().payments, 11);
    let backlog = ledger.backlog().await.unwrap();
    assert_eq!((backlog.events, backlog.oldest_ms), (10, Some(5_000)));
    let taken = ledger.take_events(4, 0, 1_000).await.unwrap().unwrap();
    assert_eq!(names(&taken), [1, 2, 11, 12]);
    let first = &taken.events[0];
    assert_eq!((&first.state_id, first.sequence), (&id(1), 0));
    assert_eq!(first.payload, b"{\"n\":1}");
    assert_eq!(first.created_at_ms, 5_000);
    // Not delivered: they come again, after a restart too.
    let ids: Vec<_> = taken.events[..2].iter().map(|event| event.id).collect();
    assert!(ledger.delivered(taken.fence, &ids).await.unwrap());
    ledger.close().await;
    let ledger = books.open("one").await;
    assert_eq!(ledger.take_events(4, 500, 1_000).await.unwrap(), None, "the lease still runs");
    let taken = ledger.take_events(100, 1_000, 1_000).await.unwrap().unwrap();
    assert_eq!(names(&taken), [11, 12, 21, 22, 31, 32, 41, 42]);
    ledger.close().await;
}

pub async fn one_deliverer_at_a_time(books: &impl Books) {
    let (one, two) = (books.open("one").await, books.open("two").await);
    let held = hold(&one, ask(1, 0, 1, 1)).await;
    one.commit(told(payment(1, 0, held), 7)).await.unwrap();
    let first = one.take_events(10, 0, 100).await.unwrap().unwrap();
    assert_eq!(two.take_events(10, 99, 100).await.unwrap(), None);
    // Renewed in time, also by asking when half of it is gone.
    let again = one.take_events(10, 60, 100).await.unwrap().unwrap();
    assert_eq!((again.fence, again.lease_until_ms), (first.fence, 160));
    assert_eq!(two.take_events(10, 159, 100).await.unwrap(), None);
    // The first one hangs; the second takes over, and the first one's word counts no more.
    let second = two.take_events(10, 160, 100).await.unwrap().unwrap();
    assert!(second.fence.0 > first.fence.0);
    assert_eq!(names(&second), [7]);
    assert_eq!(one.take_events(10, 161, 100).await.unwrap(), None);
    assert!(!one.delivered(first.fence, &[Uuid::from_u128(7)]).await.unwrap());
    assert!(!one.delivered(second.fence, &[Uuid::from_u128(7)]).await.unwrap(), "not its own");
    assert_eq!(one.backlog().await.unwrap().events, 1);
    assert!(two.delivered(second.fence, &[Uuid::from_u128(7)]).await.unwrap());
    assert_eq!(one.backlog().await.unwrap().events, 0);
    // Given back, it is free at once; who lost it has nothing to give.
    assert!(!one.release_events(first.fence).await.unwrap());
    assert!(!one.release_events(second.fence).await.unwrap(), "not its own");
    assert!(two.release_events(second.fence).await.unwrap());
    assert!(!two.release_events(second.fence).await.unwrap(), "given back already");
    assert!(!two.delivered(second.fence, &[]).await.unwrap());
    let third = one.take_events(1, 161, 100).await.unwrap().unwrap();
    assert!(third.fence.0 > second.fence.0);
    assert!(one.release_events(third.fence).await.unwrap());
    let again = one.take_events(1, 161, 100).await.unwrap().unwrap();
    assert!(again.fence.0 > third.fence.0, "its own word of before counts no more");
    // Real rivals: at any moment one of them has it.
    let mut tasks = tokio::task::JoinSet::new();
    for ledger in [&one, &two] {
        for _ in 0..8 {
            let ledger = Arc::clone(ledger);
            tasks.spawn(async move { ledger.take_events(1, 1_000, 100).await.unwrap() });
        }
    }
    let got: HashSet<_> = tasks.join_all().await.into_iter().flatten().map(|t| t.fence.0).collect();
    assert_eq!(got.len(), 1, "{got:?}");
    one.close().await;
    two.close().await;
}
