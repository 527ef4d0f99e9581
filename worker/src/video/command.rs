//! The ffmpeg command line of one segment: one decode, all renditions, one process. Pure.
//!
//! Timestamps pass through untouched (`-copyts`, no mux delay, no B-frames, encoder clock 90 kHz), so
//! that renditions of consecutive segments join without a gap. File names are relative: the process
//! runs in the job's own directory, and nothing of the machine shows in its messages.
//!
//! On cards: where decoder, scaler and encoder are all the card's, frames stay in its memory. A card
//! that lacks one of them does what it can, and frames cross over where the other side begins.

use super::{
    container::{AudioAction, Container},
    encoder::{Accel, encoder_name},
};
use penstock_domain::{EncoderProfile, Gop, SegmentFormat, VideoCodec, VideoProfile};
use penstock_wire::Clip;

/// The segment's file in the job's directory.
pub const INPUT: &str = "input";

/// Decoders that are allowed to see a segment.
const DECODERS: &str = "h264,hevc,mpeg2video,mpeg4,vp8,vp9,libdav1d,av1,\
                        aac,aac_latm,mp2,mp2float,mp3,mp3float,ac3,eac3,opus,libopus,vorbis";

/// Streams of a segment that are looked at; each one costs memory and a decoder.
const MAX_STREAMS: u32 = 64;

/// Everything the command line depends on.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The input's container.
    pub container: Container,
    /// What to do with its audio.
    pub audio: AudioAction,
    /// The codec of its pictures, where the container tells at a glance. Cards whose decoders have
    /// names of their own decode nothing else.
    pub video: Option<VideoCodec>,
    /// Where to work.
    pub accel: Accel,
    /// The renditions.
    pub profiles: &'a [VideoProfile],
    /// Speed preset of the software encoders.
    pub preset: &'a str,
    /// Threads of each decoder, filter and encoder; `None` is ffmpeg's own choice.
    pub threads: Option<u32>,
    /// Text for the outputs' metadata, `Livepeer Transcoder … (…)`.
    pub provider: &'a str,
    /// Only this part of the segment, counted from its first frame.
    pub clip: Option<Clip>,
    /// Whether to write an MPEG-7 signature of each rendition.
    pub signature: bool,
}

/// Name of a rendition's file.
pub fn output_name(index: usize, format: SegmentFormat) -> String {
    format!("out{index}.{}", format.extension())
}

/// Name of a rendition's signature file.
pub fn signature_name(index: usize) -> String {
    format!("signature{index}.bin")
}

/// A rendition asks for something that no encoder here makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unsupported video codec {0:?}")]
pub struct UnsupportedCodec(pub VideoCodec);

/// The arguments behind `ffmpeg`.
pub fn arguments(plan: &Plan<'_>) -> Result<Vec<String>, UnsupportedCodec> {
    let mut args = words("-nostdin -hide_banner -nostats -y -loglevel level+verbose");
    if let Some(threads) = plan.threads {
        args.extend(words(&format!("-filter_complex_threads {threads} -threads {threads}")));
    }
    args.extend(input(plan));
    args.extend(["-filter_complex".to_owned(), filters(plan)]);
    for (index, profile) in plan.profiles.iter().enumerate() {
        args.extend(output(plan, index, profile)?);
    }
    Ok(args)
}

fn input(plan: &Plan<'_>) -> Vec<String> {
    let mut args = Vec::new();
    let mut decoders = DECODERS.to_owned();
    match plan.accel {
        Accel::Nvidia { card, decode: true, .. } => args.extend(words(&format!(
            "-hwaccel cuda -hwaccel_device {card} -hwaccel_output_format cuda -extra_hw_frames 8"
        ))),
        Accel::Netint { card, chip, decode: true } => {
            if let Some(decoder) = plan.video.and_then(|codec| chip.decoder(codec)) {
                args.extend(words(&format!("-c:v {decoder} -dec {card}")));
                decoders = format!("{decoder},{decoders}");
            }
        }
        Accel::Software | Accel::Nvidia { .. } | Accel::Netint { .. } => {}
    }
    args.extend(words("-protocol_whitelist file -max_pixels 67108864 -codec_whitelist"));
    args.push(decoders);
    args.extend(words(&format!("-max_streams {MAX_STREAMS}")));
    if plan.container == Container::Mov {
        // Samples are read from the segment itself, whatever its tables say.
        args.extend(words("-enable_drefs 0 -use_absolute_path 0"));
    }
    args.push("-copyts".to_owned());
    args.extend(words(&format!("-f {} -i file:{INPUT}", plan.container.demuxer())));
    args
}

