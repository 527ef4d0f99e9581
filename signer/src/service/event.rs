//! The `create_signed_ticket` event (remote-signer.md section 11): what a payment tells whoever
//! bills for it. Pure; it is stored with the payment and delivered from there.

use penstock_domain::{Address, B256, Rational};
use penstock_ledger::signer::{Binding, NewEvent};
use penstock_payments::BillingType;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

const NS_PER_MS: i64 = 1_000_000;
const NS_PER_S: i64 = 1_000_000_000;

/// Everything that the event says.
#[derive(Debug, Clone)]
pub struct SignedTickets<'a> {
    /// The payment session.
    pub state_id: &'a str,
    /// What the payment is bound to.
    pub binding: &'a Binding,
    /// Random, per request.
    pub request_id: &'a str,
    /// Where the orchestrator is.
    pub orchestrator_url: &'a str,
    /// Whose nonces.
    pub recipient_rand_hash: &'a B256,
    /// Unix nanoseconds.
    pub now_ns: i64,
    /// Time of the payment before; `None` on a first one.
    pub previous_ns: Option<i64>,
    /// What was billed.
    pub units: u64,
    /// The session's balance after it, wei.
    pub balance_wei: &'a Rational,
    /// Wei.
    pub fee_wei: &'a Rational,
    /// The orchestrator's current price, wei per unit.
    pub price: &'a Rational,
    /// Place in the session.
    pub sequence: u64,
    /// Tickets in it.
    pub num_tickets: u32,
}

/// The event with its envelope. `gateway` names this signer, as the reference's host does.
pub fn create_signed_ticket(id: Uuid, gateway: &str, tickets: &SignedTickets<'_>) -> NewEvent {
    let envelope = json!({
        "id": id.to_string(),
        "type": "create_signed_ticket",
        "timestamp": tickets.now_ns.div_euclid(NS_PER_MS).to_string(),
        "gateway": gateway,
        "data": data(tickets),
    });
    NewEvent { id, payload: envelope.to_string().into_bytes() }
}

fn data(t: &SignedTickets<'_>) -> Value {
    let Binding { app, job_type, orchestrator, manifest, auth_id, .. } = t.binding;
    let previous_ns = t.previous_ns.unwrap_or(t.now_ns);
    json!({
        "session_id": t.state_id,
        "session_status": if t.sequence == 0 { "new" } else { "continuing" },
        "app": app,
        "pipeline": pipeline(*job_type),
        "request_id": t.request_id,
        "orch_address": checksummed(orchestrator),
        "orch_url": t.orchestrator_url,
        "manifest_id": manifest.id.as_str(),
        "pm_session_id": format!("{:#x}", t.recipient_rand_hash),
        "current_time": moment(t.now_ns),
        "current_time_unix": t.now_ns.div_euclid(NS_PER_MS),
        "previous_time": moment(previous_ns),
        "previous_time_unix": previous_ns.div_euclid(NS_PER_MS),
        "billable_secs": billable_secs(*job_type, t.now_ns.saturating_sub(previous_ns)),
        "pixels": if *job_type == BillingType::Lv2v { t.units } else { 0 },
        "session_balance": t.balance_wei.to_fixed(0),
        "computed_fee": t.fee_wei.to_fixed(0),
        "cost": t.price.to_fixed(10),
        "sequence_number": t.sequence,
        "num_tickets": t.num_tickets,
        "auth_id": auth_id.as_ref().map_or("", |id| id.as_str()),
    })
}

fn pipeline(job_type: BillingType) -> &'static str {
    match job_type {
        BillingType::Lv2v => "live-video-to-video",
        other => other.as_str(),
    }
}

fn checksummed(address: &Address) -> String {
    address.to_string()
}

/// Seconds, as the reference reports them: a preload's length where one was billed.
fn billable_secs(job_type: BillingType, elapsed_ns: i64) -> f64 {
    match job_type {
        BillingType::Lv2v if elapsed_ns <= 0 => 60.0,
        BillingType::Live if elapsed_ns <= 0 => 10.0,
        // A duration for people to read, not money.
        #[allow(clippy::cast_precision_loss, reason = "a float on the wire")]
        _ => {
            let whole = elapsed_ns.div_euclid(NS_PER_S) as f64;
            whole + elapsed_ns.rem_euclid(NS_PER_S) as f64 / NS_PER_S as f64
        }
    }
}

