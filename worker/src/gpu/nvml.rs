//! The cards as NVIDIA's management library describes them. The library belongs to the driver and is
//! loaded at run time; where there is none, the device files say at least which cards there are.

use super::{Card, CardSource, Inventory, Use};
use nvml_wrapper::{Device, Nvml, enum_wrappers::device::TemperatureSensor, error::NvmlError};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The name under which drivers install it.
pub const DEFAULT_LIBRARY: &str = "libnvidia-ml.so.1";
/// More cards than any machine has; what a broken driver says is not believed beyond it.
const MAX_CARDS: u32 = 64;

/// Cards by NVML, or by device files.
#[derive(Debug)]
pub struct NvmlSource {
    library: OsString,
    dev: PathBuf,
    loaded: Option<Nvml>,
}

impl NvmlSource {
    /// Loads nothing yet.
    pub fn new(library: OsString) -> Self {
        Self { library, dev: "/dev".into(), loaded: None }
    }

    fn by_library(&mut self) -> Result<Inventory, NvmlError> {
        if self.loaded.is_none() {
            self.loaded = Some(Nvml::builder().lib_path(&self.library).init()?);
        }
        let Some(nvml) = &self.loaded else { return Err(NvmlError::Uninitialized) };
        let mut inventory =
            Inventory { driver: nvml.sys_driver_version().ok(), ..Inventory::default() };
        for index in 0..nvml.device_count()?.min(MAX_CARDS) {
            // One lost card leaves the others.
            match nvml.device_by_index(index).and_then(|device| describe(index, &device)) {
                Ok(card) => inventory.cards.push(card),
                Err(error) => inventory.trouble = Some(format!("card {index}: {error}")),
            }
        }
        Ok(inventory)
    }
}

impl CardSource for NvmlSource {
    fn ask(&mut self) -> Inventory {
        match self.by_library() {
            Ok(inventory) => inventory,
            Err(error) => {
                // A driver that was exchanged or reset is loaded anew the next time.
                let was_loaded = self.loaded.take().is_some();
                let files = if was_loaded { Vec::new() } else { by_files(&self.dev) };
                let library = self.library.to_string_lossy();
                Inventory {
                    driver: None,
                    cards: files,
                    trouble: Some(format!("{library}: {error}")),
                }
            }
        }
    }
}

/// What must be known of a card, and what it is willing to say.
fn describe(index: u32, device: &Device<'_>) -> Result<Card, NvmlError> {
    let memory = device.memory_info()?;
    let compute = device.cuda_compute_capability().ok();
    let part = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let rates = device.utilization_rates().ok();
    Ok(Card {
        index,
        uuid: device.uuid()?,
        name: device.name()?,
        compute: (part(compute.as_ref().map(|c| c.major)), part(compute.map(|c| c.minor))),
        memory_total: memory.total,
        memory_free: memory.free,
        use_now: Use {
            compute: rates.as_ref().map(|r| r.gpu),
            memory: rates.map(|r| r.memory),
            encoder: device.encoder_utilization().ok().map(|u| u.utilization),
            decoder: device.decoder_utilization().ok().map(|u| u.utilization),
            temperature: device.temperature(TemperatureSensor::Gpu).ok(),
            fan: device.fan_speed(0).ok(),
        },
    })
}

/// `/dev/nvidia0`, `/dev/nvidia1`, …: cards of a driver whose library is not here.
fn by_files(dev: &Path) -> Vec<Card> {
    let Ok(entries) = std::fs::read_dir(dev) else { return Vec::new() };
    let number = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.ok()?.file_name().to_str()?.strip_prefix("nvidia")?.parse().ok()
    };
    let mut numbers: Vec<u32> = entries.filter_map(number).filter(|n| *n < MAX_CARDS).collect();
    numbers.sort_unstable();
    numbers.into_iter().map(|index| Card { index, ..Card::default() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_library_the_device_files_count() {
        let dev = tempfile::tempdir().unwrap();
        for name in ["nvidia10", "nvidia0", "nvidiactl", "nvidia-uvm", "nvidia99", "sda1"] {
            std::fs::write(dev.path().join(name), "").unwrap();
        }
        let mut source = NvmlSource {
            library: "/no/such/libnvidia-ml.so.1".into(),
            dev: dev.path().into(),
            loaded: None,
        };
        let found = source.ask();
        assert_eq!(found.indices().into_iter().collect::<Vec<_>>(), [0, 10]);
        assert!(found.trouble.unwrap().contains("/no/such/libnvidia-ml.so.1"));
        source.dev = "/no/such/folder".into();
        assert!(source.ask().cards.is_empty());
    }
}
