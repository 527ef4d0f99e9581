//! The scripts: each decides and writes in one step on the server, by the time it is told.

use redis::Cmd;
use std::sync::LazyLock;

/// A script and its hash.
pub(super) struct Script {
    code: String,
    sha: String,
}

impl Script {
    fn new(body: &str) -> Self {
        let code = format!("{}{body}", include_str!("lua/lib.lua"));
        let sha = redis::Script::new(&code).get_hash().to_owned();
        Self { code, sha }
    }

    /// By hash, which the server knows after the first time.
    pub fn by_hash<K: AsRef<str>>(&self, keys: &[K], args: &[Vec<u8>]) -> Cmd {
        self.call("EVALSHA", &self.sha, keys, args)
    }

    /// With its text, for a server that was restarted.
    pub fn whole<K: AsRef<str>>(&self, keys: &[K], args: &[Vec<u8>]) -> Cmd {
        self.call("EVAL", &self.code, keys, args)
    }

    fn call<K: AsRef<str>>(&self, how: &str, what: &str, keys: &[K], args: &[Vec<u8>]) -> Cmd {
        let mut cmd = redis::cmd(how);
        cmd.arg(what).arg(keys.len());
        for key in keys {
            cmd.arg(key.as_ref());
        }
        for arg in args {
            cmd.arg(arg.as_slice());
        }
        cmd
    }
}

macro_rules! scripts {
    ($($name:ident = $file:literal),* $(,)?) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!(concat!("lua/", $file, ".lua"))));)*
    };
}

scripts! {
    CAS = "cas",
    LIST_STREAM = "list_stream",
    REMOVE = "remove",
    LEASE = "lease",
    SAVE_SESSION = "save_session",
    REFRESH_SESSION = "refresh_session",
    RELEASE = "release",
    END_SESSION = "end_session",
    BOOK = "book",
    CREDIT = "credit",
    RESERVE = "reserve",
    SETTLE = "settle",
    FORFEIT = "forfeit",
    SCORE = "score",
    RELEASE_SUSPENSIONS = "release_suspensions",
    LOCK = "lock",
    UNLOCK = "unlock",
    BEGIN_RESULT = "begin_result",
    FINISH_RESULT = "finish_result",
    ABANDON_RESULT = "abandon_result",
    TAKE = "take",
    GIVE = "give",
    POOL = "pool",
    TAKE_SLOT = "take_slot",
}
