//! From settings to a running redeemer. Sockets are bound in [`RedeemerApp::build`].

use super::service::Service;
use crate::{
    app::{AppError, GOODBYE, OpenChain, SMALL_BODY, aside, make_private, tls_config},
    background,
    chain_view::ChainView,
    config::{Args, Network},
    paid::{self, Use},
    peers::{args::PeerLimits, upload::paced},
    routes, server,
    service::{funds::Funds, redemption::Redeemer},
};
use axum::Router;
use penstock_config::{ConfigError, Secret};
use penstock_domain::Address;
use penstock_http_kit::{
    CancellationToken, admin, health, metrics_route,
    serve::{self, write_addr_file},
    stack,
};
use penstock_telemetry::MetricsHandle;
use penstock_wire::net::ticket_redeemer_server::TicketRedeemerServer;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tonic::service::Routes;

/// A redeemer with its sockets bound.
pub struct RedeemerApp {
    uri: String,
    recipient: Address,
    funds: Funds,
    redeemer: Redeemer,
    poll: Duration,
    service: Service,
    listener: (TcpListener, Option<Arc<rustls::ServerConfig>>),
    peers: (PeerLimits, Duration),
    /// Largest request: a ticket has about 400 bytes.
    request_bytes: usize,
    admin: (TcpListener, Option<Secret>),
    metrics: Option<TcpListener>,
    addresses: BTreeMap<&'static str, String>,
    addr_file: Option<PathBuf>,
}

impl RedeemerApp {
    /// Reads the key, opens the books, binds the sockets. The chain need not be there yet.
    pub async fn build(args: &Args, open_chain: OpenChain) -> Result<Self, AppError> {
        if args.network == Network::Offchain {
            let reason = "needs --network onchain: without payments there is nothing to redeem";
            return Err(ConfigError::value("--redeemer", reason).into());
        }
        let address = args.service_address()?;
        let secret = args.redeemer.secret_at(address.listen.ip())?;
        let admin_token = args.common.admin_token()?;
        make_private(&args.data_dir)?;
        let signer = paid::open_key(args).await?;
        let recipient = args.redeemer.redeemer_recipient.unwrap_or_else(|| signer.address());
        let chain = paid::open_chain(args, signer, open_chain)?;
        let marks = [paid::mark("--redeemer-recipient", recipient.as_slice())];
        let ledger = paid::open_ledger(args, Use::Redeemer, &marks).await?;
        let redeem_gas = chain.redeem_gas();
        let (max_age, lookups) = (args.chain_max_age(), args.sender_questions());
        let view = Arc::new(ChainView::new(Arc::clone(&chain), recipient, max_age, lookups));
        let funds = Funds { ledger, chain: view, redeem_gas };
        let redeemer = Redeemer::new(chain, funds.clone(), args.lease());
        let listener = serve::bind(address.listen, "--http-addr").await?;
        let admin = serve::bind(args.common.admin_addr, "--admin-addr").await?;
        let metrics = match args.common.metrics_addr {
            Some(addr) => Some(serve::bind(addr, "--metrics-addr").await?),
            None => None,
        };
        let mut addresses = BTreeMap::from([
            ("service", listener.local_addr()?.to_string()),
            ("admin", admin.local_addr()?.to_string()),
        ]);
        if let Some(metrics) = &metrics {
            addresses.insert("metrics", metrics.local_addr()?.to_string());
        }
        // An orchestrator follows all its senders on one connection, and asks and brings beside that.
        let on_one = args.redeemer.redeemer_max_streams.saturating_add(args.limits.http2_streams);
        let peers =
            PeerLimits { streams: on_one, ..args.peers.limits(&args.limits, &args.readers) };
        let streams = usize::try_from(args.redeemer.redeemer_max_streams).unwrap_or(usize::MAX);
        let service = Service {
            recipient,
            funds: funds.clone(),
            limits: args.redeemer.queue_limits(),
            secret,
            streams: Arc::new(Semaphore::new(streams)),
            stop: CancellationToken::new(),
        };
        Ok(Self {
            uri: address.advertised(listener.local_addr()?),
            recipient,
            funds,
            redeemer,
            poll: Duration::from_millis(args.chain_poll_ms),
            service,
            listener: (listener, tls_config(args, &address)?),
            peers: (peers, args.peers.pause()),
            request_bytes: args.limits.redeemer_request_bytes,
            admin: (admin, admin_token),
            metrics,
            addresses,
            addr_file: args.common.addr_file.clone(),
        })
    }

