//! Every failure's one place in HTTP.

use crate::{
    client::code,
    node::{NodeError, Rejection},
    state::AccountError,
};
use http::StatusCode;
use penstock_http_kit::ApiError;

/// The answer to a transaction that was not performed.
pub(super) fn answer(error: NodeError) -> ApiError {
    match error {
        NodeError::Rejected(rejection) => rejected(rejection),
        NodeError::Busy => ApiError::unavailable(error.to_string(), 1).with_code("busy"),
        NodeError::Stopping => ApiError::unavailable(error.to_string(), 1).with_code("stopping"),
        // The cause is in the log; the caller has to ask for the outcome.
        NodeError::Store(_) => ApiError::internal(),
    }
}

fn rejected(rejection: Rejection) -> ApiError {
    let text = rejection.to_string();
    match rejection {
        // The text is the contract's own, for callers that compare it.
        Rejection::Reverted(_) => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, text).with_code(code::REVERTED)
        }
        Rejection::Account(AccountError::Nonce { .. }) => {
            ApiError::new(StatusCode::CONFLICT, text).with_code(code::NONCE)
        }
        Rejection::Account(AccountError::Signature) => {
            ApiError::new(StatusCode::FORBIDDEN, text).with_code("signature")
        }
        Rejection::Account(AccountError::WrongChain) => {
            ApiError::new(StatusCode::CONFLICT, text).with_code("wrong_chain")
        }
        Rejection::Pool(_) => ApiError::new(StatusCode::CONFLICT, text).with_code("pool"),
        Rejection::Account(_) | Rejection::Mining(_) => {
            ApiError::bad_request(text).with_code("bad_request")
        }
    }
}
