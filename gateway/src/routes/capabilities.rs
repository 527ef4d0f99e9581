//! `GET /v1/capabilities`: what the network offers, and what the operator publishes.

use super::Shared;
use crate::{
    error::GatewayError, front::caller::CallerExt, openapi::ErrorBody, service::ai::menu::Menu,
};
use axum::{Json, extract::State};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(capabilities))
}

/// Capabilities, models and prices
///
/// Of every orchestrator that is known, at most half a minute old. Prices are exact, in wei per unit:
/// what the network takes, and what the operator of this gateway publishes.
#[utoipa::path(
    get, path = "/v1/capabilities", tag = "ai",
    responses(
        (status = 200, description = "The menu", body = Menu),
        (status = 503, description = "Signer or store not available now", body = ErrorBody),
    )
)]
pub async fn capabilities(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
) -> Result<Json<Menu>, GatewayError> {
    let mut menu = gateway.menu(&caller).await?;
    // A caller sees what the caller may use.
    for capability in &mut menu.capabilities {
        let pipeline = capability.pipeline.clone();
        capability.models.retain(|model| caller.may_use(&format!("{pipeline}/{}", model.model)));
    }
    menu.capabilities.retain(|capability| !capability.models.is_empty());
    Ok(Json(menu))
}
