//! Events as entries of a Redis stream: one transaction a batch, so that either all of it is in
//! the stream, in order, or nothing. Each entry has the fields `id`, `session` and `event` (JSON).

use super::sink::SinkError;
use penstock_config::Secret;
use penstock_ledger::signer::Event;
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, aio::MultiplexedConnection,
    streams::StreamMaxlen,
};
use std::time::Duration;
use url::Url;

/// The client.
pub(super) struct Redis {
    client: Client,
    stream: String,
    maxlen: Option<u64>,
    time: Duration,
    /// Made when needed, dropped after an error.
    connection: Option<MultiplexedConnection>,
}

impl Redis {
    pub fn new(
        url: &Url,
        password: Option<&Secret>,
        stream: &str,
        maxlen: Option<u64>,
        time: Duration,
    ) -> Result<Self, SinkError> {
        let mut info = url.as_str().into_connection_info().map_err(SinkError::new)?;
        if let Some(password) = password {
            let settings = info.redis_settings().clone().set_password(password.expose());
            info = info.set_redis_settings(settings);
        }
        let client = Client::open(info).map_err(SinkError::new)?;
        Ok(Self { client, stream: stream.to_owned(), maxlen, time, connection: None })
    }

    pub async fn deliver(&mut self, events: &[Event]) -> Result<(), SinkError> {
        let mut batch = redis::pipe();
        batch.atomic();
        for event in events {
            let id = event.id.to_string();
            let fields: [(&str, &[u8]); 3] = [
                ("id", id.as_bytes()),
                ("session", event.state_id.as_str().as_bytes()),
                ("event", &event.payload),
            ];
            match self.maxlen {
                None => batch.xadd(&self.stream, "*", &fields),
                Some(maxlen) => {
                    let maxlen = usize::try_from(maxlen).unwrap_or(usize::MAX);
                    batch.xadd_maxlen(&self.stream, StreamMaxlen::Approx(maxlen), "*", &fields)
                }
            };
            batch.ignore();
        }
        // Taken out: when this future is dropped half way, the connection is not used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(self.time))
                    .set_response_timeout(Some(self.time));
                let made = self.client.get_multiplexed_async_connection_with_config(&config).await;
                made.map_err(SinkError::new)?
            }
        };
        let sent: Result<(), _> = batch.query_async(&mut connection).await;
        sent.map_err(SinkError::new)?;
        self.connection = Some(connection);
        Ok(())
    }
}