    /// The addresses really bound, by name: `service`, `admin`, `metrics`.
    pub fn addresses(&self) -> &BTreeMap<&'static str, String> {
        &self.addresses
    }

    /// What orchestrators are to be told with `--redeemer-addr`, if they reach it by that name.
    pub fn service_uri(&self) -> &str {
        &self.uri
    }

    /// Whose tickets are redeemed.
    pub fn recipient(&self) -> Address {
        self.recipient
    }

    /// Serves until `shutdown`.
    pub async fn run(
        self,
        shutdown: CancellationToken,
        metrics: Option<MetricsHandle>,
    ) -> Result<(), AppError> {
        let Self { funds, redeemer, service, .. } = self;
        let beside = CancellationToken::new();
        let stopping = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let view = Arc::clone(&funds.chain);
        tasks.spawn(watch(Arc::clone(&view), self.poll, beside.clone()));
        tasks.spawn(background::redeem(redeemer, view, beside.clone()));
        let (listener, token) = self.admin;
        let books = routes::books::router(funds.clone());
        let books = admin::require_token(books, token.map(|token| token.expose().to_owned()));
        tasks.spawn(aside(listener, stack::common(books, SMALL_BODY), beside.clone()));
        let readiness = readiness(funds.clone(), Arc::clone(&stopping));
        if let Some(listener) = self.metrics {
            let router = metrics_route::router(readiness.clone(), move || {
                metrics.as_ref().map(MetricsHandle::render).unwrap_or_default()
            });
            tasks.spawn(aside(listener, stack::common(router, SMALL_BODY), beside.clone()));
        }
        let streams_stop = service.stop.clone();
        let router =
            router(service, self.peers.1, self.request_bytes).merge(health::router(readiness));
        let (listener, tls) = self.listener;
        let handle: axum_server::Handle<SocketAddr> = axum_server::Handle::new();
        let router = stack::common(router, SMALL_BODY);
        let serving = server::serve(listener, tls, router, handle.clone(), self.peers.0);
        let mut serving = tokio::spawn(serving);
        if let Some(path) = &self.addr_file {
            write_addr_file(path, &self.addresses)?;
        }
        let served = tokio::select! {
            () = shutdown.cancelled() => {
                stopping.store(true, Ordering::Relaxed);
                streams_stop.cancel();
                handle.graceful_shutdown(Some(GOODBYE));
                serving.await
            }
            broken = &mut serving => broken,
        };
        beside.cancel();
        while tasks.join_next().await.is_some() {}
        funds.ledger.close().await;
        Ok(served.map_err(|_| AppError::Task)??)
    }
}

/// The service as routes. The fallback that tonic adds answers unknown REST paths with 200, so it is
/// taken off.
fn router(service: Service, pause: Duration, request_bytes: usize) -> Router {
    let service = TicketRedeemerServer::new(service).max_decoding_message_size(request_bytes);
    Routes::new(service)
        .prepare()
        .into_axum_router()
        .reset_fallback()
        // Requests are one message: who is slow with it is not waited for.
        .layer(axum::middleware::map_request(move |request: axum::extract::Request| async move {
            request.map(|body| paced(body, pause))
        }))
}

/// Polls the chain.
async fn watch(view: Arc<ChainView>, every: Duration, stop: CancellationToken) {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        view.refresh_and_log(&mut failing).await;
    }
}

fn readiness(
    funds: Funds,
    stopping: Arc<AtomicBool>,
) -> impl Fn() -> health::Answer + Clone + Send + Sync + 'static {
    move || {
        let (funds, stopping) = (funds.clone(), Arc::clone(&stopping));
        Box::pin(async move {
            let mut missing = Vec::new();
            if stopping.load(Ordering::Relaxed) {
                missing.push(health::NotReady::new("process", "stopping"));
            }
            let unknown = funds.chain.missing();
            missing.extend(unknown.map(|reason| health::NotReady::new("chain", reason)));
            let troubles = funds.chain.troubles().into_iter();
            missing.extend(troubles.map(|said| health::NotReady::degraded("chain", said)));
            if funds.ledger.ping().await.is_err() {
                missing.push(health::NotReady::new("ledger", "--ledger does not answer"));
            }
            if missing.is_empty() { Ok(()) } else { Err(missing) }
        })
    }
}
