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

use penstock_testkit::{
    http2::{begin as http2, fields, frame},
    until::DEADLINE,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

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
