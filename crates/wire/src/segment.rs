//! `SegData`: building a credential, and reading one in the order of orchestrator-wire.md
//! section 6.

use crate::{
    bytes, capabilities, header, net, profile,
    storage::{self, Bucket},
    token::AuthToken,
};
use penstock_domain::{B256, BadProfile, Capabilities, ManifestId, VideoProfile};
use thiserror::Error;

/// Field 4 of every credential: makes a reader fail that only knows the legacy list.
const LEGACY_PROFILES: &[u8] = b"invalid";
/// Duration that stands for 0, milliseconds.
const DEFAULT_DURATION_MS: u32 = 2000;

/// Why a credential is refused: rows 2 to 8 of the table in orchestrator-wire.md section 6, with
/// the texts that gateways look for. All are answered with 403.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SegmentRefusal {
    /// Row 2: not base64, or longer than any credential.
    #[error("ErrorSegEncoding")]
    Encoding,
    /// Row 3: not a `SegData`.
    #[error("{0}")]
    Parse(String),
    /// Row 4.
    #[error("unrecognized profile output format")]
    Format,
    /// Row 4.
    #[error("unrecognized encoder profile")]
    EncoderProfile,
    /// Row 4.
    #[error("unrecognized video codec")]
    Codec,
    /// Row 4: negative and not −1.
    #[error("TranscoderInvalidGOP")]
    Gop,
    /// Row 4: numbers or a name that no rendition can have.
    #[error("{0}")]
    Profile(BadProfile),
    /// Row 4: more than [`crate::limits::PROFILES`].
    #[error("too many video profiles")]
    TooManyProfiles,
    /// Row 4: negative or above 5 minutes.
    #[error("invalid duration")]
    Duration,
    /// Row 4, ours: not a manifest id (architecture.md rule 7).
    #[error("invalid manifest id")]
    Manifest,
    /// Row 4, ours: a hash of another size than 32 bytes.
    #[error("invalid segment hash")]
    Hash,
    /// Row 4, ours: a storage entry that cannot be used.
    #[error("invalid storage")]
    Storage,
    /// Row 5: the signature is not the payment sender's.
    #[error("ErrSegSig")]
    Signature,
    /// Row 6: the job asks for more than this node has.
    #[error("incompatible capabilities")]
    Capabilities,
    /// Row 7.
    #[error("missing auth token")]
    MissingToken,
    /// Row 7.
    #[error("invalid auth token")]
    InvalidToken,
    /// Row 7.
    #[error("expired auth token")]
    ExpiredToken,
    /// Row 8: a new session and no room.
    #[error("OrchestratorCapped")]
    Capped,
}

/// The part of a segment to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clip {
    /// Milliseconds from the segment's start.
    pub from_ms: u64,
    /// Milliseconds from the segment's start.
    pub to_ms: u64,
}

/// A segment or job to be put into a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSpec {
    /// Ties it to the orchestrator's accounting.
    pub manifest_id: ManifestId,
    /// Number in the stream; 0 for jobs that are not video.
    pub seq: i64,
    /// Keccak-256 of the data.
    pub hash: B256,
    /// Milliseconds; 0 for jobs that are not video.
    pub duration_ms: u32,
    /// Renditions in order; none for jobs that are not video.
    pub profiles: Vec<VideoProfile>,
    /// What the job asks for.
    pub capabilities: Option<Capabilities>,
    /// From the orchestrator's offer, unchanged.
    pub auth_token: Option<AuthToken>,
    /// Where results go; the orchestrator keeps them if absent.
    pub storage: Option<Bucket>,
    /// Whether perceptual hashes are wanted.
    pub calc_perceptual_hash: bool,
    /// Only this part is encoded.
    pub clip: Option<Clip>,
    /// Whether a hardware session is made anew.
    pub force_session_reinit: bool,
}

impl SegmentSpec {
    /// A credential without data, as AI jobs and payments carry it (remote-signer.md section 9).
    pub fn empty(
        manifest_id: ManifestId,
        capabilities: Option<Capabilities>,
        auth_token: AuthToken,
    ) -> Self {
        Self {
            manifest_id,
            seq: 0,
            hash: penstock_domain::keccak256([]),
            duration_ms: 0,
            profiles: Vec::new(),
            capabilities,
            auth_token: Some(auth_token),
            storage: None,
            calc_perceptual_hash: false,
            clip: None,
            force_session_reinit: false,
        }
    }

