//! HTTP/2 by hand, for what no client library does to a server.

use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// The start of every connection that speaks HTTP/2 from the first byte.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Less than what readers have by default, and than the pause after which servers ask who is still there: what ends
/// a connection within that is what the server was set to.
pub const SET_TO_LESS: Duration = Duration::from_secs(25);

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The preface and our settings, by which every stream has so much room.
pub fn begin(window: Option<u32>) -> Vec<u8> {
    let settings = match window {
        Some(window) => [&[0, 4][..], &window.to_be_bytes()].concat(),
        None => Vec::new(),
    };
    [PREFACE, &frame(4, 0, 0, &settings)].concat()
}

/// The fields of a GET request.
pub fn fields(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    // GET, http, the path, and an authority of one letter.
    [&[0x82, 0x86, 0x04, length], path.as_bytes(), &[0x01, 1, b'x']].concat()
}

/// Asks a server in clear for what is there, makes no room for the answer, and waits until the server closes the
/// connection by itself, as it was set to. What was heard until then holds the answer's head.
pub async fn ask_without_room(url: &str, path: &str) {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let asked = [begin(Some(0)), frame(1, 5, 1, &fields(path))].concat();
    stream.write_all(&asked).await.unwrap();
    let mut heard = Vec::new();
    let end = timeout(SET_TO_LESS, stream.read_to_end(&mut heard)).await;
    // A reset is an end, too.
    let _ = end.expect("the server closes the connection by itself");
    let mut rest = heard.as_slice();
    let mut kinds = Vec::new();
    while let [a, b, c, kind, _, _, _, _, stream, after @ ..] = rest {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        kinds.push((*kind, *stream));
        rest = after.get(length..).unwrap_or_default();
    }
    assert!(kinds.contains(&(1, 1)), "there is an answer: {kinds:?}");
    assert!(!kinds.contains(&(0, 1)), "nothing of its body: {kinds:?}");
}
