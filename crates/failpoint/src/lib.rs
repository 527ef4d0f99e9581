//! Failpoints: named places where a test can kill the process, and proof that they were reached.
//!
//! `PENSTOCK_FAILPOINTS="signer.after_sign=abort@3,signer.before_reply=off"` aborts at the third
//! pass through `signer.after_sign`. Every armed pass is appended to the file that
//! `PENSTOCK_FAILPOINT_LOG` names, and synced, before the action runs: a crash test fails when
//! its failpoint is missing there. Optimised builds compile the calls away unless the feature
//! `failpoints` is on.
//!
//! [`simulated`] is the same for a whole thread: its clock, its chance, the death of its processes.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod plan;
pub mod simulated;

pub use plan::{Action, BadPlan, Plan};

use std::{
    fs::OpenOptions,
    io::Write,
    sync::{Mutex, OnceLock, PoisonError},
};

/// The environment variable that arms failpoints.
pub const PLAN_VARIABLE: &str = "PENSTOCK_FAILPOINTS";
/// The environment variable that names the log of hits.
pub const LOG_VARIABLE: &str = "PENSTOCK_FAILPOINT_LOG";

static PLAN: OnceLock<Mutex<Plan>> = OnceLock::new();

/// Passes the failpoint `name`. Does nothing unless a plan arms it.
#[inline]
pub fn hit(name: &'static str) {
    if cfg!(any(debug_assertions, feature = "failpoints")) {
        simulated::hit(name);
        pass(name);
    }
}

fn pass(name: &str) {
    let plan = PLAN.get_or_init(|| {
        let text = std::env::var(PLAN_VARIABLE).unwrap_or_default();
        Mutex::new(text.parse().unwrap_or_else(|error| {
            tracing::error!(%error, variable = PLAN_VARIABLE, "failpoints are ignored");
            Plan::default()
        }))
    });
    // A poisoned plan is still a plan: the counter inside is a plain number.
    let action = plan.lock().unwrap_or_else(PoisonError::into_inner).pass(name);
    let Some(action) = action else { return };
    record(name, action);
    if action == Action::Abort {
        // No destructor, no flush: as close to kill -9 as a process can do to itself.
        std::process::abort();
    }
}

/// The log line must be on disk before the process dies, or the test cannot believe it.
fn record(name: &str, action: Action) {
    let Ok(path) = std::env::var(LOG_VARIABLE) else { return };
    let line = format!("{name} {action}\n");
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()).and_then(|()| file.sync_all()));
    if let Err(error) = written {
        tracing::error!(%error, path, "failpoint hit could not be recorded");
    }
}
