//! The setup of an inference, as axes: what can be claimed, varied, recorded and replayed.
//!
//! One table (`axes!`) says everything about an axis: its name, its type, its default, its flag, and how a value that
//! is not the default shows in a setup's name. Flags, grids, evidence and candidates go through [`Axis::ALL`].
//! Left out: which values there are recipes for (the engine and the lab say), the model, and how tokens are chosen.
//!
//! ```
//! use mantissa_numerics::setup::{Axis, Hardware, Setup};
//!
//! let mut setup = Setup { hardware: Hardware::H200, ..Setup::default() };
//! assert_eq!(setup.to_string(), "h200_bs1_eager_bf16");
//! setup.set(Axis::TpSize.parse("2")?);
//! assert_eq!(setup.to_string(), "h200_bs1_eager_bf16_tp2");
//! assert_eq!(setup.get(Axis::TpSize).to_string(), "2");
//! # Ok::<(), mantissa_numerics::setup::WrongValue>(())
//! ```

mod attention;
mod hardware;
mod padding;
mod ranks;
mod value;

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use crate::Dtype;

pub use attention::Attention;
pub use hardware::{Basis, Hardware};
pub use padding::Padding;
pub use ranks::{AllReduce, LinearBackend, ModelRunner, Program, Ranks};
pub use value::{AxisValue, MOST, WrongValue};

use value::words;

words! {
    /// What happens to the weights of a quantized checkpoint; for any other both mean the same.
    ///
    /// ```
    /// use mantissa_numerics::setup::QuantizedWeights;
    /// use mantissa_numerics::{BlockFormat, Dtype};
    ///
    /// // A block of weights: the scale, 0.1 as f16, and sixteen bytes of two elements each.
    /// let block = [&[0x66, 0x2E][..], &[0xFF; 16]].concat();
    /// let mut values = [0.0; 32];
    /// BlockFormat::Q4_0.dequantize(&block, &mut values);
    /// let weight = |how| match how {
    ///     QuantizedWeights::Keep => values[0],
    ///     QuantizedWeights::Dequantize => Dtype::Bf16.round(values[0]),
    /// };
    /// assert_eq!(QuantizedWeights::ALL.map(weight), [0.6998291, 0.69921875]);
    /// ```
    pub enum QuantizedWeights {
        /// They stay as stored; kernels multiply by the exact binary32 value of each element.
        Keep = "auto",
        /// They are decoded and rounded to the storage dtype when the model is loaded, as Hugging Face loads a GGUF
        /// file.
        Dequantize = "none",
    }
}

/// How an axis is asked for on the command line of `mantissa record`.
///
/// ```
/// use mantissa_numerics::setup::Axis;
///
/// assert!(Axis::BatchSize.flag().list && !Axis::Dtype.flag().list);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// What stands for the value in the help.
    pub value_name: &'static str,
    /// What the axis is.
    pub help: &'static str,
    /// Whether several values may be given, each a setup of its own.
    pub list: bool,
    /// Whether the help leaves it out: nothing but its default has recipes.
    pub hidden: bool,
}

impl Flag {
    const fn list(help: &'static str) -> Self {
        Self { value_name: "LIST", help, list: true, hidden: false }
    }

    const fn one(value_name: &'static str, help: &'static str) -> Self {
        Self { value_name, help, list: false, hidden: false }
    }

    const fn hidden(value_name: &'static str, help: &'static str) -> Self {
        Self { value_name, help, list: false, hidden: true }
    }
}

