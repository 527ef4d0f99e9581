//! `Capabilities` ⇄ [`penstock_domain::Capabilities`], with the re-encoding rules of
//! remote-signer.md section 9.

use crate::{
    error::{WireError, at_most, bounded},
    limits,
    net::{
        self,
        capabilities::{CapabilityConstraints, Constraints, capability_constraints},
    },
};
use penstock_domain::{Capabilities, CapabilitySet, ModelConstraint, Models};

/// Parses and checks encoded capabilities.
pub fn decode(bytes: &[u8]) -> Result<Capabilities, WireError> {
    let what = "capabilities";
    let m: net::Capabilities =
        crate::header::decode_message(what, bytes, limits::CAPABILITIES_BYTES)?;
    read(&m)
}

/// Checks the message. Without `capacities` every set bit gets capacity 1.
pub fn read(m: &net::Capabilities) -> Result<Capabilities, WireError> {
    let set = words("capability words", &m.bitstring)?;
    let mandatories = words("mandatory capability words", &m.mandatories)?;
    at_most("capacities", m.capacities.len(), limits::CAPABILITY_ENTRIES)?;
    bounded("version", m.version.len(), limits::NAME_BYTES)?;
    let capacities = if m.capacities.is_empty() {
        set.numbers().map(|n| (n, 1)).collect()
    } else {
        m.capacities.clone()
    };
    let (min_version, models) = match &m.constraints {
        None => Default::default(),
        Some(c) => {
            bounded("minimum version", c.min_version.len(), limits::NAME_BYTES)?;
            at_most("capability constraints", c.per_capability.len(), limits::CAPABILITY_ENTRIES)?;
            let mut models = std::collections::BTreeMap::new();
            for (number, constraints) in &c.per_capability {
                models.insert(*number, read_models(constraints)?);
            }
            (c.min_version.clone(), models)
        }
    };
    Ok(Capabilities {
        set,
        mandatories,
        capacities,
        version: m.version.clone(),
        min_version,
        models,
    })
}

fn words(what: &'static str, words: &[u64]) -> Result<CapabilitySet, WireError> {
    let max = CapabilitySet::MAX_WORDS;
    CapabilitySet::from_words(words).ok_or(WireError::TooMany { what, max })
}

fn read_models(m: &CapabilityConstraints) -> Result<Models, WireError> {
    at_most("models", m.models.len(), limits::MODELS_PER_CAPABILITY)?;
    let mut models = Models::new();
    for (id, model) in &m.models {
        bounded("model id", id.len(), limits::NAME_BYTES)?;
        bounded("runner version", model.runner_version.len(), limits::NAME_BYTES)?;
        models.insert(
            id.clone(),
            ModelConstraint {
                warm: model.warm,
                capacity: model.capacity,
                runner_version: model.runner_version.clone(),
                capacity_in_use: model.capacity_in_use,
            },
        );
    }
    Ok(models)
}

/// The message as a job or a credential carries it: always a `constraints` submessage, and
/// without `capacityInUse`, as the reference re-encodes it.
pub fn write(c: &Capabilities) -> net::Capabilities {
    encode(c, false)
}

/// The message as an orchestrator reports itself, with `capacityInUse`.
pub fn write_report(c: &Capabilities) -> net::Capabilities {
    encode(c, true)
}

fn encode(c: &Capabilities, with_use: bool) -> net::Capabilities {
    let model = |m: &ModelConstraint| capability_constraints::ModelConstraint {
        warm: m.warm,
        capacity: m.capacity,
        runner_version: m.runner_version.clone(),
        capacity_in_use: if with_use { m.capacity_in_use } else { 0 },
    };
    let constraints = |models: &Models| CapabilityConstraints {
        models: models.iter().map(|(id, m)| (id.clone(), model(m))).collect(),
    };
    net::Capabilities {
        bitstring: c.set.words().to_vec(),
        mandatories: c.mandatories.words().to_vec(),
        capacities: c.capacities.clone(),
        version: c.version.clone(),
        constraints: Some(Constraints {
            min_version: c.min_version.clone(),
            per_capability: c.models.iter().map(|(n, m)| (*n, constraints(m))).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::Capability;
    use prost::Message;

    #[test]
    fn re_encoding_rules() {
        let m = net::Capabilities { bitstring: vec![0b11], ..Default::default() };
        let again = write(&read(&m).unwrap());
        assert_eq!(again.capacities, [(0, 1), (1, 1)].into());
        assert_eq!(again.constraints, Some(Constraints::default()));
        let mut node = Capabilities::ai_job(Capability::LiveVideoToVideo, "m", true);
        node.models.get_mut(&35).unwrap().get_mut("m").unwrap().capacity_in_use = 3;
        let reported = read(&write_report(&node)).unwrap();
        assert_eq!(reported, node);
        let repeated = decode(&write(&node).encode_to_vec()).unwrap();
        assert_eq!(repeated.models[&35]["m"].capacity_in_use, 0);
    }

    #[test]
    fn sizes_are_bounded() {
        let m = net::Capabilities { bitstring: vec![0; 17], ..Default::default() };
        assert!(matches!(read(&m), Err(WireError::TooMany { .. })));
        let m = net::Capabilities { version: "v".repeat(300), ..Default::default() };
        assert!(matches!(read(&m), Err(WireError::TooLong { .. })));
    }
}
