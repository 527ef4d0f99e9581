//! From the orchestrator's notice to a job: what is asked for, and whether we can do it. Pure.

use penstock_domain::{Capabilities, ManifestId, VideoProfile};
use penstock_wire::{Clip, SegmentCredential, SegmentRefusal, net};
use std::time::Duration;
use thiserror::Error;

/// What a notice asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The session is over; nothing is answered.
    EndSession(String),
    /// Transcode a segment and answer.
    Segment(Box<SegmentJob>),
}

/// One segment to transcode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentJob {
    /// Echoed with the result.
    pub task_id: i64,
    /// Where the segment is.
    pub url: String,
    /// The stream.
    pub manifest_id: ManifestId,
    /// The segment's number in the stream.
    pub seq: i64,
    /// Session of the auth token; segments of one session run one after the other.
    pub session_id: String,
    /// Length of the segment.
    pub duration: Duration,
    /// Renditions, in the order of the answer.
    pub profiles: Vec<VideoProfile>,
    /// Whether the answer carries MPEG-7 signatures.
    pub signature: bool,
    /// Only this part is wanted, in time from the segment's start.
    pub clip: Option<Clip>,
    /// Who the renditions' metadata names: the recipient's address or `offchain`.
    pub orch_id: String,
}

/// Why a notice is no job; the text goes to the orchestrator.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadNotice {
    /// No segment data.
    #[error("missing segData")]
    NoSegData,
    /// The data is wrong (video-transcode-worker.md section 2, first row).
    #[error("{0}")]
    Refused(#[from] SegmentRefusal),
    /// A part that ends before it begins; the text is the reference's.
    #[error("TranscoderInvalidClipConfig")]
    Clip,
    /// We lack something that the job needs.
    #[error("incompatible segment capabilities")]
    Capabilities,
}

impl SegmentJob {
    /// How long the orchestrator waits for an answer: four segment lengths, at least 8 s
    /// (video-transcode-worker.md section 4). Later work is wasted.
    pub fn time_limit(&self) -> Duration {
        (self.duration * 4).max(Duration::from_secs(8))
    }
}

/// Reads a notice. `own` is what this worker advertised.
pub fn read(notice: &net::NotifySegment, own: &Capabilities) -> Result<Notice, BadNotice> {
    let data = notice.seg_data.as_ref().ok_or(BadNotice::NoSegData)?;
    let session = data.auth_token.as_ref().map(|t| t.session_id.as_str()).unwrap_or_default();
    if notice.url.is_empty() && !session.is_empty() {
        return Ok(Notice::EndSession(session.to_owned()));
    }
    let asked = SegmentCredential::from_message(data)?;
    let needed = asked.capabilities.as_ref().map_err(|_| BadNotice::Capabilities)?;
    if needed.fits(own).is_err() {
        return Err(BadNotice::Capabilities);
    }
    // Zero is "not said", for either end.
    let clip = asked.clip.filter(|clip| clip.from_ms > 0 || clip.to_ms > 0);
    if clip.is_some_and(|clip| clip.to_ms > 0 && clip.to_ms < clip.from_ms) {
        return Err(BadNotice::Clip);
    }
    Ok(Notice::Segment(Box::new(SegmentJob {
        task_id: notice.task_id,
        url: notice.url.clone(),
        manifest_id: asked.manifest_id,
        seq: asked.seq,
        session_id: session.to_owned(),
        duration: Duration::from_millis(u64::from(asked.duration_ms)),
        profiles: asked.profiles,
        signature: asked.calc_perceptual_hash,
        clip,
        orch_id: printable(&notice.orch_id),
    })))
}

/// It ends up in ffmpeg's arguments and in other people's files.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{Capability, CapabilitySet};
    use proptest::prelude::*;
    use prost::Message;

    fn own() -> Capabilities {
        Capabilities::of_set(CapabilitySet::of([Capability::H264, Capability::MpegTs]))
    }

    fn notice() -> net::NotifySegment {
        let mut data = net::SegData {
            manifest_id: b"m".to_vec(),
            seq: 3,
            hash: vec![0; 32],
            profiles: b"invalid".to_vec(),
            auth_token: Some(net::AuthToken {
                session_id: "a1b2c3d4".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        penstock_wire::profile::write_lists(&VideoProfile::defaults(), &mut data);
        net::NotifySegment {
            url: "https://o/s".into(),
            task_id: 9,
            orch_id: "off\nchain".into(),
            seg_data: Some(data),
            ..Default::default()
        }
    }

    fn changed(change: impl Fn(&mut net::SegData)) -> Result<Notice, BadNotice> {
        let mut n = notice();
        change(n.seg_data.as_mut().unwrap());
        read(&n, &own())
    }

    #[test]
    fn a_job() {
        let Ok(Notice::Segment(job)) = read(&notice(), &own()) else { panic!() };
        assert_eq!((job.task_id, job.seq, job.profiles.len()), (9, 3, 2));
        assert_eq!((job.session_id.as_str(), job.orch_id.as_str()), ("a1b2c3d4", "offchain"));
        // No duration said is 2 s; the orchestrator waits at least 8.
        assert_eq!(
            (job.duration, job.time_limit()),
            (Duration::from_secs(2), Duration::from_secs(8))
        );
        let Ok(Notice::Segment(job)) = changed(|d| d.duration = 10_000) else { panic!() };
        assert_eq!(job.time_limit(), Duration::from_secs(40));
    }

    #[test]
    fn the_end_of_a_session() {
        let mut n = notice();
        n.url.clear();
        assert_eq!(read(&n, &own()), Ok(Notice::EndSession("a1b2c3d4".into())));
    }

    #[test]
    fn documented_texts() {
        let text = |r: Result<Notice, BadNotice>| r.unwrap_err().to_string();
        assert_eq!(text(changed(|d| d.duration = 300_001)), "invalid duration");
        assert_eq!(
            text(changed(|d| d.full_profiles[0].format = 7)),
            "unrecognized profile output format"
        );
        let mp4 = CapabilitySet::of([Capability::Mp4]).words().to_vec();
        let needs = |c| Some(net::Capabilities { bitstring: c, ..Default::default() });
        assert_eq!(
            text(changed(|d| d.capabilities = needs(mp4.clone()))),
            "incompatible segment capabilities"
        );
        let clip =
            |from, to| changed(|d| d.segment_parameters = Some(net::SegParameters { from, to }));
        assert_eq!(text(clip(2, 1)), "TranscoderInvalidClipConfig");
        for (from, to, part) in [(0, 0, false), (0, 1, true), (5, 0, true), (5, 5, true)] {
            let Ok(Notice::Segment(job)) = clip(from, to) else { panic!() };
            assert_eq!(job.clip.is_some(), part);
        }
        assert_eq!(text(read(&net::NotifySegment::default(), &own())), "missing segData");
        assert!(changed(|d| d.capabilities = needs(vec![2])).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn nothing_panics(flips in proptest::collection::vec((0..200usize, any::<u8>()), 0..6), cut in 0..200usize) {
            let mut bytes = notice().encode_to_vec();
            for (at, value) in flips {
                if let Some(b) = bytes.get_mut(at) { *b = value; }
            }
            bytes.truncate(cut.max(20));
            if let Ok(n) = net::NotifySegment::decode(&bytes[..])
                && let Ok(Notice::Segment(job)) = read(&n, &own()) {
                job.time_limit();
            }
        }
    }
}
