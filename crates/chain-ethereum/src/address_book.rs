//! Where the contracts are: asked of the Controller once (on-chain.md section 1).

use crate::{contracts::IController, reader::Reader, settings::Settings};
use penstock_chain::ChainError;
use penstock_domain::{Address, keccak256};

/// The contracts' addresses.
#[derive(Debug, Clone)]
pub(crate) struct AddressBook {
    pub ticket_broker: Address,
    pub rounds_manager: Address,
    pub bonding_manager: Address,
    /// Where the own service URI is written.
    pub service_registry: Address,
    /// All that are read, that one first: video and AI have one each.
    pub service_registries: Vec<Address>,
    pub token: Address,
    /// None on networks without a treasury.
    pub governor: Option<Address>,
}

impl AddressBook {
    /// Asks the Controller.
    pub(crate) async fn read(reader: &Reader, settings: &Settings) -> Result<Self, ChainError> {
        let ask = async |name: &'static str| -> Result<Address, ChainError> {
            let id = keccak256(name);
            reader.newest(settings.controller, &IController::getContractCall { id }).await
        };
        let find = async |name: &'static str| -> Result<Address, ChainError> {
            let found = ask(name).await?;
            if found.is_zero() {
                return Err(ChainError::BadAnswer {
                    reason: format!("--eth-controller {} knows no {name}", settings.controller),
                });
            }
            Ok(found)
        };
        // A network may have none in its Controller where the settings name one.
        let of_controller = match settings.service_registry {
            Some(_) => ask("ServiceRegistry").await?,
            None => find("ServiceRegistry").await?,
        };
        let service_registry = settings.service_registry.unwrap_or(of_controller);
        let mut service_registries = vec![service_registry];
        for other in [Some(of_controller), settings.ai_service_registry].into_iter().flatten() {
            if !other.is_zero() && !service_registries.contains(&other) {
                service_registries.push(other);
            }
        }
        Ok(Self {
            ticket_broker: find("TicketBroker").await?,
            rounds_manager: find("RoundsManager").await?,
            bonding_manager: find("BondingManager").await?,
            token: find("LivepeerToken").await?,
            service_registry,
            service_registries,
            governor: Some(ask("LivepeerGovernor").await?).filter(|found| !found.is_zero()),
        })
    }
}
