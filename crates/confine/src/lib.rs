//! How children that read strangers' files are held: no network, bounded processor time, memory and
//! file size, and dead when we die.
//!
//! The tools are util-linux programs, each of which becomes the next by exec, so the process id
//! stays that of the child: `unshare → prlimit → setpriv → program`. `setpriv` comes last because
//! entering a user namespace would clear what it sets. A tool that is missing or forbidden (many
//! containers refuse namespaces) is logged once and left out; the rest still holds.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::process::Command;

/// What one child may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processor time over all threads.
    pub cpu: Duration,
    /// Address space in bytes. `None` for GPU work: CUDA maps far more than it uses.
    pub address_space_bytes: Option<u64>,
    /// Largest file it may write, in bytes.
    pub file_bytes: u64,
}

/// Dead when we die, and no more rights than at the start, whatever it runs.
const SETPRIV: &[&str] = &["--pdeathsig", "KILL", "--no-new-privs"];

/// What this machine lets us hold children with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Program and flags that give an empty network namespace.
    unshare: Option<(PathBuf, Vec<&'static str>)>,
    prlimit: Option<PathBuf>,
    setpriv: Option<PathBuf>,
}

impl Sandbox {
    /// Finds out what works here, by trying it.
    pub async fn probe() -> Self {
        let sandbox = Self {
            unshare: probe_unshare().await,
            prlimit: probe_tool("prlimit", &["--core=0", "--", "true"]).await,
            setpriv: probe_tool("setpriv", &[SETPRIV, &["--", "true"]].concat()).await,
        };
        if sandbox.unshare.is_none() {
            tracing::warn!(
                "no network namespace can be made here: ffmpeg keeps the network, held by its protocol list only"
            );
        }
        if sandbox.prlimit.is_none() {
            tracing::warn!(
                "prlimit (util-linux) does not work here: ffmpeg runs without resource limits"
            );
        }
        if sandbox.setpriv.is_none() {
            tracing::warn!(
                "setpriv (util-linux) does not work here: a killed worker may leave an ffmpeg behind until its time is up"
            );
        }
        sandbox
    }

    /// Whether children have no network.
    pub fn cuts_network(&self) -> bool {
        self.unshare.is_some()
    }

    /// The command line that runs `program` with `args` within `limits`.
    pub fn wrap(&self, limits: &Limits, program: &Path, args: &[String]) -> Vec<OsString> {
        let mut line: Vec<OsString> = Vec::new();
        if let Some((unshare, flags)) = &self.unshare {
            line.push(unshare.into());
            line.extend(flags.iter().map(OsString::from));
            line.push("--".into());
        }
        if let Some(prlimit) = &self.prlimit {
            line.push(prlimit.into());
            line.push(format!("--cpu={}", limits.cpu.as_secs().max(1)).into());
            if let Some(bytes) = limits.address_space_bytes {
                line.push(format!("--as={bytes}").into());
            }
            line.push(format!("--fsize={}", limits.file_bytes).into());
            line.extend(["--core=0", "--nofile=256", "--"].map(OsString::from));
        }
        if let Some(setpriv) = &self.setpriv {
            line.push(setpriv.into());
            line.extend(SETPRIV.iter().map(OsString::from));
            line.push("--".into());
        }
        line.push(program.into());
        line.extend(args.iter().map(OsString::from));
        line
    }
}

/// As root a plain `--net` is enough; elsewhere a user namespace makes it possible.
async fn probe_unshare() -> Option<(PathBuf, Vec<&'static str>)> {
    for flags in [vec!["--net"], vec!["--map-root-user", "--net"]] {
        let mut args = flags.clone();
        args.extend(["--", "true"]);
        if let Some(path) = probe_tool("unshare", &args).await {
            return Some((path, flags));
        }
    }
    None
}

