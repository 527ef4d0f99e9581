//! Orchestrators that take an AI job and fall silent: the next best gets it, long before the job's time is over.

use crate::{
    ai::{chat, post, world},
    world::World,
};
use penstock_domain::Capability;
use penstock_gateway::{
    clock,
    service::{ai::Pipeline, discovery::ai_pool},
};
use penstock_store::scope_of;
use penstock_testkit::{sim::orchestrator::Order, until, until_some};
use serde_json::Value;

/// The newest job's tries: who had it, and why it failed there.
async fn tries(w: &World) -> Vec<(String, Option<String>)> {
    let answer = w.http.get(format!("{}/v1/selection/newest", w.admin)).send().await.unwrap();
    let newest: Value = answer.json().await.unwrap();
    let rounds = newest[0]["rounds"].as_array().unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    rounds.iter().filter_map(|r| Some((text(&r["chosen"])?, text(&r["failed"])))).collect()
}

/// Nobody is kept out for what it did before.
async fn forgive(w: &World) {
    let pool = ai_pool(Capability::Llm, Pipeline::Llm.default_model()).0;
    for scope in [pool.clone(), scope_of(&pool, &w.gateway.settings.auth_id)] {
        w.gateway.store.release_suspensions(&scope, clock::now()).await.unwrap();
    }
}

/// Whole and in pieces: who does not answer within its own time, which is less than the job's, is left.
#[tokio::test]
async fn one_that_never_answers_is_left_for_the_next_best() {
    for (limit, in_pieces) in
        [("--ai-try-timeout-ms=llm=400", false), ("--ai-stream-head-ms=400", true)]
    {
        let w = world(2, &[limit]).await;
        let silent = w.orchestrators[0].uri();
        // A busy machine may be late at the other one as well: then it is asked again.
        until("a job outlives the silence of the first that had it", || async {
            forgive(&w).await;
            w.orchestrators[0].ai.orders.next();
            w.orchestrators[0].ai.orders.then([Order::Hang]);
            let status = post(&w, "llm", Ok(chat(in_pieces))).await.status();
            let had = tries(&w).await;
            let first_failed = had[0] == (silent.clone(), Some("timeout".to_owned()));
            first_failed && status == 200 && had.len() == 2
        })
        .await;
    }
}

/// One of two stands still with a job; whether the other one did it.
async fn stands_still(in_pieces: bool) -> bool {
    let w = world(2, &["--orchestrator-ping-ms=2000"]).await;
    for o in &w.orchestrators {
        o.ai.orders.then([Order::Hang]);
    }
    let job = post(&w, "llm", Ok(chat(in_pieces)));
    let freeze = async {
        let had = until_some("somebody has the job", || async {
            w.orchestrators.iter().position(|o| o.ai.count("llm") == 1)
        })
        .await;
        w.orchestrators[1 - had].ai.orders.next();
        w.orchestrators[had].server.set_silent(true);
        w.orchestrators[had].uri()
    };
    let (answer, frozen) = tokio::join!(job, freeze);
    let had = tries(&w).await;
    assert!(had.contains(&(frozen, Some("silent".to_owned()))), "{had:?}");
    let is_done = had.iter().any(|(_, failed)| failed.is_none());
    assert_eq!(is_done, answer.status() == 200, "{had:?}");
    is_done
}

/// Its connections stand, its kernel answers, and no time limit is near: a ping finds it.
#[tokio::test]
async fn one_that_stands_still_is_found_by_a_ping() {
    for in_pieces in [false, true] {
        // On a machine that stands still itself, the other one may be taken for frozen too: then again.
        until("the other one does the job", || Box::pin(stands_still(in_pieces))).await;
    }
}

/// Waits until the first one gets a job, which all that are posted meanwhile survive.
async fn has_another_job(w: &World) {
    let first = &w.orchestrators[0];
    let before = first.ai.count("llm");
    until("it has a job", || async {
        forgive(w).await;
        assert_eq!(post(w, "llm", Ok(chat(false))).await.status(), 200);
        first.ai.count("llm") > before
    })
    .await;
}

/// A dead one costs a refused connection.
#[tokio::test]
async fn one_that_died_is_left_at_once_and_has_jobs_again_when_it_is_back() {
    let w = world(2, &[]).await;
    let mortal = &w.orchestrators[0];
    has_another_job(&w).await;
    mortal.server.die().await;
    until("a job meets the dead one", || async {
        assert_eq!(post(&w, "llm", Ok(chat(false))).await.status(), 200);
        let had = tries(&w).await;
        had[0] == (mortal.uri(), Some("connect".to_owned())) && had.len() == 2
    })
    .await;
    mortal.server.revive();
    has_another_job(&w).await;
}