/// The table of axes: `name: Variant(type) = default, flag, how a value that is not the default shows in a name`.
macro_rules! axes {
    ($(
        $(#[$doc:meta])+
        $name:ident: $variant:ident($type:ty) = $default:expr, $flag:expr, $shown:expr;
    )+) => {
        /// One part of a setup that can be named, claimed and varied.
        ///
        /// ```
        /// use mantissa_numerics::setup::Axis;
        ///
        /// assert_eq!(Axis::named("batch_size")?, Axis::BatchSize);
        /// assert_eq!(Axis::Attention.parse("egar").unwrap_err().to_string(),
        ///     "no attention 'egar'; use one of eager, sdpa, flash_attention_2, flash_attention_3, sdpa_flash, \
        ///      sdpa_math");
        /// # Ok::<(), mantissa_numerics::setup::WrongValue>(())
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Axis {
            $( $(#[$doc])+ $variant, )+
        }

        /// A value of an axis.
        ///
        /// ```
        /// use mantissa_numerics::setup::{Attention, Axis, Value};
        ///
        /// let value = Value::Attention(Attention::Sdpa);
        /// assert_eq!((value.axis(), value.to_string().as_str()), (Axis::Attention, "sdpa"));
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Value {
            $( $(#[$doc])+ $variant($type), )+
        }

        /// A setup: a value of every axis.
        ///
        /// ```
        /// use mantissa_numerics::setup::{Axis, Setup};
        ///
        /// let many = Setup { batch_size: 17, ..Setup::default() };
        /// assert_eq!(many.differing(&Setup::default()).collect::<Vec<_>>(), [Axis::BatchSize]);
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Setup {
            $( $(#[$doc])+ pub $name: $type, )+
        }

        /// Values of some axes: what is claimed or stated of a setup.
        ///
        /// ```
        /// use mantissa_numerics::setup::{Axis, Setup, SomeAxes};
        ///
        /// let mut claimed = SomeAxes::default();
        /// claimed.set(Axis::BatchSize.parse("4")?);
        /// assert_eq!(claimed.over(Setup::default()), Setup { batch_size: 4, ..Setup::default() });
        /// # Ok::<(), mantissa_numerics::setup::WrongValue>(())
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct SomeAxes {
            $( $(#[$doc])+ pub $name: Option<$type>, )+
        }

        impl Axis {
            /// Every axis, in the order of flags and documentation.
            pub const ALL: [Self; [$(stringify!($name)),+].len()] = [$(Self::$variant),+];

            /// The name used in claims, grids and files.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => stringify!($name), )+ }
            }

            /// How it is asked for on the command line.
            #[must_use]
            pub const fn flag(self) -> Flag {
                match self { $( Self::$variant => $flag, )+ }
            }

            /// How its values are written that no list can name.
            #[must_use]
            pub const fn form(self) -> &'static str {
                match self { $( Self::$variant => <$type as AxisValue>::FORM, )+ }
            }

            /// Its values as they are written; `None` where they are too many, and [`Self::form`] says how.
            #[must_use]
            pub fn words(self) -> Option<Vec<&'static str>> {
                match self { $( Self::$variant => <$type>::words(), )+ }
            }

            /// The value that `text` writes.
            ///
            /// *Errors:* no such value; the error says which are right.
            pub fn parse(self, text: &str) -> Result<Value, WrongValue> {
                match self { $( Self::$variant => value::read(self.name(), text).map(Value::$variant), )+ }
            }
        }

        impl Value {
            /// The axis that it is a value of.
            #[must_use]
            pub const fn axis(self) -> Axis {
                match self { $( Self::$variant(_) => Axis::$variant, )+ }
            }

            /// How it shows in the name of a setup, where it is not the default.
            fn shown(self) -> String {
                /// Gives a closure the type of its axis.
                fn show<T>(value: T, shown: impl Fn(T) -> String) -> String {
                    shown(value)
                }
                match self { $( Self::$variant(value) => show(value, $shown), )+ }
            }
        }

        impl fmt::Display for Value {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self { $( Self::$variant(value) => f.write_str(&value.written()), )+ }
            }
        }

        impl Default for Setup {
            fn default() -> Self {
                Self { $( $name: $default, )+ }
            }
        }

        impl Setup {
            /// The value of `axis`.
            #[must_use]
            pub const fn get(&self, axis: Axis) -> Value {
                match axis { $( Axis::$variant => Value::$variant(self.$name), )+ }
            }

            /// Sets the axis of `value` to it.
            pub const fn set(&mut self, value: Value) {
                match value { $( Value::$variant(value) => self.$name = value, )+ }
            }
        }

        impl SomeAxes {
            /// The value of `axis`, where there is one.
            #[must_use]
            pub fn get(&self, axis: Axis) -> Option<Value> {
                match axis { $( Axis::$variant => self.$name.map(Value::$variant), )+ }
            }

            /// Sets the axis of `value` to it.
            pub const fn set(&mut self, value: Value) {
                match value { $( Value::$variant(value) => self.$name = Some(value), )+ }
            }
        }
    };
}

axes! {
    /// Sequences of a forward pass.
    batch_size: BatchSize(usize) = 1,
        Flag::list("Sequences per forward pass, comma-separated"),
        |n| format!("bs{n}");
    /// The program that runs the model.
    engine: Engine(Program) = Program::Transformers,
        Flag::list("Programs whose kernels are meant, comma-separated"),
        AxisValue::written;
    /// Attention implementation.
    attention: Attention(Attention) = Attention::Eager,
        Flag::list("Attention implementations, comma-separated"),
        AxisValue::written;
    /// Whose arithmetic.
    hardware: Hardware(Hardware) = Hardware::Cpu,
        Flag::one("WHICH", "Whose arithmetic to compute: this engine's own, or what that GPU would leave"),
        AxisValue::written;
    /// Storage format of activations, cache and unquantized weights.
    dtype: Dtype(Dtype) = Dtype::Bf16,
        Flag::one("DTYPE", "Storage format of activations, cache and unquantized weights"),
        AxisValue::written;
    /// Positions beside the measured sequence's own, so that its batch has one length.
    padding: Padding(Padding) = Padding::None,
        Flag::list("Padding of the measured sequence, comma-separated: `none`, `left:N` or `right:N` positions"),
        |padding| padding.to_string().replace(':', "");
    /// Treatment of quantized weights.
    quantization: Quantization(QuantizedWeights) = QuantizedWeights::Keep,
        Flag::one("WHICH", "`auto` multiplies by quantized weights as stored; `none` decodes them to the storage \
            format first"),
        |_| "dequantized".to_owned();
    /// Which kernel multiplies by packed weights.
    linear_backend: LinearBackend(LinearBackend) = LinearBackend::Auto,
        Flag::list("Kernels of vLLM for packed weights (its --linear-backend), comma-separated; `auto` is its choice"),
        AxisValue::written;
    /// Whether the model is compiled.
    compile: Compile(bool) = false,
        Flag::hidden("BOOL", "Whether the model is compiled"),
        |_| "compiled".to_owned();
    /// Whether other work runs at the same time.
    concurrent_streams: ConcurrentStreams(bool) = false,
        Flag::hidden("BOOL", "Whether other work runs at the same time"),
        |_| "streams".to_owned();
    /// Tensor-parallel ranks.
    tp_size: TpSize(u32) = 1,
        Flag::list("Tensor-parallel ranks, comma-separated"),
        |n| format!("tp{n}");
    /// Expert-parallel ranks.
    ep_size: EpSize(u32) = 1,
        Flag::list("Expert-parallel ranks, comma-separated"),
        |n| format!("ep{n}");
    /// How the sums of ranks are put together.
    all_reduce: AllReduce(AllReduce) = AllReduce::None,
        Flag::list("How the sums of ranks are put together, comma-separated; `none` is the engine's own choice"),
        AxisValue::written;
    /// Which of vLLM's model runners.
    model_runner: ModelRunner(ModelRunner) = ModelRunner::Auto,
        Flag::list("Model runners of vLLM, comma-separated: `auto` is the one that it takes for the family"),
        |runner| format!("runner-{runner}");
}

impl Axis {
    /// Those that every setup's name shows, in the order it shows them; of others it shows what is not the default.
    const ALWAYS: [Self; 4] = [Self::Hardware, Self::BatchSize, Self::Attention, Self::Dtype];

    /// The axis of that name.
    ///
    /// *Errors:* there is none; the error lists those there are.
    pub fn named(name: &str) -> Result<Self, WrongValue> {
        let wrong = || WrongValue::Axis { name: name.to_owned(), axes: Self::ALL.map(Self::name).to_vec() };
        Self::ALL.into_iter().find(|axis| axis.name() == name).ok_or_else(wrong)
    }

    /// The value that a file has `text` for: also by the name that earlier versions wrote.
    ///
    /// *Errors:* as [`Axis::parse`].
    ///
    /// ```
    /// use mantissa_numerics::setup::Axis;
    ///
    /// assert_eq!(Axis::Hardware.parse_stored("a100")?.to_string(), "literature-a100");
    /// assert!(Axis::Hardware.parse("a100").unwrap_err().to_string().ends_with("use literature-a100"));
    /// # Ok::<(), mantissa_numerics::setup::WrongValue>(())
    /// ```
    pub fn parse_stored(self, text: &str) -> Result<Value, WrongValue> {
        match self.parse(text) {
            Err(WrongValue::Renamed { now, .. }) => self.parse(now),
            read => read,
        }
    }
}

impl Setup {
    /// Its values, axis by axis.
    pub fn values(&self) -> impl Iterator<Item = Value> + use<> {
        Axis::ALL.map(|axis| self.get(axis)).into_iter()
    }

    /// This setup with `value` instead of its own.
    #[must_use]
    pub const fn with(mut self, value: Value) -> Self {
        self.set(value);
        self
    }

    /// The axes in which `other` is different.
    pub fn differing(&self, other: &Self) -> impl Iterator<Item = Axis> + use<> {
        self.values().zip(other.values()).filter(|(a, b)| a != b).map(|(a, _)| a.axis())
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let always = Axis::ALWAYS.map(|axis| self.get(axis).shown());
        f.write_str(&always.join("_"))?;
        for axis in self.differing(&Self::default()).filter(|axis| !Axis::ALWAYS.contains(axis)) {
            write!(f, "_{}", self.get(axis).shown())?;
        }
        Ok(())
    }
}

impl Serialize for Value {
    /// A number or a truth value as that, a word as a string.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = self.to_string();
        match (written.parse::<u32>(), written.parse::<bool>()) {
            (Ok(number), _) => serializer.serialize_u32(number),
            (_, Ok(truth)) => serializer.serialize_bool(truth),
            _ => serializer.serialize_str(&written),
        }
    }
}

impl SomeAxes {
    /// Its values, axis by axis.
    pub fn values(&self) -> impl Iterator<Item = Value> + use<> {
        Axis::ALL.map(|axis| self.get(axis)).into_iter().flatten()
    }

    /// `setup` with these values instead of its own.
    #[must_use]
    pub fn over(&self, setup: Setup) -> Setup {
        self.values().fold(setup, Setup::with)
    }
}

#[cfg(test)]
mod tests;
