//! `POST /segment`: rows 1 to 17 of orchestrator-wire.md section 6.

use crate::{
    error::JobError,
    node::Node,
    release::Reason,
    routes::body::Held,
    service::{
        credentials::Work,
        fetch::FetchError,
        offers::OfferFor,
        segment::{SegmentWork, expected_pixels},
    },
};
use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use penstock_domain::keccak256;
use penstock_ledger::orchestrator::AccountKey;
use penstock_telemetry::trace::carried;
use penstock_wire::{header::CONTENT_URI, limits, net};
use prost::Message;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The route. The 200 goes out before the work begins: it tells the gateway that the upload is
/// complete; what goes wrong later is inside the body.
pub async fn segment(State(node): State<Arc<Node>>, request: Request) -> Response {
    match admit(&node, request).await {
        Ok(work) => start(&node, work),
        Err(error) => error.into_response(),
    }
}

/// Rows 1 to 14.
async fn admit(node: &Arc<Node>, request: Request) -> Result<SegmentWork, JobError> {
    if node.is_draining() {
        return Err(JobError::Draining);
    }
    let (parts, body) = request.into_parts();
    let admission = node.admit_served(&parts.headers, Work::Video).await?;
    let account = AccountKey::new(admission.sender, admission.token.session_id.clone())
        .map_err(|_| JobError::BadRequest("invalid session id".into()))?;
    let info = node
        .info(&OfferFor {
            sender: admission.sender,
            account: Some(&account),
            job: None,
            token: Some(&admission.token),
        })
        .await
        .map_err(JobError::of_money)?;
    let session_id = admission.token.session_id.clone();
    let (credential, capabilities, token) =
        (admission.credential.clone(), admission.capabilities.clone(), admission.token.clone());
    let hold = node.collect(&account, admission, expected_pixels(&credential)).await?;
    let mut held = node.bodies.read(body, node.limits.segment_bytes).await?;
    if is_uri(&parts.headers) {
        held = download(node, &held.data, &session_id).await?;
    }
    if keccak256(&held.data) != credential.hash {
        return Err(JobError::WrongHash);
    }
    Ok(SegmentWork {
        credential,
        capabilities,
        token,
        hold,
        data: held.data,
        share: held.share,
        info,
    })
}

fn is_uri(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes() == CONTENT_URI.as_bytes())
}

/// What a peer has us fetch takes its share of the memory for bodies, like what it sends.
async fn download(node: &Node, url: &[u8], session_id: &str) -> Result<Held, JobError> {
    let url = std::str::from_utf8(url.get(..limits::URL_BYTES + 1).unwrap_or(url))
        .map_err(|_| JobError::BadRequest("BadRequest".into()))?;
    let fetcher = node.objects.fetcher(url, session_id, &node.fetcher);
    let body = fetcher.get(url, node.limits.segment_bytes).await.map_err(JobError::Fetch)?;
    node.bodies.read(body, node.limits.segment_bytes).await.map_err(|error| match error {
        JobError::Busy => JobError::Busy,
        _ => JobError::Fetch(FetchError::Broken),
    })
}

/// Rows 15 to 17. The work goes on if the gateway hangs up: it is paid for.
fn start(node: &Arc<Node>, work: SegmentWork) -> Response {
    let (seq, info) = (work.credential.seq, net::OrchestratorInfo::from(&work.info));
    let (session_id, budget) = (work.token.session_id.clone(), work.budget());
    let (answer, answered) = oneshot::channel();
    let running = node.jobs.token();
    let job = {
        let node = Arc::clone(node);
        Box::pin(carried(async move {
            let result = work.run(node).await;
            // The gateway may be gone: then what was charged was not delivered. The results stay in the
            // store for a while.
            let _ = answer.send(result);
            drop(running);
        }))
    };
    let ended = {
        let (node, session_id) = (Arc::clone(node), session_id.clone());
        move || node.end_session(&session_id, Reason::LeaseExpired)
    };
    let failed = move |text: String| net::TranscodeResult {
        seq,
        result: Some(net::transcode_result::Result::Error(text)),
        info: Some(info),
    };
    let refused = node.sessions.submit(&session_id, budget, job, ended).err();
    let body = stream::once(async move {
        let result = match refused {
            Some(error) => failed(error.to_string()),
            None => match answered.await {
                Ok((result, due)) => {
                    due.delivered();
                    result
                }
                Err(_) => failed("ErrTranscoderUnavailable".to_owned()),
            },
        };
        Ok::<_, std::convert::Infallible>(Bytes::from(result.encode_to_vec()))
    });
    (StatusCode::OK, Body::from_stream(body)).into_response()
}
