//! A least speed for readers: who takes less of what waits for it loses its connection, and does not keep what
//! its answers hold by a byte now and then.
//!
//! Time counts while a write waits for room in the socket, and only then: neither where there is nothing to
//! write nor where we are slow. Every byte that leaves pays for its time at the least speed; what a reader owes
//! beyond a window is too much. Time is counted in ticks, of which a late one counts as one: a process that was
//! stopped, or had no processor, does not take that out on its readers.

use super::Answers;
use std::{
    io,
    num::NonZeroU64,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// So much may wait in a socket that the network has not asked for. The kernel would take megabytes, and ask
/// for more only when a third of them has left: that is minutes of an honest reader on a bad line.
const UNSENT_BYTES: u32 = 32 * 1024;
/// With that, the kernel takes at most so much at a time: a reader pays in such steps.
const STEP_BYTES: u64 = 96 * 1024;
/// Of what a reader may owe, in one tick.
const TICKS: u32 = 16;
const NANOS: u128 = 1_000_000_000;

/// What readers have to take, while something waits for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastSpeed {
    /// `None`: they may take their time.
    bytes_per_second: Option<NonZeroU64>,
    window: Duration,
}

impl Default for LeastSpeed {
    /// Less than any voice: phones on bad lines are served.
    fn default() -> Self {
        Self::new(1024, Duration::from_secs(120))
    }
}

impl LeastSpeed {
    /// So many bytes a second, over so long a time. With 0 bytes there is no least speed.
    pub fn new(bytes_per_second: u64, window: Duration) -> Self {
        Self { bytes_per_second: NonZeroU64::new(bytes_per_second), window }
    }

    /// Whether there is one.
    pub fn is_any(&self) -> bool {
        self.bytes_per_second.is_some()
    }

    /// The account of one reader, if they are kept.
    pub fn debt(&self) -> Option<Debt> {
        let bytes_per_second = self.bytes_per_second?;
        // However fast it has to be: a step is never too much.
        let most = self.window.max(time_of(STEP_BYTES, bytes_per_second));
        Some(Debt { bytes_per_second, most, owed: Duration::ZERO })
    }
}

