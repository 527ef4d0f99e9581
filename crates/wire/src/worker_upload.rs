//! What workers upload: headers of `/transcodeResults` and `/aiResults`, and the parts of a
//! transcode result (video-transcode-worker.md section 3, ai-pipelines.md section 7.3).

use crate::error::WireError;
use penstock_domain::SegmentFormat;

/// `Authorization` of a transcoding worker.
pub const TRANSCODER_AUTHORIZATION: &str = "Livepeer-Transcoder-1.0";
/// `Authorization` of an AI worker, and of a gateway that wants results by URL.
pub const AI_WORKER_AUTHORIZATION: &str = "Livepeer-AI-Worker-1.0";
/// Header with the shared secret.
pub const CREDENTIALS: &str = "Credentials";
/// Metadata of an AI worker's registration, which only our own nodes know: a random name of the worker's process.
/// A later registration of the same name takes the place of the earlier one, which gets no new jobs.
pub const WORKER_INSTANCE: &str = "penstock-worker-instance";
/// Header with the decimal task id.
pub const TASK_ID: &str = "TaskId";
/// Header with decimal pixels: decoded ones of the upload, encoded ones of a part.
pub const PIXELS: &str = "Pixels";
/// Header with the pipeline name of an AI job.
pub const PIPELINE: &str = "Pipeline";
/// Content type of an error text from a transcoding worker.
pub const TRANSCODING_ERROR: &str = "livepeer/transcoding-error";
/// Content type of an error text from an AI worker.
pub const AI_WORKER_ERROR: &str = "livepeer/ai-worker-error";
/// Content type of a perceptual hash part.
pub const PERCEPTUAL_HASH: &str = "application/octet-stream";

/// What one part of a transcode result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A rendition, with its encoded pixels.
    Rendition {
        /// Encoded pixels.
        pixels: u64,
    },
    /// The perceptual hash of the rendition before it.
    PerceptualHash,
    /// Something that a newer worker sends.
    Unknown,
}

impl Part {
    /// From the part's headers: `Pixels` marks a rendition, whatever its type.
    pub fn classify(content_type: Option<&str>, pixels: Option<&str>) -> Result<Self, WireError> {
        match (pixels, content_type) {
            (Some(text), _) => Ok(Self::Rendition { pixels: parse_pixels(text)? }),
            (None, Some(PERCEPTUAL_HASH)) => Ok(Self::PerceptualHash),
            (None, _) => Ok(Self::Unknown),
        }
    }
}

/// A decimal count of pixels, as in the header [`PIXELS`]: digits only, within int64.
pub fn parse_pixels(text: &str) -> Result<u64, WireError> {
    digits("Pixels", text)
}

/// A decimal task id, as in the header [`TASK_ID`].
pub fn parse_task_id(text: &str) -> Result<i64, WireError> {
    let n = digits("TaskId", text)?;
    i64::try_from(n).map_err(|_| WireError::invalid("TaskId", "must be a decimal number"))
}

fn digits(what: &'static str, text: &str) -> Result<u64, WireError> {
    let ok = (1..=19).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    ok.then(|| text.parse().ok())
        .flatten()
        .filter(|n| i64::try_from(*n).is_ok())
        .ok_or(WireError::invalid(what, "must be a decimal number"))
}

/// The head of a rendition's part, from its boundary line to the empty line.
pub fn rendition_part_head(
    boundary: &str,
    format: SegmentFormat,
    length: u64,
    pixels: u64,
) -> String {
    let kind = format.content_type();
    format!(
        "--{boundary}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nPixels: {pixels}\r\n\r\n"
    )
}

/// The head of a perceptual hash's part.
pub fn perceptual_hash_part_head(boundary: &str, length: u64) -> String {
    format!("--{boundary}\r\nContent-Type: {PERCEPTUAL_HASH}\r\nContent-Length: {length}\r\n\r\n")
}

/// What follows each part's data.
pub const PART_END: &str = "\r\n";

/// The last line of the body.
pub fn multipart_end(boundary: &str) -> String {
    format!("--{boundary}--\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart_by_pixels() {
        let part = |t, p| Part::classify(t, p);
        assert_eq!(part(Some("video/mp2t"), Some("12")), Ok(Part::Rendition { pixels: 12 }));
        assert_eq!(part(Some(PERCEPTUAL_HASH), Some("1")), Ok(Part::Rendition { pixels: 1 }));
        assert_eq!(part(Some(PERCEPTUAL_HASH), None), Ok(Part::PerceptualHash));
        assert_eq!(part(None, None), Ok(Part::Unknown));
        for bad in ["", "-1", "+1", "1.0", "99999999999999999999", "9223372036854775808", "0x1"] {
            assert!(part(None, Some(bad)).is_err(), "{bad}");
        }
        assert_eq!(parse_task_id("9223372036854775807"), Ok(i64::MAX));
    }
}