/// RFC 3339, UTC, with as many decimals as there are.
fn moment(unix_ns: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(unix_ns.into())
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{AuthId, ManifestId};
    use penstock_ledger::signer::ManifestBinding;

    const NOW: i64 = 1_795_262_405_250_000_000;

    fn said(job_type: BillingType, change: impl FnOnce(&mut SignedTickets<'_>)) -> Value {
        let binding = Binding {
            account: "acme".into(),
            auth_id: Some(AuthId::new("client:7").unwrap()),
            orchestrator: Address::repeat_byte(0xab),
            app: "scope".into(),
            job_type,
            manifest: ManifestBinding { id: ManifestId::new("m1").unwrap(), named: true },
        };
        let r = |text: &str| text.parse::<Rational>().unwrap();
        let (balance, fee, price) = (r("-7/2"), r("6000/7"), r("6/7"));
        let mut tickets = SignedTickets {
            state_id: "a1b2c3d4",
            binding: &binding,
            request_id: "0f0f0f0f",
            orchestrator_url: "https://o:8935",
            recipient_rand_hash: &B256::repeat_byte(5),
            now_ns: NOW,
            previous_ns: None,
            units: 1_658_880_000,
            balance_wei: &balance,
            fee_wei: &fee,
            price: &price,
            sequence: 0,
            num_tickets: 25,
        };
        change(&mut tickets);
        let event = create_signed_ticket(Uuid::nil(), "signer.example", &tickets);
        serde_json::from_slice(&event.payload).unwrap()
    }

    #[test]
    fn every_field_of_a_first_payment() {
        assert_eq!(
            said(BillingType::Lv2v, |_| {}),
            json!({
                "id": "00000000-0000-0000-0000-000000000000",
                "type": "create_signed_ticket",
                "timestamp": "1795262405250",
                "gateway": "signer.example",
                "data": {
                    "session_id": "a1b2c3d4",
                    "session_status": "new",
                    "app": "scope",
                    "pipeline": "live-video-to-video",
                    "request_id": "0f0f0f0f",
                    "orch_address": "0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB",
                    "orch_url": "https://o:8935",
                    "manifest_id": "m1",
                    "pm_session_id": format!("0x{}", "05".repeat(32)),
                    "current_time": "2026-11-21T12:00:05.25Z",
                    "current_time_unix": 1_795_262_405_250_i64,
                    "previous_time": "2026-11-21T12:00:05.25Z",
                    "previous_time_unix": 1_795_262_405_250_i64,
                    "billable_secs": 60.0,
                    "pixels": 1_658_880_000,
                    "session_balance": "-4",
                    "computed_fee": "857",
                    "cost": "0.8571428571",
                    "sequence_number": 0,
                    "num_tickets": 25,
                    "auth_id": "client:7",
                },
            })
        );
    }

    #[test]
    fn later_ones_tell_what_passed() {
        let later = |job_type| {
            said(job_type, |t| {
                t.previous_ns = Some(NOW - 5_250_000_000);
                t.sequence = 3;
                t.units = 6;
            })
        };
        let live = &later(BillingType::Live)["data"];
        assert_eq!((&live["billable_secs"], &live["pixels"]), (&json!(5.25), &json!(0)));
        assert_eq!(
            (&live["session_status"], &live["pipeline"]),
            (&json!("continuing"), &json!("live"))
        );
        assert_eq!(live["previous_time"], "2026-11-21T12:00:00Z");
        let first = |job_type| said(job_type, |_| {})["data"]["billable_secs"].clone();
        assert_eq!(first(BillingType::Live), json!(10.0));
        assert_eq!(first(BillingType::Fixed), json!(0.0));
        assert_eq!(later(BillingType::Fixed)["data"]["pipeline"], "fixed");
        assert_eq!(later(BillingType::Units)["data"]["pipeline"], "");
        assert_eq!(later(BillingType::Lv2v)["data"]["pixels"], 6);
        // A clock that went back billed a preload.
        let back = said(BillingType::Live, |t| t.previous_ns = Some(NOW + 1));
        assert_eq!(back["data"]["billable_secs"], json!(10.0));
    }
}
