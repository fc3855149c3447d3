//! Maps in the order of the file, and the names that serve as their keys: positions, layers, settings.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

/// What stands for anything that a file does not say.
pub(crate) const NOT_STATED: &str = "not stated";

/// A map in the order of the file. Its keys are unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entries<K, V>(Vec<(K, V)>);

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Entries<K, V> {
    /// The same keys, each value as `with` gives it.
    pub(crate) fn map<W>(self, with: impl Fn(V) -> W) -> Entries<K, W> {
        Entries(self.0.into_iter().map(|(key, value)| (key, with(value))).collect())
    }
}

impl<K: PartialEq, V> Entries<K, V> {
    /// The value of `key`.
    pub(crate) fn get<Q: ?Sized + PartialEq>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.iter().find(|(k, _)| (*k).borrow() == key).map(|(_, value)| value)
    }

    /// Keys and values in the order of the file.
    #[must_use]
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + ExactSizeIterator + Clone {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Keys in the order of the file.
    #[must_use]
    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = &K> + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    /// Values in the order of the file.
    #[must_use]
    pub(crate) fn values(&self) -> impl ExactSizeIterator<Item = &V> + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    /// Number of keys.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'de, K, V> Deserialize<'de> for Entries<K, V>
where
    K: Deserialize<'de> + Ord + Clone + fmt::Display,
    V: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct InOrder<K, V>(PhantomData<(K, V)>);
        impl<'de, K, V> Visitor<'de> for InOrder<K, V>
        where
            K: Deserialize<'de> + Ord + Clone + fmt::Display,
            V: Deserialize<'de>,
        {
            type Value = Vec<(K, V)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut access: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let (mut entries, mut seen) = (Vec::new(), BTreeSet::new());
                while let Some(key) = access.next_key::<K>()? {
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom(format_args!("duplicate key '{key}'")));
                    }
                    entries.push((key, access.next_value()?));
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(InOrder(PhantomData)).map(Self)
    }
}

/// A position relative to the end of the sequence, written `pos_-3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(pub(crate) i32);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pos_{}", self.0)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.strip_prefix("pos_").and_then(|number| number.parse().ok());
        let position = number.filter(|number: &i32| (-1_000_000..0).contains(number)).map(Self);
        let position = position.filter(|position| position.to_string() == text);
        position.ok_or_else(|| D::Error::custom(format_args!("'{text}' is no position such as pos_-3")))
    }
}

/// A decoder block as the file numbers it, written `layer_28`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Layer(pub(crate) u32);

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer_{}", self.0)
    }
}

impl<'de> Deserialize<'de> for Layer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let layer = text.strip_prefix("layer_").and_then(|number| number.parse().ok()).map(Self);
        let layer = layer.filter(|layer| layer.0 > 0 && layer.to_string() == text);
        layer.ok_or_else(|| D::Error::custom(format_args!("'{text}' is no layer such as layer_28")))
    }
}

/// A setting of an environment as text: a string as it is, anything else as JSON writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting(pub(crate) String);

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(match value {
            serde_json::Value::Null => NOT_STATED.to_owned(),
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        }))
    }
}

/// Everything a file says about a machine.
pub(crate) type Settings = Entries<String, Setting>;
