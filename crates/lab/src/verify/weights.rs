//! Whether the model that was given is the one that evidence states.

use mantissa_evidence::Digest;
use mantissa_verdict::audit::AuditedModel;

use super::request::{Event, Model};
use crate::error::LabError;
use crate::replay::Claim;

/// Refuses a model of other weights than the evidence states. Returns their digest where it states one.
pub(crate) fn same_weights(
    evidence: &std::path::Path,
    model: Model<'_>,
    claims: &[Claim],
    progress: &dyn Fn(Event<'_>),
) -> Result<Option<Digest>, LabError> {
    if claims.iter().all(|claim| claim.weights.is_none()) {
        return Ok(None);
    }
    let total = model.checkpoint.stored_bytes();
    let found = model.checkpoint.digest(&|done| progress(Event::Hashing { done: done.min(total), total }))?;
    let found: Digest = found.digest.parse().map_err(|reason| LabError::Digest { reason })?;
    for claim in claims {
        if let Some(stated) = claim.weights.filter(|stated| *stated != found) {
            return Err(LabError::OtherWeights {
                evidence: evidence.to_owned(),
                config_id: claim.config_id.clone(),
                stated: Box::new(stated),
                model: model.name.to_owned(),
                found: Box::new(found),
            });
        }
    }
    Ok(Some(found))
}

/// `model` as an audit names it, claimed to be of the names `claimed`; `weights` are those the evidence states, once
/// found to be its own.
pub(super) fn audited(model: Model<'_>, weights: Option<Digest>, claimed: Vec<String>) -> AuditedModel {
    AuditedModel {
        name: model.name.to_owned(),
        claimed,
        weights_digest: weights.map(|digest| digest.to_string()),
        stated_by_evidence: weights.is_some(),
    }
}
