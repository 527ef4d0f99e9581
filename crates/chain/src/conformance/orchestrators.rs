//! The orchestrator pool.

use super::network::{Network, activate};
use crate::{ChainError, NEVER};

/// Who joins is active from the next round; a new service URI counts at once.
pub async fn joining_the_active_set(network: &mut dyn Network) {
    let (chain, me) = (network.account(1), network.address(1));
    let size = chain.pool_size().await.unwrap();
    let round = chain.rounds().await.unwrap().last_initialized_round;
    chain.register("https://a.example:8935").await.unwrap();
    assert_eq!(chain.pool_size().await.unwrap(), size + 1);
    assert!(!chain.is_active(me).await.unwrap());
    network.next_round().await;
    assert!(chain.is_active(me).await.unwrap());
    chain.register("https://b.example:8935").await.unwrap();
    assert_eq!(chain.pool_size().await.unwrap(), size + 1);
    let active = chain.active_orchestrators().await.unwrap();
    let mine = active.iter().find(|o| o.address == me).unwrap();
    assert_eq!(mine.service_uri, "https://b.example:8935");
    assert_eq!((mine.activation_round, mine.deactivation_round), (round + 1, NEVER));
    assert_eq!(chain.deactivation_round(me).await.unwrap(), NEVER);
    activate(network, &[2, 3]).await;
    assert_eq!(chain.active_orchestrators().await.unwrap().len(), active.len() + 2);
}

/// Without a key there is no account to act as.
pub async fn operations_need_an_account(network: &mut dyn Network) {
    let chain = network.chain();
    for result in [
        chain.unlock().await,
        chain.cancel_unlock().await,
        chain.withdraw().await,
        chain.register("https://a.example:8935").await.map(Option::unwrap),
    ] {
        assert!(matches!(result, Err(ChainError::NoAccount { .. })), "{result:?}");
    }
}
