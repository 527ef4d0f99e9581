//! `penstock dev`: a whole network on one machine, one child process per role, over the same
//! sockets as in production. The children die with it.

mod addresses;
mod args;
pub mod bootstrap;
mod chain;
mod child;
mod error;
mod launch;
mod layout;
mod ready;
mod role;
mod supervisor;
mod table;

use std::{net::SocketAddr, path::Path, process::ExitCode, time::Duration};

use penstock_http_kit::serve::shutdown_signal;
use tokio::sync::mpsc;

pub use args::DevArgs;
pub use chain::Kind;
pub use error::DevError;
pub use launch::{Launch, Network, Runner};
pub use layout::Layout;
pub use ready::work_without_orchestrator;
pub use role::Role;

use chain::Chain;
use supervisor::{Policy, Supervised};

/// Runs the network until SIGTERM or ctrl-c; the exit status of the process.
pub fn main(args: DevArgs) -> ExitCode {
    if let Err(error) = penstock_telemetry::init_logs(false, &args.log_level) {
        table::say(&format!("--log-level: {error}"));
        return ExitCode::from(64);
    }
    // One thread: the kernel ties each child's life to the thread that started it.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            table::say(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            table::say(&format!("\npenstock dev stopped: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Starts everything, waits for a signal, stops everything.
async fn run(args: &DevArgs) -> Result<(), DevError> {
    let layout = Layout::make(&args.data_dir)?;
    let _lock = layout.lock()?;
    layout.keep_to(args.chain)?;
    layout.make_secrets()?;
    let network = Network {
        layout,
        bin_dir: own_folder(),
        log_level: args.log_level.clone(),
        drain_timeout_ms: args.drain_timeout_ms,
        block_interval_ms: args.block_interval_ms,
        speech: true,
        chain_flags: Vec::new(),
        runner: Runner {
            python: absolute(&args.runner_python),
            folder: absolute(&args.runner_dir),
            models: absolute(&args.models_dir),
            nvidia: args.nvidia.clone(),
        },
    };
    let stop = shutdown_signal();
    let (fatal_sender, mut fatal) = mpsc::unbounded_channel();
    let mut dev = Dev { args, network, roles: Vec::new(), fatal: fatal_sender };

    let mut outcome = tokio::select! {
        up = dev.bring_up() => up,
        Some(error) = fatal.recv() => Err(error),
        () = stop.cancelled() => Ok(()),
    };
    if outcome.is_ok() && !stop.is_cancelled() {
        table::print(&dev.network.layout);
        outcome = tokio::select! {
            Some(error) = fatal.recv() => Err(error),
            () = stop.cancelled() => Ok(()),
        };
    }
    dev.stop_all().await;
    outcome
}

/// A network that is starting or running.
struct Dev<'a> {
    args: &'a DevArgs,
    network: Network,
    roles: Vec<Supervised>,
    fatal: mpsc::UnboundedSender<DevError>,
}

impl Dev<'_> {
    /// Starts the roles and gives them what they need, until all are ready.
    async fn bring_up(&mut self) -> Result<(), DevError> {
        let mut last = (Role::Devnet, "it was not started yet".to_owned());
        let patience = Duration::from_secs(self.args.ready_timeout_s);
        let done = tokio::time::timeout(patience, self.start_roles(&mut last)).await;
        done.unwrap_or_else(|_| {
            let (role, reason) = last;
            Err(DevError::NotReady {
                role,
                seconds: self.args.ready_timeout_s,
                reason,
                log: self.network.layout.log(role),
            })
        })
    }

    async fn start_roles(&mut self, last: &mut (Role, String)) -> Result<(), DevError> {
        let http = bootstrap::http()?;
        bootstrap::write_models_file(&self.network)?;
        self.start(match self.args.chain {
            Kind::Devnet => self.network.devnet(self.args.chain_addr),
            Kind::Anvil => {
                let [anvil, contracts] =
                    [&self.args.anvil, &self.args.contracts].map(|p| absolute(p));
                self.network.anvil(self.args.chain_addr, &anvil, &contracts)
            }
        });
        table::say("keys");
        let sender = bootstrap::ensure_key(&self.network, Role::Signer).await?;
        let recipient = bootstrap::ensure_key(&self.network, Role::Orchestrator).await?;

        let url = format!("http://{}", self.announced(Role::Devnet, "http", last).await);
        let chain = match self.args.chain {
            Kind::Devnet => Chain::Devnet { http: http.clone(), url },
            Kind::Anvil => {
                Chain::anvil(&url, &self.announced(Role::Devnet, "network", last).await).await?
            }
        };
        chain.ensure_funds(&sender, &recipient).await?;
        self.network.chain_flags = chain.flags();
        // Whoever runs all of it is the operator of each: `penstock deposit` and its like work.
        let mut orchestrator =
            self.network.orchestrator(self.args.orchestrator_addr, &chain.location());
        orchestrator.args.push("--stake-transactions".to_owned());
        self.start(orchestrator);
        let mut signer = self.network.signer(self.args.signer_addr, &chain.location());
        signer.args.push("--deposit-transactions".to_owned());
        self.start(signer);

        let service = self.announced(Role::Orchestrator, "service", last).await;
        self.start(self.network.worker(&format!("https://{service}")));
        ready::wait(&http, &self.network.layout, Role::Orchestrator, last).await;
        chain.ensure_active(&recipient).await?;
        let signer = self.announced(Role::Signer, "http", last).await;
        self.start(self.network.gateway(self.args.http_addr, &format!("http://{signer}")));

        // The gateway is ready when a paid job can run, which takes all the others.
        for role in [Role::Signer, Role::Worker, Role::Gateway] {
            ready::wait(&http, &self.network.layout, role, last).await;
        }
        ready::wait_for_work(&http, &self.network.layout, last).await;
        Ok(())
    }

    fn start(&mut self, launch: Launch) {
        table::say(&format!("starting the {}", launch.role));
        let policy = Policy {
            restart: !self.args.no_restart,
            drain: Duration::from_millis(self.args.drain_timeout_ms),
        };
        let layout = self.network.layout.clone();
        self.roles.push(Supervised::start(launch, layout, policy, self.fatal.clone()));
    }

    async fn announced(&self, role: Role, key: &str, last: &mut (Role, String)) -> String {
        *last = (role, "it has not announced its addresses".to_owned());
        addresses::wait(&self.network.layout, role, key).await
    }

    /// In the order in which roles need each other: nobody loses a peer while it drains.
    async fn stop_all(self) {
        let mut roles = self.roles;
        roles.sort_by_key(|supervised| supervised.role);
        for supervised in roles {
            let role = supervised.role;
            table::say(&format!("stopping the {role}"));
            if !supervised.stop().await {
                tracing::warn!(%role, "did not drain in time and was killed");
            }
        }
    }
}

/// The roles' binaries lie beside this one.
fn own_folder() -> std::path::PathBuf {
    let own = std::env::current_exe().ok();
    own.as_deref().and_then(Path::parent).unwrap_or(Path::new(".")).to_owned()
}

/// Children run in another folder. Links are kept: a virtual environment's python is one.
fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// For readers of this module's tests and of the system tests: loopback, port chosen by the system.
pub const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
