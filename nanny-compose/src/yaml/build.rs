//! From parser events to the tree, within the limits.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Tag};
use indexmap::map::Entry as Slot;

use super::{Entry, Key, Limits, Mapping, Node, Value, YamlError, scalar};

/// Reads a text of one YAML document.
///
/// A byte-order mark and CRLF line ends are fine. An empty text is a null node.
///
/// # Errors
///
/// The first fault: bad syntax, a duplicate key, a merge key that merges nothing, an alias
/// without an anchor, a second document, or a limit exceeded.
pub fn parse(text: &str, limits: &Limits) -> Result<Node, YamlError> {
    let mut documents = documents(text, limits, 0)?;
    match (documents.len(), documents.pop()) {
        (2.., Some(second)) => Err(YamlError {
            line: second.line,
            column: second.column,
            path: String::new(),
            message: "a second document begins here; keep one document per file".to_owned(),
        }),
        (_, Some(only)) => Ok(only),
        (_, None) => Ok(Place { source: 0, line: 1, column: 1 }.node(Value::Null)),
    }
}

/// Reads all documents of a text; `source` is kept with every node and key.
///
/// # Errors
///
/// As for [`parse`], but for a second document.
pub(crate) fn documents(text: &str, limits: &Limits, source: u16) -> Result<Vec<Node>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > limits.max_bytes {
        let message = format!(
            "the file has {} bytes and the limit is {}; make it smaller",
            text.len(),
            limits.max_bytes
        );
        return Err(YamlError { line: 1, column: 1, path: String::new(), message });
    }
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    // As libyaml reads it, which yaml.v3 is a port of.
    options.block_scalar_eof_without_line_feed = true;
    let mut builder = Builder::new(limits);
    for next in Parser::new_from_str_with_options(text, options) {
        match next {
            Ok((event, span)) => builder.event(event, Place::at(&span.start, source))?,
            Err(error) => return Err(builder.syntax(&error)),
        }
    }
    Ok(builder.documents)
}

/// Collects events into nodes: a stack of open collections and what the anchors stand for.
struct Builder<'l> {
    limits: &'l Limits,
    stack: Vec<Open>,
    anchors: HashMap<usize, Copyable>,
    copied: usize,
    documents: Vec<Node>,
}

/// A list or mapping that is not closed yet.
struct Open {
    place: Place,
    anchor: usize,
    tag: Option<Box<str>>,
    size: Size,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping { mapping: Mapping, merges: Vec<Node>, merge_key: Option<Place>, key: Option<Pending> },
}

/// A key that waits for its value.
enum Pending {
    Plain(Key),
    Merge,
}

/// A finished node that aliases may copy, with what a copy costs.
struct Copyable {
    node: Node,
    size: Size,
}

/// Bytes and height of a tree.
#[derive(Clone, Copy)]
struct Size {
    bytes: usize,
    height: usize,
}

#[derive(Clone, Copy)]
struct Place {
    source: u16,
    line: usize,
    column: usize,
}

/// What a node costs beside its text.
const NODE_BYTES: usize = size_of::<Node>() + 32;

impl<'l> Builder<'l> {
    fn new(limits: &'l Limits) -> Self {
        let anchors = HashMap::new();
        Self { limits, stack: Vec::new(), anchors, copied: 0, documents: Vec::new() }
    }

