//! Notices a client's hang-up where the server does not look for one by itself.
//!
//! A listener that serves clients which close their side behind their request
//! ([`super::Options::half_close`]) cannot take such an end for a hang-up, so its connections are not read
//! while a request is at work. For the other requests the socket is watched from a second handle, with a
//! registration of its own, for all requests of the connection: nothing is read, and what arrives meanwhile is left alone. When the client's
//! side ends, the request is dropped, or the answer that is under way.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http_body::{Body as _, Frame, SizeHint};
use std::{
    convert::Infallible,
    future::Future,
    io,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};
use thiserror::Error;
use tokio::{io::Interest, net::TcpStream};

/// The client closed its side of the connection; what was at work for it is dropped.
#[derive(Debug, Error)]
#[error("the client hung up")]
pub(super) struct HungUp;

/// A second handle of a connection's socket. It is registered once, when a request is first waited for: one that
/// is registered for each costs four system calls a request.
pub(super) struct Socket {
    handle: OwnedFd,
    watched: OnceLock<Option<TcpStream>>,
}

impl Socket {
    /// Of this connection.
    pub fn of(stream: &TcpStream) -> io::Result<Self> {
        let handle = stream.as_fd().try_clone_to_owned()?;
        Ok(Self { handle, watched: OnceLock::new() })
    }

    /// `None` where there was no file descriptor left.
    fn watched(&self) -> Option<&TcpStream> {
        let register = || {
            let handle = self.handle.try_clone().map(std::net::TcpStream::from);
            handle.and_then(TcpStream::from_std).ok()
        };
        self.watched.get_or_init(register).as_ref()
    }
}

/// Watches a connection for the end of its client's side, from the first time that it is asked.
pub(super) struct Watch {
    socket: Arc<Socket>,
    end: Option<BoxFuture<'static, ()>>,
}

impl Watch {
    /// Of the connection whose socket this is.
    pub fn of(socket: &Arc<Socket>) -> Self {
        Self { socket: Arc::clone(socket), end: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let socket = &self.socket;
        self.end.get_or_insert_with(|| end_of(Arc::clone(socket)).boxed()).poll_unpin(context)
    }
}

/// Resolves when the other side of this socket is closed; never, where there is no file descriptor left.
async fn end_of(socket: Arc<Socket>) {
    let Some(watched) = socket.watched() else { return std::future::pending().await };
    loop {
        match watched.ready(Interest::READABLE).await {
            Ok(news) if !news.is_read_closed() => {}
            // An error is the runtime's end.
            Ok(_) | Err(_) => return,
        }
        // Something to read, which is not ours: the next news will be more of it, or the end.
        let not_ours = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = watched.try_io(Interest::READABLE, not_ours);
    }
}

pin_project_lite::pin_project! {
    /// A request at work, and behind it its answer: each dropped when the client hangs up.
    pub(super) struct Heard<F> {
        #[pin]
        work: F,
        watch: Option<Watch>,
    }
}

impl<F> Heard<F> {
    /// With `None` nobody watches.
    pub fn new(work: F, watch: Option<Watch>) -> Self {
        Self { work, watch }
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Heard<F> {
    type Output = Result<Response, HungUp>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // First the work: what is done is answered.
        if let Poll::Ready(done) = this.work.poll(context) {
            let Ok(answer) = done;
            let Some(watch) = this.watch.take() else { return Poll::Ready(Ok(answer)) };
            return Poll::Ready(Ok(answer.map(|body| match body.is_end_stream() {
                true => body,
                false => Body::new(HeardBody { body, watch }),
            })));
        }
        match this.watch.as_mut().map(|watch| watch.poll(context)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(HungUp)),
            Some(Poll::Pending) | None => Poll::Pending,
        }
    }
}

/// An answer's body.
struct HeardBody {
    body: Body,
    watch: Watch,
}

impl http_body::Body for HeardBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        ready!(self.watch.poll(context));
        Poll::Ready(Some(Err(axum::Error::new(HungUp))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, bind, serve_with};
    use axum::{
        Router,
        body::{Body, Bytes},
        routing::{get, post},
    };
    use std::{sync::Arc, time::Duration};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::{Notify, Semaphore},
    };
    use tokio_util::sync::CancellationToken;

