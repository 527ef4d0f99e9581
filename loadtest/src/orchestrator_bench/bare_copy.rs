//! The least that a relay of media can be: whatever a channel's writer sends is written to each of its readers
//! in turn, on one thread, without names, numbers or memory of it.

use super::{Settings, node, wire};
use penstock_testkit::Process;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The subcommand of this crate's program that is one.
pub const SUBCOMMAND: &str = "bare-copy";
const PIECE: usize = 64 << 10;

/// Serves so many channels, who come one after the other, each with its readers first and its writer last; ends
/// with the last writer.
pub async fn serve(listener: TcpListener, channels: usize, readers: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..channels {
        let (sockets, writer) = channel(&listener, readers).await;
        tasks.spawn(copy(sockets, writer));
    }
    tasks.join_all().await;
}

/// A channel's readers, and its writer.
async fn channel(listener: &TcpListener, readers: usize) -> (Vec<TcpStream>, TcpStream) {
    let mut sockets = Vec::new();
    while sockets.len() < readers {
        let (socket, _) = listener.accept().await.expect("a reader");
        socket.set_nodelay(true).unwrap();
        sockets.push(socket);
    }
    let (writer, _) = listener.accept().await.expect("the writer");
    (sockets, writer)
}

async fn copy(mut sockets: Vec<TcpStream>, mut writer: TcpStream) {
    let mut piece = vec![0; PIECE];
    loop {
        match writer.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                for socket in &mut sockets {
                    socket.write_all(&piece[..count]).await.expect("a reader");
                }
            }
        }
    }
}

/// The same as a program, which says where it is in this file.
pub async fn program(addr_file: &Path, channels: usize, readers: usize) {
    let listener = bind_any().await;
    let text = serde_json::json!({ "copy": listener.local_addr().unwrap().to_string() });
    let whole = addr_file.with_extension("whole");
    std::fs::write(&whole, text.to_string()).expect("the address file");
    std::fs::rename(&whole, addr_file).expect("the address file");
    serve(listener, channels, readers).await;
}

/// A running one.
pub(super) struct BareCopy {
    /// `None`: it runs here.
    pub process: Option<Process>,
    /// Of each channel.
    pub channels: Vec<(Vec<TcpStream>, TcpStream)>,
    _folder: TempDir,
}

impl BareCopy {
    /// With one channel of so many readers.
    pub async fn start(settings: &Settings, readers: usize) -> Self {
        Self::of(settings, 1, readers).await
    }

    /// The readers and the writer of its one channel.
    pub fn only(&mut self) -> (Vec<TcpStream>, TcpStream) {
        self.channels.remove(0)
    }

    /// With so many channels of so many readers.
    pub async fn of(settings: &Settings, channels: usize, readers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (process, address) = match &settings.own {
            Some(own) => {
                let args = vec![
                    SUBCOMMAND.to_owned(),
                    "--addr-file={addr_file}".to_owned(),
                    format!("--channels={channels}"),
                    format!("--readers={readers}"),
                ];
                let own = PathBuf::from(own);
                let process = node::pinned("bare-copy", settings.core, own, args, folder.path());
                let process = process.await;
                let address = process.addr("copy");
                (Some(process), address)
            }
            None => {
                let listener = bind_any().await;
                let address = listener.local_addr().unwrap().to_string();
                tokio::spawn(serve(listener, channels, readers));
                (None, address)
            }
        };
        let mut sockets = Vec::new();
        for _ in 0..channels {
            let mut readers_of_it = Vec::new();
            for _ in 0..readers {
                readers_of_it.push(wire::connect(&address).await);
            }
            sockets.push((readers_of_it, wire::connect(&address).await));
        }
        Self { process, channels: sockets, _folder: folder }
    }
}

async fn bind_any() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}