    fn event(&mut self, event: Event<'_>, place: Place) -> Result<(), YamlError> {
        match event {
            Event::DocumentStart(..) => {
                // Anchors end with their document.
                self.anchors.clear();
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_binary = |tag: &Tag| tag.suffix() == "binary";
                if tag.as_deref().is_some_and(is_binary) {
                    return Err(self.fail(place, "'!!binary' is not supported; write it as text"));
                }
                let size = Size { bytes: NODE_BYTES + text.len(), height: 1 };
                let node = place.scalar(text.into_owned(), style, tag.as_deref());
                self.finished(node, size, anchor, style == ScalarStyle::Plain && tag.is_none())
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(place, anchor, tag.as_deref(), Content::Sequence(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                let mapping = Mapping::default();
                let merges = Vec::new();
                let content = Content::Mapping { mapping, merges, merge_key: None, key: None };
                self.open(place, anchor, tag.as_deref(), content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, place),
            _ => Ok(()),
        }
    }

    fn open(
        &mut self,
        place: Place,
        anchor: usize,
        tag: Option<&Tag>,
        content: Content,
    ) -> Result<(), YamlError> {
        self.check_depth(place, 1)?;
        let tag = tag.and_then(custom_tag);
        let size = Size { bytes: NODE_BYTES, height: 1 };
        self.stack.push(Open { place, anchor, tag, size, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let Some(open) = self.stack.pop() else {
            return Ok(());
        };
        let value = match open.content {
            Content::Sequence(items) => Value::Sequence(items),
            Content::Mapping { mut mapping, merges, .. } => {
                for merge in merges {
                    self.merge(&mut mapping, merge)?;
                }
                Value::Mapping(mapping)
            }
        };
        let mut node = open.place.node(value);
        node.tag = open.tag;
        self.finished(node, open.size, open.anchor, false)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), YamlError> {
        let Some(Copyable { size, .. }) = self.anchors.get(&anchor) else {
            return Err(self.fail(place, "this alias stands inside what it names; write it out"));
        };
        let size = *size;
        self.charge(place, size.bytes)?;
        self.check_depth(place, size.height)?;
        let node = self.anchors[&anchor].node.clone();
        self.finished(node, size, 0, false)
    }

    /// Puts a finished node where it belongs: into the open collection or at the root. A plain
    /// one is neither quoted nor tagged.
    fn finished(
        &mut self,
        node: Node,
        size: Size,
        anchor: usize,
        plain: bool,
    ) -> Result<(), YamlError> {
        if anchor != 0 {
            self.charge(Place::of(&node), size.bytes)?;
            self.anchors.insert(anchor, Copyable { node: node.clone(), size });
        }
        let Some(open) = self.stack.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        open.size.bytes += size.bytes;
        open.size.height = open.size.height.max(size.height + 1);
        match &mut open.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping { mapping, merges, key, .. } => match key.take() {
                Some(Pending::Merge) => merges.push(node),
                Some(Pending::Plain(key)) => {
                    mapping.entries.insert(key.text.clone(), Entry { key, value: node });
                }
                None => return self.begin_entry(&node, plain),
            },
        }
        Ok(())
    }

    /// Takes a node for the key of the entry that follows.
    fn begin_entry(&mut self, node: &Node, plain: bool) -> Result<(), YamlError> {
        let place = Place::of(node);
        if matches!(node.value, Value::Sequence(_) | Value::Mapping(_)) {
            return Err(self.fail(place, "a key must be a single word, not a list or mapping"));
        }
        let Some(Open { content: Content::Mapping { mapping, merge_key, key, .. }, .. }) =
            self.stack.last_mut()
        else {
            return Ok(());
        };
        let text = key_text(node);
        let is_merge = plain && text == "<<";
        let first = if is_merge {
            merge_key.replace(place)
        } else {
            mapping.entries.get(&text).map(|entry| entry.key.place())
        };
        *key = Some(if is_merge { Pending::Merge } else { Pending::Plain(place.key(node)) });
        match first {
            Some(first) => Err(self.duplicate(place, first, &text)),
            None => Ok(()),
        }
    }

    /// Adds what `<<` names: own keys win, earlier mappings win over later ones.
    fn merge(&mut self, into: &mut Mapping, from: Node) -> Result<(), YamlError> {
        let place = Place::of(&from);
        let sources = match from.value {
            Value::Mapping(_) => vec![from],
            Value::Sequence(items) => items,
            _ => Vec::new(),
        };
        if sources.iter().any(|source| source.as_mapping().is_none()) || sources.is_empty() {
            return Err(self.fail(place, "'<<' must name a mapping or a list of mappings"));
        }
        for source in sources {
            let Value::Mapping(mapping) = source.value else {
                continue;
            };
            for (name, mut entry) in *mapping.entries {
                // Compose looks for its tags only where they are written.
                if entry.value.tag.take().as_deref() == Some("!reset") {
                    continue;
                }
                if let Slot::Vacant(slot) = into.entries.entry(name) {
                    slot.insert(entry);
                }
            }
        }
        Ok(())
    }

    fn charge(&mut self, place: Place, bytes: usize) -> Result<(), YamlError> {
        self.copied = self.copied.saturating_add(bytes);
        if self.copied <= self.limits.max_expansion {
            return Ok(());
        }
        let limit = self.limits.max_expansion;
        Err(self.fail(place, format!("anchors and aliases copy more than {limit} bytes; write less of the file with aliases")))
    }

    fn check_depth(&self, place: Place, height: usize) -> Result<(), YamlError> {
        if self.stack.len() + height <= self.limits.max_depth {
            return Ok(());
        }
        Err(self.too_deep(place))
    }

    fn duplicate(&mut self, place: Place, first: Place, key: &str) -> YamlError {
        // The path names the mapping, not the key, which the message names.
        if let Some(Open { content: Content::Mapping { key, .. }, .. }) = self.stack.last_mut() {
            *key = None;
        }
        let Place { line, column, .. } = first;
        let message = format!("'{key}' is already set at {line}:{column}; keep one of the two");
        self.fail(place, message)
    }

    fn too_deep(&self, place: Place) -> YamlError {
        let limit = self.limits.max_depth;
        self.fail(place, format!("nested more than {limit} levels deep; make it flatter"))
    }

    /// A fault the parser found; it has a depth limit of its own and looks a little ahead.
    fn syntax(&self, error: &ScanError) -> YamlError {
        let place = Place::at(error.marker(), 0);
        if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
            return self.too_deep(place);
        }
        self.fail(place, error.info())
    }

    fn fail(&self, place: Place, message: impl Into<String>) -> YamlError {
        let Place { line, column, .. } = place;
        YamlError { line, column, path: self.path(), message: message.into() }
    }

    /// The path of the value being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.stack {
            match &open.content {
                Content::Sequence(items) => path.push_str(&format!("[{}]", items.len())),
                Content::Mapping { key: Some(Pending::Plain(key)), .. } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key.text);
                }
                Content::Mapping { .. } => {}
            }
        }
        path
    }
}

