//! What ffmpeg says about a finished job: sizes, frame counts, its last words when it failed.
//!
//! With `-loglevel level+verbose` the program prints, at its end, exactly how many frames it decoded
//! and encoded; no second program has to count them. Metadata of the input, which a stranger chose,
//! is printed too: it is always indented by four or more, stream lines by two, and the totals that
//! count are the last ones. Works on the texts of ffmpeg 5, 6 and 7.

use std::collections::{BTreeMap, VecDeque};

/// Lines kept of what went wrong.
const KEPT_ERRORS: usize = 4;
/// Characters kept of each.
const KEPT_ERROR_CHARS: usize = 300;

/// Width and height in pixels.
pub type Size = (u32, u32);

/// What is known so far; feed it every line.
#[derive(Debug, Default)]
pub struct LogReader {
    section: Section,
    input_size: Option<Size>,
    frames_decoded: u64,
    outputs: BTreeMap<usize, Output>,
    errors: VecDeque<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Section {
    #[default]
    Other,
    Input,
    Output,
}

#[derive(Debug, Default, Clone, Copy)]
struct Output {
    size: Option<Size>,
    frames: u64,
}

impl LogReader {
    /// Takes one line of ffmpeg's error output.
    pub fn line(&mut self, line: &str) {
        let Line { level, text } = Line::parse(line);
        if matches!(level, Some("error" | "fatal" | "panic")) {
            self.remember_error(text);
            return;
        }
        if !text.starts_with(' ') {
            self.section = match text {
                t if t.starts_with("Input #0,") => Section::Input,
                t if t.starts_with("Output #") => Section::Output,
                _ => Section::Other,
            };
        }
        self.stream_line(text);
        self.total_line(text.trim_start());
    }

    /// `  Stream #1:0: Video: h264, yuv420p, 426x240 [SAR 1:1 DAR 16:9], …`
    fn stream_line(&mut self, text: &str) {
        let Some(rest) = text.strip_prefix("  Stream #") else { return };
        let Some((file, described)) = rest.split_once(':') else { return };
        let (Ok(file), Some(size)) = (file.parse::<usize>(), picture_size(described)) else {
            return;
        };
        match self.section {
            // The first video stream is the one that is transcoded.
            Section::Input if self.input_size.is_none() => self.input_size = Some(size),
            Section::Output => self.outputs.entry(file).or_default().size = Some(size),
            _ => {}
        }
    }

    /// `Input stream #0:0 (video): 50 packets read (341594 bytes); 50 frames decoded; …`
    /// `Output stream #1:0 (video): 60 frames encoded; 60 packets muxed (65006 bytes); `
    fn total_line(&mut self, text: &str) {
        if let Some(rest) = text.strip_prefix("Input stream #0:") {
            if let Some(frames) = frames_of(rest, " frames decoded") {
                self.frames_decoded = frames;
            }
        } else if let Some(rest) = text.strip_prefix("Output stream #") {
            let file = rest.split(':').next().and_then(|f| f.parse::<usize>().ok());
            if let (Some(file), Some(frames)) = (file, frames_of(rest, " frames encoded")) {
                self.outputs.entry(file).or_default().frames = frames;
            }
        }
    }

    fn remember_error(&mut self, text: &str) {
        if self.errors.len() == KEPT_ERRORS {
            self.errors.pop_front();
        }
        self.errors.push_back(text.trim().chars().take(KEPT_ERROR_CHARS).collect());
    }

    /// Decoded pixels: frames × width × height.
    pub fn decoded_pixels(&self) -> u64 {
        pixels(self.input_size, self.frames_decoded)
    }

    /// Encoded pixels of an output, of the size it really has.
    pub fn encoded_pixels(&self, output: usize) -> u64 {
        self.outputs.get(&output).map_or(0, |o| pixels(o.size, o.frames))
    }

