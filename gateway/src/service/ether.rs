//! The price of ether, for ceilings in dollars.

use super::Gateway;
use penstock_http_kit::CancellationToken;

impl Gateway {
    /// Reads the price of ether regularly until told to stop.
    pub async fn follow_ether(&self, stop: CancellationToken) {
        let Some(poll) = self.eth_usd.poll() else { return };
        loop {
            if let Err(error) = self.eth_usd.refresh().await {
                metrics::counter!("penstock_gateway_eth_usd_errors_total").increment(1);
                tracing::warn!(error, "the price of ether cannot be read (--eth-usd-…)");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(poll) => {}
            }
        }
    }
}
