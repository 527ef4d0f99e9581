//! What is bonded to an orchestrator on the chain, at the gateway that chooses by it: from the contract to the signer's
//! list, and from there into the gateway's pool, to the last digit.

use penstock::dev::Role;
use penstock_testkit::until;

use crate::network::{Needs, Network, SignerOn};

#[tokio::test]
async fn a_stake_on_the_chain_is_known_where_orchestrators_are_chosen() {
    let on = SignerOn { ethereum: true, ..SignerOn::default() };
    let network = Network::start_on(Needs::VIDEO, on).await;
    let stake = "1000000000000000000";
    let uri = network.url(Role::Orchestrator);
    until("the signer tells it", || async {
        let list = format!("{}/discover-orchestrators", network.url(Role::Signer));
        let Ok(list) = network.http.get(&list).send().await else { return false };
        let list: serde_json::Value = list.json().await.unwrap_or_default();
        list[0]["address"] == uri.as_str() && list[0]["stake_lptu"] == stake
    })
    .await;
    until("the gateway has it in its pool", || async {
        let pools =
            network.get(&format!("{}/v1/orchestrators", network.admin(Role::Gateway))).await;
        let pools = pools["pools"].as_array().unwrap();
        let video = pools.iter().find(|pool| pool["pool"] == "video");
        video.is_some_and(|pool| pool["orchestrators"][0]["stake_lptu"] == stake)
    })
    .await;
}
