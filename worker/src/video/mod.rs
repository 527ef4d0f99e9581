//! Video: a segment comes in, renditions go out, ffmpeg does the work in a process of its own.

pub mod balance;
pub mod command;
pub mod container;
pub mod devices;
pub mod encoder;
pub mod guard;
pub mod job;
pub mod log;
pub mod sessions;
pub mod tools;
pub mod transcode;
pub mod trial;
pub mod work;
