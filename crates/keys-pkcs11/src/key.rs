//! Signing: a pool of sessions, so that a slow token answers several requests at once, and threads
//! that may wait for it, so that the async ones do not.

use crate::{Pkcs11Uri, error::key_error, token::Token};
use async_trait::async_trait;
use core::fmt;
use cryptoki::{mechanism::Mechanism, object::ObjectHandle, session::Session};
use penstock_config::Secret;
use penstock_domain::Address;
use penstock_keys::{DigestSigner, KeyError, TypedDigest, foreign::signature_from_raw};
use penstock_payments::Signature;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// A key in a token. Opened once; sessions that are lost are opened again when the next signature
/// is asked for.
pub struct Pkcs11Key {
    address: Address,
    permits: Arc<Semaphore>,
    sessions: Arc<Sessions>,
}

impl Pkcs11Key {
    /// Loads the module, logs in, finds the key and its account. Blocks: hardware takes seconds.
    pub fn open(uri: &Pkcs11Uri, pin: &Secret) -> Result<Self, KeyError> {
        let token = Token::load(uri, pin)?;
        let session = token.session(false)?;
        let address = token.address(&session)?;
        let key = token.private_key(&session)?;
        let idle = Mutex::new(vec![Live { session, key }]);
        let sessions = Sessions { token, address, idle, in_use: RwLock::new(()) };
        Ok(Self {
            address,
            permits: Arc::new(Semaphore::new(uri.sessions)),
            sessions: Arc::new(sessions),
        })
    }
}

impl fmt::Debug for Pkcs11Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Key").field("address", &self.address).finish_non_exhaustive()
    }
}

#[async_trait]
impl DigestSigner for Pkcs11Key {
    fn address(&self) -> Address {
        self.address
    }

    async fn sign_digest(&self, digest: TypedDigest) -> Result<Signature, KeyError> {
        let closed = |_| KeyError::Unavailable("PKCS#11: closed".to_owned());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?;
        let sessions = Arc::clone(&self.sessions);
        let signed = spawn_blocking(move || {
            let _until_done = permit;
            sessions.sign(digest)
        });
        signed.await.map_err(|_| KeyError::Unavailable("PKCS#11: the module failed".to_owned()))?
    }
}

/// A session and the key's handle in it.
struct Live {
    session: Session,
    key: ObjectHandle,
}

struct Sessions {
    token: Token,
    address: Address,
    idle: Mutex<Vec<Live>>,
    /// Read while a session is in use, written to begin anew with the module.
    in_use: RwLock<()>,
}

impl Sessions {
    fn sign(&self, digest: TypedDigest) -> Result<Signature, KeyError> {
        match self.sign_once(digest) {
            // Sessions go when a token is pulled out, a partition fails over or a network HSM
            // restarts; the same digest may be signed any number of times.
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "the token did not sign; connecting again");
                self.connect_again()?;
                self.sign_once(digest)
            }
            done => done,
        }
    }

    fn sign_once(&self, digest: TypedDigest) -> Result<Signature, KeyError> {
        let _in_use = self.in_use.read().unwrap_or_else(PoisonError::into_inner);
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let live = idle.map_or_else(|| self.connect(), Ok)?;
        // A failed session is dropped, and thereby closed.
        let raw = live
            .session
            .sign(&Mechanism::Ecdsa, live.key, digest.as_b256().as_slice())
            .map_err(key_error)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(live);
        signature_from_raw(&raw, digest, self.address)
    }

    fn connect(&self) -> Result<Live, KeyError> {
        let session = self.token.session(false)?;
        let key = self.token.private_key(&session)?;
        Ok(Live { session, key })
    }

    /// All idle sessions are closed and one new one proves that the token is there. If not, the
    /// module is begun anew, since some look for tokens only then.
    fn connect_again(&self) -> Result<(), KeyError> {
        let _alone = self.in_use.write().unwrap_or_else(PoisonError::into_inner);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.clear();
        let live = match self.connect() {
            Err(error) if error.is_retryable() => {
                self.token.begin_anew()?;
                self.connect()?
            }
            done => done?,
        };
        idle.push(live);
        Ok(())
    }
}
