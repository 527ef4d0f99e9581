//! Private servers for one test run: own data, own free port, stopped at the end however it ends.

pub mod postgres;
pub mod redis;

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::{
    command,
    failure::{Doing as _, Failure, Result},
};

/// A server process and its folder; both go when it is dropped.
pub struct Service {
    child: Child,
    folder: PathBuf,
    pub url: String,
}

impl Service {
    /// The system's number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        stop(&mut self.child);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Asks first: PostgreSQL leaves shared memory behind when it is killed.
fn stop(child: &mut Child) {
    command::succeeds(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        pause();
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// A port that was free a moment ago. Someone may take it first; starting is then tried again.
fn free_port() -> Result<u16> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("find a free port")?;
    Ok(socket.local_addr().doing("find a free port")?.port())
}

/// A folder of this run's own in the system's temporary folder, which any user may enter.
fn temp_folder(name: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("penstock-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).doing(format!("make {}", folder.display()))?;
    Ok(folder)
}

/// A command that the kernel kills when we die, whatever kills us (where util-linux is there).
fn dies_with_us(program: &Path) -> Command {
    match command::find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Starts a server up to three times (its port may be lost to someone else) and waits until
/// `ready` says so.
fn start(
    name: &str,
    folder: PathBuf,
    make: impl Fn(u16) -> (Command, String),
    ready: impl Fn(u16) -> bool,
) -> Result<Service> {
    let log = folder.join("log");
    for _ in 0..3 {
        let port = free_port()?;
        let (mut command, url) = make(port);
        let output = fs::File::create(&log).doing(format!("write {}", log.display()))?;
        let errors = output.try_clone().doing(format!("write {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .doing(format!("start {name}"))?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if ready(port) {
                return Ok(Service { child, folder, url });
            }
            if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            pause();
        }
        stop(&mut child);
    }
    let text = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_dir_all(&folder);
    Err(Failure::new(
        format!("{name} did not start; it said:\n{text}"),
        format!("see whether {name} starts by hand on this machine"),
    ))
}

/// Between two looks at a server that is starting.
fn pause() {
    let (_keep, nothing) = mpsc::channel::<()>();
    let _ = nothing.recv_timeout(Duration::from_millis(30));
}
