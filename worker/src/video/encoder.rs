//! What a segment can be worked on: the processor, or a part of a card, and which of ffmpeg's
//! decoders and encoders that means.

use penstock_domain::VideoCodec;
use std::{collections::BTreeSet, fmt};

/// A device that an operator can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    /// The NVIDIA card with this number of the driver's.
    Nvidia(u32),
    /// The Netint card with this number.
    Netint(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nvidia(index) => write!(f, "nvidia-{index}"),
            Self::Netint(index) => write!(f, "netint-{index}"),
        }
    }
}

/// Where a segment is decoded, scaled and encoded. Of the two flags of a card one is set at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accel {
    /// All on the processor.
    Software,
    /// On an NVIDIA card: NVDEC and scaling, NVENC, or both. Data-centre cards have no NVENC, and
    /// some builds of ffmpeg cannot scale on a card.
    Nvidia {
        /// The driver's number.
        card: u32,
        /// Decode and scale on the card.
        decode: bool,
        /// Encode on the card.
        encode: bool,
    },
    /// On a Netint card; scaling is the processor's, as with the reference node.
    Netint {
        /// Its number.
        card: u32,
        /// Which family of its drivers this ffmpeg is built for.
        chip: Chip,
        /// Decode on the card.
        decode: bool,
    },
}

impl Accel {
    /// The card, if there is one.
    pub fn device(self) -> Option<Device> {
        match self {
            Self::Software => None,
            Self::Nvidia { card, .. } => Some(Device::Nvidia(card)),
            Self::Netint { card, .. } => Some(Device::Netint(card)),
        }
    }

    /// For people: what is done where.
    pub fn engines(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Nvidia { decode: true, encode: true, .. } => "nvdec+cuda+nvenc",
            Self::Nvidia { decode: true, encode: false, .. } => "nvdec+cuda+software",
            Self::Nvidia { .. } => "software+nvenc",
            Self::Netint { decode: true, .. } => "netint",
            Self::Netint { .. } => "software+netint",
        }
    }

    /// Whether frames reach the encoder in the card's own memory.
    pub fn frames_on_card(self) -> bool {
        matches!(self, Self::Nvidia { decode: true, encode: true, .. })
    }

    /// Whether encoding is the processor's.
    pub fn encodes_in_software(self) -> bool {
        matches!(self, Self::Software | Self::Nvidia { encode: false, .. })
    }
}

/// Families of Netint's cards; each has codecs under names of its own in Netint's builds of ffmpeg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Chip {
    /// Quadra.
    Quadra,
    /// T408 and T432, newer drivers.
    Logan,
    /// T408 and T432, older drivers: the names that the reference node knows.
    Codensity,
}

impl Chip {
    /// The newest family whose encoder this ffmpeg has.
    pub fn of(encoders: &BTreeSet<String>) -> Option<Self> {
        let all = [Self::Quadra, Self::Logan, Self::Codensity];
        all.into_iter().find(|chip| encoders.contains(chip.encoder(false)))
    }

    fn encoder(self, h265: bool) -> &'static str {
        match (self, h265) {
            (Self::Quadra, false) => "h264_ni_quadra_enc",
            (Self::Quadra, true) => "h265_ni_quadra_enc",
            (Self::Logan, false) => "h264_ni_logan_enc",
            (Self::Logan, true) => "h265_ni_logan_enc",
            (Self::Codensity, false) => "h264_ni_enc",
            (Self::Codensity, true) => "h265_ni_enc",
        }
    }

    /// Its decoder of a codec.
    pub fn decoder(self, codec: VideoCodec) -> Option<&'static str> {
        match (self, codec) {
            (Self::Quadra, VideoCodec::H264) => Some("h264_ni_quadra_dec"),
            (Self::Quadra, VideoCodec::H265) => Some("h265_ni_quadra_dec"),
            (Self::Logan, VideoCodec::H264) => Some("h264_ni_logan_dec"),
            (Self::Logan, VideoCodec::H265) => Some("h265_ni_logan_dec"),
            (Self::Codensity, VideoCodec::H264) => Some("h264_ni_dec"),
            (Self::Codensity, VideoCodec::H265) => Some("h265_ni_dec"),
            (_, VideoCodec::Vp8 | VideoCodec::Vp9) => None,
        }
    }
}

/// ffmpeg's encoder for a codec, if we use one.
pub fn encoder_name(codec: VideoCodec, accel: Accel) -> Option<&'static str> {
    let h265 = match codec {
        VideoCodec::H264 => false,
        VideoCodec::H265 => true,
        // Neither fits into an MPEG-TS segment; nothing asks for them.
        VideoCodec::Vp8 | VideoCodec::Vp9 => return None,
    };
    Some(match (accel, h265) {
        (Accel::Nvidia { encode: true, .. }, false) => "h264_nvenc",
        (Accel::Nvidia { encode: true, .. }, true) => "hevc_nvenc",
        (Accel::Netint { chip, .. }, _) => chip.encoder(h265),
        (Accel::Software | Accel::Nvidia { .. }, false) => "libx264",
        (Accel::Software | Accel::Nvidia { .. }, true) => "libx265",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_netint_family_that_ffmpeg_has() {
        let of = |names: &[&str]| Chip::of(&names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(of(&["libx264", "h264_ni_enc"]), Some(Chip::Codensity));
        assert_eq!(of(&["h264_ni_logan_enc", "h264_ni_enc"]), Some(Chip::Logan));
        assert_eq!(of(&["h264_ni_quadra_enc", "h264_ni_logan_enc"]), Some(Chip::Quadra));
        assert_eq!(of(&["libx264", "h264_nvenc"]), None);
    }
}
