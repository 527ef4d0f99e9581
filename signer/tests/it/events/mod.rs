//! Deliveries from a real ledger to real sinks.

#[cfg(feature = "kafka")]
mod kafka;
mod process;
#[cfg(feature = "redis")]
mod redis;
mod webhook;

use penstock_domain::{Address, AuthId, B256, ManifestId, PriceInfo, StateId, U256, Wei};
use penstock_http_kit::CancellationToken;
use penstock_ledger::signer::{
    Binding, Committed, ManifestBinding, NewEvent, NewPayment, NewSession, ReservationId,
    ReserveRequest, Reserved, SignerLedger, TicketTemplate,
};
use penstock_payments::BillingType;
use penstock_signer::events::{Dispatcher, args::EventsArgs};
use penstock_testkit::until;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// A ledger with payments whose events wait.
pub struct Outbox {
    folder: TempDir,
    pub ledger: Arc<dyn SignerLedger>,
}

impl Outbox {
    pub async fn new() -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(&folder, "first").await;
        Self { folder, ledger }
    }

    /// Another replica's handle on the same books.
    pub async fn replica(&self, name: &str) -> Arc<dyn SignerLedger> {
        open(&self.folder, name).await
    }

    /// Payments `from..to` of each of so many sessions, the sessions by turns.
    pub async fn pay(&self, sessions: u32, from: u64, to: u64) {
        for sequence in from..to {
            for session in 0..sessions {
                self.one(session, sequence).await;
            }
        }
    }

    async fn one(&self, session: u32, sequence: u64) {
        let state_id = StateId::new(format!("{session:08x}")).unwrap();
        let request = ReserveRequest {
            id: ReservationId(*Uuid::new_v4().as_bytes()),
            state_id: state_id.clone(),
            sequence,
            account: "gateway".into(),
            auth_id: None,
            tickets: TicketTemplate {
                recipient: Address::repeat_byte(7),
                sender: Address::repeat_byte(8),
                face_value: Wei::from_u64(100),
                win_prob: U256::MAX,
                recipient_rand_hash: B256::from(U256::from(session + 1)),
                expiration_params: Default::default(),
            },
            count: 1,
            max_nonce: 600,
            also_signs: Vec::new(),
            amount_wei: Wei::from_u64(100),
            charges: Vec::new(),
            now_ms: 1,
            expires_at_ms: 1_000,
        };
        let Reserved::Nonces(reservation) = self.ledger.reserve(request).await.unwrap() else {
            panic!("no nonces");
        };
        let id = Uuid::new_v4();
        let payload = json!({
            "id": id, "type": "create_signed_ticket",
            "data": {"session_id": state_id.as_str(), "sequence_number": sequence},
        });
        let payment = NewPayment {
            state_id,
            sequence,
            new_session: (sequence == 0).then(|| NewSession {
                initial_price: PriceInfo::new(1, 1).unwrap(),
                idempotency_key: None,
            }),
            binding: Binding {
                account: "gateway".into(),
                auth_id: Some(AuthId::new("client:subject").unwrap()),
                orchestrator: Address::repeat_byte(7),
                app: "app".into(),
                job_type: BillingType::Lv2v,
                manifest: ManifestBinding { id: ManifestId::new("m1").unwrap(), named: true },
            },
            reservation,
            charged_wei: Wei::from_u64(100),
            face_value: Wei::from_u64(100),
            win_prob: U256::MAX,
            ticket_ev_wei: "100".parse().unwrap(),
            units: 1,
            fee_wei: "1".parse().unwrap(),
            answer: b"answer".to_vec(),
            auth_expiry: 9,
            event: Some(NewEvent { id, payload: payload.to_string().into_bytes() }),
            now_ns: 5_000_000_000,
        };
        let stored = self.ledger.commit(payment).await.unwrap();
        assert!(matches!(stored, Committed::Stored(_)), "{stored:?}");
    }

    /// Waits until nothing waits for delivery.
    pub async fn emptied(&self) {
        until("the outbox is empty", || async { self.ledger.backlog().await.unwrap().events == 0 })
            .await;
    }
}

async fn open(folder: &TempDir, replica: &str) -> Arc<dyn SignerLedger> {
    let url = format!("sqlite://{}", folder.path().join("signer.db").display());
    penstock_ledger::signer::open(&url, replica).await.unwrap()
}

/// A running deliverer.
pub struct Deliverer {
    pub dispatcher: Arc<Dispatcher>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Deliverer {
    pub fn start(ledger: &Arc<dyn SignerLedger>, args: EventsArgs) -> Self {
        let settings = args.settings().unwrap();
        let dispatcher = Arc::new(Dispatcher::new(Arc::clone(ledger), settings));
        dispatcher.check().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (dispatcher, stop) = (Arc::clone(&dispatcher), stop.clone());
            async move { dispatcher.run(stop).await }
        });
        Self { dispatcher, stop, task }
    }

    pub async fn report(&self) -> Value {
        serde_json::to_value(self.dispatcher.report().await.unwrap()).unwrap()
    }

    /// Ends it as a crash does: in the middle of whatever it does.
    pub async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Deliver to this sink, without any file.
pub fn to(sink: &str) -> EventsArgs {
    EventsArgs {
        events: Some(sink.to_owned()),
        events_token_file: None,
        events_hmac_key_file: None,
        events_kafka_config: None,
        events_gateway: None,
        events_lease_ms: 15_000,
    }
}

/// Sequence numbers by session in the order of first arrival; the same id twice counts once.
pub fn first_arrivals<'a>(
    events: impl IntoIterator<Item = &'a Value>,
) -> BTreeMap<String, Vec<u64>> {
    let mut seen = std::collections::HashSet::new();
    let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in events {
        if seen.insert(event["id"].as_str().unwrap().to_owned()) {
            let session = event["data"]["session_id"].as_str().unwrap().to_owned();
            let number = event["data"]["sequence_number"].as_u64().unwrap();
            sequences.entry(session).or_default().push(number);
        }
    }
    sequences
}

/// What `first_arrivals` must be after `pay(sessions, 0, to)`.
pub fn all_in_order(sessions: u32, to: u64) -> BTreeMap<String, Vec<u64>> {
    (0..sessions).map(|session| (format!("{session:08x}"), (0..to).collect())).collect()
}
