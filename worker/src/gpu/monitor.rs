//! Watches the cards: asks a source again and again on a thread of its own, publishes what it says,
//! and turns it into metrics. A driver that hangs stops the news, not the worker.

use super::{Card, CardSource, Inventory};
use metrics::gauge;
use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    time::Duration,
};
use tokio::sync::watch;

/// How long the first answer may take; some drivers need seconds to wake up.
const FIRST_ANSWER: Duration = Duration::from_secs(30);

/// The newest word on the cards.
#[derive(Debug, Clone)]
pub struct Monitor {
    newest: watch::Receiver<Inventory>,
    /// The thread ends when all of these are gone.
    _alive: Sender<()>,
}

impl Monitor {
    /// Asks `source` once, then again every `every`.
    pub async fn start(mut source: impl CardSource, every: Duration) -> Self {
        let (publish, mut newest) = watch::channel(Inventory::default());
        let (alive, over) = channel::<()>();
        let ask = move || {
            loop {
                let inventory = source.ask();
                record(&inventory);
                if publish.send(inventory).is_err() {
                    return;
                }
                if over.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("gpu-monitor".into()).spawn(ask) {
            tracing::error!(%error, "the cards cannot be watched");
        } else if tokio::time::timeout(FIRST_ANSWER, newest.changed()).await.is_err() {
            tracing::error!("the driver does not say which cards there are; going on without them");
        }
        Self { newest, _alive: alive }
    }

    /// A monitor that knows of no cards and never will.
    pub fn none() -> Self {
        let (alive, _) = channel();
        Self { newest: watch::channel(Inventory::default()).1, _alive: alive }
    }

    /// What is known now.
    pub fn now(&self) -> Inventory {
        self.newest.borrow().clone()
    }

    /// Hears of every answer.
    pub fn watch(&self) -> watch::Receiver<Inventory> {
        self.newest.clone()
    }
}

fn record(inventory: &Inventory) {
    for card in &inventory.cards {
        let index = card.index.to_string();
        let bytes = |kind: &'static str, value: u64| {
            gauge!("penstock_worker_gpu_memory_bytes", "gpu" => index.clone(), "kind" => kind)
                .set(value as f64);
        };
        bytes("total", card.memory_total);
        bytes("free", card.memory_free);
        for (engine, percent) in engines(card) {
            if let Some(percent) = percent {
                gauge!("penstock_worker_gpu_use_ratio", "gpu" => index.clone(), "engine" => engine)
                    .set(f64::from(percent) / 100.0);
            }
        }
        if let Some(degrees) = card.use_now.temperature {
            gauge!("penstock_worker_gpu_temperature_celsius", "gpu" => index.clone())
                .set(f64::from(degrees));
        }
    }
}

fn engines(card: &Card) -> [(&'static str, Option<u32>); 4] {
    let now = card.use_now;
    [
        ("compute", now.compute),
        ("memory", now.memory),
        ("encoder", now.encoder),
        ("decoder", now.decoder),
    ]
}

/// Sources for tests, here and in the tests of those who watch.
#[cfg(test)]
pub mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Says what it was last told to say.
    #[derive(Debug, Clone, Default)]
    pub struct Told(pub Arc<Mutex<Inventory>>);

    impl CardSource for Told {
        fn ask(&mut self) -> Inventory {
            self.0.lock().unwrap().clone()
        }
    }

    /// A card with a number and little else.
    pub fn card(index: u32) -> Card {
        Card { index, uuid: format!("GPU-{index}"), name: "Made Up".into(), ..Card::default() }
    }

    #[tokio::test]
    async fn what_changes_is_heard() {
        let told = Told::default();
        told.0.lock().unwrap().cards = vec![card(0), card(1)];
        let monitor = Monitor::start(told.clone(), Duration::from_millis(1)).await;
        assert_eq!(monitor.now().cards.len(), 2);
        told.0.lock().unwrap().cards.truncate(1);
        monitor.watch().wait_for(|now| now.cards.len() == 1).await.unwrap();
    }

    #[tokio::test]
    async fn the_thread_ends_with_the_last_monitor() {
        let source = Told::default();
        let held = Arc::downgrade(&source.0);
        let monitor = Monitor::start(source, Duration::from_secs(3600)).await;
        let mut news = monitor.watch();
        drop(monitor);
        // The publisher goes with the thread.
        while news.changed().await.is_ok() {}
        assert!(held.upgrade().is_none());
    }
}
