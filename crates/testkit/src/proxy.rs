//! A wire between two processes that can be made bad while they use it: late, broken off, silent, half
//! closed, damaged, slow, in fits. It passes bytes on and knows nothing of what they mean; each way has its
//! own fault, and what waits in it is bounded.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};

/// Bytes read at once.
const PIECE: usize = 16 << 10;
/// Pieces that are on their way in one direction of one connection: 1 MiB at most.
const PIECES: usize = 64;
/// Connections at once; further ones wait to be accepted.
const CONNECTIONS: usize = 4_096;
/// A slow wire gives its bytes in so many portions a second.
const PORTIONS: u64 = 20;

/// What is wrong with a wire in one direction. It counts at once, for connections that are there as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Everything arrives so much later, as much of it as ever.
    Delay(Duration),
    /// Connections are broken off (RST), and so is each new one once it is accepted.
    Reset,
    /// Connections stand, new ones are accepted, and nothing passes. What was sent meanwhile passes afterwards.
    Silent,
    /// The receiver is told that no more comes (FIN), what still comes is thrown away, and the other
    /// direction goes on. Connections that suffered it stay so.
    HalfClose,
    /// The first byte from now on is damaged, and each `every`th after it.
    Corrupt {
        /// 1 is all of them.
        every: u64,
    },
    /// So many bytes a second.
    Throttle {
        /// At least [`PORTIONS`].
        bytes_per_s: u64,
    },
    /// A pause before each piece.
    Stall(Duration),
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From who connects to who listens.
    There,
    /// From who listens to who connects.
    Back,
}

/// The wire. It ends with this value, and its connections with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    to: Mutex<Option<SocketAddr>>,
    there: watch::Sender<Option<Fault>>,
    back: watch::Sender<Option<Fault>>,
    accepted: AtomicU64,
    passed: AtomicU64,
    met: AtomicU64,
}

impl Shared {
    /// Whether that is what is wrong, in either direction.
    fn is(&self, fault: Fault) -> bool {
        [&self.there, &self.back].iter().any(|way| *way.borrow() == Some(fault))
    }

