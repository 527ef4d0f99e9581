//! `sqlx::migrate!` embeds the SQL files, so a new file has to rebuild this crate.
#![allow(clippy::print_stdout, reason = "cargo reads build script instructions from stdout")]

fn main() {
    println!("cargo:rerun-if-changed=../../migrations/signer/sqlite");
    println!("cargo:rerun-if-changed=../../migrations/signer/postgres");
    println!("cargo:rerun-if-changed=../../migrations/orchestrator/sqlite");
    println!("cargo:rerun-if-changed=../../migrations/orchestrator/postgres");
}
