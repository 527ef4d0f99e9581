//! Live video: the orchestrator is told which live runners there are, and its calls to them are passed on. All
//! connections are ours; media and messages of a session go between runner and orchestrator, not through here.
//!
//! [`roster`] is who is there, [`link`] the stream to the orchestrator, [`pace`] its times. Runners are started and watched like those of jobs.

pub mod link;
mod pace;
pub mod roster;
