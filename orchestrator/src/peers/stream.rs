//! A connection whose peer takes nothing, or wants nothing, is given up: a read or a write fails, and with
//! it the connection and all that it holds. No other limit sees such a peer: what the HTTP layer was
//! given for a socket is counted nowhere.

use super::connection::{Connection, Why};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready as poll_ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

/// To look again is not worth it any sooner.
const LEAST_PAUSE: Duration = Duration::from_millis(5);

/// A stream whose writes fail when nothing could be written for a time.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    connection: Arc<Connection>,
    /// When to look at the connection again.
    look: Pin<Box<Sleep>>,
    /// Since when a write waits, by the connection's clock, and when it may have waited for too long.
    waiting: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl<S> Patient<S> {
    pub fn new(stream: S, connection: Arc<Connection>) -> Self {
        // The first look says when the next one is due.
        let look = Box::pin(sleep_until(Instant::now()));
        Self { stream, connection, look, waiting: None }
    }

    /// Whether the connection is given up. Wakes its task when there is a reason to look again.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        while self.look.as_mut().poll(context).is_ready() {
            match self.connection.judge(Instant::now()) {
                Ok(next) => self.look.as_mut().reset(next),
                Err(why) => {
                    given_up(why);
                    return true;
                }
            }
        }
        false
    }

    fn judge<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.connection.stall();
        let now = || self.connection.clock().now();
        let (since, end) = self.waiting.get_or_insert_with(|| (now(), Box::pin(sleep(patience))));
        loop {
            poll_ready!(end.as_mut().poll(context));
            // While we were stopped nobody was waited for.
            let left = patience.saturating_sub(now().saturating_sub(*since));
            if left.is_zero() {
                break;
            }
            end.as_mut().reset(Instant::now() + left.max(LEAST_PAUSE));
        }
        given_up(Why::Stalled);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

fn given_up(why: Why) {
    metrics::counter!("orchestrator_peers_given_up_total", "why" => why.name()).increment(1);
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() && self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{args::PeerLimits, places::Places},
        *,
    };
    use penstock_http_kit::serve::{LeastSpeed, Lived};
    use std::{future::poll_fn, net::Ipv4Addr};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::advance,
    };

    const PATIENCE: Duration = Duration::from_secs(60);

    fn patient<S>(stream: S) -> Patient<S> {
        let place = Places::new(1, None).take(Ipv4Addr::LOCALHOST.into()).unwrap();
        let limits = PeerLimits {
            connections: 1,
            connections_each: None,
            greeting: PATIENCE,
            idle: PATIENCE,
            stall: PATIENCE,
            least_speed: LeastSpeed::default(),
            streams: 1,
            stream_bytes: 1,
            header_bytes: 1,
        };
        Patient::new(stream, Connection::new(limits, Lived::start(), place))
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_byte_now_and_then_is_waited_for_and_who_takes_none_is_not() {
        let (ours, mut theirs) = duplex(1);
        let mut ours = patient(ours);
        let slow = tokio::spawn(async move {
            let mut byte = [0];
            for _ in 0..5 {
                sleep(PATIENCE - Duration::from_secs(1)).await;
                theirs.read_exact(&mut byte).await.unwrap();
            }
            theirs
        });
        ours.write_all(b"12345").await.unwrap();
        let _theirs = slow.await.unwrap();
        let error = ours.write_all(b"678").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_was_stopped_goes_on_waiting() {
        let (ours, mut theirs) = duplex(1);
        let mut ours = patient(ours);
        ours.write_all(b"1").await.unwrap();
        let polled = async |ours: &mut Patient<DuplexStream>| {
            poll_fn(|context| Poll::Ready(Pin::new(&mut *ours).poll_write(context, b"x"))).await
        };
        for _ in 0..10 {
            assert!(polled(&mut ours).await.is_pending());
            advance(PATIENCE).await;
        }
        theirs.read_exact(&mut [0]).await.unwrap();
        assert!(polled(&mut ours).await.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn who_wants_nothing_is_not_waited_for_however_much_it_says() {
        let (ours, mut theirs) = duplex(1);
        let mut ours = patient(ours);
        let drip = tokio::spawn(async move {
            while theirs.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let mut said = Vec::new();
        let error = ours.read_to_end(&mut said).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((59..=61).contains(&said.len()), "{}", said.len());
        drop(ours);
        drip.await.unwrap();
    }
}
