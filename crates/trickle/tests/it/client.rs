//! Our publisher and subscriber over HTTP (trickle.md section 8), against our server and against
//! servers that break.

mod faults;
mod publisher;
mod subscriber;
mod tls;

use crate::harness::Server;
use bytes::Bytes;
use penstock_clients::{Reach, Trust};
use penstock_trickle::Position;
use penstock_trickle::client::{
    ClientError, Publisher, PublisherOptions, Subscriber, SubscriberOptions, http,
};

fn trickle_http() -> reqwest::Client {
    penstock_http_kit::tls::install_crypto_provider();
    http(Trust::System, Reach::Anywhere).unwrap()
}

fn channel(server: &Server) -> String {
    format!("{}/c", server.url)
}

async fn publisher(server: &Server) -> Publisher {
    let options = PublisherOptions { mime: "text/plain".to_owned(), ..Default::default() };
    Publisher::open(trickle_http(), &channel(server), options).await.unwrap()
}

fn subscriber(server: &Server, start: Position) -> Subscriber {
    let options = SubscriberOptions { start, ..Default::default() };
    Subscriber::new(trickle_http(), &channel(server), options).unwrap()
}

fn at(number: u64) -> Position {
    penstock_trickle::Seq::new(number).unwrap().into()
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// The next segment's number and text.
async fn read(subscriber: &mut Subscriber) -> Result<(u64, String), ClientError> {
    let next = subscriber.next_segment();
    let mut segment = tokio::time::timeout(crate::harness::DEADLINE, next).await.unwrap()?;
    let text = segment.bytes(1 << 20).await?;
    Ok((segment.seq().get(), String::from_utf8(text.to_vec()).unwrap()))
}
