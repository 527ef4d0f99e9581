//! One role as a child process: it writes to its log file, gets SIGTERM to stop, and cannot
//! outlive this process.

use std::{
    fs::OpenOptions,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{DevError, Launch, Layout};

/// A running role. Dropping it kills it.
#[derive(Debug)]
pub(super) struct RoleProcess {
    child: Child,
}

impl RoleProcess {
    /// Starts it. To be called on the main thread only: the kernel ties the child's life to the
    /// thread that started it.
    pub(super) fn start(launch: &Launch, layout: &Layout) -> Result<Self, DevError> {
        // A reader must not take the addresses of the run before for those of this one.
        let _ = std::fs::remove_file(layout.addrs(launch.role));
        let log_path = layout.log(launch.role);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .and_then(|file| file.try_clone().map(|copy| (file, copy)))
            .map_err(|source| DevError::DataDir { path: log_path, source })?;
        let mut command = tied_to_us(&launch.program);
        command
            .args(&launch.args)
            .stdin(Stdio::null())
            .stdout(log.0)
            .stderr(log.1)
            // A ctrl-c in the terminal is ours to pass on, in order.
            .process_group(0)
            .kill_on_drop(true);
        // Settings meant for us (and for one role) must not reach every role.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PENSTOCK_") {
                command.env_remove(name);
            }
        }
        let child = command
            .spawn()
            .map_err(|source| DevError::Program { program: launch.program.clone(), source })?;
        Ok(Self { child })
    }

    /// Waits until it ends.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// SIGTERM, then SIGKILL when `patience` is over. The answer says whether it drained by itself.
    pub(super) async fn stop(mut self, patience: Duration) -> bool {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Fails only when it is gone already, which is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(status) => status.is_ok_and(|status| status.success()),
            Err(_) => {
                let _ = self.child.kill().await;
                false
            }
        }
    }
}

/// Through util-linux where it is installed (every Debian and Ubuntu): then the kernel kills the
/// child even when this process is killed without a chance to do it.
fn tied_to_us(program: &Path) -> Command {
    const SETPRIV: &str = "/usr/bin/setpriv";
    if !Path::new(SETPRIV).exists() || !program.exists() {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
