//! The connections of a simulated peer, which can all fall silent at once: the kernel still takes what comes, as
//! for a process that stands still, and nobody reads or writes.

use axum_server::accept::Accept;
use std::{
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Whether anybody reads and writes.
#[derive(Debug, Clone, Default)]
pub struct Line(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    silent: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Line {
    /// Silent from now on, or as if nothing had been.
    pub fn set_silent(&self, silent: bool) {
        self.0.silent.store(silent, Ordering::SeqCst);
        if !silent {
            self.0.waiting.lock().unwrap().drain(..).for_each(Waker::wake);
        }
    }

    /// Pending while it is silent.
    fn open(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.0.waiting.lock().unwrap();
        if self.0.silent.load(Ordering::SeqCst) {
            waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl<S> Accept<TcpStream, S> for Line {
    type Stream = OnLine;
    type Service = S;
    type Future = Ready<io::Result<(OnLine, S)>>;

    fn accept(&self, tcp: TcpStream, service: S) -> Self::Future {
        ready(Ok((OnLine { tcp, line: self.clone() }, service)))
    }
}

/// A connection on it.
#[derive(Debug)]
pub struct OnLine {
    tcp: TcpStream,
    line: Line,
}

impl AsyncRead for OnLine {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.line.open(cx));
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for OnLine {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.line.open(cx));
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.line.open(cx));
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
