//! What readers of answers have to take.

use clap::Args;
use std::time::Duration;

/// How slow a reader may be.
#[derive(Debug, Clone, Copy, Args)]
pub struct ReaderArgs {
    /// Bytes a second that whoever reads an answer takes at least, while some wait for it; who is slower loses
    /// the connection. Only time counts in which the connection takes no more. 0: there is no least speed.
    #[arg(long, env = "PENSTOCK_MIN_READ_BYTES_PER_SECOND", default_value_t = 1024, value_name = "BYTES",
          value_parser = crate::within::<u64>(0, 1 << 40))]
    pub min_read_bytes_per_second: u64,

    /// Over how many milliseconds of such waiting that is looked at: who takes nothing has so long. Longer where
    /// --min-read-bytes-per-second would not bring 96 KiB within them.
    #[arg(long, env = "PENSTOCK_MIN_READ_WINDOW_MS", default_value_t = 120_000, value_name = "MS",
          value_parser = crate::within::<u64>(100, 86_400_000))]
    pub min_read_window_ms: u64,
}

impl ReaderArgs {
    /// [`Self::min_read_window_ms`] as a duration.
    pub fn window(&self) -> Duration {
        Duration::from_millis(self.min_read_window_ms)
    }
}
