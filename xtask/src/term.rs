//! What a person sees: one line a step, so that a long installation shows where it is.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the command's output")]

use crate::failure::Failure;

/// A step begins.
pub fn step(text: impl AsRef<str>) {
    println!("==> {}", text.as_ref());
}

/// A detail of the step.
pub fn note(text: impl AsRef<str>) {
    println!("    {}", text.as_ref());
}

/// Something was left out; it must be seen.
pub fn warn(text: impl AsRef<str>) {
    eprintln!("!!! {}", text.as_ref());
}

/// The task stopped.
pub fn failed(failure: &Failure) {
    eprintln!("\nxtask failed: {failure}");
}
