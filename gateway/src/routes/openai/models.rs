//! `GET /v1/models`: models that the network has now, of the pipelines that these paths use, and those of
//! the brought capability that serves embeddings.

use super::{
    OpenAiError, Shared, answer,
    answers::{Model, Models},
};
use crate::{error::GatewayError, front::caller::CallerExt, service::ai::menu::MenuCapability};
use axum::{
    extract::{Path, State},
    response::Response,
};
use std::collections::BTreeSet;

/// Pipelines behind the /v1 paths.
const SERVED: [&str; 4] = ["llm", "audio-to-text", "text-to-image", "text-to-speech"];

/// Models
#[utoipa::path(
    get, path = "/v1/models", tag = "openai",
    responses(
        (status = 200, description = "Models that the caller may use, and other names for them", body = Models),
        (status = 503, description = "Signer or store not available now", body = OpenAiError),
    )
)]
pub(super) async fn list(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
) -> Result<Response, GatewayError> {
    let data = names(&gateway, &caller).await?.into_iter().map(entry).collect();
    Ok(answer(&Models { object: "list", data }))
}

/// A model
#[utoipa::path(
    get, path = "/v1/models/{*model}", tag = "openai",
    params(("model" = String, Path, description = "Its id, or another name for it")),
    responses(
        (status = 200, description = "It is there", body = Model),
        (status = 404, description = "Nobody has it", body = OpenAiError),
        (status = 503, description = "Signer or store not available now", body = OpenAiError),
    )
)]
pub(super) async fn one(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
    Path(model): Path<String>,
) -> Result<Response, GatewayError> {
    let names = names(&gateway, &caller).await?;
    if names.contains(&model) { Ok(answer(&entry(model))) } else { Err(GatewayError::NotFound) }
}

fn entry(id: String) -> Model {
    Model { id, object: "model", created: 0, owned_by: "livepeer" }
}

async fn names(
    gateway: &Shared,
    caller: &crate::front::caller::Caller,
) -> Result<BTreeSet<String>, GatewayError> {
    let menu = gateway.menu(caller).await?;
    let served = menu.capabilities.iter().filter(|c| SERVED.contains(&c.pipeline.as_str()));
    let mut names = BTreeSet::new();
    for capability in served {
        let pipeline = capability.pipeline.as_str();
        let models = capability.models.iter().map(|m| m.model.clone());
        names.extend(models.filter(|model| caller.may_use(&format!("{pipeline}/{model}"))));
    }
    let aliases = &gateway.settings.ai.aliases;
    let also: Vec<_> =
        aliases.iter().filter(|(_, m)| names.contains(*m)).map(|(n, _)| n.clone()).collect();
    names.extend(also);
    // Their requests go to the worker as they are, so that other names would not be understood.
    let ai = &gateway.settings.ai;
    let brought = ai.embeddings_capability.as_ref().filter(|name| {
        let has = |c: &MenuCapability| {
            c.pipeline == "byoc" && c.models.iter().any(|model| model.model == **name)
        };
        caller.may_use(&format!("byoc/{name}")) && menu.capabilities.iter().any(has)
    });
    names.extend(brought.into_iter().flat_map(|_| ai.embeddings_models.iter().cloned()));
    Ok(names)
}
