//! Media as files, and what playlists are made of.

use penstock_gateway::media::{
    aac, avc,
    fmp4::{Cut, Want},
    mp4,
    recording::{self, Index, Recording},
    sps, ts, wav,
};

/// Parts of a recording, as they are stored, become playlists.
pub fn playlist(data: &[u8]) -> bool {
    let Ok(parts) = serde_json::from_slice::<Vec<Index>>(data) else { return false };
    let mut whole = Recording::default();
    whole.append(&parts);
    let _ = whole.master("");
    for track in &whole.tracks {
        let Some(list) = whole.media(&track.name, str::to_owned) else { continue };
        assert!(list.starts_with("#EXTM3U\n"), "not a playlist");
    }
    let _ = crate::text(data).map(|text| (recording::is_part(text), recording::folder_name(text)));
    !whole.tracks.is_empty()
}

/// A file of any container.
pub fn file(data: &[u8]) -> bool {
    let (probe, length) = (mp4::probe(data), wav::duration_ms(data));
    let media = ts::demux::read(data);
    if let Some(media) = &media {
        let bytes: usize = media.video.iter().map(|frame| frame.data.len()).sum();
        assert!(bytes <= data.len(), "frames longer than their file");
    }
    if let Some(cut) = Cut::of_ts(data, 0) {
        let (init, fragment) = (cut.init(Want::Both), cut.fragment(1, Want::Both));
        assert!(init.len() + fragment.len() <= 64 * data.len() + 4096, "more than there was");
    }
    let _ = (sps::find_in_stream(data), sps::parse(data), aac::AacConfig::of_specific(data));
    let frames = aac::adts_frames(data);
    assert!(frames.iter().map(|(_, frame)| frame.len()).sum::<usize>() <= data.len());
    if let Some(config) = avc::AvcConfig::of_record(data) {
        let again = avc::AvcConfig::of_record(&config.record());
        assert!(again.is_some(), "a decoder configuration cannot be read back");
        let _ = config.annex_b(data, true);
    }
    let _ = (avc::is_key(data), avc::nals(data).count());
    media.is_some() || length.is_some() || probe.video.is_some() || probe.audio
}
