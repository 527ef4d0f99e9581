//! Video: a segment comes in, renditions go out, ffmpeg does the work in a process of its own.

pub mod command;
pub mod container;
pub mod encoder;
pub mod job;
pub mod log;
pub mod sessions;
pub mod tools;
pub mod transcode;
pub mod work;
