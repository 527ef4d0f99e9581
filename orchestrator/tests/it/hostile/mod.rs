//! Clients that mean harm, against a real orchestrator: who waits and makes wait, who takes places and keeps
//! them, who lies about money, who leads elsewhere, and all of them together against a process whose memory and files are counted.

mod bodies;
mod drips;
mod hoarding;
mod money;
mod paths;
mod runners;
mod siege;
mod uploads;
mod waiting;

use penstock_testkit::until::DEADLINE;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// The start of every connection that speaks HTTP/2 from the first byte.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that has said this much.
async fn begun(service: &str, said: &[u8]) -> TcpStream {
    let address = service.split_once("://").unwrap().1;
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have closed it already.
    let _ = stream.write_all(said).await;
    stream
}

/// What is heard until the server closes the connection.
async fn heard(mut stream: TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let end = timeout(DEADLINE, stream.read_to_end(&mut heard)).await;
    // A reset is an end, too.
    let _ = end.expect("the server closes the connection by itself");
    heard
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The preface and our settings, by which every stream has so much room.
fn http2(window: Option<u32>) -> Vec<u8> {
    let settings = match window {
        Some(window) => [&[0, 4][..], &window.to_be_bytes()].concat(),
        None => Vec::new(),
    };
    [PREFACE, &frame(4, 0, 0, &settings)].concat()
}

/// The fields of a GET request.
fn fields(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    // GET, http, the path, and an authority of one letter.
    [&[0x82, 0x86, 0x04, length], path.as_bytes(), &[0x01, 1, b'x']].concat()
}
