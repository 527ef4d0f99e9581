//! A Redis of the test run's own.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    time::Duration,
};

use super::{Service, dies_with_us, start, temp_folder};
use crate::failure::Result;

pub fn start_redis() -> Result<Service> {
    let folder = temp_folder("redis")?;
    let data = folder.clone();
    start(
        "redis-server",
        folder,
        move |port| {
            let mut command = dies_with_us(Path::new("redis-server"));
            command
                .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(["--port", &port.to_string()])
                .arg("--dir")
                .arg(&data);
            (command, format!("redis://127.0.0.1:{port}"))
        },
        answers_ping,
    )
}

fn answers_ping(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.write_all(b"PING\r\n")?;
        let mut answer = [0u8; 5];
        socket.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG")
    };
    ask().unwrap_or(false)
}
