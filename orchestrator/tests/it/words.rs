//! `POST /llm` in pieces: each is here as soon as the worker has it; it is paid for before its last piece is passed on,
//! and what a worker breaks off costs what was passed on of it.

use crate::{
    payer::{Payer, answer, empty, post},
    pipelines::{MODEL, cases, paid, worker, world},
    scripted_worker::{AiWorker, ai_failed, ai_stream},
    world::World,
};
use penstock_testkit::until;
use penstock_wire::ai::events::EventReader;
use serde_json::{Value, json};

/// What a streamed answer of so many tokens costs.
const MAX_TOKENS: i64 = 500;

fn price() -> i64 {
    cases().iter().find(|case| case.pipeline == "llm").unwrap().price
}

fn piece(word: &str, reason: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": reason});
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3});
    format!(
        "data: {}\n\n",
        json!({"id": "1", "model": "m", "created": 1, "choices": [choice], "usage": usage})
    )
}

async fn chat(world: &World, payer: &Payer) -> reqwest::RequestBuilder {
    let case = cases().into_iter().find(|case| case.pipeline == "llm").unwrap();
    let headers = paid(world, payer, &case, 10).await;
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": true,
        "max_tokens": MAX_TOKENS});
    post(world, "/llm", &headers).header("Content-Type", "application/json").body(body.to_string())
}

async fn debited(world: &World) -> i64 {
    world.operator("/v1/summary").await["debited_wei"].as_str().unwrap().parse().unwrap()
}

/// A streamed answer, event by event.
struct Heard {
    response: reqwest::Response,
    events: EventReader,
}

impl Heard {
    /// The word of the next event; `None` at the end.
    async fn word(&mut self) -> Option<String> {
        loop {
            if let Some(event) = self.events.next_event().unwrap() {
                let event: Value = serde_json::from_str(&event).unwrap();
                return Some(event["choices"][0]["delta"]["content"].as_str().unwrap().to_owned());
            }
            let bytes = self.response.chunk().await.unwrap()?;
            self.events.push(&bytes);
        }
    }
}

async fn begun(
    world: &World,
    worker: &mut AiWorker,
    payer: &Payer,
) -> (Heard, tokio::sync::mpsc::Sender<Result<String, std::io::Error>>) {
    let running = tokio::spawn(chat(world, payer).await.send());
    let job = worker.next().await;
    let (pieces, upload) = ai_stream(world, job.task_id);
    tokio::spawn(upload.send());
    pieces.send(Ok(piece("one ", None))).await.unwrap();
    let response = running.await.unwrap().unwrap();
    (Heard { response, events: EventReader::new(1 << 20) }, pieces)
}

async fn room_is_free(world: &World) {
    until("the room is free again", || async {
        let workers = world.operator("/v1/workers").await;
        workers[0]["load"] == 0
    })
    .await;
}

#[tokio::test]
async fn pieces_pass_through_one_by_one() {
    let world = world().await;
    let mut worker = worker(&world).await;
    let payer = Payer::funded(&world).await;
    let (mut heard, pieces) = begun(&world, &mut worker, &payer).await;
    assert_eq!(heard.response.status(), 200);
    assert_eq!(heard.response.headers()["content-type"], "text/event-stream");
    assert_eq!(heard.response.headers()["cache-control"], "no-cache");
    assert_eq!(heard.word().await.unwrap(), "one ");
    // Set aside, and the room stays taken.
    assert_eq!(debited(&world).await, 0);
    let info = payer.info(&world, None).await.unwrap();
    let headers = payer.headers(&payer.nothing(&info), &empty(&info, "manifest")).await;
    let body = json!({"model": MODEL, "messages": [], "max_tokens": 1}).to_string();
    let second = answer(post(&world, "/llm", &headers).body(body)).await;
    assert_eq!(second, (503, "insufficient capacity".into()));
    for (word, reason) in [("two ", None), ("three", Some("stop"))] {
        pieces.send(Ok(piece(word, reason))).await.unwrap();
        assert_eq!(heard.word().await.unwrap(), word);
    }
    // Nobody hears the end of it before it is paid.
    assert_eq!(debited(&world).await, MAX_TOKENS * price());
    assert_eq!(heard.word().await, None, "no [DONE] follows");
    room_is_free(&world).await;
    assert_eq!(debited(&world).await, MAX_TOKENS * price());
}

