//! Where a tensor is seen: a decoder block and a point in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A decoder block counted from 1, as Hugging Face counts `hidden_states[k]`.
///
/// Example: [`Site`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct LayerIdx(pub u32);

/// A point of the forward pass.
///
/// Example: [`Site`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// Rows of the embedding. *Shape:* `hidden_size`. No layer.
    EmbedOut,
    /// Input of a block. *Shape:* `hidden_size`.
    XIn,
    /// Queries after head norm and RoPE, heads concatenated. *Shape:* `num_attention_heads · head_dim`.
    Q,
    /// Keys after head norm and RoPE, as cached, KV heads concatenated. *Shape:* `num_key_value_heads · head_dim`.
    K,
    /// Values as cached, KV heads concatenated. *Shape:* `num_key_value_heads · head_dim`.
    V,
    /// Attention output after the output projection. *Shape:* `hidden_size`.
    AttnOut,
    /// Residual stream after attention. *Shape:* `hidden_size`.
    XAfterAttn,
    /// Normalized input of the MLP. *Shape:* `hidden_size`.
    FfnNorm,
    /// Router logits before the softmax (MoE). *Shape:* `num_experts`.
    RouterLogits,
    /// Chosen experts, then their weights (MoE). *Shape:* `2 · num_experts_per_tok`: ids as numbers, then weights.
    RouterTopk,
    /// Output of the MLP or of the experts. *Shape:* `hidden_size`.
    MlpOut,
    /// Output of a block. *Shape:* `hidden_size`.
    XOut,
    /// Residual stream after the model's last norm. *Shape:* `hidden_size`. No layer.
    FinalNorm,
    /// Logits. *Shape:* `vocab_size`. No layer.
    Logits,
}

impl Point {
    /// Every point in the order data flows.
    pub const ALL: [Self; 14] = [
        Self::EmbedOut,
        Self::XIn,
        Self::Q,
        Self::K,
        Self::V,
        Self::AttnOut,
        Self::XAfterAttn,
        Self::FfnNorm,
        Self::RouterLogits,
        Self::RouterTopk,
        Self::MlpOut,
        Self::XOut,
        Self::FinalNorm,
        Self::Logits,
    ];

    /// The name used in flags and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EmbedOut => "embed_out",
            Self::XIn => "x_in",
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
            Self::AttnOut => "attn_out",
            Self::XAfterAttn => "x_after_attn",
            Self::FfnNorm => "ffn_norm",
            Self::RouterLogits => "router_logits",
            Self::RouterTopk => "router_topk",
            Self::MlpOut => "mlp_out",
            Self::XOut => "x_out",
            Self::FinalNorm => "final_norm",
            Self::Logits => "logits",
        }
    }

    /// Whether the point belongs to a block (and so its site has a layer).
    #[must_use]
    pub const fn has_layer(self) -> bool {
        !matches!(self, Self::EmbedOut | Self::FinalNorm | Self::Logits)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|p| p.name() == s).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|p| p.name()).collect();
            format!("unknown point '{s}': use one of {}", names.join(", "))
        })
    }
}

/// A block and a point in it. Displays and parses as `layer_4.x_out`, or `final_norm` where there is no layer.
///
/// Sites order by layer, then by the flow of data, with layerless `embed_out` first and `final_norm`, `logits` last.
///
/// ```
/// use mantissa_numerics::{LayerIdx, Point, Site};
/// let site: Site = "layer_4.x_out".parse()?;
/// assert_eq!((site.layer, site.point), (Some(LayerIdx(4)), Point::XOut));
/// // The flow of data: the embedding first, then block by block, the logits last.
/// assert!(Site::outside(Point::EmbedOut) < site && site < Site::outside(Point::Logits));
/// assert!(Site::at(4, Point::XOut) < Site::at(5, Point::XIn));
/// assert!("x_out".parse::<Site>().is_err(), "a point of a block needs its layer");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Site {
    /// The block, for a point that has one.
    pub layer: Option<LayerIdx>,
    /// The point.
    pub point: Point,
}

impl Site {
    /// The site of `point` in block `layer`, counted from 1.
    #[must_use]
    pub const fn at(layer: u32, point: Point) -> Self {
        Self { layer: Some(LayerIdx(layer)), point }
    }

    /// The site of a point outside the blocks.
    #[must_use]
    pub const fn outside(point: Point) -> Self {
        Self { layer: None, point }
    }

    fn order(self) -> (u64, Point) {
        let layer = match (self.layer, self.point) {
            (Some(LayerIdx(layer)), _) => u64::from(layer),
            (None, Point::EmbedOut) => 0,
            (None, _) => u64::MAX,
        };
        (layer, self.point)
    }
}

impl PartialOrd for Site {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Site {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(LayerIdx(layer)) => write!(f, "layer_{layer}.{}", self.point),
            None => self.point.fmt(f),
        }
    }
}

impl FromStr for Site {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let site = match s.strip_prefix("layer_").and_then(|rest| rest.split_once('.')) {
            Some((layer, point)) => Self::at(
                layer.parse().map_err(|_| format!("'{s}' is not a site: layer '{layer}' is not a number"))?,
                point.parse()?,
            ),
            None => Self::outside(s.parse()?),
        };
        if site.point.has_layer() == site.layer.is_some() {
            Ok(site)
        } else {
            Err(format!("'{s}' is not a site: write layer_K.POINT, or embed_out, final_norm, logits"))
        }
    }
}

impl Serialize for Site {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Site {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Which kind of forward pass a value comes from.
///
/// Example: [`ObservedKernel`](crate::recipe::ObservedKernel).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Many positions of a sequence in one pass.
    Prefill,
    /// One position per sequence and pass over a KV cache.
    Decode,
}

impl Phase {
    /// The name used in files: `prefill` or `decode`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_print_parse_and_order_by_data_flow() {
        let text = [
            "embed_out",
            "layer_1.x_in",
            "layer_1.attn_out",
            "layer_1.x_out",
            "layer_12.k",
            "final_norm",
            "logits",
        ];
        let sites: Vec<Site> = text.iter().map(|s| s.parse().expect(s)).collect();
        assert!(sites.is_sorted());
        assert_eq!(sites.iter().map(ToString::to_string).collect::<Vec<_>>(), text);
        for wrong in ["layer_1", "x_out", "layer_1.logits", "layer_x.k", "layer_1.z"] {
            assert!(wrong.parse::<Site>().is_err(), "{wrong}");
        }
    }
}
