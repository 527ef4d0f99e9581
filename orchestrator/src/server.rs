//! The one port: HTTP/1.1 and HTTP/2, over TLS or in cleartext, a handshake per connection.

use crate::peers::{Doorkeeper, args::PeerLimits};
use axum::Router;
use axum_server::{
    Handle, Server,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use hyper_util::rt::TokioTimer;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// How a worker that vanished is noticed: its stream is long and silent.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_PATIENCE: Duration = Duration::from_secs(20);

/// Serves until the handle says stop.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    handle: Handle<SocketAddr>,
    limits: PeerLimits,
) -> std::io::Result<()> {
    let server = axum_server::from_tcp(listener.into_std()?)?.handle(handle);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let door = Doorkeeper::new(limits);
    match tls {
        Some(config) => {
            let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(config))
                .handshake_timeout(limits.greeting)
                .acceptor(door);
            tuned(server.acceptor(acceptor), limits).serve(service).await
        }
        None => tuned(server.acceptor(door), limits).serve(service).await,
    }
}

fn tuned<A>(mut server: Server<SocketAddr, A>, limits: PeerLimits) -> Server<SocketAddr, A> {
    let builder = server.http_builder();
    // hyper takes no smaller buffer, and calls a head that does not fit into it too large.
    let header_bytes = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE)
        .max_send_buf_size(limits.stream_bytes)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes);
    server
}
