//! The graphics cards of this machine: which there are, what the driver says about them, and who is
//! told. Without a driver there are none, and everything runs on the processor.

pub mod monitor;
pub mod nvml;
pub mod report;

use std::collections::BTreeSet;

/// One card, as the driver describes it now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// The driver's number of it, as in `nvidia-smi`.
    pub index: u32,
    /// `GPU-…`, the same for ever.
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// Compute capability, before and after the dot.
    pub compute: (u32, u32),
    /// Bytes.
    pub memory_total: u64,
    /// Bytes.
    pub memory_free: u64,
    /// What moves; a card need not have all of it.
    pub use_now: Use,
}

/// How busy and how hot a card is. `None`: the card does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// Percent of the time in which a kernel ran.
    pub compute: Option<u32>,
    /// Percent of the time in which memory was read or written.
    pub memory: Option<u32>,
    /// Percent of the video encoders.
    pub encoder: Option<u32>,
    /// Percent of the video decoders.
    pub decoder: Option<u32>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Percent of the fan's full speed.
    pub fan: Option<u32>,
}

/// Everything that is known at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Version of the driver, if it says one.
    pub driver: Option<String>,
    /// Cards that answer, in the order of their numbers.
    pub cards: Vec<Card>,
    /// Why there is none, or fewer than before.
    pub trouble: Option<String>,
}

impl Inventory {
    /// The card with this number.
    pub fn card(&self, index: u32) -> Option<&Card> {
        self.cards.iter().find(|card| card.index == index)
    }

    /// Numbers of all cards.
    pub fn indices(&self) -> BTreeSet<u32> {
        self.cards.iter().map(|card| card.index).collect()
    }
}

/// Asks for the state of the cards. Asking may block for as long as a driver hangs, so it happens on
/// a thread of its own.
pub trait CardSource: Send + 'static {
    /// The cards that answer now.
    fn ask(&mut self) -> Inventory;
}
