//! Trickle over sockets, with as little of our own around it as can be: a thousand readers are to cost
//! the driver little, and a byte is to be timed where it leaves and where it comes in. What is sent bears
//! the time at which it was.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Room for what a read brings.
const READ: usize = 64 << 10;
/// A reader that hears nothing for so long has been forgotten.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Nanoseconds of this process.
pub fn now_ns() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGAN.elapsed().as_nanos()).unwrap()
}

/// So many bytes that begin with the time.
pub fn stamped(bytes: usize) -> Vec<u8> {
    let mut chunk = vec![7; bytes.max(8)];
    chunk[..8].copy_from_slice(&now_ns().to_le_bytes());
    chunk
}

/// A stream of stamped pieces of one size, as it comes in.
#[derive(Debug)]
pub struct Meter {
    piece: usize,
    /// Within the present piece.
    at: usize,
    stamp: [u8; 8],
    pub bytes: u64,
    pub times_us: Vec<u64>,
}

impl Meter {
    pub fn new(piece: usize) -> Self {
        Self { piece, at: 0, stamp: [0; 8], bytes: 0, times_us: Vec::new() }
    }

    pub fn feed(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.at < 8 {
                let part = bytes.len().min(8 - self.at);
                self.stamp[self.at..self.at + part].copy_from_slice(&bytes[..part]);
                if self.at + part == 8 {
                    let sent = u64::from_le_bytes(self.stamp);
                    self.times_us.push(now_ns().saturating_sub(sent) / 1_000);
                }
            }
            let part = match self.at {
                at if at < 8 => bytes.len().min(8 - at),
                at => bytes.len().min(self.piece - at),
            };
            self.at = (self.at + part) % self.piece;
            bytes = &bytes[part..];
        }
    }
}

/// A connection to `host:port`.
pub async fn connect(address: &str) -> TcpStream {
    let socket = TcpStream::connect(address).await.expect("a connection");
    socket.set_nodelay(true).unwrap();
    socket
}

/// A reader of one channel.
#[derive(Debug)]
pub struct Subscriber {
    host: String,
    path: String,
    socket: TcpStream,
    /// What came and was not looked at.
    held: Vec<u8>,
    at: usize,
}

impl Subscriber {
    pub async fn connect(host: &str, channel: &str) -> Self {
        let (host, path) = (host.to_owned(), format!("/ai/trickle/{channel}"));
        let socket = connect(&host).await;
        Self { host, path, socket, held: Vec::new(), at: 0 }
    }

    /// Asks for a segment; nothing is to come of the one before.
    pub async fn ask(&mut self, seq: u64) {
        let head = format!("GET {}/{seq} HTTP/1.1\r\nHost: {}\r\n\r\n", self.path, self.host);
        self.socket.write_all(head.as_bytes()).await.expect("a request");
    }

    /// The segment that was asked for, to its end.
    pub async fn read(&mut self, meter: &mut Meter) {
        let head = self.line_to(b"\r\n\r\n").await;
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        if !head.contains("transfer-encoding: chunked") {
            // A segment that was there as a whole.
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length = length.and_then(|text| text.trim().parse().ok()).expect("a length");
            return self.payload(length, meter).await;
        }
        loop {
            let size = self.line_to(b"\r\n").await;
            let size = String::from_utf8_lossy(&size);
            let size = usize::from_str_radix(size.trim(), 16).expect("the size of a chunk");
            self.payload(size, meter).await;
            self.line_to(b"\r\n").await;
            if size == 0 {
                return;
            }
        }
    }

    async fn payload(&mut self, mut left: usize, meter: &mut Meter) {
        while left > 0 {
            if self.at == self.held.len() {
                self.fill().await;
            }
            let part = left.min(self.held.len() - self.at);
            meter.feed(&self.held[self.at..self.at + part]);
            self.at += part;
            left -= part;
        }
    }

