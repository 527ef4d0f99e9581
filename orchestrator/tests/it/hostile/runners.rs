//! Thousands of reservations, of sessions and of whatever a session may have.

use crate::{
    runner_app::App,
    runners::{ON, beat, read, said},
    world::{SECRET, World},
};
use futures::StreamExt as _;
use serde_json::json;
use std::collections::BTreeMap;

#[tokio::test]
async fn thousands_of_reservations_take_what_there_is_and_no_more() {
    let settings =
        [&ON[..], &["--max-runner-sessions=50", "--live-runner-lease-ms=86400000"]].concat();
    let (world, app) = (World::offchain(&settings).await, App::start().await);
    let mut facts = said("r", &app.url());
    facts["capacity"] = json!(1_000_000);
    assert_eq!(beat(&world, SECRET, &facts).await.0, 200);
    let reserve = || read(world.http.post(format!("{}/apps/r/session", world.service)));
    let mut asked = futures::stream::iter((0..2000).map(|_| reserve())).buffer_unordered(32);
    let (mut statuses, mut sessions) = (BTreeMap::new(), Vec::new());
    while let Some((status, answer)) = asked.next().await {
        *statuses.entry(status).or_insert(0) += 1;
        match status {
            200 => sessions.push(answer),
            _ => assert_eq!(
                answer,
                json!(
                    "no capacity available: 50 of 50 sessions of live runners (--max-runner-sessions)"
                )
            ),
        }
    }
    assert_eq!(statuses, BTreeMap::from([(200, 50), (503, 1950)]));
    // To stop what never was, and what was stopped, changes nothing.
    let stop =
        |name: &str| read(world.http.post(format!("{}/apps/r/session/{name}/stop", world.service)));
    for _ in 0..100 {
        stop("never").await;
    }
    let name = sessions[0]["session_id"].as_str().unwrap();
    assert_eq!(stop(name).await.0, 204);
    stop(name).await;
    assert_eq!(reserve().await.0, 200, "one place was given back");
    assert_eq!(reserve().await.0, 503, "and only one");
}
