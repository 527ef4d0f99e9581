//! What an idle stream costs: the records of streams that were pushed for a while and then paused, as
//! large as real ones. Tests and the bench fill a store with them and ask the server what they weigh.
#![allow(missing_docs)]

use crate::*;
use penstock_domain::{Address, AuthId, B256, ManifestId, SegmentFormat, StreamId, VideoProfile};

/// How long records live that go with the last push, and those of sessions and credit.
pub const STREAM_TTL_MS: u64 = 300_000;
const SESSION_TTL_MS: u64 = 1_800_000;
/// Segments that were pushed, of 2 s: more than the window shows and remembers.
pub const SEGMENTS: u64 = 40;
/// An `OrchestratorInfo` with capabilities, ticket parameters and an auth token.
const INFO_BYTES: usize = 700;
/// A signer's state and a segment credential, both in base64.
const STATE_BYTES: usize = 420;
const CREDENTIAL_BYTES: usize = 380;

/// The stream of that number.
pub fn stream(n: usize) -> StreamId {
    // Made of the shape it asks for.
    #[allow(clippy::expect_used)]
    StreamId::new(format!("studio-{n:08}")).expect("letters and digits")
}

/// Bytes that do not shrink, as hashes and signatures do not.
fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|_| rand::random()).collect()
}

fn text(len: usize) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    let mut text = STANDARD_NO_PAD.encode(noise(len));
    text.truncate(len);
    text
}

/// Writes everything that a gateway keeps of one stream with the default renditions: its record, the
/// session with its orchestrator and the credit there, a score, the window, the answers.
pub async fn fill(store: &dyn SessionStore, n: usize, now: UnixMs) -> Result<(), StoreError> {
    let (id, profiles) = (stream(n), VideoProfile::defaults());
    let orchestrator = "https://orchestrator-17.example.net:8935".to_owned();
    let auth_id = AuthId::new("gateway:default").map_err(|_| StoreError::Corrupt("auth id"))?;
    let record = StreamRecord {
        owner: Some(StreamOwner { auth_id: auth_id.clone(), key: Some(hex::encode(noise(32))) }),
        created_at: now,
        last_used_at: now,
        format: SegmentFormat::MpegTs,
        profiles: profiles.clone(),
        source_format: Some("h264/1920x1080/yuv420p".to_owned()),
        source_width: 1920,
        source_height: 1080,
        orchestrator: Some(orchestrator.clone()),
        segments: SEGMENTS,
        source_bytes: SEGMENTS * 1_500_000,
        rendition_bytes: SEGMENTS * 900_000,
        pushed_as: None,
    };
    store.put_stream(&id, None, &record, STREAM_TTL_MS, now).await?;
    let scope = scope_of(&format!("stream:{id}"), &auth_id);
    let key = SessionKey { scope: scope.clone(), orchestrator: orchestrator.clone() };
    let session = text(8);
    let owner = OwnerId(text(65));
    if let Lease::Granted { fence, .. } = store.lease_session(&key, &owner, 15_000, now).await? {
        let manifest = ManifestId::new(session.clone());
        let record = SessionRecord {
            info: noise(INFO_BYTES),
            info_at: now,
            manifest_id: manifest.map_err(|_| StoreError::Corrupt("manifest id"))?,
            payment_state: Some(text(STATE_BYTES)),
            credential: Some(text(CREDENTIAL_BYTES)),
            purchase: None,
        };
        store.save_session(&key, fence, &record, SESSION_TTL_MS, now).await?;
        store.release_session(&key, &owner, now).await?;
    }
    let account = CreditKey {
        auth_id,
        sender: Address::repeat_byte(7),
        orchestrator: orchestrator.clone(),
        session,
    };
    store.book_purchase(&account, &text(32), 1_000_000_000, SESSION_TTL_MS, now).await?;
    store.record_score(&scope, &orchestrator, 0.314_159, SESSION_TTL_MS, now).await?;
    let mut tracks = vec![track("source", 1920, 1080)];
    tracks.extend(profiles.iter().map(|p| track(&p.name, p.width, p.height)));
    for seq in 0..SEGMENTS {
        let mut hash = [0; 32];
        hash.fill_with(rand::random);
        let half = hex::encode(hash.get(..8).unwrap_or_default());
        let at = |name: &str| SegmentKey(format!("{id}/{name}/{seq}-{half}.ts"));
        let key = ResultKey { stream: id.clone(), seq, hash: B256::from(hash) };
        let rendition = |p: &VideoProfile| StoredRendition {
            name: p.name.clone(),
            format: SegmentFormat::MpegTs,
            key: at(&p.name),
        };
        let record = ResultRecord { renditions: profiles.iter().map(rendition).collect() };
        store.finish_result(&key, &record, STREAM_TTL_MS, now).await?;
        let entry = HlsEntry {
            seq,
            duration_ms: 2_000,
            at: now,
            discontinuity: false,
            files: tracks.iter().map(|t| (t.name.clone(), at(&t.name))).collect(),
        };
        store.publish(&id, &tracks, entry, HlsRules::default(), STREAM_TTL_MS, now).await?;
    }
    Ok(())
}

fn track(name: &str, width: u32, height: u32) -> HlsTrack {
    HlsTrack {
        name: name.to_owned(),
        width,
        height,
        bandwidth: 1_500_000,
        codecs: Some("avc1.64001f,mp4a.40.2".to_owned()),
    }
}
