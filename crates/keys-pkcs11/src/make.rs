//! A new key in a token: made there, or brought there.

use crate::{Pkcs11Uri, error::key_error, token::Token};
use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, KeyType, ObjectClass},
    session::Session,
};
use penstock_config::Secret;
use penstock_domain::Address;
use penstock_keys::{KeyError, LocalKey};
use rand::{TryRngCore, rngs::OsRng};
use zeroize::Zeroize;

/// DER of the object identifier 1.3.132.0.10, secp256k1.
const SECP256K1: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];

/// Generates a key pair inside the token. The private half is sensitive and cannot be extracted, so
/// it never was and never will be anywhere else. Blocks.
pub fn create(uri: &Pkcs11Uri, pin: &Secret) -> Result<Address, KeyError> {
    let (token, session) = empty_place(uri, pin)?;
    let (private, public) = templates(uri)?;
    session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).map_err(key_error)?;
    token.address(&session)
}

/// Writes a key that exists already into the token. What had it before still has it. Blocks.
pub fn import(uri: &Pkcs11Uri, pin: &Secret, key: &LocalKey) -> Result<Address, KeyError> {
    let (token, session) = empty_place(uri, pin)?;
    let (mut private, mut public) = templates(uri)?;
    private.extend([
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::EC),
        Attribute::EcParams(SECP256K1.to_vec()),
        Attribute::Value(key.expose_secret().to_vec()),
    ]);
    let made = session.create_object(&private);
    for attribute in &mut private {
        if let Attribute::Value(secret) = attribute {
            secret.zeroize();
        }
    }
    let made = made.map_err(key_error)?;
    let point = [&[0x04, 0x41], key.public_point().as_slice()].concat();
    public.extend([
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::EC),
        Attribute::EcPoint(point),
    ]);
    if let Err(error) = session.create_object(&public) {
        // Half a pair would be in the way of the next attempt.
        let _ = session.destroy_object(made);
        return Err(key_error(error));
    }
    token.address(&session)
}

/// A session that may write, if nothing has the label yet.
fn empty_place(uri: &Pkcs11Uri, pin: &Secret) -> Result<(Token, Session), KeyError> {
    let token = Token::load(uri, pin)?;
    let session = token.session(true)?;
    if token.taken(&session)? {
        return Err(KeyError::Denied(format!(
            "PKCS#11: the token has an object `{}` already; nothing was changed",
            uri.object
        )));
    }
    Ok((token, session))
}

/// What both ways give the private and the public half.
fn templates(uri: &Pkcs11Uri) -> Result<(Vec<Attribute>, Vec<Attribute>), KeyError> {
    let mut id = [0_u8; 16];
    OsRng.try_fill_bytes(&mut id).map_err(|error| KeyError::Unavailable(error.to_string()))?;
    let label = Attribute::Label(uri.object.clone().into_bytes());
    let id = Attribute::Id(id.to_vec());
    let private = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        label.clone(),
        id.clone(),
    ];
    let public = vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::EcParams(SECP256K1.to_vec()),
        label,
        id,
    ];
    Ok((private, public))
}
