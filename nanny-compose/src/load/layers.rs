//! The files of a project, read, resolved and laid over each other.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::at::{At, Place, Sink};
use super::read::{Reader, entries};
use super::reading::Reading;
use super::{check, extends, include, merge, normal, scalars, variables};
use crate::spec::{PROJECT, Shape};
use crate::yaml::{self, Limits, Mapping, Node, Value};

/// Reads files into one canonical tree.
pub(super) struct Loader<'a> {
    pub(super) reading: &'a Reading<'a>,
    pub(super) sink: &'a Sink,
    pub(super) limits: Limits,
    pub(super) home: Option<&'a Path>,
    /// What was read of each file.
    documents: RefCell<HashMap<PathBuf, Documents>>,
    /// How many nodes `extends` may still copy.
    copies: Cell<usize>,
    /// How many projects may still be included.
    includes: Cell<usize>,
    ports: Cell<usize>,
}

/// The documents of a file; `None` if it could not be read, which was reported.
pub(super) type Documents = Option<Rc<Vec<Node>>>;

/// Where a file's relative paths start, and what its variables are.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) dir: &'a Path,
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
}

/// How many documents a file may have: each is laid over all before it.
const MAX_DOCUMENTS: usize = 100;

/// How many projects may be included, one that is included twice counted twice.
const MAX_INCLUDES: usize = 500;

/// How many nodes `extends` and `include` may copy in all.
const MAX_COPIES: usize = 50_000;

impl<'a> Loader<'a> {
    pub(super) fn new(
        reading: &'a Reading<'a>,
        sink: &'a Sink,
        limits: Limits,
        home: Option<&'a Path>,
    ) -> Self {
        Self {
            reading,
            sink,
            limits,
            home,
            documents: RefCell::default(),
            copies: Cell::new(MAX_COPIES),
            includes: Cell::new(MAX_INCLUDES),
            ports: Cell::new(0),
        }
    }

    /// The documents of a file, which are not kept: what is laid over others is needed once.
    fn take_documents(&self, file: &Path) -> Option<Vec<Node>> {
        self.documents(file, None)?;
        let documents = self.documents.borrow_mut().remove(file)??;
        Some(Rc::try_unwrap(documents).unwrap_or_else(|shared| (*shared).clone()))
    }

    /// The documents of a file, read once.
    pub(super) fn documents(&self, file: &Path, asked_by: Option<&At<'_>>) -> Documents {
        if let Some(known) = self.documents.borrow().get(file) {
            return known.clone();
        }
        let documents = self.parse(file, asked_by).map(Rc::new);
        self.documents.borrow_mut().insert(file.to_owned(), documents.clone());
        documents
    }

    fn parse(&self, file: &Path, asked_by: Option<&At<'_>>) -> Option<Vec<Node>> {
        let source = self.sink.file(file);
        let text = match self.reading.read(file) {
            Ok(text) => text,
            Err(reason) => {
                let reason = format!("cannot be read: {}", reason.message);
                match asked_by {
                    Some(at) if at.node.secret => at.problem(format!("the file {reason}")),
                    Some(at) => at.problem(format!("{} {reason}", file.display())),
                    None => self.sink.problem(Place::whole(source), "", reason),
                }
                return None;
            }
        };
        match yaml::documents(&text, &self.limits, source) {
            Ok(documents) if documents.len() <= MAX_DOCUMENTS => Some(documents),
            Ok(_) => {
                let message = format!("has more than {MAX_DOCUMENTS} documents; use fewer");
                self.sink.problem(Place::whole(source), "", message);
                None
            }
            Err(error) => {
                let place = Place::new(source, error.line, error.column);
                self.sink.problem(place, &error.path, error.message);
                None
            }
        }
    }

    pub(super) fn reader<'s>(&'s self, scope: Scope<'s>) -> Reader<'s> {
        Reader { dir: scope.dir, home: self.home, ports: &self.ports }
    }

