//! The TOML file becomes clap's defaults, which gives the precedence for free: a default yields
//! to the environment, and that to a flag.

use crate::ConfigError;
use clap::{Arg, Command};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Settings files are a few kilobytes; anything far larger is a mistake (a log, a key store).
const MAX_BYTES: u64 = 1 << 20;

/// `--config PATH`, `--config=PATH` or the environment; looked up before clap runs, since the
/// file's values are part of what clap is told.
pub(crate) fn path_of(argv: &[OsString]) -> Option<PathBuf> {
    let mut words = argv.iter().skip(1);
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        if word == "--config" {
            return words.next().map(PathBuf::from);
        }
        if let Some(path) = word.to_str().and_then(|w| w.strip_prefix("--config=")) {
            return Some(PathBuf::from(path));
        }
    }
    std::env::var_os("PENSTOCK_CONFIG").map(PathBuf::from)
}

/// Makes each setting of the file the default of the flag of that name.
pub(crate) fn as_defaults(mut command: Command, path: &Path) -> Result<Command, ConfigError> {
    let text = read(path)?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| ConfigError::Toml {
        path: path.to_owned(),
        reason: e.message().to_owned(),
    })?;
    for (key, value) in table {
        let unknown = || ConfigError::UnknownKey { path: path.to_owned(), key: key.clone() };
        let name = key.replace('_', "-");
        let id = command
            .get_arguments()
            .find(|a| is_called(a, &name) && name != "config")
            .map(|a| a.get_id().clone())
            .ok_or_else(unknown)?;
        let values = texts(&value).ok_or_else(|| {
            ConfigError::value(
                format!("--{name}"),
                "expected text, a number, true, false or a list",
            )
        })?;
        command = command.mut_arg(id, |arg| arg.default_values(values).required(false));
    }
    Ok(command)
}

/// By its name or by another one that its help shows.
fn is_called(arg: &Arg, name: &str) -> bool {
    let others = arg.get_visible_aliases().unwrap_or_default();
    arg.get_long() == Some(name) || others.contains(&name)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read {
        setting: "--config".to_owned(),
        path: path.to_owned(),
        source,
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_BYTES {
        return Err(ConfigError::value(
            "--config",
            format!("{size} bytes is too large for settings"),
        ));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::Array(items) => items.iter().map(text).collect(),
        single => Some(vec![text(single)?]),
    }
}

fn text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(s) => Some(s.clone()),
        toml::Value::Integer(n) => Some(n.to_string()),
        toml::Value::Boolean(b) => Some(b.to_string()),
        // A float's text is what the author wrote only by luck: exact numbers are quoted.
        _ => None,
    }
}
