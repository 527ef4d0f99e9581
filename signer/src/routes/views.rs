//! JSON shapes: those that only the API document needs, and those of the operator's lists.

use penstock_ledger::signer::{PaymentRow, Session, Summary};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{
    Modify, ToSchema,
    openapi::{
        OpenApi,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

/// Names the one way to authenticate.
pub(super) struct BearerAuth;

impl Modify for BearerAuth {
    fn modify(&self, openapi: &mut OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A token of --auth-token-file; not needed when there is no such file.",
            ))
            .build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Any answer that is not a success.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct ErrorBody {
    error: ErrorText,
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct ErrorText {
    /// For people.
    message: String,
    /// For programs.
    code: String,
}

/// Address and signature of the signer.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct SignInfo {
    /// `0x` and 40 hex digits, checksummed.
    address: String,
    /// `0x` and 130 lowercase hex digits.
    signature: String,
}

/// Opaque; to be sent back unchanged.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct PaymentState {
    /// Base64.
    #[schema(rename = "State", content_encoding = "base64")]
    state: String,
    /// Base64.
    #[schema(rename = "Sig", content_encoding = "base64")]
    sig: String,
}

/// What a payment is asked for with. Keys are read without regard to case.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct PaymentRequest {
    /// Protobuf `OrchestratorInfo`.
    #[schema(content_encoding = "base64")]
    orchestrator: String,
    /// Of the previous answer; absent on a first request.
    state: Option<PaymentState>,
    /// Ties to the orchestrator's accounting; needed once there is a state. At most 64 printable
    /// ASCII characters.
    #[schema(rename = "ManifestID")]
    manifest_id: Option<String>,
    /// Application label, the same throughout a payment session.
    app: Option<String>,
    /// Units to bill when the type is empty.
    #[schema(rename = "inPixels")]
    in_pixels: Option<i64>,
    /// `lv2v`, `live`, `fixed` or empty.
    #[schema(rename = "type")]
    job_type: Option<String>,
    /// Ceiling of this request.
    #[schema(rename = "maxPrice")]
    max_price: Option<MaxPrice>,
    /// Protobuf `Capabilities`, for the credential and for price limits.
    #[schema(content_encoding = "base64")]
    capabilities: Option<String>,
}

/// A price that is read exactly.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct MaxPrice {
    /// A decimal above 0; a string holding one will do too.
    price: f64,
    /// `wei`
    currency: String,
    /// `seconds`, `720p-pixel-seconds` or `fixed`, by type.
    unit: String,
}

/// Both headers, ready to be sent, and the next state.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct PaymentAnswer {
    /// `Livepeer-Payment`
    payment: String,
    /// `Livepeer-Segment`
    #[schema(rename = "segCreds")]
    seg_creds: String,
    state: PaymentState,
}

/// What a segment's credential is asked for with.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct CredentialsRequest {
    /// Any state of the payment session.
    state: PaymentState,
    /// Protobuf `SegData` without signature.
    #[schema(content_encoding = "base64")]
    segment: String,
}

/// The signed credential.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct CredentialsAnswer {
    /// `Livepeer-Segment`
    #[schema(rename = "segCreds")]
    seg_creds: String,
}

/// A job whose request is to be signed.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct ByocJobRequest {
    /// The client's job id.
    #[schema(min_length = 1, max_length = 256)]
    id: String,
    /// Whose capability it is for.
    #[schema(min_length = 1, max_length = 256)]
    capability: String,
    /// A JSON object as text.
    request: String,
    /// A JSON object as text, or empty.
    parameters: Option<String>,
    /// How long the job may take.
    #[schema(minimum = 1)]
    timeout_seconds: u32,
}

/// Who pays for the job.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct ByocJobAnswer {
    /// `0x` and 40 hex digits, checksummed.
    sender: String,
    /// `0x` and 130 lowercase hex digits.
    signature: String,
}

/// One orchestrator.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct DiscoveryEntry {
    /// Service URI.
    address: String,
    /// Always 1.
    score: f64,
    /// `pipeline/model` names and applications, sorted.
    capabilities: Vec<String>,
    /// Applications running there.
    runners: Option<Vec<DiscoveryRunner>>,
    /// What is bonded to whom tickets to it pay, in units of 10^-18 LPT, a text of digits; left out where the chain tells of
    /// none. The Go node's signer never has it.
    stake_lptu: Option<String>,
}

