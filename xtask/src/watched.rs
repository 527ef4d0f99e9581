//! Running tests so that one that hangs is ended and named, instead of holding the run up for ever.
//!
//! Test runners say little about a test while it runs: libtest tells of one that takes over a minute,
//! Python's unittest begins a line with its name. What they write is passed on and read here; a
//! test that was told of and has not ended within the limit hangs, and so does a run that says
//! nothing at all for that long.

mod progress;
mod tree;

use std::{
    io::{self, Read, Write},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use self::progress::Progress;
use crate::{
    command,
    failure::{Failure, Result},
    term,
};

/// Between two looks at the clock.
const TICK: Duration = Duration::from_secs(1);
/// How long what the command has written may take to arrive after its end. Somebody who outlives it
/// may hold its output open for ever.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a debugger may take.
const DEBUGGER: Duration = Duration::from_secs(120);

/// What is too long.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For one test, from when it is heard of.
    pub test: Duration,
    /// Without a word from any.
    pub silence: Duration,
}

/// Runs to the end with its output on ours. What hangs is killed with all that it started; whatever
/// started it goes on with its next tests, if it has any, and the failure names the tests.
pub fn run(command: &mut Command, patience: Patience, fix: &str) -> Result<()> {
    let cannot =
        |error: io::Error| Failure::new(format!("could not start the tests: {error}"), fix);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(cannot)?;
    let (sender, heard) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        pass_on(stdout, io::stdout(), sender.clone(), false);
    }
    if let Some(stderr) = child.stderr.take() {
        pass_on(stderr, io::stderr(), sender, true);
    }
    let mut progress = Progress::new(patience, Instant::now());
    let mut hung = Vec::new();
    loop {
        match heard.recv_timeout(TICK) {
            Ok((is_error, bytes)) => progress.hear(is_error, &bytes, Instant::now()),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if matches!(child.try_wait(), Ok(Some(_))) {
                    break;
                }
            }
        }
        if let Some(tests) = progress.hanging(Instant::now()) {
            term::warn(format!("does not end: {}", tests.join(", ")));
            term::warn(format!("killed with it: {}", progress.running().join(", ")));
            if tree::kill_below(child.id(), show_threads) == 0 {
                // Nobody below: it is the command itself.
                let _ = child.kill();
            }
            hung.extend(tests);
            progress = Progress::new(patience, Instant::now());
        }
    }
    while heard.recv_timeout(LAST_WORDS).is_ok() {}
    let status = child.wait().map_err(cannot)?;
    let ended = format!("{} ended with {status}", command::shown(command));
    if !hung.is_empty() {
        let what = format!("tests that hung and were killed: {}\n{ended}", hung.join(", "));
        return Err(Failure::new(what, "find what they wait for without a deadline"));
    }
    if status.success() { Ok(()) } else { Err(Failure::new(ended, fix)) }
}

/// Copies as it comes, and tells.
fn pass_on(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    heard: Sender<(bool, Vec<u8>)>,
    is_error: bool,
) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count) = from.read(&mut buffer) {
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return };
            // Nobody may be looking; the tests go on.
            let _ = to.write_all(bytes).and_then(|()| to.flush());
            if heard.send((is_error, bytes.to_vec())).is_err() {
                return;
            }
        }
    });
}

/// Where a process's threads are, if there is a debugger to say so.
fn show_threads(pid: u32) {
    let pid = pid.to_string();
    let mut debugger = if let Some(gdb) = command::find("gdb") {
        let mut gdb = Command::new(gdb);
        gdb.args(["--batch", "--nx", "-p", &pid, "-ex", "thread apply all backtrace"]);
        gdb
    } else if let Some(stack) = command::find("eu-stack") {
        let mut stack = Command::new(stack);
        stack.args(["-p", &pid]);
        stack
    } else {
        return;
    };
    let Ok(mut child) = debugger.stdin(Stdio::null()).spawn() else { return };
    let deadline = Instant::now() + DEBUGGER;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        pause();
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Between two looks at somebody who works.
fn pause() {
    let (_keep, nothing) = mpsc::channel::<()>();
    let _ = nothing.recv_timeout(TICK / 10);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    fn script(text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        command
    }

    #[test]
    fn a_test_that_hangs_is_killed_and_named_and_the_others_still_run() {
        let folder = std::env::temp_dir().join(format!("penstock-watched-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (pid, next) = (folder.join("pid"), folder.join("next"));
        // As cargo does: the binary below it hangs, another one comes after it.
        let text = format!(
            "sleep 100000 & echo $! >{}; echo 'test quick ... ok'; \
             echo 'test a::slow has been running for over 60 seconds'; wait $!; echo done >{}",
            pid.display(),
            next.display(),
        );
        let patience = Patience { test: Duration::from_millis(1), silence: LONG };
        let error = run(&mut script(&text), patience, "").unwrap_err().to_string();
        let named = error.lines().next().unwrap_or_default();
        assert_eq!(named, "tests that hung and were killed: a::slow");
        assert!(next.exists());
        let pid = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        assert!(!tree::is_alive(pid));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_run_that_says_nothing_ends() {
        let patience = Patience { test: LONG, silence: Duration::from_millis(1) };
        let error = run(&mut script("exec sleep 100000"), patience, "").unwrap_err().to_string();
        assert!(error.contains("said nothing"), "{error}");
    }

    #[test]
    fn whoever_outlives_the_run_does_not_hold_it_up() {
        let patience = Patience { test: LONG, silence: LONG };
        run(&mut script("sleep 30 & exit 0"), patience, "").unwrap();
        let error = run(&mut script("exit 3"), patience, "mend it").unwrap_err().to_string();
        assert!(error.contains("status: 3") && error.contains("mend it"), "{error}");
    }
}
