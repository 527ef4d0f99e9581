//! Orchestrators whose certificate changed prove that they still have their key.

use super::{super::Gateway, same_origin};
use crate::clock;
use penstock_domain::B256;
use penstock_payments::{ping_digest, verify_bytes};
use penstock_selection::Fault;
use penstock_store::PoolEntry;
use penstock_wire::OrchestratorOffer;

impl Gateway {
    /// Orchestrators that show another certificate than before have to prove that they still have
    /// their key (a relay can fake that); one that cannot is left alone for a while.
    pub(super) async fn ask_for_changed_keys(&self) {
        let changed = self.peers.pins().take_changed();
        metrics::counter!("penstock_gateway_changed_certificates_total")
            .increment(changed.len() as u64);
        for origin in changed {
            for key in self.discovered.pools() {
                let Ok(Some(pool)) = self.store.pool(&key, clock::now()).await else { continue };
                let Some(member) =
                    pool.entries.iter().find(|e| same_origin(&e.transcoder, &origin))
                else {
                    continue;
                };
                if let Err(why) = self.prove_key(member).await {
                    tracing::warn!(
                        orchestrator = member.transcoder,
                        why,
                        "another certificate, and not the key it had"
                    );
                    metrics::counter!("penstock_gateway_changed_keys_total").increment(1);
                    self.suspend(&key, &member.transcoder, Fault::BadResult, &why).await;
                }
            }
        }
    }

    async fn prove_key(&self, member: &PoolEntry) -> Result<(), String> {
        let offer = OrchestratorOffer::decode(&member.info).map_err(|e| e.to_string())?;
        let Some(address) = offer.address.filter(|a| !a.is_zero()) else { return Ok(()) };
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
        // It cannot prove anything there, and says so: it was reached.
        assert_eq!(gateway.prove_key(&own).await.unwrap_err(), "ping: not simulated");
        let foreign = PoolEntry { asked_uri: sim.uri(), transcoder: uri, ..listed };
        let refused = gateway.prove_key(&foreign).await.unwrap_err();
        assert!(refused.starts_with("ping: ") && !refused.contains("simulated"), "{refused}");
    }
}
