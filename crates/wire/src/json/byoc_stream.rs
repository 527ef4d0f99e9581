//! What a stream of a brought capability is asked to be (byoc.md sections 1.2 and 8).

use super::{byoc::MAX_JOB_BYTES, read};
use crate::{error::WireError, limits};

/// Which channels a stream has, beside those of control and events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByocStreamOptions {
    /// Video to the worker.
    pub video_ingress: bool,
    /// Video from it.
    pub video_egress: bool,
    /// Lines of data from it.
    pub data_output: bool,
}

impl ByocStreamOptions {
    /// From a job's `parameters`; none are as good as empty ones.
    pub fn parse(parameters: &str) -> Result<Self, WireError> {
        if parameters.is_empty() {
            return Ok(Self::default());
        }
        let map = read::object("parameters", parameters.as_bytes(), MAX_JOB_BYTES)?;
        let flag = |key: &'static str| match read::get(&map, key) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| read::wrong(key, "must be true or false")),
        };
        Ok(Self {
            video_ingress: flag("enable_video_ingress")?,
            video_egress: flag("enable_video_egress")?,
            data_output: flag("enable_data_output")?,
        })
    }
}

/// Which stream a job's `request` is about.
pub fn byoc_stream_id(request: &str) -> Result<String, WireError> {
    let map = read::object("request", request.as_bytes(), MAX_JOB_BYTES)?;
    let id = read::text(&map, "stream_id", limits::NAME_BYTES)?;
    if id.is_empty() { Err(WireError::Missing("stream_id")) } else { Ok(id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gateways_ask_for() {
        let all =
            r#"{"enable_video_ingress":true,"enable_video_egress":true,"enable_data_output":true}"#;
        let options = ByocStreamOptions::parse(all).unwrap();
        assert!(options.video_ingress && options.video_egress && options.data_output);
        let some = r#"{"orchestrators":{},"enable_video_egress":null,"enable_data_output":true}"#;
        let options = ByocStreamOptions::parse(some).unwrap();
        assert_eq!(options, ByocStreamOptions { data_output: true, ..Default::default() });
        assert_eq!(ByocStreamOptions::parse("").unwrap(), ByocStreamOptions::default());
        assert!(ByocStreamOptions::parse(r#"{"enable_video_egress":1}"#).is_err());
        assert_eq!(byoc_stream_id(r#"{"stream_id":"a-1"}"#).unwrap(), "a-1");
        assert!(byoc_stream_id("{}").is_err() && byoc_stream_id("[]").is_err());
    }
}
