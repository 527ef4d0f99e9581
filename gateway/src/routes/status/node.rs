//! `/status` and `/debug`: streams and orchestrators. Streams are the fleet's, from the session store.

use super::{Shared, pools};
use crate::{clock, error::GatewayError, media::playlist, openapi::ErrorBody};
use axum::{Json, extract::State};
use penstock_domain::StreamId;
use penstock_store::HlsTrack;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use url::Url;

/// Streams and orchestrators
///
/// `Manifests` by id, with their renditions; `InternalManifests`: ids by the name in the URL that was
/// pushed to, where a webhook or a header gave another; `StreamInfo`: bytes that came in, and bytes of
/// renditions; orchestrators with score and latency in nanoseconds. A gateway transcodes nothing itself.
#[utoipa::path(
    get, path = "/status", tag = "go",
    responses(
        (status = 200, description = "As the Go node writes it", body = Value),
        (status = 503, description = "The store is away", body = ErrorBody),
    )
)]
pub(super) async fn status(State(gateway): State<Shared>) -> Result<Json<Value>, GatewayError> {
    let now = clock::now();
    let (mut manifests, mut names, mut bytes) = (Map::new(), Map::new(), Map::new());
    for (id, record) in gateway.streams().await? {
        if gateway.is_over(record.last_used_at, now) {
            continue;
        }
        let state = gateway.stream_state(&id).await?;
        let tracks = state.map(|(_, window)| window.tracks).unwrap_or_default();
        manifests.insert(id.to_string(), manifest(&id, &tracks));
        let (came, made) = (record.source_bytes, record.rendition_bytes);
        bytes.insert(id.to_string(), json!({ "SourceBytes": came, "TranscodedBytes": made }));
        if let Some(name) = record.pushed_as {
            names.insert(name, json!(id.as_str()));
        }
    }
    let mut members = BTreeMap::new();
    for (_, _, entries, _) in pools(&gateway).await? {
        for entry in entries {
            members.insert(entry.transcoder, (entry.score, entry.latency_ms));
        }
    }
    let infos: Vec<_> = members
        .iter()
        .map(|(uri, (score, latency_ms))| {
            json!({
                "Url": go_url(uri),
                "Score": score,
                // A Go duration: nanoseconds.
                "Latency": latency_ms.saturating_mul(1_000_000),
            })
        })
        .collect();
    Ok(Json(json!({
        "Manifests": manifests,
        "InternalManifests": names,
        "StreamInfo": bytes,
        "OrchestratorPool": members.keys().collect::<Vec<_>>(),
        "OrchestratorPoolInfos": infos,
        "Version": env!("CARGO_PKG_VERSION"),
        "GolangRuntimeVersion": "",
        "GOArch": std::env::consts::ARCH,
        "GOOS": std::env::consts::OS,
        "RegisteredTranscodersNumber": 0,
        "RegisteredTranscoders": [],
        "LocalTranscoding": false,
        "BroadcasterPrices": {},
    })))
}

/// A master playlist, as the Go node's library for them writes it in JSON.
fn manifest(id: &StreamId, tracks: &[HlsTrack]) -> Value {
    let variants: Vec<_> = tracks
        .iter()
        .map(|track| {
            let size = (track.width > 0).then(|| format!("{}x{}", track.width, track.height));
            json!({
                "URI": format!("{id}/{}.m3u8", playlist::path_element(&track.name)),
                "Chunklist": null,
                "ProgramId": 0,
                "Bandwidth": track.bandwidth,
                "Codecs": track.codecs.clone().unwrap_or_default(),
                "Resolution": size.unwrap_or_default(),
                "Name": track.name,
            })
        })
        .collect();
    json!({ "Variants": variants })
}

/// The newest stream's master playlist
#[utoipa::path(
    get, path = "/debug", tag = "go",
    responses(
        (status = 200, description = "As text; `<nil>` if there is none", body = String),
        (status = 503, description = "The store is away", body = ErrorBody),
    )
)]
pub(super) async fn debug(State(gateway): State<Shared>) -> Result<String, GatewayError> {
    let newest = gateway.streams().await?.into_iter().next();
    let window = match &newest {
        Some((id, _)) => gateway.stream_state(id).await?.map(|(_, window)| (id, window)),
        None => None,
    };
    let text = window.and_then(|(id, window)| playlist::master(id, &window));
    Ok(format!("\n\nLatestPlaylist: {}", text.as_deref().unwrap_or("<nil>")))
}

/// A Go `url.URL` as its JSON.
fn go_url(uri: &str) -> Value {
    let url = Url::parse(uri).ok();
    let host = url.as_ref().and_then(|u| {
        let port = u.port().map(|p| format!(":{p}")).unwrap_or_default();
        Some(format!("{}{port}", u.host_str()?))
    });
    json!({
        "Scheme": url.as_ref().map(Url::scheme).unwrap_or_default(),
        "Opaque": "",
        "User": null,
        "Host": host.unwrap_or_default(),
        "Path": url.as_ref().map(Url::path).filter(|p| *p != "/").unwrap_or_default(),
        "RawPath": "",
        "OmitHost": false,
        "ForceQuery": false,
        "RawQuery": "",
        "Fragment": "",
        "RawFragment": "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_writes_them() {
        let url = go_url("https://o.example:8935");
        assert_eq!(url["Scheme"], "https");
        assert_eq!(
            (url["Host"].as_str(), url["Path"].as_str()),
            (Some("o.example:8935"), Some(""))
        );
    }
}
