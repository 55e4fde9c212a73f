//! The text of a configuration file, and where in it every key stands.
//!
//! The typed structs of [`config`](super) carry no positions. They are kept here, in one index from key path to line and
//! column, so that an error found much later (two shards on one queue) is reported as precisely as a misspelt key.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::error::ConfigError;

/// A configuration file: its name, its text, and the position of every key.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    folder: PathBuf,
    text: String,
    entries: Vec<Entry>,
}

/// A place in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    line: u64,
    column: u64,
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
        }
    }
}

/// One value of the document; parents stand before their children.
#[derive(Debug, Clone)]
struct Entry {
    path: String,
    key: Option<Position>,
    value: Position,
    /// Bytes of a scalar in the text.
    scalar: Option<Range<usize>>,
}

/// A place in the text with the path of the key that stands there.
#[derive(Debug)]
pub(super) struct Place<'a> {
    path: &'a str,
    at_key: bool,
    scalar: Option<&'a str>,
}

impl Source {
    /// Indexes `text`, which was read from `file`. A text that is no YAML gets an empty index.
    pub(super) fn new(file: &Path, text: String) -> Self {
        let mut entries = Vec::new();
        if let Ok(root) = serde_saphyr::from_str::<Spanned<Node>>(&text) {
            collect(&root, None, String::new(), &mut entries);
        }
        let folder = file.parent().unwrap_or(Path::new("")).to_path_buf();
        Self {
            name: file.display().to_string(),
            folder,
            text,
            entries,
        }
    }

    /// The text of the file.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A path of the file made absolute or relative to the working folder: paths in a configuration file are relative
    /// to the folder it lies in.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// An error at the key `path`, such as `shards[1].lcore`. Where that key is absent the nearest enclosing one is
    /// pointed at.
    pub fn error(&self, path: impl Into<String>, message: impl Into<String>) -> ConfigError {
        let path = path.into();
        let position = self.position(&path);
        self.error_at(position, path, message.into())
    }

    pub(super) fn error_at(&self, at: Position, key: String, message: String) -> ConfigError {
        let Position { line, column } = at;
        ConfigError::At {
            file: self.name.clone(),
            line,
            column,
            key,
            message,
        }
    }

    /// What stands at a position that the YAML parser reported.
    pub(super) fn place(&self, at: Position) -> Place<'_> {
        let exact = self
            .entries
            .iter()
            .rev()
            .find(|e| e.key == Some(at) || e.value == at);
        let before = || {
            self.entries
                .iter()
                .rev()
                .find(|e| e.key.unwrap_or(e.value) <= at)
        };
        match exact.or_else(before) {
            Some(entry) => Place {
                path: &entry.path,
                at_key: entry.key == Some(at),
                scalar: entry.scalar.clone().and_then(|range| self.text.get(range)),
            },
            None => Place {
                path: "",
                at_key: false,
                scalar: None,
            },
        }
    }

    /// The position of a key's value, or of the nearest enclosing key that exists.
    pub(super) fn position(&self, path: &str) -> Position {
        let mut path = path;
        loop {
            if let Some(entry) = self.entries.iter().find(|entry| entry.path == path) {
                return entry.value;
            }
            if path.is_empty() {
                return Position { line: 1, column: 1 };
            }
            path = parent(path);
        }
    }
}

impl<'a> Place<'a> {
    /// The path of the key.
    pub(super) fn path(&self) -> &'a str {
        self.path
    }

    /// The path of the mapping that a complaint about a missing key is about: the parser reports it either at the
    /// mapping itself or at its last key.
    pub(super) fn mapping(&self) -> &'a str {
        if self.at_key {
            parent(self.path)
        } else {
            self.path
        }
    }

    /// The scalar as it was typed.
    pub(super) fn scalar(&self) -> Option<&'a str> {
        self.scalar
    }
}

/// `a.b[1]` of `a.b[1].c`, `a.b` of `a.b[1]`, nothing of `a`.
fn parent(path: &str) -> &str {
    path.rfind(['.', '[']).map_or("", |end| &path[..end])
}

fn collect(node: &Spanned<Node>, key: Option<Position>, path: String, entries: &mut Vec<Entry>) {
    let span = node.referenced.span();
    let scalar = match node.value {
        Node::Scalar => span.byte_offset().zip(span.byte_len()).map(|(start, len)| {
            let start = start as usize;
            start..start + len as usize
        }),
        _ => None,
    };
    entries.push(Entry {
        path: path.clone(),
        key,
        value: node.referenced.into(),
        scalar,
    });
    match &node.value {
        Node::Mapping(pairs) => {
            for (key, value) in pairs {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{}", key.value);
                collect(value, Some(key.referenced.into()), path, entries);
            }
        }
        Node::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, None, format!("{path}[{index}]"), entries);
            }
        }
        Node::Scalar => {}
    }
}

/// The shape of a document, whatever its types.
enum Node {
    Mapping(Vec<(Spanned<String>, Spanned<Node>)>),
    Sequence(Vec<Spanned<Node>>),
    Scalar,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut sequence = Vec::new();
        while let Some(item) = items.next_element()? {
            sequence.push(item);
        }
        Ok(Node::Sequence(sequence))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Node, A::Error> {
        let mut mapping = Vec::new();
        while let Some(pair) = pairs.next_entry()? {
            mapping.push(pair);
        }
        Ok(Node::Mapping(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "ports:\n  - name: left\n    addresses: [\"fd00::1/64\", b]\nrun: { warmup: 5s }\n";

    fn source() -> Source {
        Source::new(Path::new("configs/x.yaml"), TEXT.to_owned())
    }

    #[test]
    fn finds_the_position_of_a_path_or_of_what_encloses_it() {
        let position = |path| {
            let Position { line, column } = source().position(path);
            (line, column)
        };
        assert_eq!(position("ports[0].name"), (2, 11));
        assert_eq!(position("ports[0].addresses[1]"), (3, 31));
        assert_eq!(position("ports[0].mtu"), (2, 5));
        assert_eq!(position("run.warmup"), (4, 16));
        assert_eq!(position("run.duration"), (4, 6));
        assert_eq!(position("shards[3].lcore"), (1, 1));
    }

    #[test]
    fn finds_the_path_at_a_position() {
        let source = source();
        let at = |line, column| source.place(Position { line, column });
        assert_eq!(at(2, 5).path(), "ports[0].name");
        assert_eq!(at(2, 5).mapping(), "ports[0]");
        assert_eq!(at(3, 31).path(), "ports[0].addresses[1]");
        assert_eq!(at(3, 31).scalar(), Some("b"));
        assert_eq!(at(4, 6).mapping(), "run");
        assert_eq!(at(9, 9).path(), "run.warmup");
    }

    #[test]
    fn paths_are_relative_to_the_folder_of_the_file() {
        assert_eq!(source().resolve(Path::new("www")), Path::new("configs/www"));
        assert_eq!(source().resolve(Path::new("/srv")), Path::new("/srv"));
    }

    #[test]
    fn a_text_that_is_no_yaml_points_at_its_start() {
        let source = Source::new(Path::new("x.yaml"), "ports: [".to_owned());
        assert_eq!(source.position("ports"), Position { line: 1, column: 1 });
    }
}
