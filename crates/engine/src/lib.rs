//! Tokens to logits on the CPU, by explicit recipe, with taps.
