//! The public listener. Like `penstock_http_kit::serve`, with one difference that encoders need: a
//! client that has sent its segment and closes its side at once, as ffmpeg's HLS muxer does, is still
//! served. (hyper takes such an end for a hang-up and drops the request, even before the handler has
//! seen the last of the body.)

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use penstock_http_kit::CancellationToken;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

/// A client has so long to send a request's head.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// After a failed accept (too many open files), before the next: whatever it was needs a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`; then connections and `jobs` may finish for at most `drain`. Jobs are the
/// work of requests whose clients may be gone already.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    jobs: TaskTracker,
    shutdown: CancellationToken,
    drain: Duration,
) {
    let connections = TaskTracker::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone(), shutdown.clone()));
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
}

async fn connection(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().half_close(true).timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_TIME);
    let service = TowerToHyperService::new(router);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