    /// Adds a permit when dropped.
    struct Dropped(Arc<Semaphore>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.add_permits(1);
        }
    }

    struct World {
        address: std::net::SocketAddr,
        entered: Arc<Notify>,
        release: Arc<Notify>,
        dropped: Arc<Semaphore>,
        _stop: tokio_util::sync::DropGuard,
    }

    /// `/push` may be served to a client that closed its side; `/wait` and `/words` not.
    async fn world() -> World {
        crate::tls::install_crypto_provider();
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let dropped = Arc::new(Semaphore::new(0));
        let wait = {
            let all = (entered.clone(), release.clone(), dropped.clone());
            move |body: Bytes| async move {
                let (entered, release, dropped) = all;
                let _dropped = Dropped(dropped);
                entered.notify_one();
                release.notified().await;
                format!("done with {}", body.len())
            }
        };
        let words = {
            let all = (release.clone(), dropped.clone());
            move || async move {
                let (release, dropped) = all;
                let state = (0, Dropped(dropped));
                Body::from_stream(futures::stream::unfold(state, move |(said, dropped)| {
                    let release = release.clone();
                    async move {
                        if said > 0 {
                            release.notified().await;
                        }
                        let word = Ok::<_, std::io::Error>(Bytes::from_static(b"word"));
                        (said < 2).then_some((word, (said + 1, dropped)))
                    }
                }))
            }
        };
        let router = Router::new()
            .route("/push", post(wait.clone()))
            .route("/wait", post(wait))
            .route("/words", get(words));
        let listener = bind("127.0.0.1:0".parse().unwrap(), "--http-addr").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let options = Options { half_close: Some(|_, path| path == "/push"), ..Options::default() };
        tokio::spawn(serve_with(listener, router, stop.clone(), Duration::ZERO, options));
        World { address, entered, release, dropped, _stop: stop.drop_guard() }
    }

    async fn ask(world: &World, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    const WAIT: &str = "POST /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc";

    #[tokio::test]
    async fn who_hangs_up_before_the_answer_is_dropped_at_once() {
        let world = world().await;
        let stream = ask(&world, WAIT).await;
        world.entered.notified().await;
        drop(stream);
        // Nothing was said, and nothing will be.
        world.dropped.acquire().await.unwrap().forget();
    }

    #[tokio::test]
    async fn who_hangs_up_in_the_middle_of_a_silent_answer_is_dropped_at_once() {
        let world = world().await;
        let mut stream = ask(&world, "GET /words HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut heard = Vec::new();
        while !heard.ends_with(b"word\r\n") {
            assert!(stream.read_buf(&mut heard).await.unwrap() > 0);
        }
        assert_eq!(world.dropped.available_permits(), 0);
        drop(stream);
        world.dropped.acquire().await.unwrap().forget();
    }

    #[tokio::test]
    async fn who_is_silent_or_sends_more_is_still_there() {
        let world = world().await;
        // The head of the next request comes while the first is at work.
        let mut stream = ask(&world, WAIT).await;
        world.entered.notified().await;
        stream.write_all(&WAIT.as_bytes()[..20]).await.unwrap();
        world.release.notify_one();
        let mut heard = Vec::new();
        while !heard.ends_with(b"done with 3") {
            assert!(stream.read_buf(&mut heard).await.unwrap() > 0);
        }
        stream.write_all(&WAIT.as_bytes()[20..]).await.unwrap();
        world.entered.notified().await;
        drop(stream);
        world.dropped.acquire_many(2).await.unwrap().forget();
    }

    #[tokio::test]
    async fn who_may_close_a_side_is_served_all_the_same() {
        let world = world().await;
        let mut stream = ask(&world, &WAIT.replace("/wait", "/push")).await;
        stream.shutdown().await.unwrap();
        world.entered.notified().await;
        world.release.notify_one();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        assert!(heard.starts_with("HTTP/1.1 200") && heard.ends_with("done with 3"), "{heard}");
    }
}
