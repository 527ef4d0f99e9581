//! PKCS#11's return values, sorted by what helps.

use cryptoki::error::{Error, RvError};
use penstock_keys::KeyError;

/// What an operator reads, and whether a retry may help.
pub(crate) fn key_error(error: Error) -> KeyError {
    let denied = match &error {
        Error::Pkcs11(rv, _) => pin_refused(rv) || not_permitted(rv),
        Error::LibraryLoading(_) | Error::MissingSymbol(_) | Error::NullFunctionPointer => true,
        _ => false,
    };
    let text = format!("PKCS#11: {error}");
    if denied { KeyError::Denied(text) } else { KeyError::Unavailable(text) }
}

/// The PIN is wrong or locked: trying it again would only lock the token.
pub(crate) fn pin_refused(rv: &RvError) -> bool {
    matches!(
        rv,
        RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinExpired
            | RvError::PinLocked
    )
}

fn not_permitted(rv: &RvError) -> bool {
    matches!(
        rv,
        RvError::KeyFunctionNotPermitted
            | RvError::KeyTypeInconsistent
            | RvError::MechanismInvalid
            | RvError::CurveNotSupported
            | RvError::FunctionNotSupported
            | RvError::TokenWriteProtected
            | RvError::TemplateInconsistent
            | RvError::TemplateIncomplete
            | RvError::AttributeValueInvalid
    )
}
