//! The gRPC service of a redeemer: `QueueTicket`, `MaxFloat`, `MonitorMaxFloat`. Codes and texts are the
//! reference's where it has any; a refusal changes nothing.

use super::watched;
use crate::{clock, service::funds::Funds};
use futures::stream::BoxStream;
use penstock_config::Secret;
use penstock_domain::{Address, U256};
use penstock_http_kit::CancellationToken;
use penstock_ledger::orchestrator::{QueueLimits, Queued};
use penstock_payments::{
    ExpirationParams, NotAWinner, RecipientRand, Signature, Ticket, Winner, oldest_redeemable_round,
};
use penstock_wire::{
    WireError, net,
    redeemer::{WinnerFields, read_max_float_request, write_max_float},
};
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, metadata::MetadataMap};

/// Blocks of L1 that an offer lives at most, generously: ours live 40.
const MOST_BLOCKS: u64 = 7_200;

/// A redeemer, as its peers see it.
pub struct Service {
    /// Whose tickets are taken.
    pub recipient: Address,
    /// Where they go.
    pub funds: Funds,
    /// How many wait at most.
    pub limits: QueueLimits,
    /// What a caller has to know.
    pub secret: Option<Secret>,
    /// Room for streams.
    pub streams: Arc<Semaphore>,
    /// Ends streams.
    pub stop: CancellationToken,
}

/// Why a ticket, or a question, is refused.
#[derive(Debug, Error)]
enum Refusal {
    /// The caller does not know the secret. Its operator has to look.
    #[error("invalid secret")]
    Stranger,
    /// Not the message that was expected: the caller's fault, final.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// For somebody else: the caller has the wrong redeemer.
    #[error(
        "invalid ticket recipient {}, expected {expected}",
        penstock_domain::address_lower(given)
    )]
    Recipient { given: Address, expected: Address },
    /// Not the sender's, or not a winner: the caller's fault, final.
    #[error(transparent)]
    NotAWinner(#[from] NotAWinner),
    /// The chain takes it no more: final.
    #[error("the ticket is of round {round}, and the chain takes none from before {oldest}")]
    Expired { round: u64, oldest: u64 },
    /// Of no offer that lives: final.
    #[error("the ticket is of a round or a block that is far in the future")]
    TooFar,
    /// No room: later.
    #[error(
        "too many winning tickets wait (--redeemer-max-tickets, --redeemer-max-sender-tickets)"
    )]
    Full,
    /// No room: later.
    #[error("too many streams of max floats (--redeemer-max-streams)")]
    TooManyStreams,
    /// Ours: the ledger, or the chain. Later.
    #[error("{0}")]
    Ours(String),
}

impl Refusal {
    /// For the metric.
    fn why(&self) -> &'static str {
        match self {
            Self::Stranger => "secret",
            Self::Malformed(_) => "malformed",
            Self::Recipient { .. } => "recipient",
            Self::NotAWinner(_) => "not_a_winner",
            Self::Expired { .. } => "expired",
            Self::TooFar => "too_far",
            Self::Full | Self::TooManyStreams => "full",
            Self::Ours(_) => "internal",
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        metrics::counter!("redeemer_requests_refused_total", "why" => refusal.why()).increment(1);
        match refusal {
            Refusal::Stranger => Self::unauthenticated(text),
            Refusal::Malformed(_) | Refusal::NotAWinner(_) => Self::invalid_argument(text),
            Refusal::Recipient { .. } => Self::permission_denied(text),
            Refusal::Expired { .. } | Refusal::TooFar => Self::failed_precondition(text),
            Refusal::Full | Refusal::TooManyStreams => Self::resource_exhausted(text),
            Refusal::Ours(_) => Self::internal(text),
        }
    }
}

#[tonic::async_trait]
impl net::ticket_redeemer_server::TicketRedeemer for Service {
    async fn queue_ticket(
        &self,
        request: Request<net::Ticket>,
    ) -> Result<Response<net::QueueTicketRes>, Status> {
        self.admit(request.metadata())?;
        let winner = self.read(request.get_ref())?;
        let queued = self.store(&winner).await;
        if let Err(refusal) = &queued {
            tracing::warn!(ticket = %winner.ticket_hash, %refusal, "a ticket is not taken");
        }
        queued?;
        Ok(Response::new(net::QueueTicketRes {}))
    }

