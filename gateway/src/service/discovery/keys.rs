//! Orchestrators whose certificate changed prove that they still have the key that they had: the one of
//! the address that they named before, whatever they name now.

use super::{super::Gateway, member::origin, same_origin};
use crate::clock;
use penstock_domain::{Address, B256};
use penstock_payments::{ping_digest, verify_bytes};
use penstock_selection::Fault;
use penstock_store::PoolEntry;
use penstock_wire::OrchestratorOffer;
use std::collections::HashMap;

/// Orchestrators remembered: as many as certificates.
const MOST: usize = 16_384;

/// The address of each origin's key, as this replica heard it in its own rounds; like the certificates,
/// it is known for as long as the replica lives.
#[derive(Debug, Default)]
pub(super) struct Keys(HashMap<String, Named>);

#[derive(Debug)]
struct Named {
    /// When certificates were last looked at.
    before: Option<Address>,
    now: Address,
}

impl Keys {
    /// An offer named this address.
    pub(super) fn heard(&mut self, uri: &str, address: Address) {
        let Some(origin) = origin(uri).filter(|_| !address.is_zero()) else { return };
        if let Some(named) = self.0.get_mut(&origin) {
            named.now = address;
        } else if self.0.len() < MOST {
            self.0.insert(origin, Named { before: None, now: address });
        }
    }

    fn before(&self, uri: &str) -> Option<Address> {
        self.0.get(&origin(uri)?)?.before
    }

    /// What is so now is what the next certificate is measured by.
    fn settle(&mut self) {
        self.0.values_mut().for_each(|named| named.before = Some(named.now));
    }
}

impl Gateway {
    /// Orchestrators that show another certificate than before have to prove that they still have
    /// their key (a relay can fake that); one that cannot is left alone for a while.
    pub(super) async fn ask_for_changed_keys(&self) {
        let changed = self.peers.pins().take_changed();
        metrics::counter!("penstock_gateway_changed_certificates_total")
            .increment(changed.len() as u64);
        for origin in changed {
            let had = self.discovered.with(|seen| seen.keys.before(&origin));
            let mut asked = None;
            for key in self.discovered.pools() {
                let Ok(Some(pool)) = self.store.pool(&key, clock::now()).await else { continue };
                let Some(member) =
                    pool.entries.iter().find(|e| same_origin(&e.transcoder, &origin))
                else {
                    continue;
                };
                let proof = match asked.clone() {
                    Some(proof) => proof,
                    None => asked.insert(self.prove_key(member, had).await).clone(),
                };
                if let Err(why) = proof {
                    tracing::warn!(
                        orchestrator = member.transcoder,
                        why,
                        "another certificate, and not the key it had"
                    );
                    metrics::counter!("penstock_gateway_changed_keys_total").increment(1);
                    self.suspend(&key, &member.transcoder, Fault::WrongKey, &why).await;
                }
            }
        }
        self.discovered.with(|seen| seen.keys.settle());
    }

    /// `had`: its address before, where this replica knows it; else what its offer says.
    async fn prove_key(&self, member: &PoolEntry, had: Option<Address>) -> Result<(), String> {
        let offer = OrchestratorOffer::decode(&member.info).map_err(|e| e.to_string())?;
        let address = had.or(offer.address).filter(|a| !a.is_zero());
        let Some(address) = address else { return Ok(()) };
        let value = B256::from(rand::random::<[u8; 32]>());
        let foreign = !same_origin(&member.asked_uri, &member.transcoder);
        let client = if foreign { &self.elsewhere } else { &self.orchestrators };
        let answer = client.ping(&member.transcoder, value).await;
        let sig = answer.map_err(|e| format!("ping: {}", e.message()))?;
        verify_bytes(&sig, &ping_digest(value.as_slice()), address)
            .map(|_| ())
            .map_err(|_| "the ping is signed by another key".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{plain_video_job, video_pool},
        *,
    };

    /// Whoever named an orchestrator does not decide that we call into our own network.
    #[tokio::test]
    async fn a_foreign_member_proves_its_key_at_public_addresses_only() {
        penstock_http_kit::tls::install_crypto_provider();
        let sim = penstock_testkit::sim::SimOrchestrator::start().await;
        let uri = sim.uri().replace("127.0.0.1", "localhost");
        let argv = [
            "penstock-gateway".to_owned(),
            "--network=offchain".to_owned(),
            format!("--orchestrators={}", sim.uri()),
        ];
        let args: crate::config::Args = penstock_config::try_parse_from(argv).unwrap();
        let settings = crate::config::Settings::from_args(args).unwrap();
        let store = std::sync::Arc::new(penstock_store::MemoryStore::default());
        let segments = std::sync::Arc::new(penstock_store::MemorySegments::new(1 << 20));
        let gateway = Gateway::new(settings, store, segments).unwrap();
        sim.terms.lock().unwrap().free = true;
        let pool = gateway.pool_or_discover(&video_pool(), &plain_video_job()).await.unwrap();
        let listed = pool.entries[0].clone();
        let own = PoolEntry { asked_uri: uri.clone(), transcoder: uri.clone(), ..listed.clone() };
        assert_eq!(gateway.prove_key(&own, None).await, Ok(()));
        let foreign = PoolEntry { asked_uri: sim.uri(), transcoder: uri, ..listed };
        let refused = gateway.prove_key(&foreign, None).await.unwrap_err();
        assert!(refused.starts_with("ping: "), "{refused}");
        assert_eq!(sim.seen.lock().unwrap().pings, 1, "the foreign one was not reached");
    }

    /// Of an address that is named together with the new certificate nothing follows.
    #[test]
    fn what_was_named_before_counts() {
        let (mut keys, [a, b]) = (Keys::default(), [1, 2].map(Address::repeat_byte));
        keys.heard("https://o:1/", a);
        assert_eq!(keys.before("https://o:1"), None, "there was nothing before");
        keys.settle();
        keys.heard("https://o:1", b);
        keys.heard("https://o:2", b);
        keys.heard("https://o:1", Address::ZERO);
        assert_eq!(keys.before("https://o:1"), Some(a));
        assert_eq!(keys.before("https://o:2"), None);
        keys.settle();
        assert_eq!(keys.before("https://o:1"), Some(b), "from then on");
        for n in 0..MOST + 9 {
            keys.heard(&format!("https://many{n}"), a);
        }
        assert_eq!(keys.0.len(), MOST);
    }
}
