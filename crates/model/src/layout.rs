//! Which tensors a model of a given configuration consists of, by Hugging Face name and shape.
//!
//! One list for readers (is everything there, with the right shape?) and writers (what has to be made?).

use crate::config::ModelConfig;

/// A tensor that a checkpoint must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Hugging Face name.
    pub name: String,
    /// `[len]` or `[rows, cols]`.
    pub shape: Vec<usize>,
}

impl ModelConfig {
    /// The tensors of such a model in the order of a forward pass: embedding, blocks, final norm, output.
    ///
    /// Lazy, one block at a time: a reader that stops at the first absent tensor does little work, whatever
    /// sizes a hostile configuration claims.
    pub fn tensors(&self) -> impl Iterator<Item = TensorSpec> + '_ {
        let (hidden, vocab) = (self.hidden_size, self.vocab_size);
        let output = (!self.tie_word_embeddings).then(|| spec("lm_head.weight", &[vocab, hidden]));
        std::iter::once(spec("model.embed_tokens.weight", &[vocab, hidden]))
            .chain((0..self.num_hidden_layers).flat_map(|layer| self.attention(layer).chain(self.mlp(layer))))
            .chain(std::iter::once(spec("model.norm.weight", &[hidden])))
            .chain(output)
    }

    fn attention(&self, layer: usize) -> impl Iterator<Item = TensorSpec> + '_ {
        let hidden = self.hidden_size;
        let q = self.num_attention_heads * self.head_dim;
        let kv = self.num_key_value_heads * self.head_dim;
        let mut list = vec![("input_layernorm.weight", vec![hidden])];
        let projections = [
            ("self_attn.q_proj.weight", "self_attn.q_proj.bias", q, hidden, self.qkv_bias),
            ("self_attn.k_proj.weight", "self_attn.k_proj.bias", kv, hidden, self.qkv_bias),
            ("self_attn.v_proj.weight", "self_attn.v_proj.bias", kv, hidden, self.qkv_bias),
            ("self_attn.o_proj.weight", "self_attn.o_proj.bias", hidden, q, self.o_bias),
        ];
        for (weight, bias, rows, cols, has_bias) in projections {
            list.push((weight, vec![rows, cols]));
            if has_bias {
                list.push((bias, vec![rows]));
            }
        }
        if self.qk_norm {
            list.push(("self_attn.q_norm.weight", vec![self.head_dim]));
            list.push(("self_attn.k_norm.weight", vec![self.head_dim]));
        }
        list.push(("post_attention_layernorm.weight", vec![hidden]));
        list.into_iter()
            .map(move |(name, shape)| TensorSpec { name: format!("model.layers.{layer}.{name}"), shape })
    }

    fn mlp(&self, layer: usize) -> Box<dyn Iterator<Item = TensorSpec> + '_> {
        let hidden = self.hidden_size;
        let swiglu = move |prefix: String, inner: usize| {
            [("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)]
                .map(|(part, rows, cols)| spec(&format!("{prefix}.{part}_proj.weight"), &[rows, cols]))
        };
        let prefix = format!("model.layers.{layer}.mlp");
        match &self.moe {
            Some(moe) if self.is_sparse(layer) => {
                let router = spec(&format!("{prefix}.gate.weight"), &[moe.num_experts, hidden]);
                let experts = (0..moe.num_experts).flat_map(move |expert| {
                    swiglu(format!("{prefix}.experts.{expert}"), moe.moe_intermediate_size)
                });
                Box::new(std::iter::once(router).chain(experts))
            }
            _ => Box::new(swiglu(prefix, self.intermediate_size).into_iter()),
        }
    }
}

fn spec(name: &str, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), shape: shape.to_vec() }
}