    async fn max_float(
        &self,
        request: Request<net::MaxFloatReq>,
    ) -> Result<Response<net::MaxFloatUpdate>, Status> {
        self.admit(request.metadata())?;
        let sender = read_max_float_request(request.get_ref()).map_err(Refusal::from)?;
        let max_float = watched::max_float(&self.funds, sender).await;
        let max_float = max_float.map_err(|error| Refusal::Ours(error.to_string()))?;
        Ok(Response::new(write_max_float(max_float)))
    }

    type MonitorMaxFloatStream = BoxStream<'static, Result<net::MaxFloatUpdate, Status>>;

    async fn monitor_max_float(
        &self,
        request: Request<net::MaxFloatReq>,
    ) -> Result<Response<Self::MonitorMaxFloatStream>, Status> {
        self.admit(request.metadata())?;
        let sender = read_max_float_request(request.get_ref()).map_err(Refusal::from)?;
        let room = Arc::clone(&self.streams).try_acquire_owned();
        let room = room.map_err(|_| Refusal::TooManyStreams)?;
        let changes = watched::changes(self.funds.clone(), sender, room, self.stop.clone());
        Ok(Response::new(Box::pin(changes)))
    }
}

impl Service {
    fn admit(&self, metadata: &MetadataMap) -> Result<(), Refusal> {
        let Some(secret) = &self.secret else { return Ok(()) };
        let given = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let knows: bool = secret.expose().as_bytes().ct_eq(given.as_bytes()).into();
        if knows { Ok(()) } else { Err(Refusal::Stranger) }
    }

    /// Everything that can be told of a ticket without the books.
    fn read(&self, message: &net::Ticket) -> Result<Winner, Refusal> {
        let winner = winner(WinnerFields::try_from(message)?)?;
        let given = winner.ticket.recipient;
        if given != self.recipient {
            return Err(Refusal::Recipient { given, expected: self.recipient });
        }
        winner.prove()?;
        // While the chain was never seen, nothing is refused for its age: it is closed later.
        if let Some(snapshot) = self.funds.chain.latest() {
            let oldest = oldest_redeemable_round(snapshot.rounds.last_initialized_round);
            let round = winner.ticket.expiration_params.creation_round;
            if round < oldest {
                return Err(Refusal::Expired { round, oldest });
            }
            // No offer lives so long: such a row would wait for ever and take the room of others.
            let (round_limit, block) =
                (snapshot.rounds.last_initialized_round, snapshot.rounds.last_seen_l1_block);
            let is_later = round > round_limit.saturating_add(1)
                || winner.params_expiration_block > U256::from(block.saturating_add(MOST_BLOCKS));
            if is_later {
                return Err(Refusal::TooFar);
            }
        }
        Ok(winner)
    }

    /// On disk when this returns `Ok`.
    async fn store(&self, winner: &Winner) -> Result<(), Refusal> {
        penstock_failpoint::hit("redeemer.before_store");
        let queued = self.funds.ledger.queue_winner(winner, self.limits, clock::now_ms()).await;
        match queued.map_err(|error| Refusal::Ours(error.to_string()))? {
            Queued::Now => {
                metrics::counter!("redeemer_tickets_queued_total").increment(1);
                tracing::info!(ticket = %winner.ticket_hash, sender = %winner.ticket.sender,
                    face_value_wei = %winner.ticket.face_value, "a winning ticket is stored");
            }
            Queued::Before => {
                tracing::debug!(ticket = %winner.ticket_hash, "a ticket was stored before");
            }
            Queued::Full => return Err(Refusal::Full),
        }
        penstock_failpoint::hit("redeemer.after_store");
        Ok(())
    }
}

fn winner(fields: WinnerFields) -> Result<Winner, Refusal> {
    let signature = Signature::from_slice(&fields.sig).map_err(NotAWinner::Signature)?;
    let ticket = Ticket {
        recipient: fields.recipient,
        sender: fields.sender,
        face_value: fields.face_value,
        win_prob: fields.win_prob,
        sender_nonce: fields.sender_nonce,
        recipient_rand_hash: fields.recipient_rand_hash,
        expiration_params: ExpirationParams {
            creation_round: fields.expiration_params.creation_round,
            creation_round_block_hash: fields.expiration_params.creation_round_block_hash,
        },
    };
    Ok(Winner {
        ticket_hash: ticket.hash(),
        ticket,
        signature,
        recipient_rand: RecipientRand::from_bytes(fields.recipient_rand.to_be_bytes()),
        params_expiration_block: fields.expiration_block,
    })
}
