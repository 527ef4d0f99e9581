//! Training jobs: who watches one, what is known of it, and how long.

use super::*;

fn attempt(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn job(id: &str, n: u128, now_ms: i64) -> NewTraining {
    NewTraining {
        id: id.to_owned(),
        account: key("lora"),
        terms: format!("terms of {id}"),
        standing: "submitted".to_owned(),
        attempt: attempt(n),
        now_ms,
    }
}

async fn note(ledger: &Ledger, id: &str, n: u128, standing: &str, then: Watch) -> bool {
    note_at(ledger, id, (n, 100), standing, then).await
}

async fn note_at(
    ledger: &Ledger,
    id: &str,
    (n, now_ms): (u128, i64),
    standing: &str,
    then: Watch,
) -> bool {
    let (id, standing) = (id.to_owned(), standing.to_owned());
    let note = TrainingNote { id, attempt: attempt(n), standing, then, now_ms };
    ledger.note_training(&note).await.unwrap()
}

async fn taken(ledger: &Ledger, n: u128, limit: u32) -> Vec<String> {
    let jobs = ledger.take_up_trainings(attempt(n), limit, &[]).await.unwrap();
    jobs.into_iter().map(|job| job.id).collect()
}

async fn standing(ledger: &Ledger, id: &str) -> Option<(String, Option<i64>)> {
    let found = ledger.training(id).await.unwrap()?;
    assert_eq!((found.account, found.terms), (key("lora"), format!("terms of {id}")));
    Some((found.standing, found.ended_ms))
}

async fn a_training_job_is_watched_by_one_and_survives_it(books: &impl Books) {
    let ledger = books.open().await;
    for (id, now_ms) in [("b", 7), ("a", 8), ("c", 9)] {
        ledger.begin_training(&job(id, 1, now_ms)).await.unwrap();
    }
    assert_eq!(taken(&ledger, 2, 9).await, [""; 0], "they are watched");
    assert!(note(&ledger, "a", 1, "40 %", Watch::On).await);
    assert!(!note(&ledger, "a", 2, "of another attempt", Watch::On).await);
    assert!(!note(&ledger, "nobody", 1, "", Watch::On).await);
    assert_eq!(standing(&ledger, "a").await, Some(("40 %".to_owned(), None)));
    assert_eq!(standing(&ledger, "nobody").await, None);
    // One that is left is the next one's, and not the first one's any more.
    assert!(note(&ledger, "a", 1, "50 %", Watch::Left).await);
    assert!(!note(&ledger, "a", 1, "60 %", Watch::On).await);
    assert_eq!(taken(&ledger, 3, 9).await, ["a"]);
    assert_eq!(taken(&ledger, 4, 9).await, [""; 0]);
    assert!(note(&ledger, "a", 3, "done", Watch::Ended).await);
    assert!(!note(&ledger, "a", 3, "later", Watch::On).await, "it has ended");
    assert_eq!(taken(&ledger, 4, 9).await, [""; 0]);
    ledger.close().await;

    // A process that dies leaves its jobs to the next, oldest first; what has ended is told of.
    let ledger = books.open().await;
    assert_eq!(standing(&ledger, "a").await, Some(("done".to_owned(), Some(100))));
    assert!(!note(&ledger, "b", 1, "by the dead", Watch::On).await);
    let [b] = &ledger.take_up_trainings(attempt(5), 1, &[]).await.unwrap()[..] else { panic!() };
    assert_eq!((b.id.as_str(), b.created_ms, b.standing.as_str()), ("b", 7, "submitted"));
    assert_eq!(taken(&ledger, 1, 9).await, ["c"]);
    assert!(note(&ledger, "b", 5, "1 %", Watch::On).await);
    ledger.close().await;
}

/// Whoever did not hear the answer asks again by the same attempt, and gets the same ones, and no other attempt's.
async fn training_jobs_whose_taking_up_was_not_heard_are_not_lost(books: &impl Books) {
    let ledger = books.open().await;
    for (id, now_ms) in [("a", 7), ("b", 8), ("c", 9)] {
        ledger.begin_training(&job(id, 1, now_ms)).await.unwrap();
    }
    for id in ["b", "c"] {
        assert!(note(&ledger, id, 1, "left", Watch::Left).await);
    }
    assert_eq!(taken(&ledger, 2, 2).await, ["b", "c"]);
    // An older one that has become free since then does not take the place of one that is its own.
    assert!(note(&ledger, "a", 1, "left", Watch::Left).await);
    assert_eq!(taken(&ledger, 2, 1).await, ["b"]);
    let mut both = taken(&ledger, 2, 2).await;
    both.sort_unstable();
    assert_eq!(both, ["b", "c"]);
    let but = ["a".to_owned()];
    assert_eq!(ledger.take_up_trainings(attempt(3), 9, &but).await.unwrap(), []);
    assert_eq!(taken(&ledger, 3, 9).await, ["a"]);
    assert!(note(&ledger, "b", 2, "1 %", Watch::On).await);
    assert!(note(&ledger, "c", 2, "done", Watch::Ended).await);
    assert_eq!(taken(&ledger, 2, 9).await, ["b"], "and none that has ended");
    ledger.close().await;
}

async fn training_jobs_that_have_ended_are_forgotten(books: &impl Books) {
    let ledger = books.open().await;
    for (id, ended_ms) in [("a", 10), ("b", 20), ("c", 30), ("d", 40)] {
        ledger.begin_training(&job(id, 1, 1)).await.unwrap();
        assert!(note_at(&ledger, id, (1, ended_ms), "done", Watch::Ended).await);
    }
    ledger.begin_training(&job("on", 1, 1)).await.unwrap();
    assert_eq!(ledger.forget_trainings(10, 9).await.unwrap(), 0);
    assert_eq!(ledger.forget_trainings(11, 9).await.unwrap(), 1, "too old");
    assert_eq!(ledger.forget_trainings(11, 2).await.unwrap(), 1, "too many");
    let mut left = Vec::new();
    for id in ["a", "b", "c", "d", "on"] {
        left.extend(standing(&ledger, id).await.map(|_| id));
    }
    assert_eq!(left, ["c", "d", "on"]);
    assert_eq!(ledger.forget_trainings(i64::MAX, 9).await.unwrap(), 2);
    assert!(standing(&ledger, "on").await.is_some(), "one that goes on stays");
    // The same id is no other job.
    assert_eq!(ledger.units_debited("job").await.unwrap(), None);
    ledger.receive_payment(&receipt("lora", 1, vec![signed(1)])).await.unwrap();
    let fee = Debit { units: 7, ..fee_of("lora", "job", Rational::ONE) };
    booked(ledger.debit(&fee).await.unwrap());
    assert_eq!(ledger.units_debited("job").await.unwrap(), Some(7));
    ledger.close().await;
}

memory_suite! {
    a_training_job_is_watched_by_one_and_survives_it,
    training_jobs_whose_taking_up_was_not_heard_are_not_lost,
    training_jobs_that_have_ended_are_forgotten,
}

suite! {
    a_training_job_is_watched_by_one_and_survives_it,
    training_jobs_whose_taking_up_was_not_heard_are_not_lost,
    training_jobs_that_have_ended_are_forgotten,
}

/// Of several processes each job is one's; a silent one that comes back does not watch what another has taken up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_processes_takes_a_job_up() {
    let books = PostgresBooks::new().await;
    let (one, two, three) = (books.open().await, books.open().await, books.open().await);
    for n in 0..8 {
        one.begin_training(&job(&n.to_string(), 1, n)).await.unwrap();
    }
    assert_eq!(taken(&two, 2, 9).await, [""; 0], "it is alive");
    // It says nothing for too long; the others are heard of.
    books
        .meddle(
            "UPDATE processes SET lease_until = now() - interval '1 second' \
             WHERE id = (SELECT process FROM trainings LIMIT 1)",
        )
        .await;
    assert!(note(&one, "0", 1, "still", Watch::On).await, "nobody has taken it yet");
    let (mut all, theirs) = tokio::join!(taken(&two, 2, 9), taken(&three, 2, 9));
    all.extend(theirs);
    // One that the other had under its lock just then was passed over, not lost.
    all.extend(taken(&two, 4, 9).await);
    all.sort_unstable();
    assert_eq!(all, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert!(!note(&one, "0", 1, "late", Watch::Ended).await);
    assert_eq!(standing(&one, "0").await, Some(("still".to_owned(), None)));
    for ledger in [one, two, three] {
        ledger.close().await;
    }
}
