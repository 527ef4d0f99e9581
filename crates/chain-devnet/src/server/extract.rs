//! Bodies and paths: bounded, and their faults in the error envelope.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::JsonRejection},
};
use http::request::Parts;
use penstock_http_kit::ApiError;
use serde::de::DeserializeOwned;

/// A request body of this shape.
pub(super) struct Body<T>(pub T);

impl<T, S> FromRequest<S> for Body<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(fault(&rejection)),
        }
    }
}

fn fault(rejection: &JsonRejection) -> ApiError {
    match rejection.status().as_u16() {
        413 => ApiError::too_large(u64::try_from(super::MAX_BODY).unwrap_or(u64::MAX)),
        // Asked for because a browser cannot send it across sites without permission.
        415 => ApiError::new(rejection.status(), "send Content-Type: application/json")
            .with_code("content_type"),
        _ => ApiError::bad_request(rejection.body_text()).with_code("bad_request"),
    }
}

/// The variable parts of a path.
pub(super) struct Segments<T>(pub T);

impl<T, S> FromRequestParts<S> for Segments<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(segments) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|e| ApiError::bad_request(e.body_text()).with_code("bad_request"))?;
        Ok(Self(segments))
    }
}