    /// The fault did something to somebody.
    fn meet(&self) {
        self.met.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// A good wire to nowhere yet: connections are broken off until [`Self::leads_to`] says where to.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            to: Mutex::default(),
            there: watch::Sender::new(None),
            back: watch::Sender::new(None),
            accepted: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            met: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// A good wire to this address.
    pub async fn to(address: SocketAddr) -> Self {
        let proxy = Self::start().await;
        proxy.leads_to(address);
        proxy
    }

    /// Where connections made from now on lead.
    pub fn leads_to(&self, address: SocketAddr) {
        *self.shared.to.lock().unwrap() = Some(address);
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is wrong in this direction from now on.
    pub fn set(&self, way: Way, fault: Option<Fault>) {
        let direction = match way {
            Way::There => &self.shared.there,
            Way::Back => &self.shared.back,
        };
        direction.send_replace(fault);
    }

    /// Nothing is wrong any more.
    pub fn heal(&self) {
        self.set(Way::There, None);
        self.set(Way::Back, None);
    }

    /// Connections so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Bytes that arrived so far, both ways.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }

    /// How often a fault did something to somebody who used the wire while it was bad: pieces that came later or
    /// damaged, that were held back or thrown away, and connections that were begun and broken off, ended one way or
    /// kept waiting. What a fault does to connections that nobody uses is not counted: of an idle wire this says 0.
    pub fn met(&self) -> u64 {
        self.shared.met.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&shared);
                connections.spawn(async move { connection(client, &shared).await });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, to its end. Both ends are broken off when either way says so.
async fn connection(mut client: TcpStream, shared: &Shared) {
    let Some(mut server) = unless_reset(shared, dial(shared)).await.and_then(Result::ok) else {
        if shared.is(Fault::Reset) {
            shared.meet();
        }
        let _ = client.set_zero_linger();
        return;
    };
    if shared.is(Fault::HalfClose) {
        // Whoever sees its end before it has asked never asks.
        shared.meet();
    }
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let passing = async {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::try_join!(
            pass(from_client, to_server, shared.there.subscribe(), shared),
            pass(from_server, to_client, shared.back.subscribe(), shared),
        )
    };
    if !matches!(unless_reset(shared, passing).await, Some(Ok(_))) {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// `None` as soon as either way breaks connections off.
async fn unless_reset<T>(shared: &Shared, work: impl Future<Output = T>) -> Option<T> {
    let (mut there, mut back) = (shared.there.subscribe(), shared.back.subscribe());
    let is_reset = |fault: &Option<Fault>| *fault == Some(Fault::Reset);
    tokio::select! {
        biased;
        _ = there.wait_for(is_reset) => None,
        _ = back.wait_for(is_reset) => None,
        done = work => Some(done),
    }
}

/// Nobody is called while the wire is silent.
async fn dial(shared: &Shared) -> io::Result<TcpStream> {
    if shared.is(Fault::Silent) {
        shared.meet();
    }
    for way in [&shared.there, &shared.back] {
        let _ = way.subscribe().wait_for(|fault| *fault != Some(Fault::Silent)).await;
    }
    let to = *shared.to.lock().unwrap();
    TcpStream::connect(to.ok_or(io::ErrorKind::NotConnected)?).await
}

/// What was read, and when.
type Piece = (Instant, Vec<u8>);

/// One direction of one connection.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut fault: watch::Receiver<Option<Fault>>,
    shared: &Shared,
) -> io::Result<()> {
    let (waits, mut waiting) = mpsc::channel::<Piece>(PIECES);
    let now = fault.clone();
    let reading = async move {
        loop {
            let mut piece = vec![0; PIECE];
            let read = from.read(&mut piece).await?;
            if read == 0 {
                return Ok(());
            }
            piece.truncate(read);
            shared.passed.fetch_add(read as u64, Ordering::SeqCst);
            if *now.borrow() == Some(Fault::Silent) {
                shared.meet();
            }
            if waits.send((Instant::now(), piece)).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async move { write(&mut to, &mut waiting, &mut fault, shared).await };
    tokio::try_join!(reading, writing).map(|_: ((), ())| ())
}

async fn write(
    to: &mut WriteHalf<'_>,
    waiting: &mut mpsc::Receiver<Piece>,
    fault: &mut watch::Receiver<Option<Fault>>,
    shared: &Shared,
) -> io::Result<()> {
    // Taken and not written yet; bytes until the next one is damaged.
    let (mut taken, mut sound): (Option<Piece>, u64) = (None, 0);
    loop {
        let now = *fault.borrow_and_update();
        match now {
            Some(Fault::HalfClose) => {
                to.shutdown().await?;
                while waiting.recv().await.is_some() {
                    shared.meet();
                }
                return Ok(());
            }
            Some(Fault::Silent) => {
                let _ = fault.changed().await;
                continue;
            }
            Some(Fault::Corrupt { .. }) => {}
            _ => sound = 0,
        }
        let (came, mut piece) = match taken.take() {
            Some(piece) => piece,
            None => tokio::select! {
                biased;
                _ = fault.changed() => continue,
                next = waiting.recv() => match next {
                    Some(piece) => piece,
                    None => return to.shutdown().await,
                },
            },
        };
        let mut rest = Vec::new();
        let goes_at = match now {
            Some(Fault::Delay(late)) => came + late,
            Some(Fault::Stall(pause)) => Instant::now() + pause,
            Some(Fault::Throttle { bytes_per_s }) => {
                let portion = (bytes_per_s / PORTIONS).max(1);
                rest = piece.split_off(piece.len().min(usize::try_from(portion).unwrap()));
                Instant::now() + Duration::from_secs(1) / u32::try_from(PORTIONS).unwrap()
            }
            _ => Instant::now(),
        };
        tokio::select! {
            biased;
            _ = fault.changed() => {
                piece.append(&mut rest);
                taken = Some((came, piece));
                continue;
            }
            () = tokio::time::sleep_until(goes_at) => {}
        }
        if let Some(Fault::Corrupt { every }) = now {
            damage(&mut piece, every, &mut sound);
        }
        to.write_all(&piece).await?;
        if now.is_some() {
            shared.meet();
        }
        if !rest.is_empty() {
            taken = Some((came, rest));
        }
    }
}

/// Flips the highest bit of the first byte, and of each `every`th from there, over all pieces: no such byte
/// begins a word of HTTP, an answer of Redis or a message of PostgreSQL.
fn damage(piece: &mut [u8], every: u64, sound: &mut u64) {
    for byte in piece {
        if *sound == 0 {
            *byte ^= 0x80;
            *sound = every.max(1);
        }
        *sound -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says what it is told, in capitals where it can, and a wire to it.
    async fn wire() -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Proxy::to(listener.local_addr().unwrap()).await;
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut heard = vec![0; 1 << 20];
                    while let Ok(1..) = client.read(&mut heard[..1]).await {
                        heard[0].make_ascii_uppercase();
                        client.write_all(&heard[..1]).await.unwrap_or_default();
                    }
                });
            }
        });
        proxy
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.address()).await.unwrap()
    }

    /// What comes back for these bytes.
    async fn say(client: &mut TcpStream, words: &[u8]) -> io::Result<Vec<u8>> {
        client.write_all(words).await?;
        let mut answer = vec![0; words.len()];
        client.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_good_wire_passes_everything_and_each_end() {
        let proxy = wire().await;
        let mut client = connect(&proxy).await;
        assert_eq!(say(&mut client, b"words").await.unwrap(), b"WORDS");
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "its end is passed on, and theirs");
        assert_eq!((proxy.accepted(), proxy.passed(), proxy.met()), (1, 10, 0));
        // Where nobody is, nobody answers.
        let nowhere = Proxy::start().await;
        assert!(say(&mut connect(&nowhere).await, b"a").await.is_err());
    }

