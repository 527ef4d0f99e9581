//! Media as bytes and text: what a push says, what a file is, what a playlist looks like. Pure and
//! bounded, except [`ffprobe`], which runs a confined child process.

pub mod config_header;
pub mod ffprobe;
pub mod mixed;
pub mod mp4;
pub mod path;
pub mod playlist;
pub mod probe;
pub mod sps;
pub mod wav;
