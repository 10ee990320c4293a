//! The list of models that have a name: where their files lie, how large they are, what their bytes must be.

use serde::Deserialize;

/// What the list that ships is called in the repository.
const SHIPPED: &str = include_str!("../../../models/registry.toml");
/// Most bytes of a list.
pub const BYTES_MAX: u64 = 1 << 20;
const FORMAT: u32 = 1;

/// A list of models.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    format: u32,
    #[serde(default, rename = "model")]
    pub models: Vec<Entry>,
}

/// A model with a name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// As a bundle's name.
    pub name: String,
    pub about: String,
    /// The terms of the weights.
    pub license: String,
    pub kind: Kind,
    /// Where the files lie, ending in a slash.
    pub source: String,
    #[serde(rename = "file")]
    pub files: Vec<File>,
}

/// What the files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A bundle.
    Bundle,
    /// An export of CLIP, which is imported once it is there.
    Export,
}

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Below the source and below the model's own folder; its parts are plain names.
    pub path: String,
    /// Nothing where it is not known.
    pub bytes: Option<u64>,
    /// Nothing where it is not known: whatever comes is taken, and said to be unverified.
    pub sha256: Option<String>,
}

impl Registry {
    /// The list that ships.
    ///
    /// # Errors
    /// Never, but for a build with a broken list.
    pub fn shipped() -> Result<Registry, String> {
        Registry::parse(SHIPPED)
    }

    /// # Errors
    /// A message that names the model and the key.
    pub fn parse(text: &str) -> Result<Registry, String> {
        let registry: Registry =
            toml::from_str(text).map_err(|e| e.to_string().trim_end().replace('\n', " "))?;
        if registry.format != FORMAT {
            return Err(format!("format: {} is not supported, only {FORMAT}", registry.format));
        }
        for (at, entry) in registry.models.iter().enumerate() {
            entry.check().map_err(|why| format!("model `{}`: {why}", entry.name))?;
            if registry.models[..at].iter().any(|earlier| earlier.name == entry.name) {
                return Err(format!("model `{}`: is named twice", entry.name));
            }
        }
        Ok(registry)
    }

    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.models.iter().find(|entry| entry.name == name)
    }
}

impl Entry {
    /// Whether every byte is known beforehand.
    pub fn is_verified(&self) -> bool {
        self.files.iter().all(|file| file.sha256.is_some())
    }

    fn check(&self) -> Result<(), String> {
        if !plain(&self.name) {
            return Err("name: is not made of letters, digits, `.`, `-` and `_`".to_owned());
        }
        if self.license.trim().is_empty() {
            return Err("license: is empty".to_owned());
        }
        if !["http://", "https://"].iter().any(|scheme| self.source.starts_with(scheme))
            || !self.source.ends_with('/')
        {
            return Err("source: is no http address that ends in a slash".to_owned());
        }
        if self.files.is_empty() {
            return Err("file: there is none".to_owned());
        }
        for file in &self.files {
            check_path(&file.path)?;
            let hex =
                |hash: &String| hash.len() == 64 && hash.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
            if !file.sha256.as_ref().is_none_or(hex) {
                return Err(format!("{}: its sha256 is not 64 lower-case hexadecimal digits", file.path));
            }
        }
        Ok(())
    }
}

/// Whether a path stays inside the folder that it is put into.
///
/// # Errors
/// A message that names it.
pub fn check_path(path: &str) -> Result<(), String> {
    if path.split('/').all(plain) { Ok(()) } else { Err(format!("{path:?}: is no path of plain names")) }
}

fn plain(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(change: &str, to: &str) -> String {
        let text = "format = 1\n\n[[model]]\nname = \"a\"\nabout = \"b\"\nlicense = \"MIT\"\nkind = \"bundle\"\n\
                    source = \"https://example.org/a/\"\n\n[[model.file]]\npath = \"x/y.onnx\"\nbytes = 3\n";
        assert!(text.contains(change));
        text.replace(change, to)
    }

    #[test]
    fn the_list_that_ships_is_well_formed_and_names_terms() {
        let shipped = Registry::shipped().unwrap();
        assert!(shipped.models.iter().any(|entry| entry.kind == Kind::Export));
        assert!(shipped.models.iter().all(|entry| !entry.about.is_empty()));
    }

    #[test]
    fn what_leads_out_of_a_folder_or_has_no_terms_is_refused_by_name() {
        Registry::parse(&list("MIT", "MIT")).unwrap();
        for (change, to, word) in [
            ("x/y.onnx", "../y.onnx", "../y.onnx"),
            ("x/y.onnx", "/etc/passwd", "/etc/passwd"),
            ("x/y.onnx", "x//y", "x//y"),
            ("\"MIT\"", "\" \"", "license"),
            ("https://", "file://", "source"),
            ("example.org/a/", "example.org/a", "source"),
            ("format = 1", "format = 2", "format"),
            ("bytes = 3", "bytes = 3\nsha256 = \"AB\"", "sha256"),
            ("name = \"a\"", "name = \"a b\"", "name"),
            ("kind = \"bundle\"", "kind = \"zip\"", "kind"),
        ] {
            let error = Registry::parse(&list(change, to)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
