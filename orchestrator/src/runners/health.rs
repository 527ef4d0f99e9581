//! Whether a runner is there: the operator's own say so themselves, others take a connection.

use super::{registry::Registry, runner::Origin};
use penstock_clients::{BuildError, HttpOptions, http};
use std::time::Duration;
use tokio::{net::TcpStream, time::Instant};
use url::Url;

/// For one question.
const TIME: Duration = Duration::from_secs(3);

/// The client for questions.
pub fn client() -> Result<reqwest::Client, BuildError> {
    let (read_timeout, total_timeout) = (TIME, Some(TIME));
    http(&HttpOptions { read_timeout, total_timeout, idle_per_host: 0, ..HttpOptions::default() })
}

/// Whether it answers with just this status.
pub async fn is_well(http: &reqwest::Client, url: &Url, status: u16) -> bool {
    match http.get(url.clone()).send().await {
        Ok(answer) => answer.status().as_u16() == status,
        Err(_) => false,
    }
}

/// What can be asked of a runner before somebody pays for it.
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
    pub async fn is_well(&self, http: &reqwest::Client) -> bool {
        match self {
            Self::Ask(url, status) => is_well(http, url, *status).await,
            Self::Connect(url) => takes_connections(url).await,
        }
    }
}

async fn takes_connections(url: &Url) -> bool {
    let Some(port) = url.port_or_known_default() else { return false };
    let connected = async {
        match url.host()? {
            url::Host::Domain(name) => TcpStream::connect((name, port)).await.ok(),
            url::Host::Ipv4(ip) => TcpStream::connect((ip, port)).await.ok(),
            url::Host::Ipv6(ip) => TcpStream::connect((ip, port)).await.ok(),
        }
    };
    matches!(tokio::time::timeout(TIME, connected).await, Ok(Some(_)))
}

impl Registry {
    /// Asks all of the operator's own, at once.
    pub async fn ask_all(&self, http: &reqwest::Client) {
        let questions = self.questions();
        let answers = questions.iter().map(|(_, url, status)| is_well(http, url, *status));
        let answers = futures::future::join_all(answers).await;
        for (question, well) in questions.iter().zip(answers) {
            self.heard(question, well, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_takes_a_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/x", listener.local_addr().unwrap())).unwrap();
        assert!(takes_connections(&url).await);
        drop(listener);
        assert!(!takes_connections(&url).await);
    }
}