async fn probe_tool(name: &str, args: &[&str]) -> Option<PathBuf> {
    let path = find_program(OsStr::new(name))?;
    let status = Command::new(&path)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .ok()?;
    status.success().then_some(path)
}

/// A program by name in `PATH`, or the path itself if it has a slash. Children get absolute paths,
/// since they run in directories of their own.
pub fn find_program(name: &OsStr) -> Option<PathBuf> {
    if Path::new(name).components().count() > 1 {
        return std::path::absolute(name).ok().filter(|p| p.is_file());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { cpu: Duration::from_secs(7), address_space_bytes: Some(1 << 30), file_bytes: 99 };

    #[test]
    fn the_order_is_unshare_prlimit_setpriv_program() {
        let full = Sandbox {
            unshare: Some(("/u".into(), vec!["--map-root-user", "--net"])),
            prlimit: Some("/p".into()),
            setpriv: Some("/s".into()),
        };
        let line = full.wrap(&LIMITS, Path::new("/ffmpeg"), &["-i".into(), "x y".into()]);
        let text: Vec<_> = line.iter().map(|w| w.to_str().unwrap()).collect();
        assert_eq!(
            text.join("|"),
            "/u|--map-root-user|--net|--|/p|--cpu=7|--as=1073741824|--fsize=99|--core=0|--nofile=256|--|\
             /s|--pdeathsig|KILL|--no-new-privs|--|/ffmpeg|-i|x y"
        );
        let bare = Sandbox::default().wrap(&LIMITS, Path::new("/ffmpeg"), &[]);
        assert_eq!(bare, ["/ffmpeg"]);
        let gpu = Limits { address_space_bytes: None, ..LIMITS };
        assert!(
            !full
                .wrap(&gpu, Path::new("/f"), &[])
                .iter()
                .any(|w| w.to_string_lossy().starts_with("--as"))
        );
    }

    #[tokio::test]
    async fn the_probed_sandbox_runs_things() {
        let sandbox = Sandbox::probe().await;
        let shell = find_program(OsStr::new("sh")).unwrap();
        let line = sandbox.wrap(&LIMITS, &shell, &["-c".into(), "exit 3".into()]);
        let status = Command::new(&line[0]).args(&line[1..]).status().await.unwrap();
        assert_eq!(status.code(), Some(3));
    }

    #[tokio::test]
    async fn a_held_child_has_no_network_and_small_files() {
        let sandbox = Sandbox::probe().await;
        let shell = find_program(OsStr::new("sh")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let run = async |script: &str| {
            let line = sandbox.wrap(&LIMITS, &shell, &["-c".into(), script.into()]);
            let done = Command::new(&line[0])
                .args(&line[1..])
                .current_dir(directory.path())
                .output()
                .await
                .unwrap();
            let said = String::from_utf8(done.stdout).unwrap();
            (done.status, said.lines().map(str::to_owned).collect::<Vec<_>>())
        };
        if sandbox.cuts_network() {
            let (_, devices) = run("cat /proc/net/dev").await;
            // Two lines of heading; a network namespace of its own has the loopback device only.
            let names: Vec<_> =
                devices[2..].iter().map(|l| l.trim().split(':').next().unwrap()).collect();
            assert_eq!(names, ["lo"]);
        }
        if sandbox.prlimit.is_some() {
            let (status, _) = run("head -c 100 /dev/zero > f").await;
            assert!(!status.success(), "100 bytes where 99 are allowed");
            let (_, limits) = run("cat /proc/self/limits").await;
            let cpu = limits.iter().find(|l| l.starts_with("Max cpu time")).unwrap();
            assert!(cpu.contains(" 7 "), "{cpu}");
        }
    }

    #[test]
    fn programs_are_found() {
        assert!(find_program(OsStr::new("sh")).unwrap().is_absolute());
        assert_eq!(find_program(OsStr::new("no-such-program-here")), None);
        assert_eq!(find_program(OsStr::new("./no/such")), None);
    }
}
