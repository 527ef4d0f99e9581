//! What the operator sees of deliveries.

use penstock_ledger::signer::Backlog;
use serde::Serialize;
use utoipa::ToSchema;

/// How deliveries go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// No sink is configured: no events are made.
    #[default]
    Off,
    /// Nothing waits for longer than it must.
    Ok,
    /// Another replica delivers.
    Standby,
    /// The last delivery failed: events wait in the ledger, and are sent again.
    Degraded,
}

/// `GET /v1/events`
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct EventsReport {
    pub(super) state: State,
    /// Where events go, without secrets.
    pub(super) sink: Option<String>,
    /// Events that wait in the ledger, of all replicas.
    pub(super) pending: u64,
    /// Age of the oldest that waits, milliseconds.
    pub(super) oldest_age_ms: Option<u64>,
    /// Delivered by this replica since it started.
    pub(super) delivered: u64,
    /// Of this replica, RFC 3339, UTC.
    pub(super) last_delivery: Option<String>,
    /// Why the last delivery failed.
    pub(super) last_error: Option<String>,
    pub(super) failures_in_a_row: u32,
}

impl EventsReport {
    pub(super) fn with(mut self, backlog: Backlog, now_ms: i64) -> Self {
        self.pending = backlog.events;
        self.oldest_age_ms = backlog.oldest_ms.map(|oldest| age_ms(oldest, now_ms));
        self
    }
}

/// Never negative: clocks of replicas differ.
pub(super) fn age_ms(then_ms: i64, now_ms: i64) -> u64 {
    u64::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(0)
}
