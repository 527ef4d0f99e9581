//! llm answers in pieces: unbuffered, cancelled with their client, honest when they break off.

use crate::{
    ai::{chat, post, world},
    world::{World, error},
};
use penstock_domain::Rational;
use penstock_testkit::{sim::orchestrator::Order, until, until::DEADLINE};
use serde_json::Value;
use std::sync::Arc;
use tokio::{sync::Semaphore, time::timeout};

/// The orchestrator's account of the model.
const ACCOUNT: &str = "33_meta-llama/llama-3.1-8B-Instruct";

/// The next event of an answer, without its `data: `.
pub async fn event(answer: &mut reqwest::Response, rest: &mut String) -> Option<String> {
    loop {
        if let Some((event, after)) = rest.clone().split_once("\n\n") {
            *rest = after.to_owned();
            return Some(event.to_owned());
        }
        let chunk = answer.chunk().await.ok()??;
        rest.push_str(&String::from_utf8_lossy(&chunk));
    }
}

async fn events(mut answer: reqwest::Response) -> Vec<String> {
    let (mut all, mut rest) = (Vec::new(), String::new());
    while let Some(event) = event(&mut answer, &mut rest).await {
        all.push(event);
    }
    assert_eq!(rest, "");
    all
}

fn words(event: &str) -> String {
    let piece: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
    piece["choices"][0]["delta"]["content"].as_str().unwrap().to_owned()
}

fn gated(w: &World) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    for o in &w.orchestrators {
        *o.ai.gate.lock().unwrap() = Some(Arc::clone(&gate));
    }
    gate
}

#[tokio::test]
async fn pieces_come_as_they_are_spoken() {
    let w = world(1, &[]).await;
    let gate = gated(&w);
    gate.add_permits(1);
    let mut answer = post(&w, "llm", Ok(chat(true))).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["cache-control"], "no-cache");
    let mut rest = String::new();
    for number in 0..5 {
        // Nothing more was allowed to be spoken yet: whatever is here was not kept back.
        let said = event(&mut answer, &mut rest).await.unwrap();
        assert_eq!(words(&said), format!("word{number} "));
        assert_eq!(said.contains("finish_reason"), number == 4);
        gate.add_permits(1);
    }
    assert_eq!(event(&mut answer, &mut rest).await, None, "no [DONE]");
    // The whole maximum was paid, as the orchestrator takes it.
    let book = w.orchestrator().book(ACCOUNT);
    assert_eq!(book.debited, Rational::from_int(384));
}