    /// Up to these bytes, which are left out.
    async fn line_to(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            let rest = &self.held[self.at..];
            if let Some(found) = rest.windows(end.len()).position(|window| window == end) {
                let line = rest[..found].to_vec();
                self.at += found + end.len();
                return line;
            }
            self.fill().await;
        }
    }

    async fn fill(&mut self) {
        self.held.drain(..self.at);
        self.at = 0;
        // Thousands of readers wait; only who reads needs room.
        self.socket.readable().await.expect("a connection");
        self.held.reserve(READ);
        let read = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.held)).await;
        let count = read.expect("something to read").expect("a connection");
        assert!(count > 0, "the orchestrator ended the connection");
    }

    /// Gives back the room that a large segment took.
    pub fn shrink(&mut self) {
        self.held.drain(..self.at);
        self.at = 0;
        self.held.shrink_to_fit();
    }
}

/// A writer of one channel: two connections in turn, so that the next segment is open before this one
/// has ended.
#[derive(Debug)]
pub struct Publisher {
    host: String,
    path: String,
    sockets: [TcpStream; 2],
    open: u64,
}

impl Publisher {
    /// With the first segment open.
    pub async fn connect(host: &str, channel: &str) -> Self {
        let sockets = [connect(host).await, connect(host).await];
        let path = format!("/ai/trickle/{channel}");
        let mut publisher = Self { host: host.to_owned(), path, sockets, open: 0 };
        publisher.greet().await;
        publisher.begin(0).await;
        publisher
    }

    /// Says something on the connection that is used later: one that stays silent is closed, and thousands
    /// that are opened at one moment find no room before the listener.
    async fn greet(&mut self) {
        let head = format!("GET {}/next HTTP/1.1\r\nHost: {}\r\n\r\n", self.path, self.host);
        let socket = &mut self.sockets[1];
        socket.write_all(head.as_bytes()).await.expect("a request");
        // The number of the first segment is all that comes.
        answer(socket, b"\r\n\r\n0").await;
    }

    fn socket(&mut self, seq: u64) -> &mut TcpStream {
        &mut self.sockets[usize::from(!seq.is_multiple_of(2))]
    }

    async fn begin(&mut self, seq: u64) {
        let head = format!(
            "POST {}/{seq} HTTP/1.1\r\nHost: {}\r\nContent-Type: video/MP2T\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
            self.path, self.host
        );
        self.socket(seq).write_all(head.as_bytes()).await.expect("a request");
    }

    /// More of the present segment. The time is that of the call.
    pub async fn write(&mut self, bytes: usize) {
        let chunk = stamped(bytes);
        let mut text = format!("{:x}\r\n", chunk.len()).into_bytes();
        text.extend_from_slice(&chunk);
        text.extend_from_slice(b"\r\n");
        let open = self.open;
        self.socket(open).write_all(&text).await.expect("a chunk");
    }

    /// Opens the next segment and ends the present one.
    pub async fn next(&mut self) {
        let seq = self.open;
        self.begin(seq + 1).await;
        self.open += 1;
        let socket = self.socket(seq);
        socket.write_all(b"0\r\n\r\n").await.expect("an end");
        answer(socket, b"\r\n\r\n").await;
    }
}

/// Reads a good answer, which ends so.
async fn answer(socket: &mut TcpStream, end: &[u8]) {
    let mut answer = Vec::new();
    while !answer.ends_with(end) {
        let read = tokio::time::timeout(PATIENCE, socket.read_buf(&mut answer)).await;
        let count = read.expect("an answer").expect("a connection");
        assert!(count > 0, "the orchestrator ended the connection");
    }
    let head = String::from_utf8_lossy(&answer);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_timed_however_they_are_cut() {
        for cut in [1, 3, 8, 13, 100] {
            let mut meter = Meter::new(20);
            let stream: Vec<u8> = (0..5).flat_map(|_| stamped(20)).collect();
            stream.chunks(cut).for_each(|part| meter.feed(part));
            assert_eq!((meter.bytes, meter.times_us.len()), (100, 5), "cut into {cut}");
            assert!(meter.times_us.iter().all(|us| *us < 10_000_000), "{:?}", meter.times_us);
        }
    }
}
