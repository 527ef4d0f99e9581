//! One accepted connection: its handshake, its requests, its end.

use super::{
    Answers, HalfClose, LeastSpeed, Lived, Paced,
    answers::Answered,
    hang_up::{Heard, HungUp, Socket, Watch},
};
use crate::tls::{PeerCertificate, TlsServer, server::peer_certificate};
use axum::{Router, extract::ConnectInfo, response::Response};
use http::{Request, Version};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use tower::Service;

/// A client has so long to send a request's head, counted from the end of the one before. Longer
/// than clients keep idle connections (90 s, ours and Go's): a server that closes first may do so
/// just when a request is on its way.
const HEAD_TIME: Duration = Duration::from_secs(100);
/// Between two HTTP/2 pings, which find clients that are gone.
const PING_TIME: Duration = Duration::from_secs(30);
/// A client has so long for its TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// First byte of every TLS connection: a record of type handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// What somebody hears who speaks plain HTTP to a TLS port.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
    content-length: 29\r\nconnection: close\r\n\r\nthis port speaks HTTPS only.\n";

/// What a connection's life depends on.
#[derive(Clone)]
pub(super) struct Terms {
    pub router: Router,
    pub tls: Option<TlsServer>,
    /// Which requests are served to a client that has closed its sending side.
    pub half_close: Option<HalfClose>,
    /// What its reader has to take of what waits for it.
    pub least_speed: LeastSpeed,
    /// How long it had for that.
    pub clock: Arc<Lived>,
    /// Finish the request in flight, then close.
    pub shutdown: CancellationToken,
    /// Close now.
    pub cut: CancellationToken,
}

/// Serves a connection to its end. Handshakes happen here, in the connection's own task: a slow
/// one keeps nobody else waiting.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, terms: Terms) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let cut = terms.cut.clone();
    // hyper sees hang-ups by itself unless it was told to take them for something else.
    let watched = terms.half_close.and_then(|half_close| {
        let socket = Socket::of(&stream)
            .inspect_err(|error| tracing::debug!(%error, "hang-ups will not be noticed"));
        Some((half_close, Arc::new(socket.ok()?)))
    });
    let least = terms.least_speed;
    let mut stream = Paced::tcp(stream, least);
    let answers = least.is_any().then(|| {
        let clock = Arc::clone(&terms.clock);
        Arc::new(Answers::new(clock, least, Duration::MAX))
    });
    if let Some(answers) = &answers {
        stream = stream.with_answers(Arc::clone(answers));
    }
    let noted = |terms: &Terms, certificate| Noted {
        router: terms.router.clone(),
        peer,
        certificate,
        watched,
        answers,
    };
    let life = async move {
        let Some(tls) = terms.tls.clone() else {
            return requests(stream, noted(&terms, None), &terms).await;
        };
        let handshake = tokio::time::timeout(HANDSHAKE_TIME, shake_hands(stream, &tls));
        let done = tokio::select! {
            () = terms.shutdown.cancelled() => return,
            done = handshake => done,
        };
        let reason = match done {
            Ok(Ok(stream)) => {
                let certificate = peer_certificate(stream.get_ref().1);
                return requests(stream, noted(&terms, certificate), &terms).await;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "took too long".to_owned(),
        };
        metrics::counter!("tls_handshakes_failed_total").increment(1);
        tracing::debug!(%peer, reason, "a TLS handshake failed");
    };
    tokio::select! {
        () = cut.cancelled() => {}
        () = life => {}
    }
}

async fn shake_hands(
    mut stream: Paced<TcpStream>,
    tls: &TlsServer,
) -> std::io::Result<tokio_rustls::server::TlsStream<Paced<TcpStream>>> {
    let mut first = [0u8; 1];
    let seen = stream.get_ref().peek(&mut first).await?;
    if seen > 0 && first != [TLS_HANDSHAKE] {
        // Unread bytes would turn the close into a reset that overtakes the answer.
        stream.write_all(SPEAK_TLS).await?;
        stream.shutdown().await?;
        let mut rest = [0u8; 1024];
        stream.get_ref().readable().await?;
        let _ = stream.get_ref().try_read(&mut rest);
        return Err(std::io::Error::other("not TLS"));
    }
    tls.acceptor().accept(stream).await
}

async fn requests<S>(stream: S, service: Noted, terms: &Terms)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .half_close(terms.half_close.is_some())
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING_TIME);
    let service = TowerToHyperService::new(service);
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = terms.shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended badly");
    }
}

/// The router, with each request told whom it comes from, and dropped when its client hangs up.
#[derive(Clone)]
struct Noted {
    router: Router,
    peer: SocketAddr,
    certificate: Option<PeerCertificate>,
    /// Which requests go on without their client's side, and the socket to watch for the others.
    watched: Option<(HalfClose, Arc<Socket>)>,
    /// Where answers are told of that may wait while the socket does not: those of HTTP/2.
    answers: Option<Arc<Answers>>,
}

impl Noted {
    /// HTTP/2 connections are read all the time, so hyper sees their ends.
    fn watch<B>(&self, request: &Request<B>) -> Option<Watch> {
        let (half_close, socket) = self.watched.as_ref()?;
        let is_watched = request.version() <= Version::HTTP_11
            && !half_close(request.method(), request.uri().path());
        is_watched.then(|| Watch::of(socket))
    }
}

impl<B> Service<Request<B>> for Noted
where
    Router: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = HungUp;
    type Future = Answered<Heard<<Router as Service<Request<B>>>::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.router.poll_ready(context).map_err(|never| match never {})
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(ConnectInfo(self.peer));
        if let Some(certificate) = self.certificate {
            request.extensions_mut().insert(certificate);
        }
        let watch = self.watch(&request);
        let answers = self.answers.as_ref().filter(|_| request.version() > Version::HTTP_11);
        let answers = answers.cloned();
        Answered::new(Heard::new(self.router.call(request), watch), answers)
    }
}
