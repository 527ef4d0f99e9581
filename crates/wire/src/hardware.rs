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

    #[test]
    fn names_of_cards_as_metadata() {
        let names = ["NVIDIA H200", "odd;\u{e9}\n name", ""];
        let text = write_gpu_names(names);
        assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text}");
        assert_eq!(read_gpu_names(&text), ["NVIDIA H200", "odd name"]);
        assert_eq!(read_gpu_names(&"x;".repeat(1_000)).len(), MOST_NAMES);
        assert!(read_gpu_names(&"x".repeat(NAME_BYTES + 1)).is_empty());
    }
}
