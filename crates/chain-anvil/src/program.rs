//! anvil as a child process: it keeps its chain in a file, is interrupted to stop, and cannot outlive this process.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    io,
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::process::{Child, Command};

/// How often it writes its chain to the disk, in seconds: a death costs what came since.
const WRITE_EVERY_S: u64 = 30;

/// A running anvil. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Program(Child);

impl Program {
    /// Starts it. To be called on the main thread only: the kernel ties the child's life to the thread that started it.
    pub(crate) fn start(program: &Path, listen: SocketAddr, folder: &Path) -> io::Result<Self> {
        let mut command = tied_to_us(program);
        command
            .args(["--host", &listen.ip().to_string(), "--port", &listen.port().to_string()])
            .args(["--silent", "--auto-impersonate", "--preserve-historical-states"])
            // Tickets of a local network are worth little: gas has to cost less.
            .args(["--block-base-fee-per-gas", "1", "--disable-min-priority-fee"])
            .args(["--state-interval", &WRITE_EVERY_S.to_string(), "--state"])
            .arg(folder.join("state.json"))
            // Nothing of it beside what is in the folder.
            .env("HOME", folder)
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        command.spawn().map(Self)
    }

    /// Waits until it ends.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.0.wait().await
    }

    /// Interrupts it, so that it writes its chain; kills it when `patience` is over. Whether it ended by itself.
    pub(crate) async fn stop(mut self, patience: Duration) -> bool {
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Fails only when it is gone already, which is what is wanted.
            let _ = kill_process(pid, Signal::INT);
        }
        match tokio::time::timeout(patience, self.0.wait()).await {
            Ok(_) => true,
            Err(_) => {
                let _ = self.0.kill().await;
                false
            }
        }
    }
}

/// Through util-linux where it is installed: then the kernel kills the child even when this process is killed.
fn tied_to_us(program: &Path) -> Command {
    const SETPRIV: &str = "/usr/bin/setpriv";
    if !Path::new(SETPRIV).exists() || !program.exists() {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
