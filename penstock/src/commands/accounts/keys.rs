//! `penstock accounts keys …`

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{NameArgs, Place, element};
use crate::commands::{
    CommandError, examples,
    table::{Side, table},
};

/// `penstock accounts keys …`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the keys and certificates of an account.
    #[command(after_help = examples![
        "penstock accounts keys list acme",
    ])]
    List(NameArgs),
    /// Make an API key. It is shown once.
    #[command(after_help = examples![
        "penstock accounts keys create acme --expires-in 90d",
    ])]
    Create(CreateArgs),
    /// Make a key in place of another one, which goes on for a while.
    #[command(after_help = examples![
        "penstock accounts keys rotate psk_0123abcd --overlap 2h",
    ])]
    Rotate(RotateArgs),
    /// Take a key or certificate back, for good.
    #[command(after_help = examples![
        "penstock accounts keys revoke psk_0123abcd",
    ])]
    Revoke(IdArgs),
    /// Let a client certificate in.
    #[command(after_help = examples![
        "penstock accounts keys certificate acme AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89",
    ])]
    Certificate(CertificateArgs),
}

/// What a credential has besides itself.
#[derive(Debug, Args)]
pub struct Terms {
    /// A note for yourself.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// When it ends, for example 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "expires_in")]
    expires_at: Option<String>,
    /// After how long it ends, for example 90d, 12h, 30m or 45s.
    #[arg(long, value_name = "SPAN")]
    expires_in: Option<String>,
}

impl Terms {
    fn body(&self) -> Result<Map<String, Value>, CommandError> {
        let mut body = Map::new();
        if let Some(note) = &self.note {
            body.insert("note".to_owned(), note.as_str().into());
        }
        if let Some(time) = &self.expires_at {
            body.insert("expires_at".to_owned(), time.as_str().into());
        }
        if let Some(span) = &self.expires_in {
            body.insert("expires_in_s".to_owned(), seconds("--expires-in", span)?.into());
        }
        Ok(body)
    }
}

/// A new key.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Whose.
    account: String,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    place: Place,
}

/// A key in place of another.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The old key's public name, psk_ and 8 hex digits.
    id: String,
    /// How long the old key goes on, for example 1d or 2h; 0s ends it at once.
    #[arg(long, value_name = "SPAN", default_value = "1d")]
    overlap: String,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    place: Place,
}

/// A key.
#[derive(Debug, Args)]
pub struct IdArgs {
    /// Its public name.
    id: String,
    #[command(flatten)]
    place: Place,
}

/// A certificate.
#[derive(Debug, Args)]
pub struct CertificateArgs {
    /// Whose.
    account: String,
    /// SHA-256 fingerprint, as `openssl x509 -fingerprint -sha256` prints it.
    sha256: String,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    place: Place,
}

/// A credential as the signer shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Key {
    id: String,
    account: String,
    kind: String,
    state: String,
    expires_at: Option<String>,
    note: String,
    created_at: String,
    #[serde(default)]
    key: Option<String>,
}

pub(super) async fn run(command: &KeysCommand) -> Result<String, CommandError> {
    match command {
        KeysCommand::List(args) => {
            let api = args.place.api()?;
            let path = format!("/v1/accounts/{}/keys", element(&args.name));
            let answer = api.get(&path).await?;
            args.place.shown(&api, &path, &answer, |keys: &Vec<Key>| render(keys))
        }
        KeysCommand::Create(args) => {
            let path = format!("/v1/accounts/{}/keys", element(&args.account));
            made(&args.place, &path, args.terms.body()?).await
        }
        KeysCommand::Rotate(args) => {
            let mut body = args.terms.body()?;
            body.insert("overlap_s".to_owned(), seconds("--overlap", &args.overlap)?.into());
            made(&args.place, &format!("/v1/keys/{}/rotate", element(&args.id)), body).await
        }
        KeysCommand::Revoke(args) => {
            let path = format!("/v1/keys/{}/revoke", element(&args.id));
            made(&args.place, &path, Map::new()).await
        }
        KeysCommand::Certificate(args) => {
            let mut body = args.terms.body()?;
            body.insert("sha256".to_owned(), args.sha256.as_str().into());
            let path = format!("/v1/accounts/{}/certificates", element(&args.account));
            made(&args.place, &path, body).await
        }
    }
}

async fn made(place: &Place, path: &str, body: Map<String, Value>) -> Result<String, CommandError> {
    let api = place.api()?;
    let answer = api.post(path, &body.into()).await?;
    place.shown(&api, path, &answer, render_made)
}

fn render_made(key: &Key) -> String {
    let mut out = render(core::slice::from_ref(key));
    if let Some(text) = &key.key {
        out.push_str("\nThe key, which is shown this once and stored nowhere:\n");
        out.push_str(&super::super::table::plain(text));
        out.push('\n');
    }
    out
}

pub(super) fn render(keys: &[Key]) -> String {
    if keys.is_empty() {
        return "No keys yet: penstock accounts keys create ACCOUNT.\n".to_owned();
    }
    let columns = [
        ("key", Side::Left),
        ("account", Side::Left),
        ("kind", Side::Left),
        ("state", Side::Left),
        ("expires", Side::Left),
        ("created", Side::Left),
        ("note", Side::Left),
    ];
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|k| {
            vec![
                k.id.clone(),
                k.account.clone(),
                k.kind.clone(),
                k.state.clone(),
                k.expires_at.clone().unwrap_or_else(|| "never".to_owned()),
                k.created_at.clone(),
                k.note.clone(),
            ]
        })
        .collect();
    table(&columns, &rows)
}

/// `90d`, `12h`, `30m`, `45s` in seconds.
fn seconds(setting: &'static str, text: &str) -> Result<u64, CommandError> {
    let bad = || CommandError::Setting {
        setting,
        reason: "expected a span such as 90d, 12h, 30m or 45s".to_owned(),
    };
    let unit = text.chars().last().ok_or_else(bad)?;
    let factor = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(bad()),
    };
    let number: u64 = text.strip_suffix(unit).and_then(|n| n.parse().ok()).ok_or_else(bad)?;
    number.checked_mul(factor).filter(|s| *s < 1 << 53).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        let of = |text: &str| seconds("--x", text).ok();
        assert_eq!(
            (of("90d"), of("2h"), of("5m"), of("0s")),
            (Some(7_776_000), Some(7_200), Some(300), Some(0))
        );
        for bad in ["", "d", "5", "-1d", "1.5h", "5w", "99999999999999999999d", "9999999999999d"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_new_key_is_shown() {
        let key: Key = serde_json::from_value(serde_json::json!({
            "key": "psk_0a0b0c0d_ff", "id": "psk_0a0b0c0d", "account": "acme", "kind": "api_key",
            "state": "active", "expires_at": null, "note": "", "created_at": "now",
        }))
        .unwrap();
        let want = "\
key           account  kind     state   expires  created  note
psk_0a0b0c0d  acme     api_key  active  never    now

The key, which is shown this once and stored nowhere:
psk_0a0b0c0d_ff
";
        assert_eq!(render_made(&key), want);
    }
}
