//! A PostgreSQL of the run's own, which the run may stop and start. Its programs refuse to run as root,
//! so that root hands them to an unprivileged user.

use crate::fleet::{free_port, own_host};
use penstock_testkit::{Process, Spec, until_ok};
use sqlx::{Connection as _, PgConnection};
use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// How it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// In order, without waiting for its clients (SIGINT).
    Fast,
    /// As by a fault: what was committed is found in its log at the next start (SIGQUIT).
    Immediate,
}

/// A running server. It ends with this value, and its data with it.
#[derive(Debug)]
pub struct Database {
    url: String,
    process: Process,
    // Last, so that the process is gone before its files are.
    _folder: TempDir,
}

impl Database {
    /// Makes and starts one with the programs in this folder (`initdb`, `postgres`).
    pub async fn start(programs: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("penstock-postgres-").tempdir().unwrap();
        let data = folder.path().join("data");
        // Whoever owns our folders is root where initdb would refuse.
        let is_root = folder.path().metadata().unwrap().uid() == 0;
        let user = is_root.then(unprivileged);
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let (program, mut args) = as_user(user, &programs.join("initdb"));
        args.extend(["--username=penstock", "--auth=trust", "--encoding=UTF8"].map(str::to_owned));
        args.push(format!("--pgdata={}", data.display()));
        let made = Command::new(program).args(args).current_dir("/").output().expect("initdb");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let address = free_port(own_host());
        let (program, mut args) = as_user(user, &programs.join("postgres"));
        args.extend([
            "-D".to_owned(),
            data.display().to_string(),
            "-h".to_owned(),
            address.ip().to_string(),
            "-p".to_owned(),
            address.port().to_string(),
            "-k".to_owned(),
            folder.path().display().to_string(),
        ]);
        let spec = Spec { name: "postgres".to_owned(), program, args, env: BTreeMap::new() };
        let mut process = Process::new(spec, &folder.path().join("logs"));
        process.spawn();
        let url = format!("postgres://penstock@{address}/postgres");
        let database = Self { url, process, _folder: folder };
        database.answers().await;
        database
    }

    /// `postgres://…`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops it and starts it again.
    pub async fn restart(&mut self, how: Stop) {
        self.process.signal(match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        });
        self.process.ended().await;
        self.process.spawn();
        self.answers().await;
    }

    async fn answers(&self) {
        let url = &self.url;
        until_ok("PostgreSQL answers", || async move {
            let connection = PgConnection::connect(url).await.map_err(|error| error.to_string())?;
            connection.close().await.map_err(|error| error.to_string())
        })
        .await;
    }
}

/// Debian's package makes the user `postgres`; any other user without rights does as well.
fn unprivileged() -> (u32, u32) {
    let id = |flag: &str, user: &str| {
        let told = Command::new("id").args([flag, user]).output().ok()?;
        String::from_utf8(told.stdout).ok()?.trim().parse().ok()
    };
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|user| Some((id("-u", user)?, id("-g", user)?)))
        .expect("a user without rights: useradd --system postgres")
}

/// The program as that user. It dies with us: changing users lets go of what was said before.
fn as_user(user: Option<(u32, u32)>, program: &Path) -> (PathBuf, Vec<String>) {
    let Some((uid, gid)) = user else { return (program.to_owned(), Vec::new()) };
    let mut args = ["--pdeathsig", "KILL", "--clear-groups"].map(str::to_owned).to_vec();
    args.extend([format!("--reuid={uid}"), format!("--regid={gid}"), "--".to_owned()]);
    args.push(program.display().to_string());
    ("setpriv".into(), args)
}