#[tokio::test]
async fn a_gateway_that_hangs_up_has_paid_and_the_worker_is_cut_off() {
    let world = world().await;
    let mut worker = worker(&world).await;
    let payer = Payer::funded(&world).await;
    let (heard, pieces) = begun(&world, &mut worker, &payer).await;
    drop(heard);
    // The worker's sending fails in the end: its upload was let go.
    until("the worker is cut off", || async {
        pieces.send(Ok(piece("more ", None))).await.is_err()
    })
    .await;
    room_is_free(&world).await;
    assert_eq!(debited(&world).await, MAX_TOKENS * price());
}

#[tokio::test]
async fn a_gateway_that_hangs_up_before_the_first_piece_has_paid_and_the_worker_is_let_go() {
    let world = world().await;
    let mut worker = worker(&world).await;
    let payer = Payer::funded(&world).await;
    let running = tokio::spawn(chat(&world, &payer).await.send());
    let task_id = worker.next().await.task_id;
    // Its upload has begun, or begins only afterwards; it never says anything.
    let (pieces, upload) = ai_stream(&world, task_id);
    let upload = tokio::spawn(answer(upload));
    running.abort();
    assert!(running.await.is_err_and(|end| end.is_cancelled()));
    assert_eq!(upload.await.unwrap(), (200, "OK".into()));
    drop(pieces);
    room_is_free(&world).await;
    until("it is booked", || async { debited(&world).await == MAX_TOKENS * price() }).await;
}

#[tokio::test]
async fn a_worker_that_breaks_off_breaks_the_answer_off_and_is_paid_for_what_was_passed_on() {
    let world = world().await;
    let mut worker = worker(&world).await;
    let payer = Payer::funded(&world).await;
    for error in [true, false] {
        let (mut heard, pieces) = begun(&world, &mut worker, &payer).await;
        heard.word().await.unwrap();
        if error {
            pieces.send(Err(std::io::Error::other("gone"))).await.unwrap();
        }
        drop(pieces);
        assert!(
            heard.response.chunk().await.is_err(),
            "half an answer is not taken for a whole one"
        );
        room_is_free(&world).await;
    }
    // Two tokens, as its runner counts them, of each.
    assert_eq!(debited(&world).await, 2 * 2 * price());
}

#[tokio::test]
async fn a_stream_that_never_began_is_not_charged() {
    let world = world().await;
    let mut worker = worker(&world).await;
    let payer = Payer::funded(&world).await;
    let running = tokio::spawn(answer(chat(&world, &payer).await));
    let job = worker.next().await;
    ai_failed(&world, job.task_id, "unexpected status code: 500").send().await.unwrap();
    assert_eq!(running.await.unwrap(), (500, "unexpected status code: 500".into()));
    let running = tokio::spawn(answer(chat(&world, &payer).await));
    let (pieces, upload) = ai_stream(&world, worker.next().await.task_id);
    let upload = tokio::spawn(answer(upload));
    pieces.send(Ok("data: nonsense\n\n".to_owned())).await.unwrap();
    drop(pieces);
    assert_eq!(upload.await.unwrap().0, 500);
    assert_eq!(running.await.unwrap(), (500, "the worker's stream broke off".into()));
    assert_eq!(debited(&world).await, 0);
    // A late stream finds nobody.
    let (pieces, upload) = ai_stream(&world, 77);
    drop(pieces);
    assert_eq!(answer(upload).await, (200, "OK".into()));
}
