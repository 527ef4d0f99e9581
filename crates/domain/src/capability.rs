//! What a node can do: the numbered capabilities of orchestrator-wire.md section 5 and their bit set.

use core::fmt;
use serde::{Deserialize, Serialize};

macro_rules! capabilities {
    ($($number:literal $variant:ident $name:literal),* $(,)?) => {
        /// A numbered capability. The names are the reference's; pipelines derive from them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u32)]
        pub enum Capability {
            $(#[doc = $name] $variant = $number),*
        }

        impl Capability {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// By number; 13 is retired and unknown numbers are `None`.
            pub fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The reference's name, for example `Audio to text`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }
    };
}

capabilities! {
    0 H264 "H.264", 1 MpegTs "MPEGTS", 2 Mp4 "MP4", 3 FractionalFramerates "Fractional framerates",
    4 StorageDirect "Storage direct", 5 StorageS3 "Storage S3", 6 StorageGcs "Storage GCS",
    7 H264Baseline "H264 Baseline profile", 8 H264Main "H264 Main profile",
    9 H264High "H264 High profile", 10 H264ConstrainedHigh "H264 Constrained, Contained High profile",
    11 Gop "GOP", 12 AuthToken "Auth token", 14 Mpeg7Signature "MPEG7 signature",
    15 HevcDecode "HEVC decode", 16 HevcEncode "HEVC encode", 17 Vp8Decode "VP8 decode",
    18 Vp9Decode "VP9 decode", 19 Vp8Encode "VP8 encode", 20 Vp9Encode "VP9 encode",
    21 H264Decode444_8 "H264 Decode YUV444 8-bit", 22 H264Decode422_8 "H264 Decode YUV422 8-bit",
    23 H264Decode444_10 "H264 Decode YUV444 10-bit", 24 H264Decode422_10 "H264 Decode YUV422 10-bit",
    25 H264Decode420_10 "H264 Decode YUV420 10-bit", 26 SegmentSlicing "Segment slicing",
    27 TextToImage "Text to image", 28 ImageToImage "Image to image",
    29 ImageToVideo "Image to video", 30 Upscale "Upscale", 31 AudioToText "Audio to text",
    32 SegmentAnything2 "Segment anything 2", 33 Llm "Llm", 34 ImageToText "Image to text",
    35 LiveVideoToVideo "Live video to video", 36 TextToSpeech "Text to speech", 37 Byoc "byoc",
}

impl Capability {
    /// Its number on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The pipeline name, for example `audio-to-text`: lower case, spaces to `-`.
    pub fn pipeline(self) -> String {
        self.name().to_ascii_lowercase().replace(' ', "-")
    }

    /// By pipeline name; `byoc` is not found this way, as in the reference.
    pub fn from_pipeline(pipeline: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| *c != Self::Byoc && c.pipeline() == pipeline)
    }

    /// Whether this is one of the batch or live AI pipelines (27 to 36).
    pub fn is_ai(self) -> bool {
        (27..=36).contains(&self.number())
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The balance key of batch AI routes: `{capability number}_{model}` (orchestrator-wire.md section 7).
pub fn model_capability_key(capability: Capability, model: &str) -> String {
    format!("{}_{model}", capability.number())
}

/// A bit set of capability numbers, in the words the wire uses. Unknown bits are kept, since a
/// newer peer may mean something by them; the size is bounded by [`Self::MAX_WORDS`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CapabilitySet(Vec<u64>);

impl CapabilitySet {
    /// Most words accepted from a peer: 1,024 capabilities, thirty times what exists.
    pub const MAX_WORDS: usize = 16;

    /// From the wire's words; `None` if there are too many.
    pub fn from_words(words: &[u64]) -> Option<Self> {
        (words.len() <= Self::MAX_WORDS).then(|| Self(words.to_vec()))
    }

    /// The set every video node has: 0–12, 14, 26 (word 67133439).
    pub fn default_video() -> Self {
        Self(vec![67_133_439])
    }

    /// What a node that sends no capabilities is taken to have: 0–11 (word 4095).
    pub fn legacy() -> Self {
        Self(vec![4095])
    }

    /// From capabilities.
    pub fn of(capabilities: impl IntoIterator<Item = Capability>) -> Self {
        let mut set = Self::default();
        for c in capabilities {
            set.insert(c);
        }
        set
    }

    /// Adds one.
    pub fn insert(&mut self, capability: Capability) {
        self.insert_number(capability.number());
    }

    /// Adds one by number, known or not; numbers beyond [`Self::MAX_WORDS`] words are left out.
    pub fn insert_number(&mut self, number: u32) {
        let (word, bit) = ((number / 64) as usize, number % 64);
        if word >= Self::MAX_WORDS {
            return;
        }
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(w) = self.0.get_mut(word) {
            *w |= 1 << bit;
        }
    }

    /// Takes one away by number. The words keep their number, as in the reference.
    pub fn remove_number(&mut self, number: u32) {
        if let Some(w) = self.0.get_mut((number / 64) as usize) {
            *w &= !(1 << (number % 64));
        }
    }

    /// Whether it is in the set.
    pub fn contains(&self, capability: Capability) -> bool {
        self.contains_number(capability.number())
    }

    /// Whether the capability of this number, known or not, is in the set.
    pub fn contains_number(&self, number: u32) -> bool {
        self.0.get((number / 64) as usize).is_some_and(|w| w & (1 << (number % 64)) != 0)
    }

    /// `self ⊆ other`: other has at least as many words and each word of self is contained.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.len() <= other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a & !b == 0)
    }

    /// The words.
    pub fn words(&self) -> &[u64] {
        &self.0
    }

    /// Numbers of the set bits, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().zip(0u32..).flat_map(|(w, i)| {
            (0..64u32).filter(move |bit| w & (1 << bit) != 0).map(move |bit| i * 64 + bit)
        })
    }

    /// `self ∪ other`.
    pub fn union(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_pipelines() {
        assert_eq!(Capability::from_pipeline("audio-to-text"), Some(Capability::AudioToText));
        assert_eq!(Capability::from_pipeline("llm").unwrap().number(), 33);
        assert_eq!(Capability::from_pipeline("byoc"), None);
        assert_eq!(Capability::from_number(13), None);
        assert_eq!(Capability::SegmentAnything2.pipeline(), "segment-anything-2");
        assert_eq!(model_capability_key(Capability::TextToImage, "a/b"), "27_a/b");
    }

    #[test]
    fn default_word_is_the_documented_one() {
        let mut all: Vec<_> =
            (0..=12).chain([14, 26]).filter_map(Capability::from_number).collect();
        assert_eq!(CapabilitySet::of(all.drain(..)), CapabilitySet::default_video());
    }

    #[test]
    fn subsets() {
        let one = CapabilitySet::of([Capability::MpegTs]);
        assert!(!one.is_subset(&CapabilitySet::default()));
        assert!(CapabilitySet::default().is_subset(&one));
        assert!(one.is_subset(&CapabilitySet::default_video()));
        assert_eq!(CapabilitySet::from_words(&[0; 17]), None);
        assert_eq!(one.numbers().collect::<Vec<_>>(), [1]);
    }
}
