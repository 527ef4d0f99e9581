//! What clients do with live runners, and runners for their sessions (live-runner.md sections 5 to 7).

use crate::{
    error::JobError,
    node::Node,
    runners::{Asked, Behind, Mode, Once, error::RunnerError},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, StatusCode, header};
use penstock_telemetry::trace::carried;
use penstock_wire::{
    json::{WantedChannel, parse_proxy_target},
    net,
};
use prost::Message;
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;
use tower::ServiceExt as _;

/// Who acts for a session.
const TOKEN: &str = "livepeer-session-token";

type Session = Path<(String, String)>;

/// A client wants a session.
pub async fn reserve(
    State(node): State<Arc<Node>>,
    Path(route): Path<String>,
    headers: HeaderMap,
) -> Result<Response, JobError> {
    let begun = match ask(&node, &route, Mode::Persistent, headers).await? {
        Asked::Challenge(body) => return Ok(challenge(body)),
        Asked::Reserved(begun) => begun,
    };
    let runners = node.runners()?;
    let app_url = runners.app_url(&begun.reserved)?;
    let name = begun.reserved.name.clone();
    let control_url = runners.registry.control_url(&route, &name);
    begun.reserved.keep();
    let answer = json!({ "session_id": name, "app_url": app_url, "control_url": control_url });
    Ok(Json(answer).into_response())
}

/// In a task of its own, to its end: a payment is taken whole. A client that hangs up in the middle
/// leaves a session that is released at once.
async fn ask(
    node: &Arc<Node>,
    route: &str,
    mode: Mode,
    headers: HeaderMap,
) -> Result<Asked, JobError> {
    if node.is_draining() {
        return Err(JobError::Draining);
    }
    let running = node.jobs.token();
    let (asking, route) = (Arc::clone(node), route.to_owned());
    let asked = tokio::spawn(carried(async move {
        let asked = asking.ask_runner(&route, mode, &headers).await;
        drop(running);
        asked
    }));
    asked.await.map_err(|_| RunnerError::Internal)?
}

fn challenge(body: serde_json::Value) -> Response {
    (StatusCode::PAYMENT_REQUIRED, Json(body)).into_response()
}

/// A client ends a session.
pub async fn stop(
    State(node): State<Arc<Node>>,
    Path((route, name)): Session,
) -> Result<StatusCode, JobError> {
    node.runners()?.registry.stop_session(&route, &name, Instant::now())?;
    Ok(StatusCode::NO_CONTENT)
}

/// A client pays on.
pub async fn payment(
    State(node): State<Arc<Node>>,
    Path((route, name)): Session,
    headers: HeaderMap,
) -> Result<Response, JobError> {
    let offer = node.pay_runner(&route, &name, &headers).await?;
    let result = net::PaymentResult { info: Some((&offer).into()) };
    Ok(Bytes::from(result.encode_to_vec()).into_response())
}