/// One application runner.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct DiscoveryRunner {
    url: String,
    gpu: Option<DiscoveryGpu>,
    app: String,
    version: Option<String>,
    metadata: Option<String>,
    mode: Option<String>,
    capacity: u32,
    capacity_used: u32,
    capacity_available: u32,
    price_info: Option<MaxPrice>,
}

/// A runner's GPU.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct DiscoveryGpu {
    id: Option<String>,
    name: Option<String>,
    vram_mb: Option<u32>,
}

/// One payment. Wei are text, `n` or `n/d`; so is the chance, out of 2^256 − 1.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PaymentView {
    state_id: String,
    sequence: u64,
    account: String,
    auth_id: Option<String>,
    manifest_id: String,
    orchestrator: String,
    #[serde(rename = "type")]
    job_type: &'static str,
    num_tickets: u32,
    face_value_wei: String,
    win_prob: String,
    ticket_ev_wei: String,
    units: u64,
    fee_wei: String,
    balance_wei: String,
    first_nonce: u32,
    last_nonce: u32,
    recipient_rand_hash: String,
    created_at: String,
}

impl From<PaymentRow> for PaymentView {
    fn from(row: PaymentRow) -> Self {
        Self {
            state_id: row.state_id.into(),
            sequence: row.sequence,
            account: row.account,
            auth_id: row.auth_id.map(Into::into),
            manifest_id: row.manifest_id.into(),
            orchestrator: row.orchestrator.to_string(),
            job_type: row.job_type.as_str(),
            num_tickets: row.num_tickets,
            face_value_wei: row.face_value.to_string(),
            win_prob: row.win_prob.to_string(),
            ticket_ev_wei: row.ticket_ev_wei.to_string(),
            units: row.units,
            fee_wei: row.fee_wei.to_string(),
            balance_wei: row.balance_wei.to_string(),
            first_nonce: row.first_nonce,
            last_nonce: row.last_nonce,
            recipient_rand_hash: format!("{:#x}", row.recipient_rand_hash),
            created_at: moment(row.created_at_ms),
        }
    }
}

/// One payment session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionView {
    state_id: String,
    sequence: u64,
    account: String,
    auth_id: Option<String>,
    manifest_id: String,
    orchestrator: String,
    app: String,
    #[serde(rename = "type")]
    job_type: &'static str,
    initial_price_wei: String,
    tickets: u64,
    ticket_ev_total_wei: String,
    fee_total_wei: String,
    balance_wei: String,
    created_at: String,
    updated_at: String,
}

impl From<Session> for SessionView {
    fn from(session: Session) -> Self {
        let binding = session.binding;
        Self {
            state_id: session.state_id.into(),
            sequence: session.sequence,
            account: binding.account,
            auth_id: binding.auth_id.map(Into::into),
            manifest_id: binding.manifest.id.into(),
            orchestrator: binding.orchestrator.to_string(),
            app: binding.app,
            job_type: binding.job_type.as_str(),
            initial_price_wei: session.initial_price.rational().to_string(),
            tickets: session.tickets,
            ticket_ev_total_wei: session.ticket_ev_total_wei.to_string(),
            fee_total_wei: session.fee_total_wei.to_string(),
            balance_wei: session.balance_wei.to_string(),
            created_at: moment(session.created_at_ms),
            updated_at: moment(session.last_update_ns.div_euclid(1_000_000)),
        }
    }
}

/// Totals.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SummaryView {
    payments: u64,
    tickets: u64,
    ticket_ev_total_wei: String,
    fee_total_wei: String,
    /// `fee_total_wei` is too large by less than this; 0: it is exact.
    fee_rounding_wei: u64,
    balance_total_wei: String,
}

impl From<Summary> for SummaryView {
    fn from(total: Summary) -> Self {
        Self {
            payments: total.payments,
            tickets: total.tickets,
            ticket_ev_total_wei: total.ticket_ev_total_wei.to_string(),
            fee_total_wei: total.fee_total_wei.to_string(),
            fee_rounding_wei: total.fee_rounding_wei,
            balance_total_wei: total.balance_total_wei.to_string(),
        }
    }
}

/// RFC 3339, UTC, milliseconds.
pub(super) fn moment(unix_ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms).saturating_mul(1_000_000))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}
