//! Is every role ready? Asked over the same `/readyz` that an operator's monitoring asks.

use std::time::Duration;

use serde::Deserialize;

use super::{Layout, Role, addresses};

/// Waits for `/readyz` of the role. Never ends by itself; `last` holds what it answered last, for
/// the message when patience is over.
pub(super) async fn wait(
    http: &reqwest::Client,
    layout: &Layout,
    role: Role,
    last: &mut (Role, String),
) {
    *last = (role, "it has not announced its addresses".to_owned());
    let metrics = addresses::wait(layout, role, "metrics").await;
    loop {
        match http.get(format!("http://{metrics}/readyz")).send().await {
            Ok(response) if response.status().is_success() => return,
            Ok(response) => {
                let status = response.status();
                let body = response.text().await.unwrap_or_default();
                last.1 = format!("{status} {body}");
            }
            Err(error) => last.1 = error.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the gateway knows an orchestrator for every kind of work that this network does: it
/// is ready with the first of them, and a model takes longer to load than ffmpeg does.
pub(super) async fn wait_for_work(
    http: &reqwest::Client,
    layout: &Layout,
    last: &mut (Role, String),
) {
    let admin = addresses::wait(layout, Role::Gateway, "admin").await;
    loop {
        match work_without_orchestrator(http, &format!("http://{admin}")).await {
            Ok(pools) if pools.is_empty() => return,
            Ok(pools) => last.1 = format!("no orchestrator yet for {}", pools.join(", ")),
            Err(error) => last.1 = error.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The pools of the gateway that are empty, from its operator endpoint.
pub async fn work_without_orchestrator(
    http: &reqwest::Client,
    admin: &str,
) -> Result<Vec<String>, reqwest::Error> {
    let answer = http.get(format!("{admin}/v1/orchestrators")).send().await?;
    let known: Known = answer.error_for_status()?.json().await?;
    let empty = known.pools.into_iter().filter(|pool| pool.orchestrators.is_empty());
    Ok(empty.map(|pool| pool.pool).collect())
}

#[derive(Deserialize)]
struct Known {
    pools: Vec<Pool>,
}

#[derive(Deserialize)]
struct Pool {
    pool: String,
    orchestrators: Vec<serde_json::Value>,
}
