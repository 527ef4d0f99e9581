//! Settings and opened back ends become a running service.

use crate::{
    auth::Accounts,
    chain_facts::ChainFacts,
    discovery::Discovery,
    error::SignerError,
    events::{Dispatcher, SinkError},
    key_source::state_keys::StateKeysSource,
    routes::{self, AppState, Shared},
    service::{Clock, Parts, Signer, deposit::Deposit, runway::Runway},
    settings::Settings,
    state_blob::{StateKeys, StateKeysError},
};
use penstock_chain::Chain;
use penstock_http_kit::{
    CancellationToken,
    serve::{self, ServeError},
    tls::{TlsError, TlsServer},
};
use penstock_keys::TypedSigner;
use penstock_ledger::{
    operations::{OperationLedger, Operations},
    signer::{SignerLedger, accounts::AccountLedger},
};
use penstock_telemetry::MetricsHandle;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::net::TcpListener;

/// The files of TLS are looked at so often.
const TLS_POLL: Duration = Duration::from_secs(5);

/// The service could not start: exit 1.
#[derive(Debug, Error)]
pub enum BuildError {
    /// No keys for the payment states.
    #[error("--state-keys-file")]
    StateKeys(#[from] StateKeysError),
    /// They are in a vault and were not read before: a mistake of ours.
    #[error("--state-keys-file: the vault was not read")]
    StateKeysInVault,
    /// An address cannot be bound.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The key does not sign.
    #[error("the key did not sign its own address")]
    Key(#[source] SignerError),
    /// A client for identity provider, webhook or price of ether cannot be made.
    #[error("authentication: {0}")]
    Accounts(String),
    /// Discovery has no client.
    #[error("discovery: {0}")]
    Discovery(String),
    /// The files of --tls-cert, --tls-key or --client-ca cannot be used.
    #[error("--tls-cert, --tls-key, --client-ca: {0}")]
    Tls(#[from] TlsError),
    /// The sink of --events can never work.
    #[error("--events: {0}")]
    Events(#[from] SinkError),
    /// The file of --addr-file cannot be written.
    #[error("--addr-file")]
    AddrFile(#[source] std::io::Error),
}

/// The opened back ends. `main` chooses them; nothing else names one.
pub struct Backends {
    /// The chain, as the key's account where that sends transactions.
    pub chain: Arc<dyn Chain>,
    /// The books.
    pub ledger: Arc<dyn SignerLedger>,
    /// What the account was asked to do on the chain.
    pub operations: Arc<dyn OperationLedger>,
    /// Who may call, as the books have it.
    pub accounts: Arc<dyn AccountLedger>,
    /// The account's key.
    pub key: TypedSigner,
    /// Time.
    pub clock: Clock,
    /// For `/metrics`.
    pub metrics: Option<MetricsHandle>,
}

/// A signer whose addresses are bound.
pub struct App {
    settings: Settings,
    state: AppState,
    tls: Option<TlsServer>,
    http: (TcpListener, SocketAddr),
    admin: (TcpListener, SocketAddr),
    metrics: Option<(TcpListener, SocketAddr)>,
}

impl App {
    /// Binds everything, signs the own address once, writes the address file.
    pub async fn build(settings: Settings, backends: Backends) -> Result<Self, BuildError> {
        let tls = settings.tls.clone().map(TlsServer::load).transpose()?;
        let state_keys = match &settings.state_keys {
            StateKeysSource::File(path) => StateKeys::load_or_create(path)?,
            StateKeysSource::Loaded(keys) => keys.clone(),
            StateKeysSource::Vault(_) => return Err(BuildError::StateKeysInVault),
        };
        let account = backends.key.address();
        let deposit = Deposit::new(
            Arc::clone(&backends.chain),
            Arc::clone(&backends.ledger),
            Operations::new(backends.operations, &settings.replica).within(settings.deposit.limits),
            account,
            Arc::clone(&backends.clock),
            settings.deposit.transactions,
        );
        let chain = Arc::new(ChainFacts::new(backends.chain, account, settings.chain_max_age));
        let books = Arc::clone(&backends.ledger);
        let runway = Runway::new(
            Arc::clone(&books),
            Arc::clone(&chain),
            Arc::clone(&backends.clock),
            settings.deposit.warn_days,
            settings.deposit.reserve,
        );
        let clock = Arc::clone(&backends.clock);
        let accounts = Accounts::new(settings.auth.clone(), backends.accounts, clock)
            .map_err(BuildError::Accounts)?;
        let accounts = accounts.sharing(settings.max_in_flight).audited(Arc::clone(&books));
        let accounts = Arc::new(accounts);
        let signer = Signer::new(Parts {
            key: backends.key,
            ledger: backends.ledger,
            chain: Arc::clone(&chain),
            state_keys,
            limits: settings.limits.clone(),
            prices: settings.prices.clone(),
            clock: backends.clock,
            accounts: Arc::clone(&accounts),
            event_source: settings
                .events
                .as_ref()
                .map(|events| events.gateway.clone().unwrap_or_else(|| settings.replica.clone())),
        });
        let signature = signer.sign_own_address().await.map_err(BuildError::Key)?;
        let identity = penstock_wire::json::SignOrchestratorInfo {
            address: account,
            signature: signature.as_bytes().to_vec(),
        };
        let discovery = Discovery::new(&settings, Arc::clone(&chain), &identity)
            .map_err(BuildError::Discovery)?;
        let events = Arc::new(Dispatcher::new(books, settings.events.clone()));
        events.check()?;
        let state = AppState::new(Shared {
            signer: Arc::new(signer),
            deposit: Arc::new(deposit),
            runway: Arc::new(runway),
            accounts,
            identity: Arc::new(identity),
            discovery: Arc::new(discovery),
            events,
            metrics: backends.metrics,
        });
        let metrics = match settings.metrics_addr {
            Some(addr) => Some(listen(addr, "--metrics-addr").await?),
            None => None,
        };
        let app = Self {
            http: listen(settings.http_addr, "--http-addr").await?,
            admin: listen(settings.admin_addr, "--admin-addr").await?,
            metrics,
            settings,
            state,
            tls,
        };
        if let Some(path) = &app.settings.addr_file {
            serve::write_addr_file(path, &app.addresses()).map_err(BuildError::AddrFile)?;
        }
        Ok(app)
    }

    /// The addresses really bound: `http`, `admin`, and `metrics` if asked for.
    pub fn addresses(&self) -> BTreeMap<&'static str, String> {
        let mut addresses = BTreeMap::from([
            ("http", self.http.1.to_string()),
            ("admin", self.admin.1.to_string()),
        ]);
        if let Some((_, addr)) = &self.metrics {
            addresses.insert("metrics", addr.to_string());
        }
        addresses
    }

    /// The use cases behind the routes.
    pub fn signer(&self) -> &Arc<Signer> {
        &self.state.signer
    }

    /// Serves until `shutdown`, finishes what is in flight, closes the books.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Self { settings, state, tls, http, admin, metrics } = self;
        let (drain, least_speed) = (settings.drain, settings.least_speed);
        let background = CancellationToken::new();
        let chain = tokio::spawn({
            let (chain, stop) = (Arc::clone(&state.signer.chain), background.clone());
            async move { chain.follow(settings.chain_poll, stop).await }
        });
        let maintenance = tokio::spawn({
            let (signer, stop) = (Arc::clone(&state.signer), background.clone());
            async move { signer.maintain(stop).await }
        });
        let runway = tokio::spawn({
            let (runway, stop) = (Arc::clone(&state.runway), background.clone());
            async move { runway.follow(stop).await }
        });
        let retention = tokio::spawn({
            let (signer, stop) = (Arc::clone(&state.signer), background.clone());
            async move { signer.forget(settings.retention, stop).await }
        });
        let discovery = tokio::spawn({
            let (discovery, stop) = (Arc::clone(&state.discovery), background.clone());
            async move { discovery.follow(stop).await }
        });
        let events = tokio::spawn({
            let (events, stop) = (Arc::clone(&state.events), background.clone());
            async move { events.run(stop).await }
        });
        let accounts = tokio::spawn({
            let (accounts, stop) = (Arc::clone(&state.accounts), background.clone());
            async move { accounts.follow(stop).await }
        });
        let certificates = tokio::spawn({
            let (tls, stop) = (tls.clone(), background.clone());
            async move {
                if let Some(tls) = tls {
                    tls.follow(TLS_POLL, stop).await;
                }
            }
        });
        let public = crate::stack::public(routes::public(state.clone()), &settings);
        let operators = crate::stack::operators(
            routes::admin(state.clone()),
            settings.admin_token.as_ref().map(|t| t.expose().to_owned()),
        );
        let options = serve::Options { tls, least_speed, ..serve::Options::default() };
        let api = serve::serve_with(http.0, public, shutdown.clone(), drain, options);
        let admin = serve::serve(admin.0, operators, shutdown.clone(), drain);
        let observed = async {
            let Some((listener, _)) = metrics else { return Ok(()) };
            let router = crate::stack::observed(routes::observed(&state));
            serve::serve(listener, router, shutdown.clone(), drain).await
        };
        let served = tokio::try_join!(api, admin, observed);
        // Reading chain and orchestrators goes on while requests finish.
        background.cancel();
        let tasks =
            [chain, discovery, events, accounts, certificates, maintenance, retention, runway];
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a background task ended badly");
            }
        }
        state.accounts.close().await;
        state.signer.ledger.close().await;
        served.map(|_| ())
    }
}

async fn listen(addr: SocketAddr, setting: &str) -> Result<(TcpListener, SocketAddr), ServeError> {
    let listener = serve::bind(addr, setting).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}