/// A request within a session.
pub async fn session_app(
    State(node): State<Arc<Node>>,
    Path(at): Path<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, JobError> {
    passes(request.method())?;
    let (route, name) = (named(&at, "route"), named(&at, "session"));
    let runners = node.runners()?;
    let visit = runners.visit(route, name, Mode::Persistent, Instant::now())?;
    let public = runners.public_base(&visit, false);
    // apps, route, session, name, app
    let rest = after(request.uri().path(), 5).to_owned();
    node.forward(visit, None, &rest, &public, request).await
}

/// A call of a single-shot runner.
pub async fn single_shot(
    State(node): State<Arc<Node>>,
    Path(at): Path<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, JobError> {
    // apps, route, app
    let rest = after(request.uri().path(), 3).to_owned();
    call(node, named(&at, "route"), &rest, None, request).await
}

async fn call(
    node: Arc<Node>,
    route: &str,
    rest: &str,
    public: Option<String>,
    request: Request,
) -> Result<Response, JobError> {
    passes(request.method())?;
    let asked = ask(&node, route, Mode::SingleShot, request.headers().clone()).await?;
    let begun = match asked {
        Asked::Challenge(body) => return Ok(challenge(body)),
        Asked::Reserved(begun) => begun,
    };
    let runners = Arc::clone(node.runners()?);
    let once = Once::new(Arc::clone(&node), *begun);
    let visit = match once.session() {
        Some((route, name)) => runners.visit(route, name, Mode::SingleShot, Instant::now())?,
        None => return Err(RunnerError::Internal.into()),
    };
    let public = public.unwrap_or_else(|| runners.public_base(&visit, true));
    node.forward(visit, Some(once), rest, &public, request).await
}

/// A tunnel, or a request that comes back with all its headers, is between neighbours.
fn passes(method: &Method) -> Result<(), RunnerError> {
    let is_neighbours = *method == Method::CONNECT || *method == Method::TRACE;
    if is_neighbours { Err(RunnerError::Method) } else { Ok(()) }
}

/// Requests to proxies go to their runners, all others to `inner`.
pub async fn dispatch(node: Arc<Node>, inner: Router, request: Request) -> Response {
    if is_grpc(request.headers()) {
        return pass(inner, request).await;
    }
    let Ok(runners) = node.runners().cloned() else { return pass(inner, request).await };
    let template = &runners.registry.places.template;
    let path = request.uri().path().to_owned();
    let Some(matched) = host(&request).and_then(|host| template.matches(host, &path)) else {
        return pass(inner, request).await;
    };
    let public = template.url(&matched.id);
    let rest = matched.rest;
    let answer = match runners.behind(&matched.id, Instant::now()) {
        Ok(Behind::Session(visit)) => match passes(request.method()) {
            Ok(()) => node.forward(*visit, None, rest, &public, request).await,
            Err(error) => Err(error.into()),
        },
        Ok(Behind::SingleShot(route)) => {
            call(Arc::clone(&node), &route, rest, Some(public), request).await
        }
        Err(error) => Err(error.into()),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn pass(inner: Router, request: Request) -> Response {
    // A router never fails.
    let Ok(response) = inner.oneshot(request).await;
    response
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/grpc"))
}

/// The host that a request is for: HTTP/2 has it in the URI.
fn host(request: &Request) -> Option<&str> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(header::HOST)?.to_str().ok(),
    }
}

/// A runner wants channels for a session.
pub async fn create_channels(
    State(node): State<Arc<Node>>,
    Path((route, name)): Session,
    request: Request,
) -> Result<Response, JobError> {
    let (runner, body) = acting(&node, &route, &name, request).await?;
    let wanted = WantedChannel::parse_list(&body).map_err(senseless)?;
    Ok(Json(node.runners()?.registry.create_channels(&runner, &name, &wanted)?).into_response())
}

/// It closes some.
pub async fn delete_channels(
    State(node): State<Arc<Node>>,
    Path((route, name)): Session,
    request: Request,
) -> Result<Response, JobError> {
    let (runner, body) = acting(&node, &route, &name, request).await?;
    let names = WantedChannel::parse_names(&body).map_err(senseless)?;
    Ok(Json(node.runners()?.registry.delete_channels(&runner, &name, &names)?).into_response())
}

/// It wants one more way to a session.
pub async fn create_proxy(
    State(node): State<Arc<Node>>,
    Path((route, name)): Session,
    request: Request,
) -> Result<Response, JobError> {
    let (_, body) = acting(&node, &route, &name, request).await?;
    let said = parse_proxy_target(&body).map_err(senseless)?;
    let registry = &node.runners()?.registry;
    let (proxy_id, url) = registry.create_proxy(&route, &name, &said, Instant::now())?;
    Ok(Json(json!({ "proxy_id": proxy_id, "url": url })).into_response())
}

/// It ends a session.
pub async fn stop_by_runner(
    State(node): State<Arc<Node>>,
    Path((route, name)): Session,
    headers: HeaderMap,
) -> Result<StatusCode, JobError> {
    let registry = &node.runners()?.registry;
    let runner = registry.may_act(&route, &name, token(&headers), Instant::now())?;
    registry.stop_by_runner(&runner, &name);
    Ok(StatusCode::NO_CONTENT)
}

/// The runner, if it may act, and what it says.
async fn acting(
    node: &Node,
    route: &str,
    name: &str,
    request: Request,
) -> Result<(String, Bytes), JobError> {
    let (parts, body) = request.into_parts();
    let registry = &node.runners()?.registry;
    let runner = registry.may_act(route, name, token(&parts.headers), Instant::now())?;
    Ok((runner, node.bodies.read(body, node.limits.worker_body_bytes).await?.data))
}

fn token(headers: &HeaderMap) -> &str {
    headers.get(TOKEN).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn senseless(error: penstock_wire::WireError) -> RunnerError {
    RunnerError::Senseless(error.to_string())
}

fn named<'a>(at: &'a [(String, String)], name: &str) -> &'a str {
    at.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
}

/// What follows so many pieces of a path, as it came.
fn after(path: &str, pieces: usize) -> &str {
    path.splitn(pieces + 2, '/').nth(pieces + 1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows() {
        assert_eq!(after("/apps/r/app", 3), "");
        assert_eq!(after("/apps/r/app/", 3), "");
        assert_eq!(after("/apps/r/app/a%2Fb//c/", 3), "a%2Fb//c/");
        assert_eq!(after("/apps/r/session/s/app/x", 5), "x");
    }
}
