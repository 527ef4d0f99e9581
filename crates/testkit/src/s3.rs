//! An S3 server of a test's own: moto's, which keeps real buckets in memory. It dies with the value and
//! with the thread that started it.

use crate::{places, until::DEADLINE, until_some};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// The server, with one bucket.
#[derive(Debug)]
pub struct S3Server {
    _folder: TempDir,
    child: Child,
    addr: String,
}

impl S3Server {
    /// Its bucket.
    pub const BUCKET: &str = "media";

    /// Starts it on a free port and makes the bucket.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let log = File::create(&path).expect("a log file");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(places::moto_server());
        command.args(["-H", "127.0.0.1", "-p", "0"]).env("PYTHONUNBUFFERED", "1");
        // Nothing it might ask the machine for.
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        let out = log.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(log).spawn();
        let mut child = child.expect("moto's server starts");
        let addr = until_some("moto's server names its port", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let ended = child.try_wait().ok().flatten();
            assert!(ended.is_none(), "moto's server ended ({ended:?}):\n{text}");
            let (_, rest) = text.split_once("Running on http://").unwrap_or_default();
            let found = rest.split_once(char::is_whitespace).map(|(addr, _)| addr.to_owned());
            async move { found }
        })
        .await;
        let server = Self { _folder: folder, child, addr };
        let made = server.ask("PUT", &format!("/{}", Self::BUCKET));
        assert!(made.starts_with("HTTP/1.1 200"), "{made}");
        server
    }

    /// `http://127.0.0.1:1234`
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The names of all objects in its bucket, as XML.
    pub fn names(&self) -> String {
        self.ask("GET", &format!("/{}", Self::BUCKET))
    }

    fn ask(&self, method: &str, path: &str) -> String {
        let mut socket = TcpStream::connect(&self.addr).expect("moto answers");
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.addr
        );
        socket.write_all(request.as_bytes()).expect("a request is sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// `kill -9`, and the wait until it is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.kill9();
    }
}
