//! Types of axis values: how a value is read, and how it is written.

use thiserror::Error;

use crate::Dtype;

/// What is no axis, or no value of one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WrongValue {
    /// No such axis.
    #[error("no axis '{name}'; use one of {}", axes.join(", "))]
    Axis {
        /// As it was given.
        name: String,
        /// The names there are.
        axes: Vec<&'static str>,
    },
    /// Not one of the words that an axis takes.
    #[error("no {axis} '{value}'; use one of {}", words.join(", "))]
    Word {
        /// The axis.
        axis: &'static str,
        /// As it was given.
        value: String,
        /// The right ones.
        words: Vec<&'static str>,
    },
    /// Not of the form that an axis takes: no number, or too small or too large a one.
    #[error("'{value}' is no {}; use {form}", axis.replace('_', " "))]
    Form {
        /// The axis.
        axis: &'static str,
        /// As it was given.
        value: String,
        /// The right form.
        form: &'static str,
    },
    /// A name that files of earlier versions have, and that is asked for by another today.
    #[error("{axis} '{value}' is asked for by its new name; use {now}")]
    Renamed {
        /// The axis.
        axis: &'static str,
        /// As it was given.
        value: String,
        /// Its name today.
        now: &'static str,
    },
}

impl WrongValue {
    /// What to use instead, without the axis and the value.
    ///
    /// ```
    /// use mantissa_numerics::setup::Axis;
    ///
    /// let wrong = Axis::BatchSize.parse("0").unwrap_err();
    /// assert_eq!(wrong.to_string(), "'0' is no batch size; use a whole number from 1 to 1048576");
    /// assert_eq!(wrong.remedy(), "use a whole number from 1 to 1048576");
    /// ```
    #[must_use]
    pub fn remedy(&self) -> String {
        let text = self.to_string();
        text.rsplit_once("; ").map_or_else(|| text.clone(), |(_, remedy)| remedy.to_owned())
    }
}

/// The value of the axis called `axis` that `text` writes.
pub(super) fn read<T: AxisValue>(axis: &'static str, text: &str) -> Result<T, WrongValue> {
    let value = || text.to_owned();
    match (T::read(text), T::renamed(text), T::words()) {
        (Some(read), ..) => Ok(read),
        (None, Some(now), _) => Err(WrongValue::Renamed { axis, value: value(), now }),
        (None, None, Some(words)) => Err(WrongValue::Word { axis, value: value(), words }),
        (None, None, None) => Err(WrongValue::Form { axis, value: value(), form: T::FORM }),
    }
}

/// A type that an axis has its values from.
///
/// ```
/// use mantissa_numerics::setup::AxisValue;
///
/// assert_eq!((bool::read("true"), u32::read("0")), (Some(true), None));
/// ```
pub trait AxisValue: Copy + Eq {
    /// How values are written that no list can name.
    const FORM: &'static str = "a whole number from 1 to 1048576";

    /// Every value as it is written; `None` where they are too many, and [`Self::FORM`] says how.
    fn words() -> Option<Vec<&'static str>>;

    /// The value that `text` writes.
    fn read(text: &str) -> Option<Self>;

    /// As flags and files write it.
    fn written(self) -> String;

    /// How a value is written today that was once written `text`.
    #[must_use]
    fn renamed(_text: &str) -> Option<&'static str> {
        None
    }
}

/// The largest number that an axis takes: more are a slip.
pub const MOST: u32 = 1 << 20;

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|n| (1..=MOST).contains(n))
}

impl AxisValue for u32 {
    fn words() -> Option<Vec<&'static str>> {
        None
    }

    fn read(text: &str) -> Option<Self> {
        number(text)
    }

    fn written(self) -> String {
        self.to_string()
    }
}

impl AxisValue for usize {
    fn words() -> Option<Vec<&'static str>> {
        None
    }

    fn read(text: &str) -> Option<Self> {
        number(text).and_then(|n| n.try_into().ok())
    }

    fn written(self) -> String {
        self.to_string()
    }
}

impl AxisValue for bool {
    fn words() -> Option<Vec<&'static str>> {
        Some(vec!["false", "true"])
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn written(self) -> String {
        self.to_string()
    }
}

impl AxisValue for Dtype {
    fn words() -> Option<Vec<&'static str>> {
        Some(Self::ALL.map(Self::name).to_vec())
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn written(self) -> String {
        self.name().to_owned()
    }
}

/// An axis value that is one of some words: the enum, its names in flags and files, and how they are read.
///
/// `once "word"` is a name that files of earlier versions have for it.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $type:ident {
            $( $(#[$doc:meta])* $variant:ident = $word:literal $(once $former:literal)?, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $type {
            $( $(#[$doc])* #[serde(rename = $word $(, alias = $former)?)] $variant, )+
        }

        impl $type {
            /// Every value, in the order documentation lists them.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The name used in flags and files.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl $crate::setup::value::AxisValue for $type {
            fn words() -> Option<Vec<&'static str>> {
                Some(vec![$($word),+])
            }

            fn read(text: &str) -> Option<Self> {
                match text { $( $word => Some(Self::$variant), )+ _ => None }
            }

            fn written(self) -> String {
                self.name().to_owned()
            }

            fn renamed(text: &str) -> Option<&'static str> {
                match text { $( $( $former => Some($word), )? )+ _ => None }
            }
        }
    };
}
pub(crate) use words;