/// `[0:v:0]split=2[s0][s1];[s0]…[v0];[s1]…[v1]`
fn filters(plan: &Plan<'_>) -> String {
    let count = plan.profiles.len();
    let pads: String = (0..count).map(|i| format!("[s{i}]")).collect();
    let clip = plan.clip.map(|clip| format!("{},", clip_filters(clip, ""))).unwrap_or_default();
    let mut graph = vec![format!("[0:v:0]{clip}split={count}{pads}")];
    for (index, profile) in plan.profiles.iter().enumerate() {
        graph.push(format!("[s{index}]{}[v{index}]", rendition_filters(plan, index, profile)));
    }
    graph.join(";")
}

/// Keeps a part of a stream, both ends included. A part that begins later than the stream begins its
/// own time at zero, as with the reference. `kind` is `a` for sound. (`trim` says that the stream ends
/// where it cuts; behind `select` the frame rate filter would go on to the end of the input.)
fn clip_filters(clip: Clip, kind: &str) -> String {
    // The end of `trim` is not part of it.
    let behind = |ms: u64| seconds(ms.saturating_add(1));
    let from = seconds(clip.from_ms);
    match (clip.from_ms, clip.to_ms) {
        (0, to) => format!("{kind}trim=duration={}", behind(to)),
        (_, 0) => format!("{kind}setpts=PTS-STARTPTS-{from}/TB,{kind}trim=start=0"),
        (begin, end) => format!(
            "{kind}setpts=PTS-STARTPTS-{from}/TB,{kind}trim=start=0:end={}",
            behind(end.saturating_sub(begin))
        ),
    }
}

fn rendition_filters(plan: &Plan<'_>, index: usize, profile: &VideoProfile) -> String {
    let mut chain = Vec::new();
    if let Some((numerator, denominator)) = profile.framerate() {
        chain.push(format!("fps={numerator}/{denominator}"));
    }
    // The larger side is the profile's, the other keeps the aspect ratio; encoders want even ones.
    let (width, height) = (even(profile.width), even(profile.height));
    let size = format!("w='if(gte(iw,ih),{width},-2)':h='if(lt(iw,ih),{height},-2)'");
    match plan.accel {
        Accel::Nvidia { decode: true, .. } => {
            chain.push(format!("scale_cuda={size}:format=yuv420p"));
            if !reaches_encoder_on_card(plan) {
                chain.extend(["hwdownload".to_owned(), "format=yuv420p".to_owned()]);
            }
        }
        Accel::Software | Accel::Nvidia { .. } | Accel::Netint { .. } => {
            chain.push(format!("scale={size}"));
            chain.push("format=yuv420p".to_owned());
        }
    }
    if plan.signature {
        chain.push(format!("signature=format=binary:filename={}", signature_name(index)));
    }
    chain.join(",")
}

/// Signatures are computed by the processor.
fn reaches_encoder_on_card(plan: &Plan<'_>) -> bool {
    plan.accel.frames_on_card() && !plan.signature
}

