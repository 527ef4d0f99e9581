//! A role as a process: started with its flags, announced by its address file, killed without
//! mercy, started again on the same data.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use crate::{places, until};

/// A listener's flag and its key in the address file. An orchestrator's listener is named twice.
const LISTENERS: [(&str, &str); 6] = [
    ("--http-addr=", "http"),
    ("--http-addr=", "service"),
    ("--service-addr=https://", "service"),
    ("--admin-addr=", "admin"),
    ("--metrics-addr=", "metrics"),
    ("--rtmp-addr=", "rtmp"),
];

/// What to start. `{addr_file}` in an argument is replaced by the process's own address file.
#[derive(Debug, Clone)]
pub struct Spec {
    /// For messages and file names.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Added to the environment.
    pub env: BTreeMap<String, String>,
}

impl Spec {
    /// A role's binary with these arguments.
    pub fn role(binary: &str, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            name: binary.trim_start_matches("penstock-").to_owned(),
            program: places::binary(binary),
            args: args.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
        }
    }
}

/// A running (or killed) role. It dies with the value, and with the thread that started it.
#[derive(Debug)]
pub struct Process {
    spec: Spec,
    folder: PathBuf,
    addr_file: PathBuf,
    child: Option<Child>,
    starts: u32,
}

impl Process {
    /// Prepares without starting; logs and the address file lie in `folder`.
    pub fn new(spec: Spec, folder: &Path) -> Self {
        let addr_file = folder.join(format!("{}.addr.json", spec.name));
        Self::with_addr_file(spec, folder, addr_file)
    }

    /// The same, for a command line that names its address file already.
    pub fn with_addr_file(spec: Spec, folder: &Path, addr_file: PathBuf) -> Self {
        fs::create_dir_all(folder).expect("a folder for logs");
        Self { spec, folder: folder.to_owned(), addr_file, child: None, starts: 0 }
    }

    /// The arguments of its next start.
    pub fn set_args(&mut self, args: Vec<String>) {
        self.spec.args = args;
    }

    /// Its next starts listen where this one does: a port of 0 in a listener's flag becomes the one
    /// that was announced.
    pub fn keep_addresses(&mut self) {
        for (flag, key) in LISTENERS {
            let Some(arg) = self.spec.args.iter_mut().find(|arg| arg.starts_with(flag)) else {
                continue;
            };
            if arg.ends_with(":0") {
                let text = fs::read_to_string(&self.addr_file).expect("an announced process");
                let addrs: BTreeMap<String, String> =
                    serde_json::from_str(&text).expect("addresses");
                if let Some(address) = addrs.get(key) {
                    *arg = format!("{flag}{address}");
                }
            }
        }
    }

    /// Sends it a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(&pid).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {pid}");
    }

    /// Starts it and waits until it has announced its addresses.
    pub async fn start(spec: Spec, folder: &Path) -> Self {
        let mut process = Self::new(spec, folder);
        process.spawn();
        process.announced().await;
        process
    }

    /// The file to which the role writes its addresses.
    pub fn addr_file(&self) -> PathBuf {
        self.addr_file.clone()
    }

    /// What it wrote to both outputs, over all starts.
    pub fn log_file(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.spec.name))
    }

    /// The variables of its next start.
    pub fn env_mut(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.spec.env
    }

    /// Starts the process and does not wait for anything.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.spec.name);
        let _ = fs::remove_file(self.addr_file());
        let log = OpenOptions::new().create(true).append(true).open(self.log_file());
        let log = log.expect("a log file");
        // The kernel kills it when the thread of the test ends, however it ends: no role outlives
        // its test to hold a port or a file.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.spec.program);
        let addr_file = self.addr_file().to_string_lossy().into_owned();
        for arg in &self.spec.args {
            command.arg(arg.replace("{addr_file}", &addr_file));
        }
        let child = command
            .envs(&self.spec.env)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.spec.program.display()));
        self.child = Some(child);
        self.starts += 1;
    }

    /// Waits for the address file, and panics when the process ends before it is there.
    pub async fn announced(&mut self) {
        let file = self.addr_file();
        let name = self.spec.name.clone();
        until(&format!("{name} announces its addresses"), || {
            let there = file.exists();
            if !there {
                self.assert_runs();
            }
            async move { there }
        })
        .await;
    }

    /// The address under `key` of the address file, `127.0.0.1:1234`.
    pub fn addr(&self, key: &str) -> String {
        let text = fs::read_to_string(self.addr_file()).expect("an announced process");
        let addrs: BTreeMap<String, String> = serde_json::from_str(&text).expect("addresses");
        let found = addrs.get(key);
        found
            .unwrap_or_else(|| panic!("{} announced no `{key}`: {addrs:?}", self.spec.name))
            .clone()
    }

    /// Whether the process is there at this moment.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn assert_runs(&mut self) {
        if !self.runs() {
            let status = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            panic!("{} ended ({status:?}):\n{}", self.spec.name, self.log_tail());
        }
    }

    /// `kill -9`, and the wait until it is gone.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until it ends by itself, for example at a failpoint.
    pub async fn ended(&mut self) -> ExitStatus {
        let name = self.spec.name.clone();
        let status = crate::until_some(&format!("{name} ends"), || {
            let status =
                self.child.as_mut().expect("a started process").try_wait().expect("a child");
            async move { status }
        })
        .await;
        self.child = None;
        status
    }

    /// The running process's number.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a started process").id()
    }

    /// SIGTERM, and its exit status.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// Starts it again on its data and waits for its addresses.
    pub async fn restart(&mut self) {
        self.spawn();
        self.announced().await;
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- {} (started {}×)\n{}", self.spec.name, self.starts, self.log_tail());
        }
        self.kill9();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Spec {
        Spec {
            name: "shell".to_owned(),
            program: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn a_process_announces_dies_and_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        // In one step, as the roles do it: whoever looks sees the whole file or none.
        let script = "echo started; echo '{\"http\":\"127.0.0.1:1\"}' > {addr_file}.new; \
                      mv {addr_file}.new {addr_file}; exec sleep 600";
        let mut process = Process::start(shell(script), folder.path()).await;
        assert_eq!(process.addr("http"), "127.0.0.1:1");
        assert!(process.runs());
        process.kill9();
        assert!(!process.runs());
        process.restart().await;
        assert!(!process.terminate().await.success());
        assert_eq!(process.log_tail().matches("started").count(), 2);
    }

    #[tokio::test]
    #[should_panic(expected = "cannot work")]
    async fn a_process_that_ends_early_shows_its_log() {
        let folder = tempfile::tempdir().unwrap();
        Process::start(shell("echo this cannot work; exit 64"), folder.path()).await;
    }
}
