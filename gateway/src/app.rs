//! The gateway as a process: settings become an app whose addresses are known before it serves.

use crate::{
    config::{Settings, video::RtmpListen},
    rtmp,
    service::{Gateway, seen},
    stack, stores,
};
use axum::Router;
use penstock_http_kit::{
    CancellationToken, admin, metrics_route,
    serve::{self, ServeError},
};
use penstock_store::{SegmentStore, SessionStore};
use penstock_telemetry::MetricsHandle;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use thiserror::Error;
use tokio::net::TcpListener;

/// The process cannot start or broke.
#[derive(Debug, Error)]
pub enum AppError {
    /// A listener.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A client cannot be made from the settings.
    #[error(transparent)]
    Client(#[from] penstock_clients::BuildError),
    /// The segment store's folder.
    #[error("--segment-store: {0}")]
    Store(#[from] penstock_store::StoreError),
    /// The address file.
    #[error("--addr-file: {0}")]
    AddrFile(#[from] std::io::Error),
}

/// Bound, not yet serving.
pub struct App {
    gateway: Arc<Gateway>,
    http: TcpListener,
    rtmp: Option<TcpListener>,
    admin: TcpListener,
    metrics: Option<TcpListener>,
    metrics_handle: Option<MetricsHandle>,
}

impl App {
    /// Binds all listeners. `metrics` renders the process's metrics; tests have none.
    pub async fn build(
        settings: Settings,
        metrics: Option<MetricsHandle>,
    ) -> Result<Self, AppError> {
        let max_body_bytes = settings.args.max_body_bytes;
        if let Some(why) = settings.stores.segments.too_small_for(max_body_bytes) {
            tracing::warn!(why, "not everything that may be sent can be kept");
        }
        let (store, segments) = stores::open(&settings.stores).await?;
        Self::build_on(settings, metrics, store, segments).await
    }

    /// The same on stores that are there already: several gateways may share them.
    pub async fn build_on(
        settings: Settings,
        metrics: Option<MetricsHandle>,
        store: Arc<dyn SessionStore>,
        segments: Arc<dyn SegmentStore>,
    ) -> Result<Self, AppError> {
        let common = &settings.args.common;
        let http = serve::bind(settings.args.http_addr, "--http-addr").await?;
        let rtmp = rtmp_listener(settings.video.rtmp).await?;
        let admin = serve::bind(common.admin_addr, "--admin-addr").await?;
        let metrics_listener = match common.metrics_addr {
            Some(addr) => Some(serve::bind(addr, "--metrics-addr").await?),
            None => None,
        };
        seen::show();
        let gateway = Gateway::new(settings, store, segments)?.shared();
        Ok(Self { gateway, http, rtmp, admin, metrics: metrics_listener, metrics_handle: metrics })
    }

    /// `http`, `admin` and, if served, `rtmp` and `metrics`.
    pub fn addresses(&self) -> BTreeMap<&'static str, SocketAddr> {
        let listeners = [
            ("http", Some(&self.http)),
            ("rtmp", self.rtmp.as_ref()),
            ("admin", Some(&self.admin)),
            ("metrics", self.metrics.as_ref()),
        ];
        listeners
            .into_iter()
            .filter_map(|(name, listener)| Some((name, listener?.local_addr().ok()?)))
            .collect()
    }

    /// The use cases, for tests that look behind the routes.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Logs the addresses and writes `--addr-file`.
    pub fn announce(&self) -> Result<(), AppError> {
        let addresses = self.addresses();
        for (name, address) in &addresses {
            tracing::info!(listener = name, %address, "listening");
        }
        if let Some(path) = &self.gateway.settings.args.common.addr_file {
            let texts = addresses.iter().map(|(name, a)| (*name, a.to_string())).collect();
            serve::write_addr_file(path, &texts)?;
        }
        Ok(())
    }

    /// Serves until `shutdown`, then drains.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), AppError> {
        let Self { gateway, http, rtmp, admin, metrics, metrics_handle } = self;
        let drain = gateway.settings.args.common.drain_timeout();
        // Load balancers learn from readiness, while everything still works, that this replica is
        // about to stop; then it stops taking requests; health and metrics answer to the end.
        let (stop, last) = (CancellationToken::new(), CancellationToken::new());
        let notice = {
            let (gateway, shutdown, stop) = (Arc::clone(&gateway), shutdown.clone(), stop.clone());
            tokio::spawn(async move {
                shutdown.cancelled().await;
                gateway.draining.cancel();
                tokio::time::sleep(gateway.settings.front.drain_notice).await;
                stop.cancel();
            })
        };
        let discovery = {
            let (gateway, stop) = (Arc::clone(&gateway), stop.clone());
            tokio::spawn(async move {
                tokio::join!(
                    gateway.discover_forever(stop.clone()),
                    gateway.follow_ether(stop.clone()),
                    gateway.refresh_forever(stop.clone()),
                    gateway.sweep_recordings(stop),
                )
            })
        };
        let keys = {
            let (gateway, stop) = (Arc::clone(&gateway), stop.clone());
            tokio::spawn(async move { gateway.callers.follow(stop).await })
        };
        let public = async {
            let router = stack::public(&gateway);
            // Encoders close their side once a segment is sent.
            let readers = gateway.settings.args.readers;
            let least = readers.min_read_bytes_per_second;
            let options = serve::Options {
                least_speed: serve::LeastSpeed::new(least, readers.window()),
                half_close: Some(|_, path| path.starts_with("/live/")),
                jobs: gateway.jobs.clone(),
                ..Default::default()
            };
            let served = serve::serve_with(http, router, stop.clone(), drain, options).await;
            last.cancel();
            served
        };
        let published = async {
            if let Some(listener) = rtmp {
                let (gateway, stop) = (Arc::clone(&gateway), shutdown.clone());
                // Boxed: the tree of futures under `run` is deep enough for the compiler as it is.
                Box::pin(rtmp::server::serve(listener, gateway, stop, drain)).await;
            }
            Ok(())
        };
        let operator = operator_routes(&gateway);
        let operator = serve::serve(admin, operator, last.clone(), drain);
        let watched = async {
            let Some(listener) = metrics else { return Ok(()) };
            let router = match metrics_handle {
                Some(handle) => {
                    metrics_route::router(stack::readiness(&gateway), move || handle.render())
                }
                None => stack::health_routes(&gateway),
            };
            serve::serve(listener, router, last.clone(), drain).await
        };
        let done = tokio::try_join!(public, published, operator, watched);
        shutdown.cancel();
        notice.abort();
        // It only waits for its next round; nothing it does has to be finished.
        discovery.abort();
        keys.abort();
        done?;
        Ok(())
    }
}

/// The default address may be taken, by another gateway on the machine; one that was asked for may
/// not.
async fn rtmp_listener(listen: RtmpListen) -> Result<Option<TcpListener>, ServeError> {
    match listen {
        RtmpListen::Off => Ok(None),
        RtmpListen::At(address) => serve::bind(address, "--rtmp-addr").await.map(Some),
        RtmpListen::IfFree(address) => match serve::bind(address, "--rtmp-addr").await {
            Ok(listener) => Ok(Some(listener)),
            Err(error) => {
                tracing::warn!(%error, "RTMP is not served: set --rtmp-addr, or none");
                Ok(None)
            }
        },
    }
}

/// For the operator: what discovery knows.
fn operator_routes(gateway: &Arc<Gateway>) -> Router {
    let token = gateway.settings.admin_token.as_ref().map(|t| t.expose().to_owned());
    let routes = crate::routes::operator::router().with_state(Arc::clone(gateway));
    admin::require_token(routes, token)
}