fn output(
    plan: &Plan<'_>,
    index: usize,
    profile: &VideoProfile,
) -> Result<Vec<String>, UnsupportedCodec> {
    let encoder =
        encoder_name(profile.encoder, plan.accel).ok_or(UnsupportedCodec(profile.encoder))?;
    let mut args = words(&format!("-map [v{index}] -sn -dn -map_metadata -1"));
    if let Some(threads) = plan.threads {
        args.extend(words(&format!("-threads:v {threads}")));
    }
    args.extend(words(&format!(
        "-c:v {encoder} -bf 0 -fps_mode passthrough -enc_time_base 1:90000"
    )));
    match plan.accel {
        Accel::Nvidia { card, encode: true, .. } => {
            // Frames in the card's memory bring their card with them.
            if !reaches_encoder_on_card(plan) {
                args.extend(words(&format!("-gpu {card}")));
            }
            args.extend(words("-preset p4 -forced-idr 1"));
        }
        Accel::Netint { card, .. } => args
            .extend(words(&format!("-enc {card} -xcoder-params {}", netint_parameters(profile)))),
        Accel::Software | Accel::Nvidia { .. } => {
            args.extend(["-preset".to_owned(), plan.preset.to_owned()]);
        }
    }
    args.extend(rate(plan.accel, profile));
    args.extend(profile_and_gop(plan.accel, profile));
    // Packets cannot be cut.
    let audio = match (plan.audio, plan.clip) {
        (AudioAction::Copy, Some(_)) => AudioAction::EncodeAac,
        (audio, _) => audio,
    };
    if let Some(clip) = plan.clip.filter(|_| audio != AudioAction::Drop) {
        args.extend(["-filter:a".to_owned(), clip_filters(clip, "a")]);
    }
    match audio {
        AudioAction::Copy => args.extend(words("-map 0:a:0? -c:a copy")),
        AudioAction::EncodeAac => args.extend(words("-map 0:a:0? -c:a aac -b:a 128k -ac 2")),
        AudioAction::Drop => args.extend(words("-an")),
    }
    match profile.format {
        SegmentFormat::MpegTs => {
            args.extend(["-metadata".to_owned(), format!("service_provider={}", plan.provider)]);
            args.extend(words("-muxdelay 0 -muxpreload 0 -mpegts_copyts 1 -f mpegts"));
        }
        SegmentFormat::Mp4 => {
            let comment = format!("comment=Processed by {}", plan.provider);
            args.extend(["-metadata".to_owned(), comment]);
            if profile.encoder == VideoCodec::H265 {
                args.extend(words("-tag:v hvc1"));
            }
            args.extend(words("-movflags +faststart -f mp4"));
        }
    }
    args.push(format!("file:{}", output_name(index, profile.format)));
    Ok(args)
}

/// Rate control, structure and profile of a Netint encoder, which takes them as one text. Presets 1
/// and 2 of its structure are keyframes only, and no B-frames.
fn netint_parameters(profile: &VideoProfile) -> String {
    let structure = if profile.gop == Gop::IntraOnly { 1 } else { 2 };
    let mut text = format!("gopPresetIdx={structure}");
    match profile.quality {
        0 => text.push_str(":RcEnable=1"),
        quality => text.push_str(&format!(":crf={}", quality.min(51))),
    }
    if matches!(profile.gop, Gop::Millis(_)) {
        // Keyframes where we ask for them, and nowhere else.
        text.push_str(":forceFrameType=1:intraPeriod=0");
    }
    let high = matches!(
        profile.profile,
        EncoderProfile::H264Main | EncoderProfile::H264High | EncoderProfile::H264ConstrainedHigh
    );
    if high && profile.encoder == VideoCodec::H264 {
        text.push_str(":profile=high");
    }
    text
}

/// With a quality the bitrate is the maximum, else it is the aim and the maximum.
fn rate(accel: Accel, profile: &VideoProfile) -> Vec<String> {
    let mut args = Vec::new();
    let bitrate = profile.bitrate_bps;
    if profile.quality > 0 {
        match accel {
            // It is among the encoder's own parameters.
            Accel::Netint { .. } => {}
            // NVENC's scale lies some seven steps above x264's for the same picture; the reference
            // adds as much.
            Accel::Nvidia { encode: true, .. } => {
                let quality = profile.quality.saturating_add(7).min(51);
                args.extend(["-cq".to_owned(), quality.to_string()]);
            }
            Accel::Software | Accel::Nvidia { .. } => {
                args.extend(["-crf".to_owned(), profile.quality.to_string()]);
            }
        }
    } else {
        args.extend(words(&format!("-b:v {bitrate}")));
    }
    if bitrate > 0 {
        let buffer = u64::from(bitrate) * 2;
        args.extend(words(&format!("-maxrate {bitrate} -bufsize {}", buffer.min(i32::MAX as u64))));
    }
    args
}

