//! Is every role ready? Asked over the same `/readyz` that an operator's monitoring asks.

use std::time::Duration;

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
