//! The state blob that travels through the client: an opaque receipt under a keyed MAC.
//!
//! It says which place in which payment session the client has reached, and nothing that the
//! ledger does not know better: balance, nonce and prices never leave the house. The MAC keys live
//! in a file of their own, apart from the account's key, so that they can be replaced: the first
//! line makes new states, every line still opens old ones.

use hmac::{Hmac, Mac};
use penstock_config::create_secret_file;
use penstock_domain::{Address, AuthId, ManifestId, StateId, address_lower, parse_address};
use penstock_payments::BillingType;
use penstock_wire::json::SignedState;
use rand::RngCore;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    io::{self, Read},
    path::Path,
};
use thiserror::Error;
use zeroize::Zeroizing;

/// Keeps these MACs apart from any other use of the keys.
const DOMAIN: &[u8] = b"penstock signer payment state 1\0";
/// Longest state text looked at; ours have some 400 bytes.
const MAX_STATE_BYTES: usize = 4096;
/// Longest key file.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Why a state was not taken (remote-signer.md section 4, rows 7 and 8). The caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StateError {
    /// Not under one of our keys.
    #[error("invalid sig")]
    Signature,
    /// Ours, but not of this version.
    #[error("invalid state")]
    Content,
}

/// Why there are no state keys. The operator's fault.
#[derive(Debug, Error)]
pub enum StateKeysError {
    /// The file cannot be read or made.
    #[error("state keys file: {0}")]
    Io(#[from] io::Error),
    /// A line is not `ID:KEY`.
    #[error(
        "state keys file, line {0}: expected two hex digits, a colon and 64 hex digits, each id once"
    )]
    Line(usize),
    /// No key in it.
    #[error("state keys file holds no key")]
    Empty,
}

/// What a state says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateClaim {
    /// The payment session.
    pub state_id: StateId,
    /// The newest payment that the client has seen.
    pub sequence: u64,
    /// From the first request's `OrchestratorInfo.address`.
    pub orchestrator: Address,
    /// Application label.
    pub app: String,
    /// Billing type of that payment.
    pub job_type: BillingType,
    /// Manifest id of that payment.
    pub manifest_id: ManifestId,
    /// Whom the payment was for.
    pub auth_id: Option<AuthId>,
    /// Until when the auth webhook need not be asked about the session, Unix seconds; 0: ask. In
    /// here every replica knows it.
    pub auth_expiry_s: i64,
}

/// A claim whose MAC was checked. Only [`StateKeys::open`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedState(StateClaim);

impl VerifiedState {
    /// What it says.
    pub fn claim(&self) -> &StateClaim {
        &self.0
    }
}

#[derive(Serialize, Deserialize)]
struct Blob {
    #[serde(rename = "V")]
    version: u32,
    #[serde(rename = "StateID")]
    state_id: StateId,
    #[serde(rename = "SequenceNumber")]
    sequence: u64,
    #[serde(rename = "OrchestratorAddress")]
    orchestrator: String,
    #[serde(rename = "App")]
    app: String,
    #[serde(rename = "Type")]
    job_type: String,
    #[serde(rename = "ManifestID")]
    manifest_id: ManifestId,
    #[serde(rename = "AuthID", default, skip_serializing_if = "Option::is_none")]
    auth_id: Option<AuthId>,
    #[serde(rename = "AuthExpiry", default, skip_serializing_if = "is_zero")]
    auth_expiry_s: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The MAC keys.
#[derive(Clone)]
pub struct StateKeys {
    current: u8,
    keys: BTreeMap<u8, Zeroizing<[u8; 32]>>,
}

fn random_key() -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    rand::rng().fill_bytes(key.as_mut());
    key
}

impl StateKeys {
    /// One random key.
    pub fn random() -> Self {
        Self { current: 1, keys: BTreeMap::from([(1, random_key())]) }
    }