    /// Names of the renditions as they are on the wire: what the signature covers.
    pub fn rendition_names(&self) -> Vec<String> {
        self.profiles.iter().map(|p| profile::write(p).name).collect()
    }

    /// The message with this signature (65 bytes, or none before it is signed).
    pub fn to_message(&self, sig: Vec<u8>) -> net::SegData {
        let mut message = net::SegData {
            manifest_id: self.manifest_id.as_str().as_bytes().to_vec(),
            seq: self.seq,
            hash: self.hash.to_vec(),
            profiles: LEGACY_PROFILES.to_vec(),
            sig,
            // Longer than the protocol allows is refused by the receiver, never wrapped.
            duration: i32::try_from(self.duration_ms).unwrap_or(i32::MAX),
            capabilities: self.capabilities.as_ref().map(capabilities::write),
            auth_token: self.auth_token.as_ref().map(Into::into),
            calc_perceptual_hash: self.calc_perceptual_hash,
            storage: self.storage.iter().map(Into::into).collect(),
            segment_parameters: self
                .clip
                .map(|c| net::SegParameters { from: c.from_ms, to: c.to_ms }),
            force_session_reinit: self.force_session_reinit,
            ..net::SegData::default()
        };
        profile::write_lists(&self.profiles, &mut message);
        message
    }
}

/// A credential whose fields are well formed (rows 2 to 4). Rows 5 to 8 (signature, capabilities,
/// token, room) are the orchestrator's, in that order; what those rows look at keeps its refusal
/// until its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentCredential {
    /// Ties it to accounting.
    pub manifest_id: ManifestId,
    /// Number in the stream.
    pub seq: i64,
    /// Keccak-256 of the data.
    pub hash: B256,
    /// 1 to 300,000 milliseconds; an absent one is 2 s.
    pub duration_ms: u32,
    /// Renditions; names as they are signed.
    pub profiles: Vec<VideoProfile>,
    /// The signature to be checked, of any length.
    pub sig: Vec<u8>,
    /// Row 6: what the job asks for; an absent message is the empty set.
    pub capabilities: Result<Capabilities, SegmentRefusal>,
    /// Row 7: the token to be checked.
    pub auth_token: Result<AuthToken, SegmentRefusal>,
    /// Where results go.
    pub storage: Option<Bucket>,
    /// Whether perceptual hashes are wanted.
    pub calc_perceptual_hash: bool,
    /// Only this part is encoded.
    pub clip: Option<Clip>,
    /// Whether a hardware session is made anew.
    pub force_session_reinit: bool,
}

impl SegmentCredential {
    /// Reads the header `Livepeer-Segment`: rows 2 to 4.
    pub fn from_header(text: &str) -> Result<Self, SegmentRefusal> {
        let bytes =
            header::from_base64("segment header", text, crate::limits::SEGMENT_HEADER_BYTES)
                .map_err(|_| SegmentRefusal::Encoding)?;
        Self::from_bytes(&bytes)
    }

    /// Reads an encoded `SegData`: rows 3 and 4.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SegmentRefusal> {
        let what = "segment credentials";
        let m = header::decode_message(what, bytes, crate::limits::SEGMENT_HEADER_BYTES)
            .map_err(|e| SegmentRefusal::Parse(e.to_string()))?;
        Self::from_message(&m)
    }

    /// Row 4.
    pub fn from_message(m: &net::SegData) -> Result<Self, SegmentRefusal> {
        let profiles = profile::read_lists(m)?;
        let duration_ms = duration_ms(m.duration)?;
        let manifest_id = std::str::from_utf8(&m.manifest_id)
            .ok()
            .and_then(|text| ManifestId::new(text).ok())
            .ok_or(SegmentRefusal::Manifest)?;
        if m.hash.len() != 32 {
            return Err(SegmentRefusal::Hash);
        }
        if m.sig.len() > 128 {
            return Err(SegmentRefusal::Signature);
        }
        Ok(Self {
            manifest_id,
            seq: m.seq,
            hash: bytes::hash("segment hash", &m.hash).map_err(|_| SegmentRefusal::Hash)?,
            duration_ms,
            profiles,
            sig: m.sig.clone(),
            capabilities: match &m.capabilities {
                Some(c) => capabilities::read(c).map_err(|_| SegmentRefusal::Capabilities),
                None => Ok(Capabilities::default()),
            },
            auth_token: match &m.auth_token {
                Some(t) => AuthToken::try_from(t).map_err(|_| SegmentRefusal::InvalidToken),
                None => Err(SegmentRefusal::MissingToken),
            },
            storage: storage::read(&m.storage).map_err(|_| SegmentRefusal::Storage)?,
            calc_perceptual_hash: m.calc_perceptual_hash,
            clip: m.segment_parameters.map(|p| Clip { from_ms: p.from, to_ms: p.to }),
            force_session_reinit: m.force_session_reinit,
        })
    }

    /// Names of the renditions: what the signature covers.
    pub fn rendition_names(&self) -> Vec<&str> {
        self.profiles.iter().map(|p| p.name.as_str()).collect()
    }
}

