//! WebSocket (RFC 6455) as a client, over a connection that has been upgraded: texts both ways. Whatever is
//! fragmented arrives whole, pings are answered, and nothing larger than a message may be is kept.

use crate::secrets;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf as _, BytesMut};
use sha1::{Digest as _, Sha1};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A peer that takes nothing for so long is gone.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// What a server proves that it has understood the request with (RFC 6455 section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Why a socket is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SocketError {
    /// The connection ended, or the peer closed the socket.
    #[error("the socket was closed")]
    Closed,
    /// It sends what is no frame of a server's.
    #[error("the peer does not speak WebSocket")]
    Malformed,
    /// A message is larger than any may be.
    #[error("a message is larger than --limit-serverless-message-bytes")]
    TooLarge,
    /// No random numbers: ours.
    #[error("internal error")]
    Random,
}

/// What a client asks with, and what a server has to answer: `Sec-WebSocket-Key`, `Sec-WebSocket-Accept`.
pub fn key() -> Result<(String, String), SocketError> {
    let key = STANDARD.encode(secrets::random::<16>().map_err(|_| SocketError::Random)?);
    let accept = accept(&key);
    Ok((key, accept))
}

fn accept(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}{GUID}")))
}

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Message(Vec<u8>),
    /// A ping, to be answered with the same words.
    Ping(Vec<u8>),
}

/// One frame of a server's.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    is_last: bool,
    kind: u8,
    payload: Vec<u8>,
}

/// A client's end.
pub struct Socket<S> {
    stream: S,
    received: BytesMut,
    /// The fragments of a message so far, if one has begun.
    begun: Option<Vec<u8>>,
    /// Largest message, fragments together.
    most: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Over an upgraded connection; no message may have more than `most` bytes.
    pub fn new(stream: S, most: usize) -> Self {
        Self { stream, received: BytesMut::new(), begun: None, most }
    }

    /// What comes next. Nothing is lost, and nothing written, when this is dropped before it is done.
    pub async fn next(&mut self) -> Result<Received, SocketError> {
        loop {
            while let Some(frame) = parse(&mut self.received, self.most)? {
                if let Some(whole) = self.take(frame)? {
                    return Ok(whole);
                }
            }
            let read = self.stream.read_buf(&mut self.received).await;
            if !matches!(read, Ok(1..)) {
                return Err(SocketError::Closed);
            }
        }
    }

    /// The next message; pings are answered.
    pub async fn message(&mut self) -> Result<Vec<u8>, SocketError> {
        loop {
            match self.next().await? {
                Received::Message(message) => return Ok(message),
                Received::Ping(said) => self.pong(&said).await?,
            }
        }
    }

    /// What a frame makes whole.
    fn take(&mut self, frame: Frame) -> Result<Option<Received>, SocketError> {
        let Frame { is_last, kind, payload } = frame;
        let mut whole = match (kind, self.begun.take()) {
            (PING, begun) => {
                self.begun = begun;
                return Ok(Some(Received::Ping(payload)));
            }
            (PONG, begun) => {
                self.begun = begun;
                return Ok(None);
            }
            (CLOSE, _) => return Err(SocketError::Closed),
            (TEXT | BINARY, None) => Vec::new(),
            (CONTINUATION, Some(begun)) => begun,
            _ => return Err(SocketError::Malformed),
        };
        if whole.len() + payload.len() > self.most {
            return Err(SocketError::TooLarge);
        }
        whole.extend(payload);
        if is_last {
            return Ok(Some(Received::Message(whole)));
        }
        self.begun = Some(whole);
        Ok(None)
    }

    /// Answers a ping.
    pub async fn pong(&mut self, said: &[u8]) -> Result<(), SocketError> {
        self.write(PONG, said).await
    }

    /// Sends a text.
    pub async fn send(&mut self, text: &str) -> Result<(), SocketError> {
        self.write(TEXT, text.as_bytes()).await
    }

    /// Says goodbye, if the peer still listens.
    pub async fn close(&mut self) {
        // 1000: nothing is wrong.
        let _ = self.write(CLOSE, &1000_u16.to_be_bytes()).await;
        let _ = tokio::time::timeout(WRITE_TIME, self.stream.shutdown()).await;
    }

    async fn write(&mut self, kind: u8, payload: &[u8]) -> Result<(), SocketError> {
        let mask = secrets::random::<4>().map_err(|_| SocketError::Random)?;
        let frame = masked(kind, payload, mask);
        let written = tokio::time::timeout(WRITE_TIME, self.stream.write_all(&frame)).await;
        if matches!(written, Ok(Ok(()))) { Ok(()) } else { Err(SocketError::Closed) }
    }
}

/// A frame of a client's: the last of its message, masked.
fn masked(kind: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0x80 | kind];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..126), _) => frame.push(0x80 | short),
        (_, Ok(length)) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Takes a frame off, if all of it has come.
