//! The payment state of a Go signer (remote-signer.md section 8), field by field in its order and
//! formats. Our signer issues states of its own; this is for looking into a foreign one.

use serde::{Deserialize, Serialize};

/// What a Go signer keeps in its clients' hands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GoSignerState {
    /// 8 hex digits, fixed for the state's life.
    #[serde(rename = "StateID")]
    pub state_id: String,
    /// `0x` and the recipientRand hash of the last batch.
    #[serde(rename = "PMSessionID")]
    pub pm_session_id: String,
    /// RFC 3339 with nanoseconds.
    pub last_update: String,
    /// `0x` and 40 lowercase digits.
    pub orchestrator_address: String,
    /// Application label.
    pub app: String,
    /// Unix seconds until which the auth webhook is not asked again; 0 is never.
    pub auth_expiry: i64,
    /// Last nonce used.
    pub sender_nonce: u32,
    /// `n` or `n/d`, may be negative.
    pub balance: String,
    /// Price of the first request, wei.
    pub initial_price_per_unit: i64,
    /// Price of the first request, units.
    pub initial_pixels_per_unit: i64,
    /// `lv2v`, `live`, `fixed` or empty.
    #[serde(rename = "Type")]
    pub job_type: String,
    /// 0 for the first answer.
    pub sequence_number: u64,
    /// Who pays, as the webhook named it.
    #[serde(rename = "AuthID")]
    pub auth_id: String,
}
