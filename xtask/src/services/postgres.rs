//! A PostgreSQL of the test run's own. Its programs refuse to run as root, so that root hands them
//! to an unprivileged user.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Service, dies_with_us, start, temp_folder};
use crate::{
    command,
    failure::{Failure, Result},
    setup::is_root,
};

/// Debian keeps each version's server programs in a folder outside PATH.
pub fn server_programs() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let in_path = command::find("initdb").and_then(|path| path.parent().map(Path::to_path_buf));
    folders
        .into_iter()
        .rev()
        .chain(in_path)
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

/// What a committed transaction survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The server's death, as in production.
    Full,
    /// Nothing beyond the run: tests do not pull the plug.
    None,
}

pub fn start_postgres(durability: Durability) -> Result<Service> {
    let programs = server_programs().ok_or_else(|| {
        Failure::new("PostgreSQL's server programs are missing", "run `cargo xtask setup --test`")
    })?;
    let user = if is_root() { Some(unprivileged_user()?) } else { None };
    let folder = temp_folder("postgres")?;
    let data = folder.join("data");
    if let Some(user) = user {
        command::run(
            Command::new("chown").arg(user).arg(&folder),
            "run as a user who may change owners",
        )?;
    }
    command::output(
        as_user(user, &programs.join("initdb"))
            .args(["--username", "penstock", "--auth", "trust", "--encoding", "UTF8"])
            .args(["--no-sync", "--pgdata"])
            .arg(&data),
        "see whether initdb runs by hand on this machine",
    )?;
    let sockets = folder.clone();
    let is_ready = programs.join("pg_isready");
    start(
        "postgres",
        folder,
        move |port| {
            let mut server = as_user(user, &programs.join("postgres"));
            server
                .arg("-D")
                .arg(&data)
                .args(["-h", "127.0.0.1", "-p", &port.to_string()])
                .args(["-c", if durability == Durability::Full { "fsync=on" } else { "fsync=off" }])
                .arg("-k")
                .arg(&sockets);
            (server, format!("postgres://penstock@127.0.0.1:{port}/postgres"))
        },
        move |port| {
            let mut ask = Command::new(&is_ready);
            command::succeeds(ask.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]))
        },
    )
}

/// Debian's package makes the user `postgres`; any other user without rights does as well.
fn unprivileged_user() -> Result<&'static str> {
    ["postgres", "nobody"]
        .into_iter()
        .find(|user| command::succeeds(Command::new("id").arg(user)))
        .ok_or_else(|| {
            Failure::new(
                "initdb refuses root and there is no unprivileged user",
                "make one: useradd --system postgres",
            )
        })
}

fn as_user(user: Option<&str>, program: &Path) -> Command {
    let Some(user) = user else { return dies_with_us(program) };
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--reuid", user, "--regid", &group_of(user)])
        .args(["--clear-groups", "--"])
        .arg(program)
        .current_dir("/");
    command
}

fn group_of(user: &str) -> String {
    command::output(Command::new("id").args(["-g", user]), "")
        .ok()
        .and_then(|text| String::from_utf8(text).ok())
        .map(|text| text.trim().to_owned())
        .unwrap_or_else(|| user.to_owned())
}
