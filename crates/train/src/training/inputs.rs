//! What a run was made from, by content: the paths among its arguments do not say what lies there.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Sha256 of `bytes` in hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The sha256 of everything that a run was made from, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Inputs(BTreeMap<String, String>);

impl Inputs {
    /// What gives sentences their embeddings. Whatever was trained on those fits them alone.
    pub const TEXT: [&str; 2] = ["text encoder", "tokenizer"];

    pub fn with(mut self, name: &str, bytes: &[u8]) -> Inputs {
        self.0.insert(name.to_owned(), sha256_hex(bytes));
        self
    }

    pub fn with_file(self, name: &str, path: &Path) -> Result<Inputs> {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok(self.with(name, &bytes))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names of the inputs that `other` lacks or has otherwise.
    pub fn differing(&self, other: &Inputs) -> Vec<&str> {
        let differs = |(name, hash): &(&String, &String)| other.0.get(*name) != Some(*hash);
        self.0.iter().filter(differs).map(|(name, _)| name.as_str()).collect()
    }

    /// Checks that the run or bundle in `dir`, whose inputs these are, was made with the text encoder and the
    /// tokenizer in `text`, which are `there`.
    ///
    /// # Errors
    /// When one is another, or was not recorded.
    pub fn ensure_text(&self, dir: &Path, there: &Inputs, text: &Path) -> Result<()> {
        for name in Inputs::TEXT {
            let recorded = self.0.get(name);
            ensure!(
                recorded.is_some(),
                "{}: does not record its {name}: start its command again, which does",
                dir.display()
            );
            ensure!(
                recorded == there.0.get(name),
                "{}: made with another {name} than the one in {}",
                dir.display(),
                text.display()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_changed_or_is_missing_is_named() {
        let run = Inputs::default().with("corpus", b"a dog").with("tokenizer", b"{}");
        assert!(run.differing(&run).is_empty());
        assert_eq!(run.differing(&run.clone().with("corpus", b"a cat")), ["corpus"]);
        assert_eq!(run.differing(&Inputs::default()), ["corpus", "tokenizer"]);
    }
}
