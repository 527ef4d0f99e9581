//! Events that wait to be delivered: written with the payment they tell of, taken away when a sink
//! has them. At least once, and in order within a payment session.

use penstock_domain::StateId;
use uuid::Uuid;

/// An event to be stored with a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Names the event, so that a sink can drop a second delivery. An event with a name that still
    /// waits is that same event and is not stored again.
    pub id: Uuid,
    /// JSON.
    pub payload: Vec<u8>,
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub id: Uuid,
    /// The payment it tells of.
    pub state_id: StateId,
    /// That payment's place in its session.
    pub sequence: u64,
    /// JSON.
    pub payload: Vec<u8>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// The right to deliver: one ledger handle has it over all replicas, until it expires or is renewed
/// by taking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence(pub u64);

/// Events to be delivered now, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenEvents {
    /// Goes back with [`super::SignerLedger::delivered`].
    pub fence: Fence,
    /// Until when nobody else may deliver, Unix milliseconds.
    pub lease_until_ms: i64,
    /// The events. They stay in the books until they are delivered.
    pub events: Vec<Event>,
}

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Events not delivered yet.
    pub events: u64,
    /// Time of the oldest, Unix milliseconds.
    pub oldest_ms: Option<i64>,
}
