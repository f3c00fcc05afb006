//! How many pictures are drawn at once: so many, or as many as there is memory for.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A batch as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// As many as fit into free memory.
    Auto,
    /// So many.
    Of(usize),
}

impl FromStr for Batch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(n)) if n > 0 => Ok(Self::Of(n)),
            _ => Err(format!("a batch is a number above 0, or auto; found `{text}`")),
        }
    }
}

impl std::fmt::Display for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Of(n) => write!(f, "{n}"),
        }
    }
}

impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Of(n) => serializer.serialize_u64(*n as u64),
        }
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        let text = match Either::deserialize(deserializer)? {
            Either::Number(n) => n.to_string(),
            Either::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_it_is_read() {
        #[derive(Serialize, Deserialize)]
        struct Toml {
            batch: Batch,
        }
        for (text, batch) in [("batch = \"auto\"\n", Batch::Auto), ("batch = 3\n", Batch::Of(3))] {
            let table: Toml = toml::from_str(text).unwrap();
            assert_eq!(table.batch, batch);
            assert_eq!(toml::to_string(&table).unwrap(), text);
        }
        assert!(
            toml::from_str::<Toml>("batch = 0").is_err()
                && toml::from_str::<Toml>("batch = 'x'").is_err()
        );
    }
}
