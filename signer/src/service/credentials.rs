//! `POST /sign-segment-credentials`: a credential for one video segment of a paid session.
//!
//! The signature covers manifest id, sequence, hash and rendition names, so those are all that the
//! caller chooses, each of a checked shape; the manifest id has to be the session's own.

use super::{Signer, key_room::Segment, to_the_end};
use crate::{auth::Caller, error::SignerError};
use penstock_keys::SegmentCredential as KeyCredential;
use penstock_wire::{SegmentCredential, header, json::SegmentCredentialsRequest, limits, net};
use std::sync::Arc;

/// A session without a payment for this long is over: no job of it can still be paid for.
const LIVE_FOR_NS: i64 = 24 * 3600 * 1_000_000_000;

impl Signer {
    /// Returns the segment with its signature, in base64. Goes on when the client has hung up, so that a
    /// record has its signature or its `void`.
    pub async fn sign_segment_credentials(
        self: Arc<Self>,
        caller: Caller,
        request: SegmentCredentialsRequest,
    ) -> Result<String, SignerError> {
        to_the_end(async move { self.segment_credentials(&caller, &request).await }).await
    }

    async fn segment_credentials(
        &self,
        caller: &Caller,
        request: &SegmentCredentialsRequest,
    ) -> Result<String, SignerError> {
        self.check_known(caller, "segment credentials")?;
        let state = self.state_keys.open(&request.state)?;
        let claim = state.claim();
        let session = self.session(claim).await?;
        if session.binding.account != caller.account.name() {
            return Err(SignerError::ReplayMismatch("account"));
        }
        let was = session.binding.auth_id.as_ref();
        if let (Some(was), Some(says)) = (was, &caller.auth_id)
            && was != says
        {
            return Err(SignerError::ReplayMismatch("auth id"));
        }
        // A client or subject that was blocked since the payment gets nothing more. What the session
        // may be used for was asked when it was paid.
        self.accounts.payers(&caller.account, was.or(caller.auth_id.as_ref())).await?;
        if (self.clock)().saturating_sub(session.last_update_ns) > LIVE_FOR_NS {
            return Err(SignerError::BadCredential(
                "the payment session is over: make a payment first".to_owned(),
            ));
        }
        let what = "segment";
        let mut message: net::SegData =
            header::decode_message(what, &request.segment, limits::SEGMENT_HEADER_BYTES)
                .map_err(|e| SignerError::BadCredential(format!("proto: {e}")))?;
        if !message.sig.is_empty() {
            return Err(SignerError::BadCredential("the segment is signed already".to_owned()));
        }
        let segment = SegmentCredential::from_message(&message)
            .map_err(|e| SignerError::BadCredential(e.to_string()))?;
        if segment.manifest_id != session.binding.manifest.id {
            return Err(SignerError::ManifestMismatch);
        }
        let names = segment.rendition_names();
        let credential = KeyCredential {
            manifest_id: segment.manifest_id.as_str().as_bytes(),
            sequence: segment.seq,
            data_hash: segment.hash.as_slice(),
            rendition_names: &names,
        };
        let reference = format!("{}/segment/{}", claim.state_id, segment.seq);
        let what = Segment::new(credential, reference)?;
        let void = self.void(&what, Some(caller));
        let proof = self.audited(what, Some(caller)).await?;
        let signature = self.or_void(self.key.sign_segment(proof).await, void).await?;
        metrics::counter!("signer_segment_credentials_total").increment(1);
        tracing::debug!(
            state_id = %claim.state_id,
            manifest_id = %segment.manifest_id,
            segment = segment.seq,
            "segment credential signed"
        );
        message.sig = signature.as_bytes().to_vec();
        Ok(header::encode_segment(&message))
    }
}
