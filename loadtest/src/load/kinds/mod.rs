//! What an operation is, for each kind of load. Each speaks the public wire and nothing else.

mod ai;
mod answers;
mod live_runner;
mod media;
mod payments;
mod push;
mod rtmp;
mod trickle;

use super::{
    drive::{Failure, Job},
    scenario::{Load, Work},
    tally::{Tally, Turn},
    target::{Role, Target},
};
use penstock_clients::{HttpOptions, SignerClient, SignerOptions, Trust};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderValue},
};
use std::{path::Path, sync::Arc};

/// What every kind is made with.
pub struct Context<'a> {
    /// The load.
    pub load: &'a Load,
    /// Whom to load.
    pub target: &'a Target,
    /// Where it counts.
    pub tally: &'a Arc<Tally>,
    /// For files.
    pub folder: &'a Path,
}

/// One load's job.
pub enum Kind {
    /// See [`Work::Ai`].
    Ai(ai::Jobs),
    /// See [`Work::Push`].
    Push(push::Streams),
    /// See [`Work::Rtmp`].
    Rtmp(rtmp::Publications),
    /// See [`Work::LiveRunner`].
    LiveRunner(live_runner::Sessions),
    /// See [`Work::Payments`].
    Payments(payments::Wallet),
    /// See [`Work::Trickle`].
    Trickle(trickle::Channels),
}

impl Kind {
    /// Everything that has to be there before the first operation.
    pub async fn prepare(context: &Context<'_>) -> Result<Self, String> {
        Ok(match &context.load.work {
            Work::Ai(ai) => Self::Ai(ai::Jobs::new(context, ai)?),
            Work::Push(push) => Self::Push(push::Streams::prepare(context, push).await?),
            Work::Rtmp(rtmp) => Self::Rtmp(rtmp::Publications::prepare(context, rtmp).await?),
            Work::LiveRunner(runner) => {
                Self::LiveRunner(live_runner::Sessions::prepare(context, runner).await?)
            }
            Work::Payments(payments) => {
                Self::Payments(payments::Wallet::prepare(context, payments).await?)
            }
            Work::Trickle(trickle) => {
                Self::Trickle(trickle::Channels::prepare(context, trickle).await?)
            }
        })
    }

    /// Waits for what operations have set off and not waited for.
    pub async fn settle(&self) {
        if let Self::Trickle(channels) = self {
            channels.settle().await;
        }
    }
}

impl Job for Kind {
    async fn run(&self, turn: Turn) -> Result<(), Failure> {
        match self {
            Self::Ai(jobs) => jobs.run(turn).await,
            Self::Push(streams) => streams.run(turn).await,
            Self::Rtmp(publications) => publications.run(turn).await,
            Self::LiveRunner(sessions) => sessions.run(turn).await,
            Self::Payments(wallet) => wallet.run(turn).await,
            Self::Trickle(channels) => channels.run(turn).await,
        }
    }
}

impl Context<'_> {
    fn place(&self, role: Role) -> Result<Url, String> {
        let place = self.target.one(role).cloned();
        place.ok_or_else(|| format!("{}: no {} to load", self.load.name, role.name()))
    }

    fn trust(&self) -> Trust {
        if self.target.any_certificate { Trust::AcceptAny } else { Trust::System }
    }

    /// For requests to a peer with this trust: so many at once, each with the load's time.
    fn http(&self, trust: Trust) -> Result<reqwest::Client, String> {
        let http = penstock_clients::http(&HttpOptions {
            trust,
            connect_timeout: self.load.timeout,
            read_timeout: self.load.timeout,
            total_timeout: None,
            // As applications are: what one of them would keep open, all do.
            idle_per_host: self.load.at_once(),
            ..HttpOptions::default()
        });
        http.map_err(|error| error.to_string())
    }

    fn bearer(&self) -> Result<Option<HeaderValue>, String> {
        let Some(token) = &self.target.bearer else { return Ok(None) };
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| "the bearer token cannot be a header".to_owned())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn signer(&self, url: &Url) -> Result<SignerClient, String> {
        let options = SignerOptions {
            bearer_token: self.target.bearer.clone(),
            trust: self.trust(),
            timeout: self.load.timeout,
            ..SignerOptions::new(url.as_str())
        };
        SignerClient::new(&options).map_err(|error| error.to_string())
    }
}

/// With the caller's key, if there is one.
fn authorized(
    request: reqwest::RequestBuilder,
    bearer: Option<&HeaderValue>,
) -> reqwest::RequestBuilder {
    match bearer {
        Some(bearer) => request.header(AUTHORIZATION, bearer.clone()),
        None => request,
    }
}

/// A path below a place, whatever its own path ends with.
fn below(place: &Url, path: &str) -> String {
    format!("{}/{path}", place.as_str().trim_end_matches('/'))
}

/// Letters that no other run has, whatever its seed: they name streams and sessions, and a target that knows a name
/// from an earlier run would go on with that one.
fn run_name() -> String {
    format!("{:08x}", rand::random::<u32>())
}
