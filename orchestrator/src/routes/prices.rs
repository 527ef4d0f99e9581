//! Prices for their operator: what is in force, files read again, a price set for a gateway while the process runs
//! (operator.md section 4, `/setPriceForBroadcaster`), on the admin address; and for clients what the list says of
//! them, on the service port.

use crate::{
    byoc::error::ByocError, error::JobError, node::Node, pricing::book::Prices,
    runners::LiveRunners,
};
use axum::{
    Json,
    body::Bytes,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use penstock_domain::{Address, CurrencyPrice, parse_address};
use penstock_http_kit::ApiError;
use penstock_wire::json::ETH_ADDRESS_HEADER;
use serde_json::{Value, json};
use std::{borrow::Cow, collections::HashMap, sync::Arc};
use tokio::time::Instant;

#[allow(clippy::result_large_err, reason = "the error is the answer, made at most once")]
fn prices(node: &Node) -> Result<Arc<Prices>, ApiError> {
    node.cashier.as_ref().map(|cashier| Arc::clone(&cashier.prices)).ok_or_else(|| {
        ApiError::not_found("there are no prices with --network offchain").with_code("offchain")
    })
}

/// What is in force for whoever asks: for everybody, and for the gateway that it proves to be.
pub async fn published(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
) -> Result<Response, JobError> {
    let prices = match prices(&node) {
        Ok(prices) => prices,
        Err(error) => return Ok(error.into_response()),
    };
    let gateway = who_asks(&node, &headers)?;
    let json = HeaderValue::from_static("application/json");
    let body = beside(&prices.published(gateway), &others_prices(&node, &prices, gateway));
    Ok(([(header::CONTENT_TYPE, json)], vary(), body).into_response())
}

/// Answers are for whoever asks.
pub fn vary() -> [(HeaderName, HeaderValue); 1] {
    [(header::VARY, HeaderValue::from_static(ETH_ADDRESS_HEADER))]
}

/// The gateway that whoever asks proves to be, and nobody if it does not say.
pub fn who_asks(node: &Node, headers: &HeaderMap) -> Result<Address, JobError> {
    let Some(said) = headers.get(ETH_ADDRESS_HEADER) else { return Ok(Address::ZERO) };
    let said = said.to_str().map_err(|_| ByocError::Address)?;
    Ok(node.proven_sender(said)?.address)
}

/// What each brought capability and each live runner costs a gateway now, by the list or as it was registered.
fn others_prices(node: &Node, prices: &Prices, gateway: Address) -> Value {
    let rows =
        |runners: &Arc<LiveRunners>| runners.registry.price_rows(prices, gateway, Instant::now());
    let live_runners = node.runners.as_ref().map(rows).unwrap_or_default();
    json!({ "brought": node.byoc.price_rows(prices, gateway), "live_runners": live_runners })
}

/// One JSON object of the members of two. The list is text already, and may be long; so it is not read again.
fn beside(list: &[u8], own: &Value) -> Vec<u8> {
    let own = own.to_string();
    let (head, tail) =
        (list.strip_suffix(b"}").unwrap_or(list), own.strip_prefix('{').unwrap_or(&own));
    [head, b",", tail.as_bytes()].concat()
}

/// What is in force.
pub async fn view(State(node): State<Arc<Node>>) -> Result<Json<Value>, ApiError> {
    let prices = prices(&node)?;
    // Those first: they may be what the operator is warned of.
    let others = others_prices(&node, &prices, Address::ZERO);
    let mut view = prices.view();
    if let (Some(view), Value::Object(others)) = (view.as_object_mut(), others) {
        view.extend(others);
    }
    Ok(Json(view))
}

/// Reads the files again, now.
pub async fn reload(State(node): State<Arc<Node>>) -> Result<Json<Value>, ApiError> {
    let prices = prices(&node)?;
    let read = tokio::task::spawn_blocking(move || prices.reload()).await;
    match read.map_err(|_| ApiError::internal())? {
        Ok(changed) => Ok(Json(json!({ "changed": changed }))),
        Err(error) => {
            let text = format!("{error}; the prices of before hold");
            Err(ApiError::bad_request(text).with_code("bad_prices"))
        }
    }
}

/// A price of transcoding for one gateway, or `default` for all, until the process ends.
pub async fn set(
    State(node): State<Arc<Node>>,
    RawQuery(query): RawQuery,
    form: Bytes,
) -> Result<Response, ApiError> {
    let prices = prices(&node)?;
    // The form goes before the query, as in Go.
    let both = [query.unwrap_or_default().into_bytes(), form.to_vec()];
    let said: HashMap<Cow<'_, str>, Cow<'_, str>> =
        both.iter().flat_map(|text| url::form_urlencoded::parse(text)).collect();
    let value = |name: &str| said.get(name).map(|v| v.as_ref()).unwrap_or_default();
    for name in ["pricePerUnit", "pixelsPerUnit", "broadcasterEthAddr"] {
        if value(name).is_empty() {
            return Ok(bad(format!("missing form param: {name}")));
        }
    }
    let (price, units, name) =
        (value("pricePerUnit"), value("pixelsPerUnit"), value("broadcasterEthAddr"));
    let gateway = match (name, parse_address(name)) {
        ("default", _) => None,
        (_, Some(address)) => Some(address),
        (_, None) => return Ok(bad(format!("invalid broadcasterEthAddr: {name}"))),
    };
    let read = match CurrencyPrice::new(price, value("currency"), units) {
        Ok(read) => read,
        Err(error) => return Ok(bad(error.to_string())),
    };
    let done = tokio::task::spawn_blocking(move || prices.set(gateway, read)).await;
    if let Err(refused) = done.map_err(|_| ApiError::internal())? {
        return Ok(bad(refused.to_string()));
    }
    tracing::info!(price, units, currency = value("currency"), gateway = name, "a price was set");
    let currency = if value("currency").is_empty() { "wei" } else { value("currency") };
    let text = format!(
        "Price per pixel set to {price} {currency} for {units} pixels for broadcaster {name}\n"
    );
    Ok(text.into_response())
}

fn bad(why: String) -> Response {
    (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_objects_become_one() {
        let whole =
            beside(br#"{"prices":[{"a":1}]}"#, &json!({ "brought": [], "live_runners": [2] }));
        let read: Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(read, json!({ "prices": [{ "a": 1 }], "brought": [], "live_runners": [2] }));
    }
}
