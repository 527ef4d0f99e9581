//! What a runner says of its time: `Server-Timing: read;dur=1.5, work;dur=320.0` (W3C, milliseconds).
//! A runner is confined and reaches no collector, so that its worker tells its spans. Others than ours say
//! nothing.

use penstock_telemetry::Part;
use std::time::Duration;

/// Longest header that is looked at.
const MAX_BYTES: usize = 256;
/// A part cannot have taken longer than the longest job.
const LONGEST: Duration = super::client::LONGEST_JOB;
/// The parts of a job there are.
const PARTS: [&str; 2] = ["read", "work"];

/// Of an answer.
pub fn of(answer: &reqwest::Response) -> Vec<Part> {
    let header = answer.headers().get("server-timing").and_then(|value| value.to_str().ok());
    header.map(parse).unwrap_or_default()
}

fn parse(header: &str) -> Vec<Part> {
    if header.len() > MAX_BYTES {
        return Vec::new();
    }
    header.split(',').filter_map(|part| one(part.trim())).take(PARTS.len()).collect()
}

fn one(text: &str) -> Option<Part> {
    let (name, took) = text.split_once(";dur=")?;
    let name = *PARTS.iter().find(|known| **known == name)?;
    let ms: f64 = took.parse().ok()?;
    let took = Duration::try_from_secs_f64(ms / 1_000.0).ok()?.min(LONGEST);
    Some(Part { name, took })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_parts_of_sane_length() {
        let ms = Duration::from_millis;
        let read = Part { name: "read", took: ms(2) };
        let work = Part { name: "work", took: ms(320) };
        assert_eq!(parse("read;dur=2, work;dur=320.0"), [read, work]);
        assert_eq!(parse("other;dur=1, work;dur=320"), [work]);
        assert_eq!(parse("work;dur=1e300"), []);
        for bad in ["", "work", "work;dur=-1", "work;dur=nan", &"work;dur=1,".repeat(99)] {
            assert_eq!(parse(bad), [], "{bad}");
        }
        assert_eq!(parse("work;dur=999999999").first().map(|p| p.took), Some(LONGEST));
    }
}