impl Place {
    fn of(node: &Node) -> Self {
        Self { source: node.source, line: node.line, column: node.column }
    }

    fn at(marker: &Marker, source: u16) -> Self {
        Self { source, line: marker.line(), column: marker.col() + 1 }
    }

    fn node(self, value: Value) -> Node {
        let Self { source, line, column } = self;
        let (secret, listed) = (false, false);
        Node { value, text: None, tag: None, source, line, column, secret, listed }
    }

    fn key(self, node: &Node) -> Key {
        let Self { source, line, column } = self;
        Key {
            text: key_text(node),
            is_string: node.as_str().is_some(),
            source,
            line,
            column,
            secret: false,
        }
    }

    fn scalar(self, text: String, style: ScalarStyle, tag: Option<&Tag>) -> Node {
        let core = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix().to_owned());
        let value = match core.as_deref() {
            Some("str") => Value::String(text.clone()),
            Some(_) => scalar::resolve(&text),
            None if style == ScalarStyle::Plain && tag.is_none() => scalar::resolve(&text),
            None => Value::String(text.clone()),
        };
        let mut node = self.node(value);
        node.tag = tag.and_then(custom_tag);
        node.text = (node.as_str() != Some(&text)).then(|| text.into());
        node
    }
}

impl Key {
    fn place(&self) -> Place {
        Place { source: self.source, line: self.line, column: self.column }
    }
}

fn key_text(node: &Node) -> String {
    let written = node.text.as_deref().map(str::to_owned);
    written.or_else(|| node.to_text()).unwrap_or_default()
}

fn custom_tag(tag: &Tag) -> Option<Box<str>> {
    (!tag.is_yaml_core_schema()).then(|| tag.to_string().into())
}