#[tokio::test]
async fn who_hangs_up_stops_the_orchestrator() {
    let w = world(1, &[]).await;
    let gate = gated(&w);
    w.orchestrator().ai.pieces.store(1_000_000, std::sync::atomic::Ordering::SeqCst);
    gate.add_permits(1);
    let mut answer = post(&w, "llm", Ok(chat(true))).await;
    let mut rest = String::new();
    event(&mut answer, &mut rest).await.unwrap();
    drop(answer);
    gate.add_permits(1_000_000);
    let abandoned = Arc::clone(&w.orchestrator().ai.abandoned);
    timeout(DEADLINE, abandoned.acquire()).await.unwrap().unwrap().forget();
    let credit = credit(&w).await;
    // The next job finds the credit as it is: what was begun was paid once.
    w.orchestrator().ai.pieces.store(2, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(events(post(&w, "llm", Ok(chat(true))).await).await.len(), 2);
    assert_eq!(self::credit(&w).await, credit - 256);
}

#[tokio::test]
async fn who_hangs_up_while_nothing_is_said_stops_the_orchestrator_too() {
    let w = world(1, &[]).await;
    assert_eq!(events(post(&w, "llm", Ok(chat(true))).await).await.len(), 5);
    w.orchestrator().ai.begun.acquire().await.unwrap().forget();
    let before = credit(&w).await;
    // In the middle, and before the first piece. Nothing more is ever allowed to be spoken.
    for spoken in [1, 0] {
        let gate = gated(&w);
        gate.add_permits(spoken);
        let request = w.http.post(format!("{}/llm", w.url)).json(&chat(true)).send();
        let client = tokio::spawn(async move {
            let (mut answer, mut rest) = (request.await.unwrap(), String::new());
            event(&mut answer, &mut rest).await.unwrap();
            (answer, rest)
        });
        let ai = &w.orchestrator().ai;
        timeout(DEADLINE, ai.begun.acquire()).await.unwrap().unwrap().forget();
        if spoken == 0 {
            client.abort();
            assert!(client.await.is_err_and(|end| end.is_cancelled()));
        } else {
            drop(client.await.unwrap());
        }
        timeout(DEADLINE, ai.abandoned.acquire()).await.unwrap().unwrap().forget();
    }
    // Both were paid, as orchestrators take it, and nobody is held to have failed.
    assert_eq!(w.orchestrator().book(ACCOUNT).debited, Rational::from_int(3 * 384));
    until("both are settled", || async { credit(&w).await == before - 2 * 256 }).await;
    for o in &w.orchestrators {
        *o.ai.gate.lock().unwrap() = None;
    }
    assert_eq!(events(post(&w, "llm", Ok(chat(true))).await).await.len(), 5);
}

async fn credit(w: &World) -> i64 {
    let key = penstock_store::CreditKey {
        auth_id: w.gateway.settings.auth_id.clone(),
        sender: w.signer.key.address(),
        orchestrator: w.orchestrator().uri(),
        session: ACCOUNT.to_owned(),
    };
    w.gateway.store.credit(&key, penstock_gateway::clock::now()).await.unwrap()
}

#[tokio::test]
async fn an_answer_that_breaks_off_says_so_and_is_not_begun_again() {
    let w = world(2, &[]).await;
    for o in &w.orchestrators {
        o.ai.orders.then([Order::CutAfter(2)]);
    }
    let gate = gated(&w);
    gate.add_permits(2);
    let (mut answer, mut rest) = (post(&w, "llm", Ok(chat(true))).await, String::new());
    for number in 0..2 {
        let said = event(&mut answer, &mut rest).await.unwrap();
        assert_eq!(words(&said), format!("word{number} "));
    }
    gate.add_permits(1);
    let last = event(&mut answer, &mut rest).await.unwrap();
    assert_eq!(event(&mut answer, &mut rest).await, None);
    let (kind, data) = last.split_once('\n').unwrap();
    assert_eq!(kind, "event: error");
    assert!(data.starts_with(r#"data: {"error":{"#) && data.contains("broke off"), "{data}");
    let asked: usize = w.orchestrators.iter().map(|o| o.ai.count("llm")).sum();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn before_the_first_piece_another_orchestrator_takes_over() {
    for order in [
        Order::CutAfter(0),
        Order::Status(500, "out of memory"),
        Order::Status(503, "insufficient capacity"),
        Order::Garbage,
    ] {
        let w = world(2, &[]).await;
        for o in &w.orchestrators {
            o.ai.orders.then([order.clone()]);
        }
        let (status, code, _) = error(post(&w, "llm", Ok(chat(true))).await).await;
        assert_eq!((status, code.as_str()), (503, "attempts_exhausted"), "{order:?}");
        let asked: usize = w.orchestrators.iter().map(|o| o.ai.count("llm")).sum();
        assert_eq!(asked, 2, "{order:?}");
    }
    let w = world(2, &[]).await;
    w.orchestrators[0].ai.orders.then([Order::CutAfter(0)]);
    assert_eq!(events(post(&w, "llm", Ok(chat(true))).await).await.len(), 5);
}

#[tokio::test]
async fn silence_ends_an_answer() {
    // Longer than a busy machine takes from one piece to the next; were it slower still, a piece is missing.
    let w = world(1, &["--ai-stream-idle-ms=2000"]).await;
    gated(&w).add_permits(2);
    let all = events(post(&w, "llm", Ok(chat(true))).await).await;
    assert!(all.len() <= 3, "two pieces were allowed: {all:?}");
    assert!(all.last().unwrap().contains("body timeout"), "{all:?}");
}

/// A streamed answer under a key.
async fn keyed(w: &World, key: &str) -> reqwest::Response {
    let request = w.http.post(format!("{}/llm", w.url)).json(&chat(true));
    request.header("idempotency-key", key).send().await.unwrap()
}

fn is_replayed(answer: &reqwest::Response) -> bool {
    answer.headers().contains_key("idempotency-replayed")
}

#[tokio::test]
async fn a_stream_under_a_key_is_done_once() {
    let w = Arc::new(world(1, &[]).await);
    let gate = gated(&w);
    gate.add_permits(1);
    let mut first = keyed(&w, "k").await;
    assert!(!is_replayed(&first));
    let mut rest = String::new();
    event(&mut first, &mut rest).await.unwrap();
    // While it is at work somebody repeats it, and its own client hangs up.
    let again = tokio::spawn({
        let w = Arc::clone(&w);
        async move { keyed(&w, "k").await }
    });
    drop(first);
    gate.add_permits(1_000);
    let again = again.await.unwrap();
    assert!(is_replayed(&again));
    assert_eq!(again.headers()["content-type"], "text/event-stream");
    let said = events(again).await;
    assert_eq!(said.len(), 5);
    assert_eq!(events(keyed(&w, "k").await).await, said);
    assert_eq!(w.orchestrator().ai.count("llm"), 1);
    let other = w.http.post(format!("{}/llm", w.url)).json(&chat(false));
    let other = other.header("idempotency-key", "k").send().await.unwrap();
    let (status, code, _) = error(other).await;
    assert_eq!((status, code.as_str()), (422, "idempotency_key_reused"));
}

#[tokio::test]
async fn a_stream_under_a_key_that_broke_off_may_be_tried_again() {
    let w = world(2, &[]).await;
    for o in &w.orchestrators {
        o.ai.orders.then([Order::CutAfter(2)]);
    }
    let gate = gated(&w);
    gate.add_permits(2);
    let (mut broken, mut rest) = (keyed(&w, "k").await, String::new());
    for _ in 0..2 {
        event(&mut broken, &mut rest).await.unwrap();
    }
    gate.add_permits(1_000);
    let last = event(&mut broken, &mut rest).await.unwrap();
    assert!(last.starts_with("event: error"), "{last}");
    assert_eq!(event(&mut broken, &mut rest).await, None);
    // Whoever did not have it will have no bad luck either.
    for o in &w.orchestrators {
        o.ai.orders.next();
    }
    let again = keyed(&w, "k").await;
    assert!(!is_replayed(&again));
    assert_eq!(events(again).await.len(), 5);
    assert!(is_replayed(&keyed(&w, "k").await));
    let asked: usize = w.orchestrators.iter().map(|o| o.ai.count("llm")).sum();
    assert_eq!(asked, 2);
}
