//! `HardwareInformation` ⇄ what a node says about its GPUs. For people to read; nothing decides
//! on it.

use crate::{
    error::{WireError, at_most, bounded},
    limits, net,
};
use std::collections::BTreeMap;

/// One GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpu {
    /// The driver's id.
    pub id: String,
    /// Product name.
    pub name: String,
    /// Compute capability, before the dot.
    pub major: u32,
    /// Compute capability, after the dot.
    pub minor: u32,
    /// Bytes.
    pub memory_free: i64,
    /// Bytes.
    pub memory_total: i64,
}

/// Metadata of `RegisterTranscoder`, whose message has no place for it: the names of the cards that a worker
/// transcodes on, separated by semicolons. Nodes that do not know it do not look at it.
pub const GPU_NAMES: &str = "penstock-gpu-names";
/// Cards of a worker, and bytes of a name, that are read.
const MOST_NAMES: usize = 64;
const NAME_BYTES: usize = 64;

/// Names of cards as [`GPU_NAMES`] has them.
pub fn write_gpu_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let plain = |name: &str| -> String {
        name.chars().filter(|c| matches!(c, ' '..='~') && *c != ';').take(NAME_BYTES).collect()
    };
    names.into_iter().take(MOST_NAMES).map(plain).collect::<Vec<_>>().join(";")
}

/// The same, read; what is too much is left out.
pub fn read_gpu_names(text: &str) -> Vec<String> {
    let names = text.split(';').map(str::trim).filter(|name| !name.is_empty());
    names.filter(|name| name.len() <= NAME_BYTES).take(MOST_NAMES).map(str::to_owned).collect()
}

/// The GPUs that serve one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Pipeline name.
    pub pipeline: String,
    /// Model id.
    pub model_id: String,
    /// By the node's own numbering.
    pub gpus: BTreeMap<String, Gpu>,
}

impl Hardware {
    /// Bytes that it takes in a message, at most.
    fn size_bytes(&self) -> usize {
        // Numbers, tags and lengths of one card, and of the whole.
        const OF_A_CARD: usize = 64;
        const OF_ALL: usize = 16;
        let card =
            |(key, gpu): (&String, &Gpu)| key.len() + gpu.id.len() + gpu.name.len() + OF_A_CARD;
        let cards: usize = self.gpus.iter().map(card).sum();
        self.pipeline.len() + self.model_id.len() + OF_ALL + cards
    }
}

/// Room for hardware in one message. It is for people to read: what does not fit is left out, and the rest of the
/// message can be read.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
    entries: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { bytes: limits::HARDWARE_BYTES, entries: limits::CAPABILITY_ENTRIES }
    }
}

impl Room {
    /// Takes its room, if it fits.
    pub fn takes(&mut self, hardware: &Hardware) -> bool {
        let left = (self.bytes.checked_sub(hardware.size_bytes()), self.entries.checked_sub(1));
        let (Some(bytes), Some(entries)) = left else { return false };
        *self = Self { bytes, entries };
        true
    }
}

impl TryFrom<&net::HardwareInformation> for Hardware {
    type Error = WireError;

    fn try_from(m: &net::HardwareInformation) -> Result<Self, WireError> {
        let what = "hardware information";
        at_most(what, m.gpu_info.len(), 64)?;
        bounded(what, m.pipeline.len(), limits::NAME_BYTES)?;
        bounded(what, m.model_id.len(), limits::NAME_BYTES)?;
        let mut gpus = BTreeMap::new();
        for (key, gpu) in &m.gpu_info {
            for text in [key, &gpu.id, &gpu.name] {
                bounded(what, text.len(), limits::NAME_BYTES)?;
            }
            gpus.insert(
                key.clone(),
                Gpu {
                    id: gpu.id.clone(),
                    name: gpu.name.clone(),
                    major: gpu.major,
                    minor: gpu.minor,
                    memory_free: gpu.memory_free,
                    memory_total: gpu.memory_total,
                },
            );
        }
        Ok(Self { pipeline: m.pipeline.clone(), model_id: m.model_id.clone(), gpus })
    }
}

impl From<&Hardware> for net::HardwareInformation {
    fn from(h: &Hardware) -> Self {
        let gpu = |g: &Gpu| net::GpuComputeInfo {
            id: g.id.clone(),
            name: g.name.clone(),
            major: g.major,
            minor: g.minor,
            memory_free: g.memory_free,
            memory_total: g.memory_total,
        };
        Self {
            pipeline: h.pipeline.clone(),
            model_id: h.model_id.clone(),
            gpu_info: h.gpus.iter().map(|(k, g)| (k.clone(), gpu(g))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn names_of_cards_as_metadata() {
        let names = ["NVIDIA H200", "odd;\u{e9}\n name", ""];
        let text = write_gpu_names(names);
        assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text}");
        assert_eq!(read_gpu_names(&text), ["NVIDIA H200", "odd name"]);
        assert_eq!(read_gpu_names(&"x;".repeat(1_000)).len(), MOST_NAMES);
        assert!(read_gpu_names(&"x".repeat(NAME_BYTES + 1)).is_empty());
    }

    fn hardware(cards: usize, text: &str) -> Hardware {
        let gpu = Gpu {
            id: text.to_owned(),
            name: text.to_owned(),
            major: u32::MAX,
            minor: u32::MAX,
            memory_free: -1,
            memory_total: -1,
        };
        let gpus = (0..cards).map(|n| (format!("{n}{text}"), gpu.clone())).collect();
        Hardware { pipeline: text.to_owned(), model_id: text.to_owned(), gpus }
    }

    #[test]
    fn what_is_told_of_cards_has_an_end() {
        let long = "x".repeat(limits::NAME_BYTES - 2);
        let encoded = |hardware: &Hardware| net::HardwareInformation::from(hardware).encoded_len();
        for one in [hardware(0, ""), hardware(1, ""), hardware(64, &long)] {
            assert!(encoded(&one) <= one.size_bytes(), "{}", encoded(&one));
        }
        let mut room = Room::default();
        let large = hardware(64, &long);
        let taken: Vec<_> = (0..1_000).filter(|_| room.takes(&large)).collect();
        assert!((1..10).contains(&taken.len()));
        assert!(taken.len() * encoded(&large) <= limits::HARDWARE_BYTES);
        assert!(room.takes(&hardware(1, "")), "small ones still fit");
        let mut room = Room::default();
        let small = (0..9_999).filter(|_| room.takes(&hardware(0, ""))).count();
        assert_eq!(small, limits::CAPABILITY_ENTRIES);
    }
}
