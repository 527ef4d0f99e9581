//! The official Python SDK, unmodified, as a process: a script of `tests/sdk` that says JSON, one object
//! a line, and may be told lines.

use crate::{places, until::DEADLINE};
use serde_json::Value;
use std::{ffi::OsStr, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// A script that runs. It ends with this.
#[derive(Debug)]
pub struct Sdk {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Lines<BufReader<ChildStdout>>,
}

impl Sdk {
    /// Starts `tests/sdk/{script}`.
    pub fn start(script: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut child = Command::new(places::sdk_python())
            .arg(places::repository().join("tests/sdk").join(script))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { stdin: child.stdin.take(), said, child }
    }

    /// Tells it a line.
    pub async fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        stdin.flush().await.unwrap();
    }

    /// Its next line.
    pub async fn hear(&mut self) -> Value {
        match timeout(DEADLINE, self.said.next_line()).await.unwrap().unwrap() {
            Some(line) => serde_json::from_str(&line).unwrap(),
            None => panic!("the SDK ended:\n{}", self.complaint().await),
        }
    }

    /// No more is told; its last line.
    pub async fn end(mut self) -> Value {
        self.stdin = None;
        let last = self.hear().await;
        let status = timeout(DEADLINE, self.child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{}", self.complaint().await);
        last
    }

    /// `kill -9`.
    pub async fn kill9(mut self) {
        self.child.kill().await.unwrap();
    }

    async fn complaint(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).await.unwrap();
        text
    }
}
