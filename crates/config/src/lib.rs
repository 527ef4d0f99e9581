//! One way to read settings for every role: flag over environment over TOML file.
//!
//! A role declares its flags once with clap, each with `env = "PENSTOCK_…"`. The file that
//! `--config` (or `PENSTOCK_CONFIG`) names holds the same names without the dashes in front,
//! `http-addr = "127.0.0.1:0"`. Secrets are never a flag's value: a flag names their file.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod common;
mod eth_usd;
mod file;
mod limits;
mod other_names;
mod otlp;
mod readers;
mod secret;
mod secret_file;

pub use common::{CommonArgs, LogFormat};
pub use eth_usd::EthUsdArgs;
pub use limits::{assert_ranges, within};
pub use otlp::OtlpArgs;
pub use readers::ReaderArgs;
pub use secret::{Secret, read_secret_file};
pub use secret_file::{create_secret_file, replace_secret_file, sync_folder};

use clap::{CommandFactory, Parser};
use std::{ffi::OsString, path::PathBuf};
use thiserror::Error;

/// Exit status for settings that cannot work, so that an operator (and systemd) can tell a bad
/// configuration from a failed start. `EX_USAGE` of sysexits.h.
pub const EXIT_BAD_CONFIG: i32 = 64;

/// A setting cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// clap refused a flag or a variable, or printed help.
    #[error("{0}")]
    Flags(#[from] clap::Error),
    /// A file cannot be read.
    #[error("{setting}: cannot read {path}: {source}", path = path.display())]
    Read {
        /// The flag that names the file.
        setting: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The TOML file is malformed.
    #[error("--config: {path} is not valid TOML: {reason}", path = path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        reason: String,
    },
    /// The TOML file holds a setting that this role does not have.
    #[error("--config: {path} has the unknown setting `{key}`; --help lists them", path = path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A value is wrong in itself or together with another.
    #[error("{setting}: {reason}")]
    Value {
        /// The flag to change.
        setting: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ConfigError {
    /// A wrong value of `setting`.
    pub fn value(setting: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Value { setting: setting.into(), reason: reason.into() }
    }
}

/// Reads this process's settings. Prints help or the mistake and exits: 0 for help, 64 else.
pub fn parse<T: Parser>() -> T {
    match try_parse_from(std::env::args_os()) {
        Ok(settings) => settings,
        Err(ConfigError::Flags(error)) => {
            // clap writes help to standard output and mistakes to standard error by itself.
            let _ = error.print();
            std::process::exit(if error.use_stderr() { EXIT_BAD_CONFIG } else { 0 });
        }
        Err(error) => exit_bad_config(&error),
    }
}

/// Prints the mistake and exits with [`EXIT_BAD_CONFIG`].
#[allow(clippy::print_stderr, reason = "the logs are not set up before the settings are read")]
pub fn exit_bad_config(error: &ConfigError) -> ! {
    eprintln!("error: {error}");
    std::process::exit(EXIT_BAD_CONFIG);
}

/// The same for a given command line (the first word is the program's name).
pub fn try_parse_from<T: Parser>(
    argv: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<T, ConfigError> {
    let argv: Vec<OsString> = argv.into_iter().map(Into::into).collect();
    let mut command = T::command();
    if let Some(path) = file::path_of(&argv) {
        command = file::as_defaults(command, &path)?;
    }
    let command = other_names::as_defaults(command, |name| std::env::var_os(name));
    let matches = command.try_get_matches_from(argv)?;
    Ok(T::from_arg_matches(&matches)?)
}

/// A test helper for each role: clap accepts the role's own definition.
pub fn assert_definition<T: CommandFactory>() {
    T::command().debug_assert();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[derive(Parser, Debug)]
    struct Args {
        #[arg(long, default_value = "a")]
        http_addr: String,
        #[arg(long)]
        orchestrators: Vec<String>,
        #[arg(long)]
        strict_tls: bool,
        #[arg(long, visible_alias = "bound")]
        limit: Option<u32>,
        #[command(flatten)]
        common: CommonArgs,
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut f = tempfile::NamedTempFile::new().unwrap();
        f.write_all(text.as_bytes()).unwrap();
        f
    }

    #[test]
    fn file_below_flags() {
        assert_definition::<Args>();
        let f = file(
            "http-addr = \"file\"\norchestrators = [\"x\", \"y\"]\nstrict-tls = true\nlimit = 7\n",
        );
        let path = f.path().to_str().unwrap();
        let args: Args = try_parse_from(["p", "--config", path]).unwrap();
        assert_eq!(args.http_addr, "file");
        assert_eq!(args.orchestrators, ["x", "y"]);
        assert!(args.strict_tls);
        assert_eq!(args.limit, Some(7));
        let args: Args =
            try_parse_from(["p", &format!("--config={path}"), "--http-addr", "flag"]).unwrap();
        assert_eq!(args.http_addr, "flag");
        let other = file("bound = 8\n");
        let by_another_name = ["p", "--config", other.path().to_str().unwrap()];
        assert_eq!(try_parse_from::<Args>(by_another_name).unwrap().limit, Some(8));
        assert_eq!(args.common.config.as_deref(), Some(f.path()));
    }

    #[test]
    fn mistakes_name_the_setting() {
        let f = file("http-adr = 1\n");
        let error = try_parse_from::<Args>(["p", "--config", f.path().to_str().unwrap()]);
        assert!(error.unwrap_err().to_string().contains("`http-adr`"));
        let f = file("http-addr = \n");
        let error = try_parse_from::<Args>(["p", "--config", f.path().to_str().unwrap()]);
        assert!(matches!(error.unwrap_err(), ConfigError::Toml { .. }));
        let error = try_parse_from::<Args>(["p", "--config", "/nonexistent/x"]);
        assert!(matches!(error.unwrap_err(), ConfigError::Read { .. }));
    }
}
