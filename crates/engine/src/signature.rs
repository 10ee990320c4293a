//! What goes into a graph and what comes out of it.

use std::fmt;
use std::str::FromStr;

/// Element type of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    F32,
    I64,
}

/// One dimension of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    Fixed(usize),
    /// Chosen by the caller at each run; one name takes one value within a run.
    Symbol(String),
}

/// A named input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub element_type: ElementType,
    pub dims: Vec<Dim>,
}

/// The ports of a graph, in its own order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
}

impl Port {
    pub fn f32(name: impl Into<String>, dims: impl Into<Vec<Dim>>) -> Port {
        Port { name: name.into(), element_type: ElementType::F32, dims: dims.into() }
    }

    pub fn i64(name: impl Into<String>, dims: impl Into<Vec<Dim>>) -> Port {
        Port { name: name.into(), element_type: ElementType::I64, dims: dims.into() }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::Fixed(n)
    }
}

impl From<&str> for Dim {
    fn from(name: &str) -> Dim {
        Dim::Symbol(name.to_owned())
    }
}

/// A port is written `name: f32[B, 3]`: numbers are fixed dimensions, anything else is a symbol.
#[derive(Debug, thiserror::Error)]
#[error("no port, which is written like `pixels: f32[1, 3, height, width]`: {0}")]
pub struct ParsePortError(String);

impl FromStr for Port {
    type Err = ParsePortError;

    fn from_str(text: &str) -> Result<Port, ParsePortError> {
        let fail = || ParsePortError(text.to_owned());
        let (name, rest) = text.split_once(':').ok_or_else(fail)?;
        let (element_type, rest) = rest.trim().split_once('[').ok_or_else(fail)?;
        let dims = rest.strip_suffix(']').ok_or_else(fail)?.trim();
        let element_type = match element_type {
            "f32" => ElementType::F32,
            "i64" => ElementType::I64,
            _ => return Err(fail()),
        };
        let dims = match dims {
            "" => Vec::new(),
            _ => dims.split(',').map(|dim| parse_dim(dim.trim())).collect::<Option<_>>().ok_or_else(fail)?,
        };
        let name = name.trim();
        if name.is_empty() { Err(fail()) } else { Ok(Port { name: name.to_owned(), element_type, dims }) }
    }
}

fn parse_dim(text: &str) -> Option<Dim> {
    let is_symbol = |c: char| c.is_alphanumeric() || "_+-*/ ".contains(c);
    match text.chars().next()? {
        c if c.is_ascii_digit() => text.parse().ok().map(Dim::Fixed),
        _ => text.chars().all(is_symbol).then(|| Dim::Symbol(text.to_owned())),
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Symbol(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element_type = match self.element_type {
            ElementType::F32 => "f32",
            ElementType::I64 => "i64",
        };
        let dims: Vec<String> = self.dims.iter().map(Dim::to_string).collect();
        write!(f, "{}: {element_type}[{}]", self.name, dims.join(", "))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = |ports: &[Port]| ports.iter().map(Port::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "({}) -> ({})", ports(&self.inputs), ports(&self.outputs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_reads_what_it_writes() {
        for text in ["x: f32[]", "ids: i64[B, S]", "key_0: f32[B, 4, T+S, 64]"] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), text);
        }
        assert_eq!("x:f32[B,3]".parse::<Port>().unwrap(), Port::f32("x", ["B".into(), 3.into()]));
    }

    #[test]
    fn a_malformed_port_is_refused_with_its_text() {
        for text in ["", "x", "x: f32", "x: f16[1]", "x: f32[1", "x: f32[,]", ": f32[1]", "x: f32[3B]"] {
            let error = text.parse::<Port>().unwrap_err().to_string();
            assert!(error.ends_with(text), "{error}");
        }
    }
}
