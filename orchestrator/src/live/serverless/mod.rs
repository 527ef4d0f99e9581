//! A runner that somebody hosts, behind a WebSocket (ai-pipelines.md section 9): it has no health of its own, and
//! needs none, since it is there only while a socket is. A session is a socket; its media channels are made when the
//! runner asks for them. [`socket`] is the protocol below, [`words`] what is said over it, [`life`] what becomes
//! of a session.

mod life;
mod socket;
mod words;

use super::{
    error::{NO_CONNECTION, RunnerError},
    runner_api::{Health, message_of},
};
use crate::limits::Limits;
use life::Life;
use penstock_clients::{BuildError, HttpOptions, http};
use penstock_config::Secret;
use penstock_trickle::TrickleServer;
use reqwest::{StatusCode, header};
use serde_json::Value;
use socket::Socket;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use url::Url;
use words::Said;

/// From the request for a socket to the word that the session has begun. Gateways wait for 5 s.
const START_TIME: Duration = Duration::from_secs(10);
/// What a session's messages go by, after its name.
const CONTROL: &str = "-control";

/// What all hosted runners have in common.
#[derive(Clone)]
pub struct Hosting {
    /// Where channels are made.
    pub trickle: TrickleServer,
    /// Longest session.
    pub longest: Duration,
    /// How long a runner has, once it was told that its session will be over.
    pub grace: Duration,
    /// What a URL has to begin with that a request chooses; `None`: it chooses none.
    pub prefix: Option<String>,
    /// How much of everything a runner may send or hold.
    pub limits: Limits,
}

/// One hosted runner.
pub struct Hosted {
    hosting: Hosting,
    http: reqwest::Client,
    /// As the operator has it, and as it is asked for.
    shown: Url,
    url: Url,
    key: Option<Secret>,
    open: Arc<AtomicUsize>,
}

/// A socket that counts.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Hosted {
    /// At this URL; `None` if it is not one of a socket.
    pub fn new(
        hosting: &Hosting,
        url: &Url,
        key: Option<Secret>,
    ) -> Result<Option<Self>, BuildError> {
        let Some(dialled) = words::dialled(url.clone()) else { return Ok(None) };
        let options = HttpOptions {
            // A connection becomes the socket.
            http1_only: true,
            idle_per_host: 0,
            total_timeout: None,
            ..HttpOptions::default()
        };
        let (http, hosting, open) = (http(&options)?, hosting.clone(), Arc::default());
        Ok(Some(Self { hosting, http, shown: url.clone(), url: dialled, key, open }))
    }

    /// For the operator.
    pub fn place(&self) -> String {
        self.shown.to_string()
    }

    /// It can always begin; whether it has a session is known here.
    pub fn health(&self) -> Health {
        if self.open.load(SeqCst) == 0 { Health::Idle } else { Health::Ok }
    }

    /// Opens a socket and has a session begin, which then goes on by itself.
    pub async fn start(&self, request: &Value) -> Result<(), RunnerError> {
        let mut request = request.clone();
        let chosen = words::chosen(&mut request, self.hosting.prefix.as_deref())?;
        let url = chosen.unwrap_or_else(|| self.url.clone());
        let place = Place::of(&request).ok_or(RunnerError::Malformed)?;
        let open = Open(Arc::clone(&self.open));
        self.open.fetch_add(1, SeqCst);
        let text = request.to_string();
        let begun = tokio::time::timeout(START_TIME, async {
            let mut socket = self.dial(&url, &request).await?;
            let ready = socket.message().await.map_err(broken)?;
            if Said::read(&ready) != Said::Ready {
                return Err(RunnerError::Malformed);
            }
            begin(&mut socket, &text, &url).await.map(|()| socket)
        });
        let late = |_| RunnerError::Unreachable("it took too long".to_owned());
        let socket = begun.await.map_err(late)??;
        let Some(events) = self.hosting.trickle.watch(&format!("{}-events", place.name)) else {
            return Err(RunnerError::Unreachable("its session is over".to_owned()));
        };
        let life = Life::new(socket, place, text, url, events, self.hosting.clone());
        tokio::spawn(async move {
            life.run().await;
            drop(open);
        });
        Ok(())
    }

    async fn dial(
        &self,
        url: &Url,
        request: &Value,
    ) -> Result<Socket<reqwest::Upgraded>, RunnerError> {
        let (key, accept) = socket::key().map_err(broken)?;
        let manifest = request["manifest_id"].as_str().unwrap_or_default();
        let mut ask = self
            .http
            .get(url.clone())
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, key)
            .header("Manifest-Id", manifest)
            .header("Daydream-User-Id", words::user(request));
        if let Some(key) = &self.key {
            ask = ask.header(header::AUTHORIZATION, format!("Key {}", key.expose()));
        }
        let answer = ask.send().await.map_err(|error| {
            let why = if error.is_connect() { NO_CONNECTION } else { "the connection broke" };
            RunnerError::Unreachable(why.to_owned())
        })?;
        let status = answer.status();
        let accepted = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if status != StatusCode::SWITCHING_PROTOCOLS || accepted.is_none_or(|said| said != &accept)
        {
            // Whatever ails it there, its operator's key too, is not the client's.
            return Err(RunnerError::Unreachable(format!("no socket, but {}", status.as_u16())));
        }
        let upgraded = answer.upgrade().await;
        let most = self.hosting.limits.serverless_message_bytes;
        upgraded
            .map(|stream| Socket::new(stream, most))
            .map_err(|_| broken(socket::SocketError::Closed))
    }
}

/// Where a session's channels are.
struct Place {
    /// Their name.
    name: String,
    /// What comes before it.
    base: String,
}

impl Place {
    fn of(request: &Value) -> Option<Self> {
        let control = request.get("control_url")?.as_str()?;
        let (base, name) = control.strip_suffix(CONTROL)?.rsplit_once('/')?;
        Some(Self { name: name.to_owned(), base: base.to_owned() })
    }

    fn url(&self, channel: &str) -> String {
        format!("{}/{channel}", self.base)
    }
}

/// Hands the request to a runner that is ready, and hears whether it has begun.
async fn begin(
    socket: &mut Socket<reqwest::Upgraded>,
    request: &str,
    runner: &Url,
) -> Result<(), RunnerError> {
    socket.send(request).await.map_err(broken)?;
    match Said::read(&socket.message().await.map_err(broken)?) {
        Said::Started => Ok(()),
        Said::Refused { code, message } => {
            let plain = |text: &str| message_of(text, Some(runner));
            Err(words::refusal(&plain(&code), &plain(&message)))
        }
        _ => Err(RunnerError::Malformed),
    }
}

/// Nothing of where it is: these words go to clients.
fn broken(error: socket::SocketError) -> RunnerError {
    RunnerError::Unreachable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn where_channels_are() {
        let request = json!({ "control_url": "https://o:1/ai/trickle/abc-control" });
        let place = Place::of(&request).unwrap();
        assert_eq!(place.url("abc-1-in"), "https://o:1/ai/trickle/abc-1-in");
        assert_eq!(place.name, "abc");
        for none in
            [json!({}), json!({ "control_url": "https://o/x" }), json!({ "control_url": 1 })]
        {
            assert!(Place::of(&none).is_none(), "{none}");
        }
    }
}
