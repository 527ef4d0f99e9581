//! Who takes an answer too slowly, by a real socket: the connection is closed, and what the answer held is given up.

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use penstock_http_kit::serve::{LeastSpeed, Options, bind, serve_with};
use penstock_testkit::http2::{SET_TO_LESS, ask_without_room};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

const FILM: usize = 1024 * 1024;

/// Adds a permit when dropped.
struct Dropped(Arc<Semaphore>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

/// A server of `/flood`, which never ends, and `/film`. 1 MiB/s, within what 96 KiB take at that. Says when a flood
/// is given up.
async fn server() -> (String, Arc<Semaphore>, DropGuard) {
    penstock_http_kit::tls::install_crypto_provider();
    let dropped = Arc::new(Semaphore::new(0));
    let given_up = Arc::clone(&dropped);
    let flood = move || async move {
        let held = Dropped(given_up);
        Body::from_stream(futures::stream::repeat_with(move || {
            let _held = &held;
            Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 16 * 1024]))
        }))
    };
    let film = async || vec![b'f'; FILM];
    let router = Router::new().route("/flood", get(flood)).route("/film", get(film));
    let listener = bind("127.0.0.1:0".parse().unwrap(), "--http-addr").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let least_speed = LeastSpeed::new(1 << 20, Duration::from_millis(1));
    let options = Options { least_speed, ..Options::default() };
    tokio::spawn(serve_with(listener, router, stop.clone(), Duration::ZERO, options));
    (address, dropped, stop.drop_guard())
}

#[tokio::test]
async fn a_drip_of_a_connection_is_cut_off() {
    let (address, dropped, _stop) = server().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let drip = async {
        while stream.read_u8().await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
        // It was reset, and what it held is gone already or goes now.
        std::future::pending::<()>().await;
    };
    let cut = async {
        tokio::select! {
            () = drip => {}
            given_up = dropped.acquire() => given_up.unwrap().forget(),
        }
    };
    timeout(SET_TO_LESS, cut).await.expect("it is cut off");
}

#[tokio::test]
async fn a_stream_without_room_is_cut_off_and_one_with_room_is_served() {
    let (address, dropped, _stop) = server().await;
    ask_without_room(&address, "/flood").await;
    timeout(SET_TO_LESS, dropped.acquire()).await.expect("it is given up").unwrap().forget();
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let film = client.get(format!("http://{address}/film")).send().await.unwrap();
    assert_eq!(film.content_length(), Some(FILM as u64));
    assert_eq!(film.bytes().await.unwrap(), vec![b'f'; FILM]);
}
