//! Live runners: applications that register here, by themselves or by the operator, and that clients
//! reach through this process only (live-runner.md).
//!
//! [`facts`] is what a runner may say, [`price`] what it costs; [`registry`] who is there, with
//! [`upsert`] for the operator's own and [`listing`] for who asks; [`runner`] and [`session`] are one of
//! each, [`state`] all of them, [`ended`] why a session ended. [`health`] is whether a runner is there,
//! [`o2r`] what it is told, [`channels`] what it asks for. [`sessions`] is how a session is taken and let
//! go, [`pay`] what that costs, [`meter`] what goes on to cost, [`fixed`] what costs as much however long it is, [`once`] a
//! single call. [`template`] and
//! [`path`] say where requests go, [`headers`] with what, [`forward`] passes them on and [`relay`] what is no
//! HTTP any more.

pub mod args;
mod channels;
mod ended;
pub mod error;
mod facts;
mod fixed;
mod forward;
mod headers;
pub mod health;
mod ids;
mod listing;
mod meter;
mod o2r;
mod once;
mod path;
mod pay;
mod price;
mod registry;
mod relay;
mod runner;
mod session;
mod sessions;
mod state;
mod template;
mod upsert;

use crate::{
    limits::Limits,
    pricing::book::Prices,
    runner_networks::{RunnerHttp, RunnerNetworks},
    service::hands::Hands,
};
use args::RunnerArgs;
use error::RunnerError;
pub use facts::Mode;
use facts::StaticFacts;
pub use once::Once;
pub use pay::{Asked, payer_of};
use penstock_config::ConfigError;
use penstock_trickle::TrickleServer;
use penstock_wire::json::{MAX_STATIC_RUNNERS_BYTES, StaticRunnerSaid};
pub use registry::Registry;
use serde_json::{Value, json};
pub use sessions::Behind;
use std::{io::Read as _, path::Path, sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Expired runners and unused sessions are looked for this often, or more often than they may be.
const SWEEP: Duration = Duration::from_secs(5);

/// Everything about live runners in a process.
pub struct LiveRunners {
    /// Who is there.
    pub registry: Registry,
    /// For questions after their health.
    pub health: RunnerHttp,
    /// For their clients' requests.
    pub http: RunnerHttp,
    /// Accounts that their sessions are paid from.
    pub hands: Arc<Hands>,
}

impl LiveRunners {
    /// As set, in these networks; the operator's own are registered and have been asked how they are. `None`: there are
    /// none here.
    pub async fn open(
        (args, limits, networks): (&RunnerArgs, &Limits, &Arc<RunnerNetworks>),
        service_uri: &str,
        trickle: &TrickleServer,
        paid: bool,
        has_secret: bool,
        payment_interval_ms: u64,
        prices: &Prices,
    ) -> Result<Option<Self>, ConfigError> {
        if !args.is_on() {
            return Ok(None);
        }
        if args.use_live_runners && !has_secret {
            let reason = "needs --secret-file, which live runners register with";
            return Err(ConfigError::value("--use-live-runners", reason));
        }
        if paid && !prices.knows_ether() {
            tracing::warn!(
                "live runners are registered in dollars, and have no price without --eth-usd, --eth-usd-file, \
                 --eth-usd-url or --eth-usd-feed-url but by a rule in wei"
            );
        }
        let registry = Registry::new(
            args.bounds(payment_interval_ms, limits),
            args.places(service_uri)?,
            trickle.clone(),
            paid,
            args.use_live_runners,
            Arc::clone(networks),
        );
        let no_client = |error: penstock_clients::BuildError| {
            ConfigError::value("--use-live-runners", error.to_string())
        };
        let health = health::client(networks).map_err(no_client)?;
        let http = forward::client(networks).map_err(no_client)?;
        let runners = Self { registry, health, http, hands: Arc::default() };
        if let Some(path) = &args.live_runner_config {
            let bad = |reason: String| ConfigError::value("--live-runner-config", reason);
            let text = read(path).map_err(|error| bad(format!("{}: {error}", path.display())))?;
            let registered = runners.upsert(&text).await.map_err(|e| bad(e.to_string()))?;
            let count = registered.get("runners").and_then(Value::as_array).map_or(0, Vec::len);
            tracing::info!(count, "the operator's live runners are registered");
        }
        Ok(Some(runners))
    }

    /// The operator's list: all of it or none.
    pub async fn upsert(&self, body: &[u8]) -> Result<Value, RunnerError> {
        let list = StaticRunnerSaid::parse_list(body)
            .map_err(|error| RunnerError::Senseless(error.to_string()))?;
        let list = self.registry.check_list(&list)?;
        let ask = async |said: StaticFacts| {
            let well = health::is_well(&self.health, &said.health_url, said.healthy_status).await;
            (said, well)
        };
        let asked = futures::future::join_all(list.into_iter().map(ask)).await;
        let rows = self.registry.upsert(&asked)?;
        Ok(json!({ "runners": rows }))
    }

    /// Sweeps, and asks the operator's own how they are, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let bounds = &self.registry.bounds;
        let sweeps = every(SWEEP.min(bounds.ttl / 4).min(bounds.lease / 4), || async {
            self.registry.sweep(Instant::now());
        });
        let questions =
            every(bounds.health_interval, || async { self.registry.ask_all(&self.health).await });
        tokio::select! {
            () = stop.cancelled() => {}
            _ = futures::future::join(sweeps, questions) => {}
        }
    }
}

async fn every<F: Future<Output = ()>>(time: Duration, mut what: impl FnMut() -> F) {
    if time == Duration::MAX {
        return std::future::pending().await;
    }
    let mut ticks = interval(time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    loop {
        ticks.tick().await;
        what().await;
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let most = u64::try_from(MAX_STATIC_RUNNERS_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(path)?.take(most).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use penstock_trickle::Settings;
    use penstock_wire::json::{RunnerSaid, SaidPrice};

    /// What registrations need, in these tests.
    pub const SECRET: &str = "sesame";

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: RunnerArgs,
    }

    /// A registry of paid runners.
    pub fn registry(extra: &[&str]) -> Registry {
        let usual = ["x", "--live-runner-addr=http://internal:1"];
        let mut args = Only::parse_from(usual.iter().chain(extra)).args;
        args.use_live_runners = args.live_runner_config.is_none();
        let trickle = TrickleServer::new(Settings::default()).unwrap();
        let places = args.places("https://service:1").unwrap();
        let (bounds, is_dynamic) = (args.bounds(5_000, &Limits::default()), args.use_live_runners);
        Registry::new(bounds, places, trickle, true, is_dynamic, Arc::default())
    }

    /// A runner's word.
    pub fn said(id: &str) -> RunnerSaid {
        RunnerSaid {
            runner_id: id.into(),
            runner_url: "http://10.0.0.2:9000/base".into(),
            app: "echo".into(),
            price_info: SaidPrice { price: "0.0072".into(), ..SaidPrice::default() },
            ..RunnerSaid::default()
        }
    }
}