fn profile_and_gop(accel: Accel, profile: &VideoProfile) -> Vec<String> {
    let mut args = Vec::new();
    let name = match profile.profile {
        EncoderProfile::Default => None,
        EncoderProfile::H264Baseline => Some("baseline"),
        EncoderProfile::H264Main => Some("main"),
        // Constrained high is high without B-frames, which we never make.
        EncoderProfile::H264High | EncoderProfile::H264ConstrainedHigh => Some("high"),
    };
    let named = profile.encoder == VideoCodec::H264 && !matches!(accel, Accel::Netint { .. });
    if let Some(name) = name.filter(|_| named) {
        args.extend(words(&format!("-profile:v {name}")));
    }
    match profile.gop {
        // A new encoder starts with a keyframe, so every segment does.
        Gop::Default => {}
        Gop::IntraOnly => args.extend(words("-g 1")),
        Gop::Millis(ms) => {
            // A millisecond of slack: timestamps are rounded, a sum of them need not be exact.
            let distance = seconds(u64::from(ms.saturating_sub(1)));
            args.push("-force_key_frames".to_owned());
            args.push(format!("expr:if(isnan(prev_forced_t),1,gte(t,prev_forced_t+{distance}))"));
            args.extend(words("-g 99999"));
            if accel.encodes_in_software() && profile.encoder == VideoCodec::H264 {
                args.extend(words("-sc_threshold 0"));
            }
        }
    }
    args
}

