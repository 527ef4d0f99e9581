//! What the network offers: capabilities, models and prices of every orchestrator that is known, as
//! discovery keeps them (`discovery::menu`), added up.

use crate::{
    front::caller::Caller,
    service::{Gateway, error::JobError},
};
use penstock_domain::{Capability, Rational};
use penstock_wire::OrchestratorOffer;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How old an answer may be.
const FRESH_MS: u64 = 30_000;
/// Most models that are listed: names are peers' words.
const MAX_MODELS: usize = 4_096;

/// The network's menu.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Menu {
    /// When the network was asked, milliseconds since 1970.
    pub refreshed_ms: u64,
    /// Orchestrators that answered.
    pub orchestrators: usize,
    /// By pipeline.
    pub capabilities: Vec<MenuCapability>,
}

/// A pipeline and who has it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MenuCapability {
    /// `text-to-image`, … or `byoc`.
    #[schema(example = "text-to-image")]
    pub pipeline: String,
    /// Its number on the wire.
    pub capability: u32,
    /// What a price is for.
    #[schema(example = "pixel")]
    pub unit: &'static str,
    /// Its models; of `byoc` the capabilities' names.
    pub models: Vec<MenuModel>,
}

/// A model and who has it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MenuModel {
    /// Its id.
    pub model: String,
    /// How many orchestrators have it.
    pub orchestrators: usize,
    /// How many of them have it loaded.
    pub warm: usize,
    /// Jobs at once, over all of them.
    pub capacity: u64,
    /// What the network takes; absent where nobody tells.
    pub network_wei_per_unit: Option<PriceRange>,
    /// What the operator of this gateway publishes (`--price-list`), exact: `n/d` or `n`.
    #[schema(example = "63/40")]
    pub published_wei_per_unit: Option<String>,
}

/// Exact numbers as text, `n/d` or `n`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PriceRange {
    /// The lowest.
    #[schema(example = "3/2")]
    pub min: String,
    /// The highest within what this gateway pays at most for this caller.
    #[schema(example = "2")]
    pub max: String,
}

#[derive(Default)]
struct Sum {
    orchestrators: usize,
    warm: usize,
    capacity: u64,
    prices: Vec<Rational>,
}

/// What the units of a capability are.
fn unit(number: u32) -> &'static str {
    match number {
        31 => "millisecond of sound",
        33 => "token of the maximum",
        36 => "thousandth of a character",
        37 => "second",
        27..=35 => "pixel",
        _ => "unit",
    }
}

fn pipeline(number: u32) -> Option<String> {
    Capability::from_number(number).map(Capability::pipeline)
}

impl Gateway {
    /// What every orchestrator says of itself to whoever names no job.
    pub async fn full_menus(&self) -> Result<penstock_store::Pool, JobError> {
        self.menu_members(FRESH_MS).await
    }

    /// The menu for a caller, asked for again if it is too old.
    pub async fn menu(&self, caller: &Caller) -> Result<Menu, JobError> {
        let pool = self.menu_members(FRESH_MS).await?;
        let mut sums: BTreeMap<(u32, String), Sum> = BTreeMap::new();
        for entry in &pool.entries {
            let Ok(offer) = OrchestratorOffer::decode(&entry.info) else { continue };
            add(&mut sums, &offer);
        }
        let mut capabilities: BTreeMap<u32, MenuCapability> = BTreeMap::new();
        for ((number, model), sum) in sums {
            let Some(pipeline) = pipeline(number) else { continue };
            // In dollars too, and the caller's own. While nobody can tell what dollars are worth nothing is
            // bought, and no price is one that is paid.
            let limit = self.price_ceiling(caller, &[(number, model.as_str())]);
            let limit = limit.unwrap_or_else(|_| Some(Rational::ZERO));
            let limit = limit.as_ref();
            let payable: Vec<_> =
                sum.prices.into_iter().filter(|p| limit.is_none_or(|most| p <= most)).collect();
            let highest = payable.iter().max();
            let list = self.settings.ai.price_list.as_ref();
            let published = list.and_then(|list| list.published(&pipeline, &model, highest));
            let range = payable
                .iter()
                .min()
                .zip(highest)
                .map(|(min, max)| PriceRange { min: min.to_string(), max: max.to_string() });
            let capability = capabilities.entry(number).or_insert_with(|| MenuCapability {
                pipeline,
                capability: number,
                unit: unit(number),
                models: Vec::new(),
            });
            capability.models.push(MenuModel {
                model,
                orchestrators: sum.orchestrators,
                warm: sum.warm,
                capacity: sum.capacity,
                network_wei_per_unit: range,
                published_wei_per_unit: published.map(|p| p.to_string()),
            });
        }
        Ok(Menu {
            refreshed_ms: pool.refreshed_at.0,
            orchestrators: pool.entries.len(),
            capabilities: capabilities.into_values().collect(),
        })
    }
}

/// Adds what one orchestrator offers.
fn add(sums: &mut BTreeMap<(u32, String), Sum>, offer: &OrchestratorOffer) {
    let prices: BTreeMap<(u32, &str), Rational> = offer
        .capabilities_prices
        .iter()
        .map(|p| ((p.capability, p.constraint.as_str()), p.price.rational()))
        .collect();
    let mut here: BTreeMap<(u32, &str), (bool, u32)> = BTreeMap::new();
    for (number, models) in offer.capabilities.iter().flat_map(|c| &c.models) {
        for (model, constraint) in models {
            here.insert((*number, model), (constraint.warm, constraint.capacity));
        }
    }
    // Brought capabilities are known by their prices alone.
    for (number, name) in prices.keys().filter(|(number, _)| *number == 37) {
        here.entry((*number, name)).or_insert((true, 1));
    }
    for ((number, model), (warm, capacity)) in here {
        let id = (number, model.to_owned());
        if sums.len() >= MAX_MODELS && !sums.contains_key(&id) {
            continue;
        }
        let sum = sums.entry(id).or_default();
        sum.orchestrators += 1;
        sum.warm += usize::from(warm);
        sum.capacity = sum.capacity.saturating_add(capacity.into());
        // A model without a price of its own costs the base price.
        let own = prices.get(&(number, model)).cloned();
        sum.prices.extend(own.or_else(|| offer.price.map(|p| p.rational())));
    }
}