fn duration_ms(wire: i32) -> Result<u32, SegmentRefusal> {
    match wire {
        0 => Ok(DEFAULT_DURATION_MS),
        ms if (1..=crate::limits::SEGMENT_DURATION_MS).contains(&ms) => Ok(ms.unsigned_abs()),
        _ => Err(SegmentRefusal::Duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn spec() -> SegmentSpec {
        let token =
            AuthToken { token: vec![7; 32], session_id: "a1b2c3d4".into(), expiration_s: 1 };
        let empty = SegmentSpec::empty(ManifestId::new("manifest").unwrap(), None, token);
        SegmentSpec { seq: 7, duration_ms: 2000, profiles: VideoProfile::defaults(), ..empty }
    }

    fn refusal(change: impl Fn(&mut net::SegData)) -> String {
        let mut m = spec().to_message(vec![1; 65]);
        change(&mut m);
        SegmentCredential::from_message(&m).unwrap_err().to_string()
    }

    #[test]
    fn what_is_built_is_read() {
        let spec = spec();
        let text = header::encode_segment(&spec.to_message(vec![1; 65]));
        let read = SegmentCredential::from_header(&text).unwrap();
        assert_eq!((read.seq, read.duration_ms, read.hash), (7, 2000, spec.hash));
        assert_eq!(read.profiles, spec.profiles);
        assert_eq!(read.auth_token.as_ref().ok(), spec.auth_token.as_ref());
        assert_eq!(read.capabilities, Ok(Capabilities::default()));
        assert_eq!(read.rendition_names(), spec.rendition_names());
    }

    #[test]
    fn documented_refusals() {
        assert_eq!(
            SegmentCredential::from_header("*").unwrap_err().to_string(),
            "ErrorSegEncoding"
        );
        assert!(matches!(
            SegmentCredential::from_bytes(&[0xff]).unwrap_err(),
            SegmentRefusal::Parse(_)
        ));
        assert_eq!(refusal(|m| m.duration = -1), "invalid duration");
        assert_eq!(refusal(|m| m.duration = 300_001), "invalid duration");
        assert_eq!(refusal(|m| m.manifest_id = vec![b'a'; 65]), "invalid manifest id");
        assert_eq!(refusal(|m| m.manifest_id = vec![0xff]), "invalid manifest id");
        assert_eq!(refusal(|m| m.hash = vec![0; 31]), "invalid segment hash");
        let many = vec![profile::write(&VideoProfile::defaults()[0]); 17];
        assert_eq!(refusal(|m| m.full_profiles3 = many.clone()), "too many video profiles");
    }

    #[test]
    fn later_rows_wait_for_their_turn() {
        let mut m = spec().to_message(Vec::new());
        m.duration = 0;
        m.auth_token = None;
        m.capabilities = Some(net::Capabilities { bitstring: vec![0; 99], ..Default::default() });
        let read = SegmentCredential::from_bytes(&m.encode_to_vec()).unwrap();
        assert_eq!(read.duration_ms, 2000);
        assert_eq!(read.auth_token, Err(SegmentRefusal::MissingToken));
        assert_eq!(read.capabilities, Err(SegmentRefusal::Capabilities));
    }
}
