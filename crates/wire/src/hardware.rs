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
