//! Running programs, with a failure that says what ran, how it ended and what to do.

use std::{
    env,
    ffi::OsStr,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::failure::{Failure, Result};

/// Runs to the end with its output on ours.
pub fn run(command: &mut Command, fix: &str) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().map_err(|error| {
        Failure::new(format!("could not start {}: {error}", shown(command)), fix)
    })?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("{} ended with {status}", shown(command)), fix))
}

/// Runs to the end and gives back what it wrote to standard output.
pub fn output(command: &mut Command, fix: &str) -> Result<Vec<u8>> {
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|error| {
            Failure::new(format!("could not start {}: {error}", shown(command)), fix)
        })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Failure::new(format!("{} ended with {}", shown(command), output.status), fix))
}

/// Does it run and end well? Its output is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The program's path, looked for in PATH and in the system folders that a plain user's PATH lacks.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// The cargo that runs us, so that a `cargo +toolchain xtask` stays on its toolchain.
pub fn cargo(places: &crate::places::Places) -> Command {
    let mut command =
        Command::new(env::var_os("CARGO").unwrap_or_else(|| OsStr::new("cargo").to_owned()));
    command.current_dir(&places.root);
    command
}

/// For messages.
pub fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    // Long command lines (lists of packages) say enough in their beginning.
    if text.len() > 300 {
        text = text.chars().take(300).collect::<String>() + " …";
    }
    format!("`{text}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_its_fix() {
        let error = run(Command::new("false").arg("--flag"), "mend it").unwrap_err().to_string();
        assert!(error.contains("`false --flag`") && error.contains("to fix: mend it"), "{error}");
    }

    #[test]
    fn programs_are_found_in_path_only_when_they_are_there() {
        assert!(find("sh").is_some());
        assert!(find("penstock-no-such-program").is_none());
    }
}
