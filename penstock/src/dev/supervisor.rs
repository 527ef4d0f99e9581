//! Keeps one role running: starts it, starts it again when it dies, stops it when told to.

use std::time::{Duration, Instant};

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{DevError, Launch, Layout, Role, addresses, child::RoleProcess};

/// The pause before the first restart; it doubles with each further one, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A role that ran this long was healthy: the next pause is the first again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Over the role's own drain time, before it is killed.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// How roles are kept.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// Whether a dead role is started again.
    pub(super) restart: bool,
    /// The roles' own `--drain-timeout-ms`.
    pub(super) drain: Duration,
}

/// A role under supervision.
#[derive(Debug)]
pub(super) struct Supervised {
    pub(super) role: Role,
    stop: CancellationToken,
    task: JoinHandle<bool>,
}

impl Supervised {
    /// Starts the role. What cannot be mended by starting it again goes to `fatal`.
    pub(super) fn start(
        launch: Launch,
        layout: Layout,
        policy: Policy,
        fatal: mpsc::UnboundedSender<DevError>,
    ) -> Self {
        let role = launch.role;
        // Whoever waits for its address now must not read that of the run before.
        let _ = std::fs::remove_file(layout.addrs(role));
        let stop = CancellationToken::new();
        let keeper = Keeper { launch, layout, policy, stop: stop.clone() };
        let task = tokio::spawn(async move {
            match keeper.keep().await {
                Ok(drained) => drained,
                Err(error) => {
                    // The receiver is gone only when everything is being stopped.
                    let _ = fatal.send(error);
                    true
                }
            }
        });
        Self { role, stop, task }
    }

    /// Drains it and waits until it is gone. False when it had to be killed.
    pub(super) async fn stop(self) -> bool {
        self.stop.cancel();
        self.task.await.unwrap_or(false)
    }
}

struct Keeper {
    launch: Launch,
    layout: Layout,
    policy: Policy,
    stop: CancellationToken,
}

impl Keeper {
    /// Ends with whether the role drained by itself.
    async fn keep(mut self) -> Result<bool, DevError> {
        let role = self.launch.role;
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let mut process = RoleProcess::start(&self.launch, &self.layout)?;
            let status = tokio::select! {
                status = process.ended() => status,
                () = self.stop.cancelled() => {
                    return Ok(process.stop(self.policy.drain + STOP_MARGIN).await);
                }
            };
            let status = status.map_err(|source| DevError::Program {
                program: self.launch.program.clone(),
                source,
            })?;
            // The others know its address: the next start must take the same.
            let announced = addresses::pin(&mut self.launch, &self.layout);
            if !announced || !self.policy.restart {
                return Err(DevError::RoleEnded {
                    role,
                    status,
                    log: self.layout.log(role),
                    tail: self.layout.log_tail(role),
                });
            }
            if started.elapsed() >= HEALTHY_AFTER {
                pause = FIRST_PAUSE;
            }
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(%role, %status, pause_ms, "the role died and is started again");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return Ok(true),
            }
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
}
