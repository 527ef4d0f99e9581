//! One token: finding it by its label, sessions with it, objects in it.

use crate::{
    Pkcs11Uri,
    error::{key_error, pin_refused},
};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use penstock_config::Secret;
use penstock_domain::Address;
use penstock_keys::{KeyError, foreign::address_of_point};
use std::sync::atomic::{AtomicBool, Ordering};

/// A loaded module and the token that a URI names.
pub(crate) struct Token {
    module: Pkcs11,
    uri: Pkcs11Uri,
    pin: AuthPin,
    /// The token refused the PIN. It counts wrong ones and locks itself, so that none is tried again.
    pin_refused: AtomicBool,
}

impl Token {
    pub(crate) fn load(uri: &Pkcs11Uri, pin: &Secret) -> Result<Self, KeyError> {
        let module = Pkcs11::new(&uri.module).map_err(key_error)?;
        initialise(&module)?;
        Ok(Self {
            module,
            uri: uri.clone(),
            pin: AuthPin::from(pin.expose().to_owned()),
            pin_refused: AtomicBool::new(false),
        })
    }

    /// A session of a user who is logged in. `write` is for making keys.
    pub(crate) fn session(&self, write: bool) -> Result<Session, KeyError> {
        if self.pin_refused.load(Ordering::Relaxed) {
            return Err(KeyError::Denied(
                "the token refused the PIN; it is not tried again".into(),
            ));
        }
        let slot = self.slot()?;
        let session = match write {
            true => self.module.open_rw_session(slot),
            false => self.module.open_ro_session(slot),
        };
        let session = session.map_err(key_error)?;
        match session.login(UserType::User, Some(&self.pin)) {
            // Logging in holds for all sessions of a process with a token.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => {
                if matches!(&error, Error::Pkcs11(rv, _) if pin_refused(rv)) {
                    self.pin_refused.store(true, Ordering::Relaxed);
                }
                Err(key_error(error))
            }
        }
    }

    /// Begins anew with the module, for those that see a token again only then. Nobody may have a
    /// session meanwhile: the caller sees to that.
    pub(crate) fn begin_anew(&self) -> Result<(), KeyError> {
        // It may have lost its state by itself.
        let _ = self.module.clone().finalize();
        initialise(&self.module)
    }

    fn slot(&self) -> Result<Slot, KeyError> {
        let mut found = Vec::new();
        for slot in self.module.get_slots_with_initialized_token().map_err(key_error)? {
            // A slot that cannot be read is one whose token was pulled out just now.
            let Ok(info) = self.module.get_token_info(slot) else { continue };
            let serial = self.uri.serial.as_deref();
            let same = info.label().trim_end() == self.uri.token
                && serial.is_none_or(|serial| info.serial_number().trim_end() == serial);
            if same {
                found.push(slot);
            }
        }
        match found.as_slice() {
            [slot] => Ok(*slot),
            [] => Err(KeyError::Unavailable(format!("PKCS#11: no token `{}`", self.uri.token))),
            _ => Err(KeyError::Denied(format!(
                "PKCS#11: {} tokens `{}`; tell them apart with serial=",
                found.len(),
                self.uri.token
            ))),
        }
    }

    /// The private key that the URI names.
    pub(crate) fn private_key(&self, session: &Session) -> Result<ObjectHandle, KeyError> {
        self.one(session, ObjectClass::PRIVATE_KEY, "private")
    }

    /// The account of the key, from the public half beside it.
    pub(crate) fn address(&self, session: &Session) -> Result<Address, KeyError> {
        let key = self.one(session, ObjectClass::PUBLIC_KEY, "public")?;
        let attributes = session.get_attributes(key, &[AttributeType::EcPoint]);
        match attributes.map_err(key_error)?.as_slice() {
            [Attribute::EcPoint(point)] => address_of_point(point),
            _ => Err(KeyError::WrongCurve),
        }
    }

    /// Whether an object of that label is there, whatever it is.
    pub(crate) fn taken(&self, session: &Session) -> Result<bool, KeyError> {
        let label = Attribute::Label(self.uri.object.clone().into_bytes());
        Ok(!session.find_objects(&[label]).map_err(key_error)?.is_empty())
    }

    fn one(
        &self,
        session: &Session,
        class: ObjectClass,
        what: &str,
    ) -> Result<ObjectHandle, KeyError> {
        let template = [
            Attribute::Class(class),
            Attribute::KeyType(KeyType::EC),
            Attribute::Label(self.uri.object.clone().into_bytes()),
        ];
        let found = session.find_objects(&template).map_err(key_error)?;
        match found.as_slice() {
            [object] => Ok(*object),
            [] => Err(KeyError::Unavailable(format!(
                "PKCS#11: the token has no {what} EC key `{}`",
                self.uri.object
            ))),
            _ => Err(KeyError::Denied(format!(
                "PKCS#11: the token has {} {what} EC keys `{}`",
                found.len(),
                self.uri.object
            ))),
        }
    }
}

fn initialise(module: &Pkcs11) -> Result<(), KeyError> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Somebody else in this process did.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(error) => Err(key_error(error)),
    }
}