fn parse(received: &mut BytesMut, most: usize) -> Result<Option<Frame>, SocketError> {
    let [first, second, ..] = **received else { return Ok(None) };
    // No extension was agreed upon, and servers do not mask.
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(SocketError::Malformed);
    }
    let (is_last, kind, short) = (first & 0x80 != 0, first & 0x0f, second & 0x7f);
    if kind >= CLOSE && (short > 125 || !is_last) {
        return Err(SocketError::Malformed);
    }
    let (head, length) = match short {
        126 => match received.get(2..4) {
            Some(bytes) => (4, u64::from(u16::from_be_bytes(of(bytes)))),
            None => return Ok(None),
        },
        127 => match received.get(2..10) {
            Some(bytes) => (10, u64::from_be_bytes(of(bytes))),
            None => return Ok(None),
        },
        short => (2, u64::from(short)),
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= most);
    let length = length.ok_or(SocketError::TooLarge)?;
    if received.len() < head + length {
        return Ok(None);
    }
    received.advance(head);
    let payload = received.split_to(length).to_vec();
    Ok(Some(Frame { is_last, kind, payload }))
}

/// As many bytes as there are.
fn of<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(is_last: bool, kind: u8, payload: &[u8]) -> Frame {
        Frame { is_last, kind, payload: payload.to_vec() }
    }

    /// What a server sends.
    fn sent(is_last: bool, kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = masked(kind, payload, [0; 4]);
        if !is_last {
            frame[0] &= 0x7f;
        }
        frame[1] &= 0x7f;
        let mask = frame.len() - payload.len() - 4;
        frame.drain(mask..mask + 4);
        frame
    }

    #[test]
    fn as_the_rfc_has_it() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut hello = BytesMut::from(&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f][..]);
        assert_eq!(parse(&mut hello, 1 << 20), Ok(Some(frame(true, TEXT, b"Hello"))));
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let wanted = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(masked(TEXT, b"Hello", mask), wanted);
        assert_eq!(sent(true, BINARY, &[7; 256])[..4], [0x82, 0x7e, 0x01, 0x00]);
        let long = sent(true, BINARY, &[7; 65_536]);
        assert_eq!(long[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn what_no_server_sends() {
        let error = |bytes: &[u8]| parse(&mut BytesMut::from(bytes), 1 << 20).unwrap_err();
        assert_eq!(error(&[0xc1, 0]), SocketError::Malformed, "an extension");
        assert_eq!(error(&[0x81, 0x80]), SocketError::Malformed, "masked");
        assert_eq!(error(&[0x09, 0]), SocketError::Malformed, "a ping in parts");
        assert_eq!(error(&[0x89, 126, 0, 126]), SocketError::Malformed, "a large ping");
        assert_eq!(error(&[0x81, 127, 0, 0, 0, 0, 0, 0x10, 0, 1]), SocketError::TooLarge);
        assert_eq!(error(&[0x81, 127, 0xff, 0, 0, 0, 0, 0, 0, 0]), SocketError::TooLarge);
    }

    #[tokio::test]
    async fn messages_arrive_whole_and_pings_are_answered() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let mut socket = Socket::new(ours, 1 << 20);
        for part in [
            sent(false, TEXT, b"He"),
            sent(true, PING, b"there?"),
            sent(false, CONTINUATION, b"ll"),
            sent(true, CONTINUATION, b"o"),
            sent(true, TEXT, b"again"),
        ] {
            theirs.write_all(&part).await.unwrap();
        }
        assert_eq!(socket.message().await.unwrap(), b"Hello");
        assert_eq!(socket.message().await.unwrap(), b"again");
        let mut pong = vec![0; 12];
        theirs.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong[..2], [0x8a, 0x86]);
        socket.send("mine").await.unwrap();
        let mut said = vec![0; 10];
        theirs.read_exact(&mut said).await.unwrap();
        assert_eq!(said[..2], [0x81, 0x84]);
        // A message whose begin is not known, and one in another.
        theirs.write_all(&sent(true, CONTINUATION, b"x")).await.unwrap();
        assert_eq!(socket.next().await.unwrap_err(), SocketError::Malformed);
        theirs.write_all(&sent(true, CLOSE, &[])).await.unwrap();
        assert_eq!(socket.next().await.unwrap_err(), SocketError::Closed);
        drop(theirs);
        assert_eq!(socket.next().await.unwrap_err(), SocketError::Closed);
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = parse(&mut bytes, 1 << 20) {}
        }

        #[test]
        fn what_is_sent_is_read(payload in prop::collection::vec(any::<u8>(), 0..70_000), cut in any::<prop::sample::Index>()) {
            let all = sent(true, BINARY, &payload);
            let mut part = BytesMut::from(&all[..cut.index(all.len())]);
            prop_assert_eq!(parse(&mut part, 1 << 20), Ok(None));
            part.unsplit(BytesMut::from(&all[part.len()..]));
            prop_assert_eq!(parse(&mut part, 1 << 20), Ok(Some(frame(true, BINARY, &payload))));
        }
    }
}