    /// Reads the file; makes one (mode 0600, one random key) if there is none. Of several processes
    /// that make it at once, all use the one that was there first.
    pub fn load_or_create(path: &Path) -> Result<Self, StateKeysError> {
        match Self::load(path) {
            Err(StateKeysError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        match Self::random().create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
            Ok(()) | Err(_) => Self::load(path),
        }
    }

    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, StateKeysError> {
        let mut text = Zeroizing::new(String::new());
        std::fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
        Self::parse(&text)
    }

    /// The file appears whole and on the disk, or not at all: a state must not be handed out under
    /// a key that a power cut takes back, and half a file would keep the service from starting.
    fn create(&self, path: &Path) -> io::Result<()> {
        create_secret_file(path, self.text().as_bytes())
    }

    /// The file's text: the key in use first.
    pub fn text(&self) -> Zeroizing<String> {
        let first = self.keys.get_key_value(&self.current);
        let others = self.keys.iter().filter(|(id, _)| **id != self.current);
        let mut text = Zeroizing::new(String::with_capacity(68 * self.keys.len()));
        for (id, key) in first.into_iter().chain(others) {
            let key = Zeroizing::new(hex::encode(key));
            text.push_str(&format!("{id:02x}:"));
            text.push_str(&key);
            text.push('\n');
        }
        text
    }

    /// A key more that opens states and does not make any yet: what every replica has to know before
    /// one of them uses it. Its id is the next after the one in use; `None` if that is there.
    pub fn prepared(&self) -> Option<Self> {
        let mut keys = self.keys.clone();
        match keys.entry(self.next()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => place.insert(random_key()),
        };
        Some(Self { current: self.current, keys })
    }

    /// The prepared key, or a new one, makes new states; the one before it still opens old states;
    /// the rest is gone.
    pub fn rotated(&self) -> Self {
        let next = self.next();
        let new = self.keys.get(&next).cloned().unwrap_or_else(random_key);
        let old = self.keys.get(&self.current).map(|key| (self.current, key.clone()));
        Self { current: next, keys: old.into_iter().chain([(next, new)]).collect() }
    }

    /// Id of the key that makes new states.
    pub fn current(&self) -> u8 {
        self.current
    }

    /// Ids count upwards, and begin again.
    fn next(&self) -> u8 {
        self.current.wrapping_add(1)
    }

    /// From the text of a file.
    pub fn parse(text: &str) -> Result<Self, StateKeysError> {
        let mut current = None;
        let mut keys = BTreeMap::new();
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = || StateKeysError::Line(number);
            let (id, key) = line.split_once(':').ok_or_else(bad)?;
            let mut key_bytes = Zeroizing::new([0; 32]);
            hex::decode_to_slice(key, key_bytes.as_mut()).map_err(|_| bad())?;
            let mut id_bytes = [0; 1];
            hex::decode_to_slice(id, &mut id_bytes).map_err(|_| bad())?;
            let [id] = id_bytes;
            match keys.entry(id) {
                Entry::Vacant(place) => place.insert(key_bytes),
                Entry::Occupied(_) => return Err(bad()),
            };
            current.get_or_insert(id);
        }
        current.map(|current| Self { current, keys }).ok_or(StateKeysError::Empty)
    }

    fn mac(&self, id: u8, state: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(self.keys.get(&id)?.as_slice()).ok()?;
        mac.update(DOMAIN);
        mac.update(state);
        Some(mac)
    }

    /// Makes the blob. `None` cannot happen with a key set that exists.
    pub fn seal(&self, claim: &StateClaim) -> Option<SignedState> {
        let blob = Blob {
            version: 1,
            state_id: claim.state_id.clone(),
            sequence: claim.sequence,
            orchestrator: address_lower(&claim.orchestrator),
            app: claim.app.clone(),
            job_type: claim.job_type.as_str().to_owned(),
            manifest_id: claim.manifest_id.clone(),
            auth_id: claim.auth_id.clone(),
            auth_expiry_s: claim.auth_expiry_s,
        };
        let state = serde_json::to_vec(&blob).ok()?;
        let mut sig = vec![self.current];
        sig.extend(self.mac(self.current, &state)?.finalize().into_bytes());
        Some(SignedState { state, sig })
    }

    /// Checks and reads a blob.
    pub fn open(&self, blob: &SignedState) -> Result<VerifiedState, StateError> {
        let SignedState { state, sig } = blob;
        let (id, given) = sig.split_first().ok_or(StateError::Signature)?;
        if state.len() > MAX_STATE_BYTES {
            return Err(StateError::Signature);
        }
        let mac = self.mac(*id, state).ok_or(StateError::Signature)?;
        mac.verify_slice(given).map_err(|_| StateError::Signature)?;
        let blob: Blob = serde_json::from_slice(state).map_err(|_| StateError::Content)?;
        if blob.version != 1 {
            return Err(StateError::Content);
        }
        Ok(VerifiedState(StateClaim {
            state_id: blob.state_id,
            sequence: blob.sequence,
            orchestrator: parse_address(&blob.orchestrator).ok_or(StateError::Content)?,
            app: blob.app,
            job_type: blob.job_type.parse().map_err(|_| StateError::Content)?,
            manifest_id: blob.manifest_id,
            auth_id: blob.auth_id,
            auth_expiry_s: blob.auth_expiry_s,
        }))
    }
}

