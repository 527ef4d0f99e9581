//! Payments by a signer, for offers that orchestrators really make (`GetOrchestrator`): payment sessions that
//! go on from the state they were given, each paying once at a time.

use super::{
    super::{
        drive::Failure,
        scenario::Payments,
        tally::{Tally, Turn},
        target::Role,
    },
    Context, answers, run_name,
};
use penstock_clients::{
    OfferRequest, OrchestratorClient, OrchestratorOptions, PaidHeaders, PaymentContext,
    SignerClient,
};
use penstock_wire::json::{LivePaymentCall, PaymentState};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::JoinSet,
};

/// From when it was due to the signed tickets, waiting for a free session and new offers included.
const PAYMENT: &str = "payment";
/// From when it was due until its orchestrator has it.
const DELIVERY: &str = "delivery";
/// How a needed new offer is counted among the reasons; it is no failure.
const NEW_OFFER: &str = "480, and a new offer (no failure)";
/// New offers that one payment asks for at most.
const OFFERS: u32 = 3;
/// Offers asked for at once at the beginning.
const AT_ONCE: usize = 64;

/// A payment session.
#[derive(Debug)]
struct Session {
    orchestrator: String,
    manifest: String,
    offer: Vec<u8>,
    state: Option<PaymentState>,
}

/// Payment sessions and who signs for them.
pub struct Wallet {
    signer: SignerClient,
    orchestrators: OrchestratorClient,
    request: OfferRequest,
    units: i64,
    deliver: bool,
    free: Mutex<VecDeque<Session>>,
    places: Semaphore,
    tally: Arc<Tally>,
}

/// A session in use; it goes back when it is dropped, also by whoever lost patience.
struct Lease<'a> {
    wallet: &'a Wallet,
    session: Option<Session>,
    // Last: the session is there again when its place is.
    _place: SemaphorePermit<'a>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.wallet.free.lock().expect("nobody panics with it").push_back(session);
        }
    }
}

impl Wallet {
    pub async fn prepare(context: &Context<'_>, payments: &Payments) -> Result<Self, String> {
        let signer = context.signer(&context.place(Role::Signer)?)?;
        let who = signer.sign_orchestrator_info().await.map_err(|error| error.to_string())?;
        let options = OrchestratorOptions {
            info_timeout: context.load.timeout,
            payment_timeout: context.load.timeout,
            ..OrchestratorOptions::default()
        };
        let orchestrators = OrchestratorClient::new(options).map_err(|e| e.to_string())?;
        let request = OfferRequest {
            address: who.address,
            sig: who.signature,
            ignore_capacity_check: true,
            ..OfferRequest::default()
        };
        let places: Vec<String> =
            context.target.all(Role::Orchestrator).map(ToString::to_string).collect();
        let (run, mut tasks, mut free) = (run_name(), JoinSet::new(), VecDeque::new());
        for number in 0..payments.sessions {
            let orchestrator = places[number % places.len()].clone();
            let manifest = format!("{run}-{number}");
            let (client, request) = (orchestrators.clone(), request.clone());
            tasks.spawn(async move {
                let offered = client.get_orchestrator(&orchestrator, &request, None).await?;
                Ok(Session { orchestrator, manifest, offer: offered.encoded, state: None })
            });
            if tasks.len() >= AT_ONCE || number + 1 == payments.sessions {
                while let Some(made) = tasks.join_next().await {
                    let made: Result<Session, penstock_clients::CallError> =
                        made.expect("an offer is asked for without a panic");
                    free.push_back(made.map_err(|error| error.to_string())?);
                }
            }
        }
        Ok(Self {
            signer,
            orchestrators,
            request,
            units: i64::try_from(payments.units).map_err(|error| error.to_string())?,
            deliver: payments.deliver,
            places: Semaphore::new(free.len()),
            free: Mutex::new(free),
            tally: Arc::clone(context.tally),
        })
    }

    async fn lease(&self) -> Lease<'_> {
        let place = self.places.acquire().await.expect("nobody closes it");
        let session = self.free.lock().expect("nobody panics with it").pop_front();
        Lease { wallet: self, session, _place: place }
    }

    pub async fn run(&self, turn: Turn) -> Result<(), Failure> {
        let mut lease = self.lease().await;
        let session = lease.session.as_mut().expect("as many sessions as places");
        let mut offers = 0;
        let paid = loop {
            let call = LivePaymentCall {
                orchestrator: &session.offer,
                state: session.state.as_ref(),
                manifest_id: &session.manifest,
                in_pixels: self.units,
                ..LivePaymentCall::default()
            };
            // Counts for the first payment; later ones are named by their state.
            let idempotency_key = Some(session.manifest.as_str());
            let context = PaymentContext { idempotency_key, ..PaymentContext::default() };
            match self.signer.generate_live_payment(&call, context).await {
                Ok(paid) => break paid.answer,
                Err(error) if error.status() == Some(480) && offers < OFFERS => {
                    offers += 1;
                    self.tally.reason(NEW_OFFER, 1);
                    let place = &session.orchestrator;
                    let offered =
                        self.orchestrators.get_orchestrator(place, &self.request, None).await;
                    session.offer = offered.map_err(|error| answers::words(&error))?.encoded;
                }
                Err(error) => return Err(answers::words(&error)),
            }
        };
        session.state = Some(paid.state);
        self.tally.record(PAYMENT, turn.due, turn.begun);
        if self.deliver {
            let headers =
                PaidHeaders { payment: paid.payment, segment: paid.seg_creds, traceparent: None };
            let delivered = self.orchestrators.pay(&session.orchestrator, &headers).await;
            delivered.map_err(|error| answers::words(&error))?;
            self.tally.record(DELIVERY, turn.due, turn.begun);
        }
        Ok(())
    }
}
