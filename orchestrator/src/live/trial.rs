//! Trials: a runner that several senders say does not begin is asked by us. The session is nobody's, has no media, and
//! ends as soon as it has begun: its channels are closed. So a few senders take a runner from the others for one
//! interval of its health at most, and one that is broken gets nobody's payment until it is not.

use super::{
    channels::{self, Channels, Shape},
    paid_start::random_name,
    runners::Slot,
    scope, session,
};
use crate::node::Node;
use futures::future::join_all;
use penstock_wire::json::LiveVideoStart;
use std::sync::Arc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// What a runner's log may have of a trial, in place of the gateway's names.
const TRIAL: &str = "penstock-trial";

impl Node {
    /// Tries whoever is in doubt, again and again until `stop`.
    pub async fn try_runners(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(self.live.settings.health_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let trying = async {
            loop {
                ticks.tick().await;
                let doubted = self.live.runners.doubted();
                join_all(doubted.into_iter().map(|slot| self.try_runner(slot))).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = trying => {}
        }
    }

    async fn try_runner(self: &Arc<Self>, slot: Slot) {
        let (live, runner) = (&self.live, slot.runner());
        let shape = if runner.model == scope::MODEL { Shape::Scope } else { Shape::Video };
        // No room for channels: another time.
        let Ok(name) = random_name() else { return };
        let Ok(channels) = Channels::make(&live.trickle, &name, shape) else { return };
        let host = live.settings.trickle_host.as_deref();
        let urls = channels::for_runner(self.service_uri(), &name, shape, host);
        let start = LiveVideoStart {
            model_id: runner.model.clone(),
            params: None,
            gateway_request_id: TRIAL.to_owned(),
            stream_id: TRIAL.to_owned(),
        };
        let begun = runner.api.start(&urls.runner_request(&name, &start)).await;
        drop(channels);
        let place = runner.api.place();
        runner.was_tried(begun.is_ok());
        match &begun {
            Ok(_) => tracing::info!(runner = place, "a live runner that senders doubted begins"),
            Err(error) => tracing::warn!(runner = place, %error, "a live runner does not begin"),
        }
        if !begun.is_err_and(|error| error.began_nothing()) {
            self.jobs.spawn(session::let_go(slot, live.settings.health_interval));
        }
    }
}
