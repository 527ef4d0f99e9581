//! The servers that `cargo xtask test` starts are there and answer: a test that needs one cannot
//! pass without it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use penstock_testkit::{places, until::DEADLINE};

fn connect(variable: &str) -> TcpStream {
    let url = reqwest::Url::parse(&places::server_url(variable)).unwrap();
    let address = (url.host_str().unwrap(), url.port().unwrap());
    let socket = TcpStream::connect(address).unwrap_or_else(|e| panic!("{variable}: {e}"));
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

#[test]
fn redis_answers() {
    let mut socket = connect("PENSTOCK_TEST_REDIS_URL");
    socket.write_all(b"PING\r\n").unwrap();
    let mut answer = [0; 5];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG");
}

/// A start-up message for the user and database of the URL; `R` begins the server's welcome.
#[test]
fn postgresql_answers() {
    let mut socket = connect("PENSTOCK_TEST_POSTGRES_URL");
    let mut message = 196_608_u32.to_be_bytes().to_vec();
    message.extend_from_slice(b"user\0penstock\0database\0postgres\0\0");
    let length = u32::try_from(message.len() + 4).unwrap();
    socket.write_all(&[&length.to_be_bytes()[..], &message].concat()).unwrap();
    let mut answer = [0; 9];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!((answer[0], &answer[5..]), (b'R', &[0, 0, 0, 0][..]), "authentication is done");
}
