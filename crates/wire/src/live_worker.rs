//! How a worker brings live video runners to its orchestrator: messages, client and server of
//! `proto/live_worker.proto`, which is ours and no part of the network.

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    tonic::include_proto!("penstock");
}

pub use generated::*;

use crate::{
    error::{WireError, at_most, bounded},
    hardware::Hardware,
    limits, net,
};

/// Runners of one worker.
pub const MAX_RUNNERS: usize = 1024;
/// Sessions at once of one runner.
pub const MAX_CAPACITY: u32 = 1024;
/// Bytes of a runner's answer that are passed on.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Bytes of a worker's name.
const MAX_WORKER_ID: usize = 64;

/// A runner, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// Its number at its worker, for one life.
    pub runner_id: u64,
    /// The model.
    pub model_id: String,
    /// Sessions at once, 1 to [`MAX_CAPACITY`].
    pub capacity: u32,
    /// Its version.
    pub version: String,
    /// The cards it runs on.
    pub hardware: Option<Hardware>,
}

/// What a worker says of its runners.
///
/// # Errors
/// A name, a number or the list itself is out of range, or a runner is named twice.
pub fn read(said: &LiveRunners) -> Result<Vec<Brought>, WireError> {
    worker_id(&said.worker_id)?;
    at_most("live runners", said.runners.len(), MAX_RUNNERS)?;
    let mut seen = std::collections::BTreeSet::new();
    let one = |runner: &LiveRunner| {
        bounded("a live runner's model", runner.model_id.len(), limits::NAME_BYTES)?;
        bounded("a live runner's version", runner.version.len(), limits::NAME_BYTES)?;
        let odd = runner.model_id.is_empty() || runner.model_id.chars().any(char::is_control);
        if odd || !(1..=MAX_CAPACITY).contains(&runner.capacity) || !seen.insert(runner.runner_id) {
            let expected =
                "expected a printable model, a capacity of 1 to 1024, a number of its own";
            return Err(WireError::invalid("live runner", expected));
        }
        Ok(Brought {
            runner_id: runner.runner_id,
            model_id: runner.model_id.clone(),
            capacity: runner.capacity,
            version: runner.version.clone(),
            hardware: runner.hardware.as_ref().map(Hardware::try_from).transpose()?,
        })
    };
    said.runners.iter().map(one).collect()
}

/// Checks a worker's name.
///
/// # Errors
/// It is empty or too long, or has other characters than letters, digits and `-`.
pub fn worker_id(id: &str) -> Result<&str, WireError> {
    let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match plain && (1..=MAX_WORKER_ID).contains(&id.len()) {
        true => Ok(id),
        false => Err(WireError::invalid("worker id", "expected 1 to 64 letters, digits and -")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(runner_id: u64, model_id: &str, capacity: u32) -> LiveRunner {
        let hardware = Some(net::HardwareInformation::default());
        let model_id = model_id.to_owned();
        LiveRunner { runner_id, model_id, capacity, version: "1".to_owned(), hardware }
    }

    fn said(runners: Vec<LiveRunner>) -> LiveRunners {
        LiveRunners { worker_id: "w-1".to_owned(), runners, ..LiveRunners::default() }
    }

    #[test]
    fn what_makes_sense_and_what_does_not() {
        let two = read(&said(vec![runner(1, "noop", 1), runner(2, "noop", 3)])).unwrap();
        assert_eq!((two[1].runner_id, two[1].capacity), (2, 3));
        assert_eq!(read(&said(Vec::new())), Ok(Vec::new()));
        for bad in [
            vec![runner(1, "", 1)],
            vec![runner(1, "a\nb", 1)],
            vec![runner(1, &"m".repeat(257), 1)],
            vec![runner(1, "m", 0)],
            vec![runner(1, "m", 1025)],
            vec![runner(1, "m", 1), runner(1, "n", 1)],
            (0..1025).map(|n| runner(n, "m", 1)).collect(),
        ] {
            assert!(read(&said(bad)).is_err());
        }
        let long = "w".repeat(65);
        for bad in ["", "w w", "w/", &long] {
            assert!(worker_id(bad).is_err(), "{bad}");
        }
    }
}
