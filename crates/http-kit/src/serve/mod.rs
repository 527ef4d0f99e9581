//! Binding, announcing, serving with a drain: the outer life of an HTTP listener.

mod answers;
mod connection;
mod hang_up;
mod least_speed;
mod lived;

pub use answers::{Answers, Late, Taken};
pub use least_speed::{Debt, LeastSpeed, Paced};
pub use lived::Lived;

use crate::tls::TlsServer;
use axum::Router;
use connection::Terms;
use http::Method;
use std::{collections::BTreeMap, io::Write, net::SocketAddr, path::Path, time::Duration};
use thiserror::Error;
use tokio::{net::TcpListener, signal::unix::SignalKind};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections of one listener at once.
const MAX_CONNECTIONS: usize = 16_384;
/// After a failed accept (too many open files), before the next: whatever it was needs a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener could not be made or broke.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("{setting}: cannot listen on {addr}: {source}")]
    Bind {
        /// The flag to change.
        setting: String,
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Accepting failed for good.
    #[error("serving stopped: {0}")]
    Serve(#[from] std::io::Error),
}

/// Binds `addr`; `setting` is the flag that holds it, for the error text.
pub async fn bind(addr: SocketAddr, setting: &str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(addr).await.map_err(|source| ServeError::Bind {
        setting: setting.to_owned(),
        addr,
        source,
    })
}

/// Whether a request with this method and path may come from a client that has closed its side.
pub type HalfClose = fn(&Method, &str) -> bool;

/// What a listener does beyond serving plain HTTP.
#[derive(Default)]
pub struct Options {
    /// Speak TLS.
    pub tls: Option<TlsServer>,
    /// Which requests, by method and path, are served to a client that has sent them and closed its
    /// side at once, as ffmpeg's HLS muxer does. (hyper takes such an end for a hang-up and drops the
    /// request, even before the handler has seen the last of the body.) Clients of all others have hung
    /// up when they close theirs. Each connection of such a listener takes a second file descriptor.
    pub half_close: Option<HalfClose>,
    /// What readers have to take of what waits for them.
    pub least_speed: LeastSpeed,
    /// Work of requests whose clients may be gone already: it too may finish within the drain.
    pub jobs: TaskTracker,
}

/// Serves until `shutdown`, then lets requests in flight finish for at most `drain`.
/// Every accepted connection has TCP_NODELAY: answers are small and latency is the product.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    drain: Duration,
) -> Result<(), ServeError> {
    serve_with(listener, router, shutdown, drain, Options::default()).await
}

/// The same with [`Options`].
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    drain: Duration,
    options: Options,
) -> Result<(), ServeError> {
    let Options { tls, half_close, least_speed, jobs } = options;
    // Cut when this future is dropped as well: no connection outlives its server.
    let cut = CancellationToken::new();
    let _cut = cut.clone().drop_guard();
    let connections = TaskTracker::new();
    let clock = Lived::start();
    let shut = shutdown.clone();
    let terms = Terms { router, tls, half_close, least_speed, clock, shutdown: shut, cut };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                // Above the bound the newest is turned away: those inside are served.
                Ok(_) if connections.len() >= MAX_CONNECTIONS => {
                    metrics::counter!("connections_refused_total").increment(1);
                }
                Ok((stream, peer)) => {
                    connections.spawn(connection::serve(stream, peer, terms.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    connections.close();
    jobs.close();
    let done = async {
        connections.wait().await;
        jobs.wait().await;
    };
    if tokio::time::timeout(drain, done).await.is_err() {
        let drain_timeout_ms = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(drain_timeout_ms, "requests were cut off; raise --drain-timeout-ms");
    }
    Ok(())
}

/// A token that SIGTERM or SIGINT cancels. A second signal ends the process at once.
pub fn shutdown_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        wait_for_signal().await;
        tracing::info!("stopping: no new requests, finishing those in flight");
        cancelled.cancel();
        wait_for_signal().await;
        std::process::exit(130);
    });
    token
}

async fn wait_for_signal() {
    let terminate = async {
        match tokio::signal::unix::signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(error) => {
                tracing::error!(%error, "SIGTERM cannot be caught");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = terminate => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Writes `{"http":"127.0.0.1:1234", …}` so that readers see either nothing or all of it.
pub fn write_addr_file(path: &Path, addrs: &BTreeMap<&str, String>) -> std::io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = directory.join(name);
    let mut file = std::fs::File::create(&temporary)?;
    serde_json::to_writer(&mut file, addrs)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::sync::Arc;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn drains_what_is_in_flight() {
        crate::tls::install_crypto_provider();
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (entered, release) = (entered.clone(), release.clone());
            move || async move {
                entered.notify_one();
                release.notified().await;
                "done"
            }
        };
        let listener = bind("127.0.0.1:0".parse().unwrap(), "--http-addr").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let app = Router::new().route("/", get(handler));
        let server = tokio::spawn(serve(listener, app, stop.clone(), Duration::from_secs(30)));
        let client = tokio::spawn(reqwest::get(format!("http://{addr}/")));
        entered.notified().await;
        stop.cancel();
        release.notify_one();
        assert_eq!(client.await.unwrap().unwrap().text().await.unwrap(), "done");
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_taken_port_names_the_flag() {
        let first = bind("127.0.0.1:0".parse().unwrap(), "--http-addr").await.unwrap();
        let error = bind(first.local_addr().unwrap(), "--rtmp-addr").await.unwrap_err();
        assert!(error.to_string().starts_with("--rtmp-addr: cannot listen"));
    }

    #[test]
    fn addr_file_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/a.json");
        write_addr_file(&path, &BTreeMap::from([("http", "127.0.0.1:1".to_owned())])).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "{\"http\":\"127.0.0.1:1\"}\n");
    }
}