    /// What went wrong, in ffmpeg's words; empty if it said nothing.
    pub fn last_words(&self) -> String {
        self.errors.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

fn pixels(size: Option<Size>, frames: u64) -> u64 {
    size.map_or(0, |(w, h)| frames.saturating_mul(u64::from(w)).saturating_mul(u64::from(h)))
}

/// A line without the parts that vary: `[libx264 @ 0x55d2] [error] text` is `error`, `text`.
struct Line<'a> {
    level: Option<&'a str>,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let (mut level, mut text) = (None, line);
        // At most: who speaks, for whom, and how loud.
        for _ in 0..3 {
            let Some((inside, rest)) = text.strip_prefix('[').and_then(|t| t.split_once("] "))
            else {
                break;
            };
            if matches!(
                inside,
                "panic" | "fatal" | "error" | "warning" | "info" | "verbose" | "debug"
            ) {
                return Self { level: Some(inside), text: rest };
            }
            if !inside.contains(" @ 0x") {
                break;
            }
            level = None;
            text = rest;
        }
        Self { level, text }
    }
}

/// The size in a stream's description, if it is video: the first `WxH` standing alone behind a comma.
fn picture_size(described: &str) -> Option<Size> {
    let (_, video) = described.split_once(" Video: ")?;
    video.split(',').find_map(|field| {
        let (width, height) = field.split_whitespace().next()?.split_once('x')?;
        let size = (width.parse().ok()?, height.parse().ok()?);
        (size.0 > 0 && size.1 > 0).then_some(size)
    })
}

/// The number before `unit`, in the fields of `0:0 (video): 50 packets read (…); 50 frames decoded; `.
fn frames_of(rest: &str, unit: &str) -> Option<u64> {
    let (_, fields) = rest.split_once(" (video): ")?;
    fields.split(';').find_map(|field| field.trim().strip_suffix(unit.trim())?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(log: &str) -> LogReader {
        let mut reader = LogReader::default();
        log.lines().for_each(|l| reader.line(l));
        reader
    }

    const FFMPEG_5: &str = "\
[info] Input #0, mpegts, from 'file:input':
[info]   Duration: 00:00:02.08, start: 3.400000, bitrate: 1526 kb/s
[info]   Program 1 
[info]     Metadata:
[info]       service_name    : Service01
[info]   Stream #0:0[0x100]: Video: h264 (High), 1 reference frame ([27][0][0][0] / 0x001B), yuv420p(progressive, left), 1280x720 [SAR 1:1 DAR 16:9], 25 fps, 25 tbr, 90k tbn
[info]   Stream #0:1[0x101](und): Audio: aac (LC) ([15][0][0][0] / 0x000F), 48000 Hz, stereo, fltp, 131 kb/s
[verbose] [Parsed_scale_1 @ 0x5597ef41a480] w:if(gte(iw,ih),640,-2)
[info] Output #0, mpegts, to 'file:out0.ts':
[info]   Stream #0:0: Video: h264, 1 reference frame, yuv420p(tv, progressive, left), 640x360 (0x0) [SAR 1:1 DAR 16:9], q=2-31, 1200 kb/s, 25 fps, 90k tbn
[info] Output #1, mp4, to 'file:out1.mp4':
[info]   Stream #1:0: Video: h264 (avc1 / 0x31637661), yuv420p(progressive), 426x240, q=2-31, 600 kb/s, 30 fps, 90k tbn
[verbose] Input file #0 (file:input):
[verbose]   Input stream #0:0 (video): 51 packets read (341594 bytes); 50 frames decoded; 
[verbose]   Input stream #0:1 (audio): 94 packets read (32933 bytes); 
[verbose]   Output stream #0:0 (video): 50 frames encoded; 50 packets muxed (323740 bytes); 
[verbose]   Output stream #0:1 (audio): 94 packets muxed (32933 bytes); 
[verbose]   Output stream #1:0 (video): 60 frames encoded; 60 packets muxed (65006 bytes); ";

    #[test]
    fn counts_of_ffmpeg_5() {
        let reader = read(FFMPEG_5);
        assert_eq!(reader.decoded_pixels(), 50 * 1280 * 720);
        assert_eq!(reader.encoded_pixels(0), 50 * 640 * 360);
        assert_eq!(reader.encoded_pixels(1), 60 * 426 * 240);
        assert_eq!(reader.encoded_pixels(2), 0);
        assert_eq!(reader.last_words(), "");
    }

    #[test]
    fn counts_of_ffmpeg_7() {
        let reader = read(
            "[info] Input #0, mpegts, from 'file:input':
[info]   Stream #0:0[0x100]: Video: h264 (High), 1 reference frame, yuv420p, 1280x720 [SAR 1:1 DAR 16:9], 25 fps
[info] Output #0, mpegts, to 'file:out0.ts':
[info]   Stream #0:0: Video: h264, yuv420p(tv, progressive, left), 640x360 (0x0), q=2-31
[in#0/mpegts @ 0x55] [verbose]   Input stream #0:0 (video): 50 packets read (1 bytes); 49 frames decoded; 0 decode errors; 
[out#0/mpegts @ 0x55] [verbose]   Output stream #0:0 (video): 50 frames encoded; 50 packets muxed (9 bytes); ",
        );
        assert_eq!(reader.decoded_pixels(), 49 * 1280 * 720);
        assert_eq!(reader.encoded_pixels(0), 50 * 640 * 360);
    }

    #[test]
    fn metadata_cannot_pose_as_a_stream_or_a_total() {
        let forged = FFMPEG_5.replace(
            "[info]       service_name    : Service01",
            "[info]     Stream #0:0: Video: h264, 8x8 : x\n\
             [info]     Input stream #0:0 (video): 1 frames decoded; : x\n\
             [info]     Output stream #0:0 (video): 1 frames encoded; : x",
        );
        let reader = read(&forged);
        assert_eq!(reader.decoded_pixels(), 50 * 1280 * 720);
        assert_eq!(reader.encoded_pixels(0), 50 * 640 * 360);
    }

    #[test]
    fn last_words_are_few_and_carry_no_addresses() {
        let mut log = String::new();
        for i in 0..10 {
            log += &format!("[h264 @ 0x55f{i}] [error] mistake {i}\n");
        }
        log += "[error] Conversion failed!\n";
        assert_eq!(read(&log).last_words(), "mistake 7; mistake 8; mistake 9; Conversion failed!");
        let long = format!("[fatal] {}", "x".repeat(5000));
        assert_eq!(read(&long).last_words().len(), KEPT_ERROR_CHARS);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn nothing_panics(parts in proptest::collection::vec(proptest::sample::select(FRAGMENTS), 0..10)) {
            let mut reader = LogReader::default();
            reader.line("Output #0,");
            reader.line(&parts.concat());
            reader.decoded_pixels();
            reader.encoded_pixels(0);
            reader.last_words();
        }
    }

    const FRAGMENTS: &[&str] = &[
        "[error] ",
        "[info] ",
        "[x @ 0x1] ",
        "[",
        "] ",
        " ",
        "  ",
        "  Stream #",
        "Input #0,",
        "Output #",
        "Input stream #0:",
        "Output stream #",
        "0",
        "1",
        ":",
        "99999999999999999999",
        " (video): ",
        " Video: ",
        ", ",
        "640x360",
        "x",
        "4294967295x4294967295",
        ";",
        "; ",
        " frames decoded",
        " frames encoded",
        "18446744073709551615",
        "\u{fffd}",
        "é",
    ];
}
