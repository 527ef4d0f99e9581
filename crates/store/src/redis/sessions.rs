//! Orchestrator sessions: one hash each, with the lease and its fence beside the record.

use super::{RedisStore, args, codec, keep_ms, link::Keep, script};
use crate::{
    Fence, Lease, OrchestratorSessionStore, OwnerId, PendingPurchase, Saved, SessionKey,
    SessionRecord, StoreError, UnixMs,
};
use async_trait::async_trait;
use penstock_domain::ManifestId;

const CORRUPT: StoreError = StoreError::Corrupt("orchestrator session");
const FIELDS: [&str; 8] =
    ["ends", "info", "at", "manifest", "state", "credential", "buy", "buy_info"];

type Fields = [Option<Vec<u8>>; 8];

fn text(bytes: Vec<u8>) -> Result<String, StoreError> {
    String::from_utf8(bytes).map_err(|_| CORRUPT)
}

fn read(fields: Fields, now: UnixMs) -> Result<Option<SessionRecord>, StoreError> {
    let [ends, info, at, manifest, state, credential, buy, buy_info] = fields;
    let Some(ends) = ends else { return Ok(None) };
    if codec::read_time(&ends)? <= now {
        return Ok(None);
    }
    let purchase = match buy {
        None => None,
        Some(buy) => {
            let buy = text(buy)?;
            // Units first: an id may hold anything.
            let (units, id) = buy.split_once(' ').ok_or(CORRUPT)?;
            let units = units.parse().map_err(|_| CORRUPT)?;
            Some(PendingPurchase { id: id.to_owned(), units, info: buy_info.unwrap_or_default() })
        }
    };
    Ok(Some(SessionRecord {
        info: info.ok_or(CORRUPT)?,
        info_at: codec::read_time(&at.ok_or(CORRUPT)?)?,
        manifest_id: ManifestId::new(text(manifest.ok_or(CORRUPT)?)?).map_err(|_| CORRUPT)?,
        payment_state: state.map(text).transpose()?,
        credential: credential.map(text).transpose()?,
        purchase,
    }))
}

/// Fields and values, as the script takes them.
fn write(record: &SessionRecord, ends: UnixMs) -> Vec<Vec<u8>> {
    let SessionRecord { info, info_at, manifest_id, payment_state, credential, purchase } = record;
    let mut fields: Vec<Vec<u8>> = Vec::new();
    let mut set = |name: &str, value: &[u8]| fields.extend([name.into(), value.to_vec()]);
    set("ends", codec::time(ends).as_bytes());
    set("info", info);
    set("at", codec::time(*info_at).as_bytes());
    set("manifest", manifest_id.as_str().as_bytes());
    if let Some(state) = payment_state {
        set("state", state.as_bytes());
    }
    if let Some(credential) = credential {
        set("credential", credential.as_bytes());
    }
    if let Some(PendingPurchase { id, units, info }) = purchase {
        set("buy", format!("{units} {id}").as_bytes());
        set("buy_info", info);
    }
    fields
}

#[async_trait]
impl OrchestratorSessionStore for RedisStore {
    async fn session(
        &self,
        key: &SessionKey,
        now: UnixMs,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let mut get = redis::cmd("HMGET");
        get.arg(self.keys.session(key)).arg(&FIELDS);
        let fields: Vec<Option<Vec<u8>>> = self.link.ask(get).await?;
        read(fields.try_into().map_err(|_| CORRUPT)?, now)
    }

    async fn lease_session(
        &self,
        key: &SessionKey,
        owner: &OwnerId,
        lease_ms: u64,
        now: UnixMs,
    ) -> Result<Lease, StoreError> {
        let until = now.plus_ms(lease_ms);
        let args = args![
            owner.0,
            codec::fresh_token(now),
            codec::time(until),
            codec::time(now),
            keep_ms(lease_ms),
        ];
        let key = [self.keys.session(key)];
        let (granted, answer): (bool, Vec<u8>) =
            self.link.run(&script::LEASE, &key, args, Keep::Here).await?;
        Ok(match granted {
            true => Lease::Granted { fence: Fence(codec::read_token(&answer)?), until },
            false => Lease::Held { until: codec::read_time(&answer)? },
        })
    }

    async fn save_session(
        &self,
        key: &SessionKey,
        fence: Fence,
        record: &SessionRecord,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<Saved, StoreError> {
        record.check_size()?;
        let mut args = vec![codec::token(fence.0).into_bytes(), keep_ms(ttl_ms).into_bytes()];
        args.extend(write(record, now.plus_ms(ttl_ms)));
        let key = [self.keys.session(key)];
        let done: bool = self.link.run(&script::SAVE_SESSION, &key, &args, Keep::Here).await?;
        Ok(if done { Saved::Yes } else { Saved::Fenced })
    }

    async fn refresh_session_info(
        &self,
        key: &SessionKey,
        manifest_id: &ManifestId,
        info: &[u8],
        now: UnixMs,
    ) -> Result<bool, StoreError> {
        SessionRecord::check_info(info)?;
        let args = args![manifest_id.as_str(), codec::time(now), info];
        let key = [self.keys.session(key)];
        self.link.run(&script::REFRESH_SESSION, &key, args, Keep::Here).await
    }

    async fn release_session(
        &self,
        key: &SessionKey,
        owner: &OwnerId,
        _now: UnixMs,
    ) -> Result<(), StoreError> {
        let key = [self.keys.session(key)];
        self.link.run::<u8, _>(&script::RELEASE, &key, args![owner.0], Keep::Here).await.map(drop)
    }

    async fn remove_session(
        &self,
        key: &SessionKey,
        fence: Fence,
        _now: UnixMs,
    ) -> Result<Saved, StoreError> {
        let mut args = vec![codec::token(fence.0).into_bytes()];
        args.extend(FIELDS.map(|field| field.as_bytes().to_vec()));
        let key = [self.keys.session(key)];
        let done: bool = self.link.run(&script::END_SESSION, &key, &args, Keep::Here).await?;
        Ok(if done { Saved::Yes } else { Saved::Fenced })
    }
}