impl fmt::Debug for StateKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateKeys").field("ids", &self.keys.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim() -> StateClaim {
        StateClaim {
            state_id: StateId::new("0a0b0c0d").unwrap(),
            sequence: 7,
            orchestrator: Address::repeat_byte(0xab),
            app: "scope".into(),
            job_type: BillingType::Live,
            manifest_id: ManifestId::new("m1").unwrap(),
            auth_id: None,
            auth_expiry_s: 0,
        }
    }

    fn blob(state: &[u8], sig: &[u8]) -> SignedState {
        SignedState { state: state.to_vec(), sig: sig.to_vec() }
    }

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let keys = StateKeys::random();
        let sealed = keys.seal(&claim()).unwrap();
        assert_eq!(keys.open(&sealed).unwrap().claim(), &claim());
        assert_eq!(StateKeys::random().open(&sealed), Err(StateError::Signature));
        for bad_sig in [&[][..], &[1], &[2; 33], sealed.sig.get(..32).unwrap()] {
            assert_eq!(keys.open(&blob(&sealed.state, bad_sig)), Err(StateError::Signature));
        }
        assert_eq!(keys.open(&blob(b"", &sealed.sig)), Err(StateError::Signature));
        assert_eq!(keys.open(&blob(&[b' '; 5000], &sealed.sig)), Err(StateError::Signature));
    }

    #[test]
    fn a_foreign_text_under_our_key_is_not_a_state() {
        let keys = StateKeys::random();
        for text in ["", "null", "{}", "{\"V\":2}"] {
            let mut sig = vec![1];
            sig.extend(keys.mac(1, text.as_bytes()).unwrap().finalize().into_bytes());
            assert_eq!(keys.open(&blob(text.as_bytes(), &sig)), Err(StateError::Content), "{text}");
        }
    }

    #[test]
    fn keys_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/state-keys");
        let old = StateKeys::load_or_create(&path).unwrap();
        let sealed = old.seal(&claim()).unwrap();
        let again = StateKeys::load_or_create(&path).unwrap();
        assert!(again.open(&sealed).is_ok());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("# new first\n02:{}\n{text}", "22".repeat(32))).unwrap();
        let both = StateKeys::load_or_create(&path).unwrap();
        assert!(both.open(&sealed).is_ok());
        assert_eq!(both.seal(&claim()).unwrap().sig.first(), Some(&2));
        for bad in ["", "1:00", "01:zz", &format!("{text}{text}"), "01"] {
            std::fs::write(&path, bad).unwrap();
            assert!(StateKeys::load_or_create(&path).is_err(), "{bad}");
        }
        use std::os::unix::fs::PermissionsExt;
        let fresh = folder.path().join("fresh");
        StateKeys::load_or_create(&fresh).unwrap();
        assert_eq!(std::fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn rotation_keeps_states_alive_in_every_replica() {
        let first = StateKeys::random();
        let old = first.seal(&claim()).unwrap();
        let rotated = first.rotated();
        assert_eq!((first.current(), rotated.current()), (1, 2));
        assert!(rotated.open(&old).is_ok());
        let new = rotated.seal(&claim()).unwrap();
        assert!(first.open(&new).is_err(), "a replica that was not prepared");
        // Prepared: every replica knows the key before one uses it.
        let prepared = rotated.prepared().unwrap();
        assert!(prepared.prepared().is_none());
        assert_eq!(prepared.current(), 2);
        let third = prepared.rotated();
        assert!(prepared.open(&third.seal(&claim()).unwrap()).is_ok());
        assert!(third.open(&new).is_ok());
        assert!(third.open(&old).is_err(), "the oldest key is gone");
        let again = StateKeys::parse(&prepared.text()).unwrap();
        assert_eq!(again.text(), prepared.text());
        let last = StateKeys { current: 255, keys: [(255, random_key())].into() };
        assert_eq!(last.rotated().current(), 0);
    }

    #[test]
    fn processes_that_start_together_agree_on_the_keys() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state-keys");
            let together = std::sync::Barrier::new(4);
            let start = || {
                together.wait();
                StateKeys::load_or_create(&path).unwrap()
            };
            let all: Vec<StateKeys> = std::thread::scope(|scope| {
                let started: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                started.into_iter().map(|s| s.join().unwrap()).collect()
            });
            let sealed = all[0].seal(&claim()).unwrap();
            assert!(all.iter().all(|keys| keys.open(&sealed).is_ok()));
            let left = std::fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(left, 1, "nothing half-made stays");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn any_changed_bit_is_noticed(bit in 0usize..2400, junk in prop::collection::vec(any::<u8>(), 0..40)) {
            let keys = StateKeys { current: 1, keys: BTreeMap::from([(1, Zeroizing::new([5; 32]))]) };
            let sealed = keys.seal(&claim()).unwrap();
            let mut state = sealed.state.clone();
            let at = bit / 8 % state.len();
            state[at] ^= 1 << (bit % 8);
            prop_assert_eq!(keys.open(&blob(&state, &sealed.sig)), Err(StateError::Signature));
            prop_assert_eq!(keys.open(&blob(&junk, &junk)), Err(StateError::Signature));
        }
    }
}