fn even(side: u32) -> u32 {
    (side & !1).max(2)
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::encoder::Chip;
    use super::*;

    fn plan(profiles: &[VideoProfile]) -> Plan<'_> {
        Plan {
            container: Container::MpegTs,
            audio: AudioAction::Copy,
            video: Some(VideoCodec::H264),
            accel: Accel::Software,
            profiles,
            preset: "veryfast",
            threads: None,
            provider: "Livepeer Transcoder 1 (offchain)",
            clip: None,
            signature: false,
        }
    }

    fn line(plan: &Plan<'_>) -> String {
        arguments(plan).unwrap().join(" ")
    }

    #[test]
    fn golden_two_renditions() {
        let profiles = [
            VideoProfile::preset("P360p30fps16x9").unwrap(),
            VideoProfile { fps: 0, ..VideoProfile::preset("P240p30fps16x9").unwrap() },
        ];
        assert_eq!(
            line(&plan(&profiles)),
            "-nostdin -hide_banner -nostats -y -loglevel level+verbose \
             -protocol_whitelist file -max_pixels 67108864 -codec_whitelist \
             h264,hevc,mpeg2video,mpeg4,vp8,vp9,libdav1d,av1,aac,aac_latm,mp2,mp2float,mp3,mp3float,ac3,eac3,opus,libopus,vorbis \
             -max_streams 64 -copyts -f mpegts -i file:input \
             -filter_complex [0:v:0]split=2[s0][s1];\
             [s0]fps=30/1,scale=w='if(gte(iw,ih),640,-2)':h='if(lt(iw,ih),360,-2)',format=yuv420p[v0];\
             [s1]scale=w='if(gte(iw,ih),426,-2)':h='if(lt(iw,ih),240,-2)',format=yuv420p[v1] \
             -map [v0] -sn -dn -map_metadata -1 \
             -c:v libx264 -bf 0 -fps_mode passthrough -enc_time_base 1:90000 -preset veryfast \
             -b:v 1200000 -maxrate 1200000 -bufsize 2400000 -map 0:a:0? -c:a copy \
             -metadata service_provider=Livepeer Transcoder 1 (offchain) \
             -muxdelay 0 -muxpreload 0 -mpegts_copyts 1 -f mpegts file:out0.ts \
             -map [v1] -sn -dn -map_metadata -1 \
             -c:v libx264 -bf 0 -fps_mode passthrough -enc_time_base 1:90000 -preset veryfast \
             -b:v 600000 -maxrate 600000 -bufsize 1200000 -map 0:a:0? -c:a copy \
             -metadata service_provider=Livepeer Transcoder 1 (offchain) \
             -muxdelay 0 -muxpreload 0 -mpegts_copyts 1 -f mpegts file:out1.ts"
        );
    }

    /// MP4, a fractional frame rate, a keyframe distance, a quality, and a size with an odd side.
    fn demanding() -> [VideoProfile; 1] {
        [VideoProfile {
            fps: 30_000,
            fps_den: 1001,
            format: SegmentFormat::Mp4,
            profile: EncoderProfile::H264ConstrainedHigh,
            gop: Gop::Millis(2000),
            quality: 27,
            width: 1281,
            ..VideoProfile::preset("P720p60fps16x9").unwrap()
        }]
    }

    const START: &str = "-nostdin -hide_banner -nostats -y -loglevel level+verbose";
    const CONFINED: &str = "-protocol_whitelist file -max_pixels 67108864 -codec_whitelist";
    const CODECS: &str = "h264,hevc,mpeg2video,mpeg4,vp8,vp9,libdav1d,av1,aac,aac_latm,mp2,mp2float,mp3,mp3float,ac3,eac3,opus,libopus,vorbis \
                          -max_streams 64 -enable_drefs 0 -use_absolute_path 0";
    const SIZE: &str = "w='if(gte(iw,ih),1280,-2)':h='if(lt(iw,ih),720,-2)'";
    const CLOCK: &str = "-bf 0 -fps_mode passthrough -enc_time_base 1:90000";
    const KEYS: &str =
        "-force_key_frames expr:if(isnan(prev_forced_t),1,gte(t,prev_forced_t+1.999)) -g 99999";
    const END: &str = "-map 0:a:0? -c:a aac -b:a 128k -ac 2 -metadata comment=Processed by Livepeer Transcoder 1 (offchain) -movflags +faststart -f mp4 file:out0.mp4";
    const MAPPED: &str = "-map [v0] -sn -dn -map_metadata -1";
    const RATE: &str = "-maxrate 6000000 -bufsize 12000000";

    fn on(accel: Accel, profiles: &[VideoProfile]) -> Plan<'_> {
        let (container, audio) = (Container::Mov, AudioAction::EncodeAac);
        Plan { container, audio, accel, ..plan(profiles) }
    }

    #[test]
    fn golden_nvidia_all_on_the_card() {
        let profiles = demanding();
        let accel = Accel::Nvidia { card: 3, decode: true, encode: true };
        assert_eq!(
            line(&on(accel, &profiles)),
            format!(
                "{START} -hwaccel cuda -hwaccel_device 3 -hwaccel_output_format cuda -extra_hw_frames 8 \
                 {CONFINED} {CODECS} -copyts -f mov -i file:input \
                 -filter_complex [0:v:0]split=1[s0];[s0]fps=30000/1001,scale_cuda={SIZE}:format=yuv420p[v0] \
                 {MAPPED} -c:v h264_nvenc {CLOCK} -preset p4 -forced-idr 1 -cq 34 {RATE} \
                 -profile:v high {KEYS} {END}"
            )
        );
        // A signature is the processor's work: frames come down, and the encoder is told its card.
        let signed = line(&Plan { signature: true, ..on(accel, &profiles) });
        assert!(signed.contains(
            ":format=yuv420p,hwdownload,format=yuv420p,signature=format=binary:filename=signature0.bin[v0]"
        ));
        assert!(signed.contains("-enc_time_base 1:90000 -gpu 3 -preset p4 -forced-idr 1"));
    }

    #[test]
    fn golden_nvidia_without_an_encoder() {
        let profiles = demanding();
        let accel = Accel::Nvidia { card: 0, decode: true, encode: false };
        assert_eq!(
            line(&on(accel, &profiles)),
            format!(
                "{START} -hwaccel cuda -hwaccel_device 0 -hwaccel_output_format cuda -extra_hw_frames 8 \
                 {CONFINED} {CODECS} -copyts -f mov -i file:input \
                 -filter_complex [0:v:0]split=1[s0];[s0]fps=30000/1001,scale_cuda={SIZE}:format=yuv420p,\
                 hwdownload,format=yuv420p[v0] \
                 {MAPPED} -c:v libx264 {CLOCK} -preset veryfast -crf 27 {RATE} \
                 -profile:v high {KEYS} -sc_threshold 0 {END}"
            )
        );
    }

    #[test]
    fn golden_nvidia_encoder_only() {
        let profiles = demanding();
        let accel = Accel::Nvidia { card: 1, decode: false, encode: true };
        assert_eq!(
            line(&on(accel, &profiles)),
            format!(
                "{START} {CONFINED} {CODECS} -copyts -f mov -i file:input \
                 -filter_complex [0:v:0]split=1[s0];[s0]fps=30000/1001,scale={SIZE},format=yuv420p[v0] \
                 {MAPPED} -c:v h264_nvenc {CLOCK} -gpu 1 -preset p4 -forced-idr 1 -cq 34 {RATE} \
                 -profile:v high {KEYS} {END}"
            )
        );
    }

    #[test]
    fn golden_netint() {
        let profiles = demanding();
        let accel = Accel::Netint { card: 2, chip: Chip::Quadra, decode: true };
        assert_eq!(
            line(&on(accel, &profiles)),
            format!(
                "{START} -c:v h264_ni_quadra_dec -dec 2 {CONFINED} h264_ni_quadra_dec,{CODECS} \
                 -copyts -f mov -i file:input \
                 -filter_complex [0:v:0]split=1[s0];[s0]fps=30000/1001,scale={SIZE},format=yuv420p[v0] \
                 {MAPPED} -c:v h264_ni_quadra_enc {CLOCK} -enc 2 -xcoder-params \
                 gopPresetIdx=2:crf=27:forceFrameType=1:intraPeriod=0:profile=high {RATE} {KEYS} {END}"
            )
        );
        // What the container does not tell is decoded by the processor; a bitrate is an aim.
        let older = Accel::Netint { card: 0, chip: Chip::Codensity, decode: true };
        let aim = [VideoProfile { quality: 0, gop: Gop::Default, ..demanding()[0].clone() }];
        let line = line(&Plan { video: None, ..on(older, &aim) });
        assert!(line.starts_with(&format!("{START} {CONFINED} {CODECS} -copyts")));
        assert!(line.contains(
            "-c:v h264_ni_enc -bf 0 -fps_mode passthrough -enc_time_base 1:90000 -enc 0 -xcoder-params \
             gopPresetIdx=2:RcEnable=1:profile=high -b:v 6000000 -maxrate 6000000"
        ));
    }

    #[test]
    fn hevc_on_each_device() {
        let base = VideoProfile::preset("P720p30fps16x9").unwrap();
        let profiles = [VideoProfile { encoder: VideoCodec::H265, ..base }];
        for (accel, encoder) in [
            (Accel::Software, "libx265"),
            (Accel::Nvidia { card: 0, decode: true, encode: true }, "hevc_nvenc"),
            (Accel::Nvidia { card: 0, decode: true, encode: false }, "libx265"),
            (Accel::Netint { card: 0, chip: Chip::Quadra, decode: true }, "h265_ni_quadra_enc"),
            (Accel::Netint { card: 0, chip: Chip::Logan, decode: false }, "h265_ni_logan_enc"),
        ] {
            assert!(line(&on(accel, &profiles)).contains(&format!("-c:v {encoder} ")));
        }
    }

    #[test]
    fn parts_of_a_segment() {
        let profiles = [VideoProfile::preset("P144p30fps16x9").unwrap()];
        let part = |from_ms, to_ms| {
            let clip = Some(Clip { from_ms, to_ms });
            line(&Plan { clip, ..plan(&profiles) })
        };
        let both = part(500, 1250);
        assert!(both.contains(
            "[0:v:0]setpts=PTS-STARTPTS-0.500/TB,trim=start=0:end=0.751,split=1[s0];[s0]fps=30/1"
        ));
        assert!(both.contains(
            "-filter:a asetpts=PTS-STARTPTS-0.500/TB,atrim=start=0:end=0.751 -map 0:a:0? -c:a aac"
        ));
        assert!(part(0, 1250).contains("[0:v:0]trim=duration=1.251,split=1[s0]"));
        assert!(part(500, 0).contains("[0:v:0]setpts=PTS-STARTPTS-0.500/TB,trim=start=0,split"));
    }

    #[test]
    fn no_audio_and_few_threads() {
        let profiles = [VideoProfile::preset("P144p30fps16x9").unwrap()];
        let many_cores = Plan { audio: AudioAction::Drop, threads: Some(16), ..plan(&profiles) };
        let line = line(&many_cores);
        assert!(line.contains(" -an ") && !line.contains("0:a"));
        assert!(line.contains("-filter_complex_threads 16 -threads 16 "));
        assert!(line.contains("-threads:v 16 -c:v libx264"));
    }

    #[test]
    fn intra_only_hevc_and_signatures() {
        let base = VideoProfile::preset("P144p30fps16x9").unwrap();
        let profiles =
            [VideoProfile { gop: Gop::IntraOnly, encoder: VideoCodec::H265, ..base.clone() }];
        let line = line(&Plan { signature: true, ..plan(&profiles) });
        assert!(line.contains("-c:v libx265") && line.contains("-g 1 "));
        assert!(
            line.contains("format=yuv420p,signature=format=binary:filename=signature0.bin[v0]")
        );
        let vp9 = [VideoProfile { encoder: VideoCodec::Vp9, ..base }];
        assert_eq!(arguments(&plan(&vp9)), Err(UnsupportedCodec(VideoCodec::Vp9)));
    }
}
