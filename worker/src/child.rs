//! Runs one child to its end: bounded in time, its error output read line by line and never kept
//! whole, killed when the future is dropped.

use std::{ffi::OsString, path::Path, process::ExitStatus, process::Stdio, time::Duration};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
};

/// Longest line that is looked at; the rest of it is dropped.
const MAX_LINE_BYTES: usize = 4096;

/// How long a killed child is waited for.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// What children get of our environment: enough to find libraries, programs and GPUs. Everything
/// else stays here, secrets among it.
/// Which cards there are to see is not passed on: our own settings choose, by the driver's numbers.
const PASSED_ENV: &[&str] = &[
    "PATH",
    "LD_LIBRARY_PATH",
    "HOME",
    "TMPDIR",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
];

/// A child did not get to its own end.
#[derive(Debug, Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("{program} cannot be started: {source}")]
    Start {
        /// What was started.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It was killed because its time was up.
    #[error("timed out after {0:?}")]
    TimedOut(Duration),
    /// Its output could not be read, or its end could not be waited for.
    #[error("lost the child process: {0}")]
    Lost(#[from] std::io::Error),
}

/// A command with our environment rules: passed variables only, own process group (a terminal's
/// Ctrl-C is for us, who then drain), killed on drop.
pub fn command(line: &[OsString], directory: &Path) -> Option<Command> {
    let (program, args) = line.split_first()?;
    let mut command = Command::new(program);
    command.args(args).current_dir(directory).process_group(0).kill_on_drop(true).env_clear();
    for name in PASSED_ENV {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // CUDA counts cards by speed unless told otherwise; the driver, and we, by their place.
    command.env("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
    // Messages are parsed, so they must be in one language.
    command.env("LC_ALL", "C.UTF-8");
    // glibc maps 64 MiB for each of many arenas, which an address space limit would count.
    command.env("MALLOC_ARENA_MAX", "4");
    Some(command)
}

/// Runs `line` in `directory` for at most `limit`, giving each line of its error output to `sink`.
pub async fn run(
    line: &[OsString],
    directory: &Path,
    limit: Duration,
    mut sink: impl FnMut(&str),
) -> Result<ExitStatus, ChildError> {
    let program = || line.last().map(|w| w.to_string_lossy().into_owned()).unwrap_or_default();
    let nothing = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "empty command line");
    let mut child = command(line, directory)
        .ok_or_else(|| ChildError::Start { program: program(), source: nothing() })?
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| ChildError::Start { program: program(), source })?;
    let stderr = child.stderr.take();
    let work = async {
        if let Some(stderr) = stderr {
            read_lines(stderr, &mut sink).await?;
        }
        child.wait().await
    };
    match tokio::time::timeout(limit, work).await {
        Ok(status) => Ok(status?),
        Err(_) => {
            child.start_kill()?;
            // A process that is stuck inside a driver does not die until that lets it. Nobody waits
            // for it longer: the runtime collects it when it goes.
            let _ = tokio::time::timeout(LAST_BREATH, child.wait()).await;
            Err(ChildError::TimedOut(limit))
        }
    }
}

/// Calls `sink` for each line (LF, CR or both end one), cut at [`MAX_LINE_BYTES`].
pub async fn read_lines(
    mut input: impl AsyncRead + Unpin,
    mut sink: impl FnMut(&str),
) -> std::io::Result<()> {
    let mut line = Vec::with_capacity(MAX_LINE_BYTES);
    let mut buffer = [0u8; 8192];
    loop {
        let count = input.read(&mut buffer).await?;
        for byte in buffer.iter().take(count) {
            if matches!(byte, b'\n' | b'\r') {
                if !line.is_empty() {
                    sink(&String::from_utf8_lossy(&line));
                    line.clear();
                }
            } else if line.len() < MAX_LINE_BYTES {
                line.push(*byte);
            }
        }
        if count == 0 {
            if !line.is_empty() {
                sink(&String::from_utf8_lossy(&line));
            }
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Vec<OsString> {
        ["sh", "-c", script].map(OsString::from).to_vec()
    }

    #[tokio::test]
    async fn lines_and_status_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = Vec::new();
        let script = "printf 'a\\rb\\n\\nlast' >&2; exit 3";
        let status =
            run(&sh(script), dir.path(), Duration::from_secs(60), |l| lines.push(l.to_owned()))
                .await
                .unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(lines, ["a", "b", "last"]);
    }

    #[tokio::test]
    async fn a_long_line_is_cut() {
        let mut lines = Vec::new();
        let input = [b"x".repeat(3 * MAX_LINE_BYTES), b"\nshort\n".to_vec()].concat();
        read_lines(&input[..], |l| lines.push(l.len())).await.unwrap();
        assert_eq!(lines, [MAX_LINE_BYTES, 5]);
    }

    #[tokio::test]
    async fn time_is_up() {
        let dir = tempfile::tempdir().unwrap();
        let got = run(&sh("exec sleep 600"), dir.path(), Duration::from_millis(50), |_| {}).await;
        assert!(matches!(got, Err(ChildError::TimedOut(_))));
    }

    #[tokio::test]
    async fn our_environment_stays_here() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = String::new();
        // CARGO_MANIFEST_DIR is set for every test run.
        run(&sh("env >&2"), dir.path(), Duration::from_secs(60), |l| seen += l).await.unwrap();
        assert!(seen.contains("PATH=") && !seen.contains("CARGO_MANIFEST_DIR"));
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let line = [OsString::from("/no/such/program")];
        let error = run(&line, dir.path(), Duration::from_secs(1), |_| {}).await.unwrap_err();
        assert!(error.to_string().contains("/no/such/program"));
    }
}