    #[tokio::test]
    async fn delay_stall_and_throttle_pass_everything_later() {
        let proxy = wire().await;
        let mut client = connect(&proxy).await;
        let pause = Duration::from_millis(30);
        for fault in [
            Fault::Delay(pause),
            Fault::Stall(pause),
            // Two portions of one byte: no sooner than 100 ms.
            Fault::Throttle { bytes_per_s: PORTIONS },
        ] {
            proxy.set(Way::There, Some(fault));
            let began = Instant::now();
            assert_eq!(say(&mut client, b"ab").await.unwrap(), b"AB", "{fault:?}");
            // No sooner: later is the machine's business.
            assert!(began.elapsed() >= pause, "{fault:?}");
        }
        assert!(proxy.met() >= 3, "each fault met a piece: {}", proxy.met());
    }

    #[tokio::test]
    async fn a_silent_wire_takes_connections_and_passes_afterwards_what_was_sent() {
        let proxy = wire().await;
        let mut before = connect(&proxy).await;
        assert_eq!(say(&mut before, b"a").await.unwrap(), b"A");
        proxy.set(Way::There, Some(Fault::Silent));
        let mut meanwhile = connect(&proxy).await;
        let mut answer = [0; 1];
        for client in [&mut before, &mut meanwhile] {
            client.write_all(b"b").await.unwrap();
            let heard = client.read_exact(&mut answer);
            let heard = tokio::time::timeout(Duration::from_millis(20), heard).await;
            assert!(heard.is_err(), "{answer:?}");
        }
        crate::until("a piece and a connection were held back", || async { proxy.met() == 2 })
            .await;
        proxy.heal();
        for client in [&mut before, &mut meanwhile] {
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"B");
        }
    }

    #[tokio::test]
    async fn a_reset_breaks_off_what_is_there_and_what_comes() {
        let proxy = wire().await;
        let mut before = connect(&proxy).await;
        assert_eq!(say(&mut before, b"a").await.unwrap(), b"A");
        proxy.set(Way::Back, Some(Fault::Reset));
        let broken = before.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(proxy.met(), 0, "nobody has tried since");
        assert!(say(&mut connect(&proxy).await, b"a").await.is_err());
        crate::until("that one met it", || async { proxy.met() == 1 }).await;
        proxy.heal();
        assert_eq!(say(&mut connect(&proxy).await, b"a").await.unwrap(), b"A");
    }

    #[tokio::test]
    async fn a_half_close_ends_one_way_and_leaves_the_other() {
        let proxy = wire().await;
        let mut client = connect(&proxy).await;
        assert_eq!(say(&mut client, b"a").await.unwrap(), b"A");
        let passed = proxy.passed();
        proxy.set(Way::Back, Some(Fault::HalfClose));
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        client.write_all(b"b").await.unwrap();
        // It arrived there, and its answer here.
        crate::until("the answer is thrown away", || async { proxy.passed() == passed + 2 }).await;
        crate::until("which is noted", || async { proxy.met() == 1 }).await;
        assert_eq!(connect(&proxy).await.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(proxy.met(), 2, "one that was begun and never asked");
        proxy.heal();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "it stays so");
        assert_eq!(say(&mut connect(&proxy).await, b"a").await.unwrap(), b"A");
    }

    #[tokio::test]
    async fn damage_is_every_so_many_bytes_over_all_pieces() {
        let proxy = wire().await;
        let mut client = connect(&proxy).await;
        proxy.set(Way::Back, Some(Fault::Corrupt { every: 3 }));
        let mut heard = say(&mut client, b"ab").await.unwrap();
        heard.extend(say(&mut client, b"cdef").await.unwrap());
        let (bad, good): (Vec<_>, Vec<_>) = heard.iter().partition(|byte| !byte.is_ascii());
        assert_eq!((bad, good), (vec![b'A' ^ 0x80, b'D' ^ 0x80], b"BCEF".to_vec()));
        assert!(proxy.met() >= 2, "in two pieces at least");
        proxy.heal();
        assert_eq!(say(&mut client, b"ab").await.unwrap(), b"AB");
    }

    /// More than a wire holds, to somebody who does not read.
    #[tokio::test]
    async fn what_waits_in_a_wire_is_bounded() {
        let proxy = wire().await;
        proxy.set(Way::There, Some(Fault::Silent));
        let mut client = connect(&proxy).await;
        let most = (PIECES + 2) * PIECE;
        let much = vec![0; 64 << 20];
        let wrote = tokio::time::timeout(Duration::from_secs(1), client.write_all(&much)).await;
        assert!(wrote.is_err(), "somebody took 64 MiB");
        assert!(proxy.passed() <= most as u64, "{} bytes", proxy.passed());
    }
}