fn time_of(bytes: u64, bytes_per_second: NonZeroU64) -> Duration {
    let nanos = u128::from(bytes) * NANOS / u128::from(bytes_per_second.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The time that a reader was waited for and did not pay for by taking something.
#[derive(Debug, Clone)]
pub struct Debt {
    bytes_per_second: NonZeroU64,
    most: Duration,
    owed: Duration,
}

impl Debt {
    /// It was waited for.
    pub fn waited(&mut self, time: Duration) {
        self.owed = self.owed.saturating_add(time);
    }

    /// It has taken something.
    pub fn taken(&mut self, bytes: u64) {
        if !self.owed.is_zero() {
            self.owed = self.owed.saturating_sub(time_of(bytes, self.bytes_per_second));
        }
    }

    /// What more it may owe. At zero it is too slow.
    pub fn left(&self) -> Duration {
        self.most.saturating_sub(self.owed)
    }

    /// The most that it may owe.
    pub fn most(&self) -> Duration {
        self.most
    }

    /// It kept nobody waiting for so long that what was before is no matter any more.
    pub fn forgive(&mut self) {
        self.owed = Duration::ZERO;
    }
}

/// A stream whose writes fail when its reader is too slow.
#[derive(Debug)]
pub struct Paced<S> {
    stream: S,
    debt: Option<Debt>,
    /// A write waits: until here its time is counted.
    counted: Option<Instant>,
    /// When the last wait ended.
    free_since: Option<Instant>,
    /// The next tick. Made when there is something to count.
    tick: Option<Pin<Box<Sleep>>>,
    /// What goes on inside it, and when to look at that again.
    inside: Option<(Arc<Answers>, Pin<Box<Sleep>>)>,
    is_over: bool,
    give_up: fn(&S),
}

impl Paced<TcpStream> {
    /// A connection that was accepted.
    pub fn tcp(stream: TcpStream, least: LeastSpeed) -> Self {
        if least.is_any() {
            lower_unsent(&stream);
        }
        Self::new(stream, least, |stream| {
            tracing::debug!(peer = ?stream.peer_addr().ok(), "a reader was too slow");
            // What the kernel holds goes with the connection: closed in order, it would be offered for as
            // long as the reader answers.
            if let Err(error) = stream.set_zero_linger() {
                tracing::debug!(%error, "a slow reader's connection is closed in order");
            }
        })
    }
}

#[cfg(target_os = "linux")]
fn lower_unsent(stream: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::debug!(%error, "TCP_NOTSENT_LOWAT could not be set");
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_unsent(_: &TcpStream) {}

impl<S> Paced<S> {
    fn new(stream: S, least: LeastSpeed, give_up: fn(&S)) -> Self {
        let debt = least.debt();
        Self {
            stream,
            debt,
            counted: None,
            free_since: None,
            tick: None,
            inside: None,
            is_over: false,
            give_up,
        }
    }

    /// Its reads fail, too, when one of these answers is taken too slowly.
    pub fn with_answers(mut self, answers: Arc<Answers>) -> Self {
        let look = Box::pin(sleep_until(Instant::now() + answers.patience()));
        self.inside = Some((answers, look));
        self
    }

    fn cut(&mut self) -> io::Error {
        self.is_over = true;
        metrics::counter!("slow_readers_cut_total").increment(1);
        (self.give_up)(&self.stream);
        io::ErrorKind::TimedOut.into()
    }

    /// Whether an answer is taken too slowly. Wakes its task when there is a reason to look again.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let Some((answers, look)) = &mut self.inside else { return false };
        while look.as_mut().poll(context).is_ready() {
            match answers.judge() {
                Ok(next) => look.as_mut().reset(Instant::now() + next),
                Err(_) => return true,
            }
        }
        false
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    fn judge(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(debt) = &mut self.debt else { return written };
        let length = debt.most() / TICKS;
        if let Poll::Ready(ended) = &written {
            if let Some(counted) = self.counted.take() {
                let now = Instant::now();
                debt.waited(now.saturating_duration_since(counted).min(length));
                self.free_since = Some(now);
            }
            let bytes = ended.as_ref().map_or(0, |bytes| *bytes);
            debt.taken(u64::try_from(bytes).unwrap_or(u64::MAX));
            return written;
        }
        let now = Instant::now();
        let tick = self.tick.get_or_insert_with(|| Box::pin(sleep_until(now)));
        let mut counted = match self.counted {
            Some(counted) => counted,
            None => {
                let free = self.free_since.map(|since| now.saturating_duration_since(since));
                if free.is_some_and(|free| free >= debt.most()) {
                    debt.forgive();
                }
                tick.as_mut().reset(now + length);
                now
            }
        };
        self.counted = Some(counted);
        // Short waits add up as well.
        while !debt.left().is_zero() {
            ready!(tick.as_mut().poll(context));
            let now = Instant::now();
            debt.waited(now.saturating_duration_since(counted).min(length));
            counted = now;
            self.counted = Some(now);
            tick.as_mut().reset(now + length);
        }
        Poll::Ready(Err(self.cut()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() && self.is_late(context) {
            return Poll::Ready(Err(self.cut()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_over {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_over {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A socket holds nothing back that a flush would wait for.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::{advance, sleep, timeout},
    };

    const KIB: usize = 1024;
    const S: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(86_400);

    /// 1 KiB/s over 120 s, in writes of at most 8 KiB.
    fn paced() -> (Paced<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(8 * KIB);
        (Paced::new(ours, LeastSpeed::default(), |_| ()), theirs)
    }

    /// Takes so much, each so often, for as long as there is anything.
    async fn reads(mut theirs: DuplexStream, bytes: usize, each: Duration) -> usize {
        let (mut piece, mut all) = (vec![0; bytes], 0);
        while let Ok(read @ 1..) = theirs.read(&mut piece).await {
            all += read;
            sleep(each).await;
        }
        all
    }

    async fn error_of(ours: &mut Paced<DuplexStream>) -> io::ErrorKind {
        let endless = async { while ours.write_all(&[0; 8 * KIB]).await.is_ok() {} };
        timeout(DAY, endless).await.expect("it is given up");
        ours.write_all(b"more").await.unwrap_err().kind()
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_not_enough() {
        for (bytes, each) in [(1, S), (1, 50 * S), (8 * KIB, 9 * S), (1000, S)] {
            let (mut ours, theirs) = paced();
            let reader = tokio::spawn(reads(theirs, bytes, each));
            assert_eq!(error_of(&mut ours).await, io::ErrorKind::TimedOut, "{bytes} each {each:?}");
            drop(ours);
            reader.await.unwrap();
        }
        // Who takes nothing has the window, and no more.
        let (mut ours, _theirs) = paced();
        let began = Instant::now();
        assert_eq!(error_of(&mut ours).await, io::ErrorKind::TimedOut);
        assert!((120..122).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_and_not_too_slow_is_served() {
        for (bytes, each) in [(KIB, S), (8 * KIB, 8 * S), (8 * KIB, 7 * S), (100, S / 11)] {
            let (mut ours, theirs) = paced();
            let reader = tokio::spawn(reads(theirs, bytes, each));
            let all = vec![0; KIB * KIB];
            ours.write_all(&all).await.expect("it takes all of it");
            drop(ours);
            assert_eq!(reader.await.unwrap(), all.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_waits_nothing_counts() {
        let (mut ours, mut theirs) = paced();
        let mut one = [0];
        for _ in 0..100 {
            ours.write_all(b"x").await.unwrap();
            // We had nothing to say, and it takes a minute to read it.
            sleep(60 * S).await;
            theirs.read_exact(&mut one).await.unwrap();
        }
        // What was owed once is forgotten.
        for _ in 0..10 {
            ours.write_all(&[0; 8 * KIB]).await.unwrap();
            let mut all = [0; 8 * KIB + 1];
            let taking = async {
                sleep(100 * S).await;
                theirs.read_exact(&mut all).await
            };
            tokio::try_join!(ours.write_all(b"x"), taking).unwrap();
            sleep(130 * S).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_was_stopped_does_not_blame_its_readers() {
        let (mut ours, mut theirs) = paced();
        ours.write_all(&[0; 8 * KIB]).await.unwrap();
        let polled = async |ours: &mut Paced<DuplexStream>| {
            poll_fn(|context| Poll::Ready(Pin::new(&mut *ours).poll_write(context, b"x"))).await
        };
        assert!(polled(&mut ours).await.is_pending());
        for _ in 0..10 {
            // Not a task of ours runs, and no timer.
            advance(DAY).await;
            assert!(polled(&mut ours).await.is_pending());
        }
        theirs.read_exact(&mut [0; 8 * KIB]).await.unwrap();
        assert!(polled(&mut ours).await.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_least_speed_everybody_has_time() {
        let (ours, mut theirs) = duplex(1);
        let mut ours = Paced::new(ours, LeastSpeed::new(0, S), |_| ());
        let waits = timeout(DAY, ours.write_all(b"xy"));
        assert!(waits.await.is_err());
        theirs.read_exact(&mut [0]).await.unwrap();
        ours.write_all(b"y").await.unwrap();
    }

    #[test]
    fn a_step_is_never_too_much() {
        let fast = LeastSpeed::new(1 << 20, Duration::from_millis(1)).debt().unwrap();
        assert_eq!(fast.most(), Duration::from_nanos(93_750_000));
        let slow = LeastSpeed::new(1, 100 * S).debt().unwrap();
        assert_eq!(slow.most(), Duration::from_secs(STEP_BYTES));
        assert_eq!(LeastSpeed::default().debt().unwrap().most(), 120 * S);
    }
}
