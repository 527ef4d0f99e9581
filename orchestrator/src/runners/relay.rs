//! Two connections that speak another protocol by now: bytes both ways until both have said all, one
//! breaks, or nothing moves for too long.

use std::{sync::Mutex, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep_until},
};

const PIECE: usize = 16 * 1024;

/// Why it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Both have said all.
    Done,
    /// One broke.
    Broke,
    /// Nothing moved.
    Idle,
}

/// When a byte moved last.
pub struct Movement(Mutex<Instant>);

impl Movement {
    /// Now.
    pub fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Now, again.
    pub fn note(&self) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
    }

    /// Waits until nothing has moved for so long.
    pub async fn stops(&self, idle: Duration) {
        loop {
            let last = *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if last.elapsed() >= idle {
                return;
            }
            sleep_until(last + idle).await;
        }
    }
}

/// Relays; `heard` is told that `b` has said something.
pub async fn relay<A, B>(a: A, b: B, idle: Duration, heard: impl Fn()) -> Over
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut a_read, mut a_write) = tokio::io::split(a);
    let (mut b_read, mut b_write) = tokio::io::split(b);
    let moved = Movement::new();
    let both = async {
        tokio::try_join!(
            copy(&mut a_read, &mut b_write, &moved, || {}),
            copy(&mut b_read, &mut a_write, &moved, heard)
        )
    };
    tokio::select! {
        ended = both => if ended.is_ok() { Over::Done } else { Over::Broke },
        () = moved.stops(idle) => Over::Idle,
    }
}

async fn copy<R, W>(
    from: &mut R,
    to: &mut W,
    moved: &Movement,
    heard: impl Fn(),
) -> std::io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        moved.note();
        if read == 0 {
            return to.shutdown().await;
        }
        heard();
        to.write_all(piece.get(..read).unwrap_or_default()).await?;
        to.flush().await?;
        moved.note();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    const IDLE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn both_ways_until_both_have_said_all() {
        let (mut client, ours) = duplex(64);
        let (mut runner, theirs) = duplex(64);
        let relaying = tokio::spawn(relay(ours, theirs, IDLE, || {}));
        let mut got = [0; 4];
        for _ in 0..3 {
            tokio::time::advance(IDLE - Duration::from_secs(1)).await;
            client.write_all(b"ping").await.unwrap();
            runner.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"ping");
        }
        client.shutdown().await.unwrap();
        assert_eq!(runner.read(&mut got).await.unwrap(), 0);
        runner.write_all(b"last").await.unwrap();
        drop(runner);
        client.read_exact(&mut got).await.unwrap();
        assert_eq!((&got, relaying.await.unwrap()), (b"last", Over::Done));
    }

    #[tokio::test(start_paused = true)]
    async fn not_for_who_is_silent_and_not_for_who_does_not_read() {
        let (mut client, ours) = duplex(64);
        let (runner, theirs) = duplex(64);
        let relaying = tokio::spawn(relay(ours, theirs, IDLE, || {}));
        client.write_all(&[7; 32]).await.unwrap();
        assert_eq!(relaying.await.unwrap(), Over::Idle);
        drop(runner);
        let (mut client, ours) = duplex(64);
        let (_runner, theirs) = duplex(64);
        let relaying = tokio::spawn(relay(ours, theirs, IDLE, || {}));
        let much = vec![7; 4 * PIECE];
        assert!(client.write_all(&much).await.is_err(), "nobody reads it");
        assert_eq!(relaying.await.unwrap(), Over::Idle);
    }
}
