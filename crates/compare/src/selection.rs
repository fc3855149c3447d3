//! Which signals of a run take part in a comparison.

use std::collections::BTreeSet;

use mantissa_numerics::{Phase, Point, Site};
use serde::Serialize;

/// A kind of signal that evidence keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalKind {
    /// What Hugging Face calls `hidden_states`: the embedding, block outputs and the final norm.
    HiddenStates,
    /// Keys as cached.
    KeyVectors,
    /// Log-probabilities by token id.
    Logprobs,
}

impl SignalKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::HiddenStates, Self::KeyVectors, Self::Logprobs];

    /// The kind a site belongs to; `None` for points that only a trace keeps.
    ///
    /// ```
    /// use mantissa_compare::SignalKind;
    /// use mantissa_numerics::{Point, Site};
    ///
    /// assert_eq!(SignalKind::of(Site::at(3, Point::K)), Some(SignalKind::KeyVectors));
    /// assert_eq!(SignalKind::of(Site::at(3, Point::AttnOut)), None);
    /// ```
    #[must_use]
    pub const fn of(site: Site) -> Option<Self> {
        match site.point {
            Point::EmbedOut | Point::XOut | Point::FinalNorm => Some(Self::HiddenStates),
            Point::K => Some(Self::KeyVectors),
            _ => None,
        }
    }
}

/// Which signals take part. The default is everything; `None` restricts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Only these phases.
    pub phases: Option<BTreeSet<Phase>>,
    /// Only these kinds of signal. Without it, sites of no kind take part too.
    pub signals: Option<BTreeSet<SignalKind>>,
    /// Only these decoder blocks, counted from 1. Sites outside the blocks, and log-probabilities, stay.
    pub layers: Option<BTreeSet<u32>>,
    /// Only these positions relative to the end.
    pub positions: Option<BTreeSet<i32>>,
}

impl Selection {
    /// Only these kinds of signal.
    ///
    /// ```
    /// use mantissa_compare::{Selection, SignalKind};
    /// use mantissa_numerics::{Point, Site};
    ///
    /// let keys = Selection::of([SignalKind::KeyVectors]);
    /// assert!(keys.site(Site::at(3, Point::K)) && !keys.logprobs());
    /// let last = Selection { positions: Some([-1].into()), ..keys };
    /// assert!(last.position(-1) && !last.position(-2));
    /// ```
    #[must_use]
    pub fn of(signals: impl IntoIterator<Item = SignalKind>) -> Self {
        Self { signals: Some(signals.into_iter().collect()), ..Self::default() }
    }

    /// Whether a phase takes part.
    #[must_use]
    pub fn phase(&self, phase: Phase) -> bool {
        self.phases.as_ref().is_none_or(|phases| phases.contains(&phase))
    }

    /// Whether a site takes part.
    #[must_use]
    pub fn site(&self, site: Site) -> bool {
        let kind = SignalKind::of(site);
        let chosen = self.signals.as_ref().is_none_or(|kinds| kind.is_some_and(|kind| kinds.contains(&kind)));
        let layer = site.layer.map(|layer| layer.0);
        chosen && self.layers.as_ref().is_none_or(|layers| layer.is_none_or(|layer| layers.contains(&layer)))
    }

    /// Whether log-probabilities take part.
    #[must_use]
    pub fn logprobs(&self) -> bool {
        self.signals.as_ref().is_none_or(|kinds| kinds.contains(&SignalKind::Logprobs))
    }

    /// Whether a position takes part.
    #[must_use]
    pub fn position(&self, position: i32) -> bool {
        self.positions.as_ref().is_none_or(|positions| positions.contains(&position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_restriction_holds_alone() {
        let keys = Selection::of([SignalKind::KeyVectors]);
        assert!(keys.site(Site::at(3, Point::K)) && !keys.site(Site::at(3, Point::XOut)));
        assert!(!keys.site(Site::at(3, Point::AttnOut)) && !keys.logprobs());
        let all = Selection::default();
        assert!(all.site(Site::at(3, Point::AttnOut)) && all.logprobs() && all.phase(Phase::Decode));
        let layers = Selection { layers: Some([2].into()), ..Selection::default() };
        assert!(layers.site(Site::at(2, Point::XOut)) && !layers.site(Site::at(3, Point::XOut)));
        assert!(layers.site(Site::outside(Point::FinalNorm)) && layers.logprobs());
        let last = Selection { positions: Some([-1].into()), ..Selection::default() };
        assert!(last.position(-1) && !last.position(-2));
        let prefill = Selection { phases: Some([Phase::Prefill].into()), ..Selection::default() };
        assert!(prefill.phase(Phase::Prefill) && !prefill.phase(Phase::Decode));
    }
}