    /// A document with its variables replaced; `None` if it is no mapping or that fails.
    pub(super) fn interpolated(&self, mut document: Node, scope: Scope<'_>) -> Option<Node> {
        if document.as_mapping().is_none() {
            let kind = document.kind();
            let message = format!("must be a mapping of keys and values, not {kind}");
            self.sink.problem(Place::from(&document), "", message);
            return None;
        }
        let found = self.sink.count();
        variables::replace(&mut document, self.sink, scope.variable);
        // A text that could not be interpolated would only cause false alarms further on.
        (self.sink.count() == found).then_some(document)
    }

    /// The files of one project or of one `include`, laid over each other in their order.
    ///
    /// `within` are the files that include these, to notice a circle.
    pub(super) fn stack(
        &self,
        files: &[PathBuf],
        scope: Scope<'_>,
        within: &[PathBuf],
    ) -> Option<Node> {
        let mut project: Option<Node> = None;
        let before = self.sink.count();
        for file in files {
            for document in self.take_documents(file)? {
                let Some(layer) = self.layer(file, document, scope, within) else { continue };
                // What is wrong so far would only cause false alarms further on; the other
                // files are still looked at for their own.
                if self.sink.count() > before {
                    continue;
                }
                project = Some(match project {
                    Some(base) => merge::merge(&LAYER, base, layer),
                    None => layer,
                });
                if let Some(project) = &mut project {
                    merge::settle(project);
                    check::object(&PROJECT, &At::root(project, self.sink));
                }
            }
        }
        if self.sink.count() > before {
            return None;
        }
        if let Some(project) = &mut project {
            normal::bind_devices(project, scope.dir);
        }
        // Files with nothing in them are a project with nothing in it.
        let source = files.first().map_or(0, |file| self.sink.file(file));
        Some(project.unwrap_or_else(|| Node::nowhere(source, Value::Mapping(Mapping::default()))))
    }

    fn layer(
        &self,
        file: &Path,
        document: Node,
        scope: Scope<'_>,
        within: &[PathBuf],
    ) -> Option<Node> {
        let document = self.interpolated(document, scope)?;
        let at = At::root(&document, self.sink);
        let mut layer = self.reader(scope).read(&LAYER, &at)?;
        keep_notes(&document, &mut layer);
        extends::resolve(self, file, &mut layer, scope);
        include::resolve(self, file, &mut layer, scope, within);
        Some(layer)
    }

    /// Whether so much more may be copied; if not, says so.
    pub(super) fn may_copy(&self, node: &Node, at: &At<'_>) -> bool {
        let had_room = self.copies.get() > 0;
        let left = self.copies.get().saturating_sub(merge::weigh(node));
        self.copies.set(left);
        if left == 0 && had_room {
            at.problem(
                "'extends' and 'include' copy too much; write less of the project with them",
            );
        }
        left > 0
    }

    /// Whether one more project may be included; if not, says so.
    pub(super) fn may_include(&self, at: &At<'_>) -> bool {
        let left = self.includes.get();
        self.includes.set(left.saturating_sub(1));
        if left == 1 {
            at.problem(format!("more than {MAX_INCLUDES} projects are included; include fewer"));
        }
        left > 1
    }

    /// A path that a file names, beside the scope's directory.
    pub(super) fn path(&self, text: &str, at: &At<'_>, scope: Scope<'_>) -> Option<PathBuf> {
        let path = self.reader(scope).path(text, at)?;
        Some(scalars::clean(Path::new(&path)))
    }
}

static LAYER: Shape = Shape::Object(&PROJECT);

/// The author's notes at the top, which Compose shows with the project.
fn keep_notes(document: &Node, layer: &mut Node) {
    let Some(mapping) = layer.as_mapping_mut() else { return };
    for entry in entries(document) {
        if entry.key.text.starts_with("x-") {
            mapping.insert(entry.key.clone(), entry.value.clone());
        }
    }
}
