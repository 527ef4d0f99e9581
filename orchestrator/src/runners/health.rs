//! Whether a runner is there: the operator's own say so themselves, others take a connection.

use super::{registry::Registry, runner::Origin};
use crate::runner_networks::{RunnerHttp, RunnerNetworks};
use penstock_clients::{BuildError, HttpOptions};
use std::{sync::Arc, time::Duration};
use tokio::net::TcpStream;
use url::Url;

/// For one question.
const TIME: Duration = Duration::from_secs(3);

/// The client for questions.
pub fn client(networks: &Arc<RunnerNetworks>) -> Result<RunnerHttp, BuildError> {
    let (read_timeout, total_timeout) = (TIME, Some(TIME));
    let options =
        HttpOptions { read_timeout, total_timeout, idle_per_host: 0, ..HttpOptions::default() };
    RunnerHttp::new(networks, &options)
}

/// Whether it answers with just this status.
pub async fn is_well(http: &RunnerHttp, url: &Url, status: u16) -> bool {
    match http.to(url).get(url.clone()).send().await {
        Ok(answer) => answer.status().as_u16() == status,
        Err(_) => false,
    }
}

/// What can be asked of a runner before somebody pays for it, or for the last of it.
#[derive(Clone)]
pub enum Probe {
    /// It has an address for this.
    Ask(Url, u16),
    /// It has none: that it takes a connection must do.
    Connect(Url),
}

impl Probe {
    /// Of a runner.
    pub fn of(origin: &Origin, url: &Url) -> Self {
        match origin {
            Origin::Static { health_url, healthy_status } => {
                Self::Ask(health_url.clone(), *healthy_status)
            }
            Origin::Dynamic { .. } => Self::Connect(url.clone()),
        }
    }

    /// Whether it is there now.
    pub async fn is_well(&self, http: &RunnerHttp) -> bool {
        match self {
            Self::Ask(url, status) => is_well(http, url, *status).await,
            Self::Connect(url) => takes_connections(http.networks(), url).await,
        }
    }
}

/// Whether somebody listens there.
pub async fn takes_connections(networks: &RunnerNetworks, url: &Url) -> bool {
    let connected = async {
        let addresses = networks.addresses(url).await;
        TcpStream::connect(addresses.as_slice()).await
    };
    matches!(tokio::time::timeout(TIME, connected).await, Ok(Ok(_)))
}

impl Registry {
    /// Asks all of the operator's own, at once.
    pub async fn ask_all(&self, http: &RunnerHttp) {
        let questions = self.questions();
        let answers = questions.iter().map(|(_, url, status)| is_well(http, url, *status));
        let answers = futures::future::join_all(answers).await;
        for (question, well) in questions.iter().zip(answers) {
            self.heard(question, well);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner_networks::Network;

    #[tokio::test]
    async fn who_takes_a_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = Url::parse(&format!("http://{address}/x")).unwrap();
        let usual = RunnerNetworks::default();
        assert!(takes_connections(&usual, &url).await);
        let ours = RunnerNetworks::new(vec![Network::Loopback], vec![address]);
        assert!(!takes_connections(&ours, &url).await, "nobody asks us how we are");
        let named = Url::parse(&format!("http://localhost:{}/x", address.port())).unwrap();
        assert!(!takes_connections(&ours, &named).await, "by whatever name");
        drop(listener);
        assert!(!takes_connections(&usual, &url).await);
    }
}
