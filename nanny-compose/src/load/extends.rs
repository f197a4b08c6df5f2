//! `extends`: a service that begins as another one is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::at::At;
use super::layers::{Loader, Scope};
use super::merge;
use super::normal::section_mut;
use super::read::entries;
use crate::spec::{SERVICE, Shape};
use crate::yaml::Node;

static THE_SERVICE: Shape = Shape::Object(&SERVICE);

/// How long a row of services that extend each other may be.
const MAX_DEPTH: usize = 64;

/// Resolves all `extends` in the services of a canonical layer.
pub(super) fn resolve(loader: &Loader<'_>, path: &Path, layer: &mut Node, scope: Scope<'_>) {
    let extending: Vec<_> = services(layer)
        .filter(|(_, service)| service.at("extends").is_some())
        .map(|(name, _)| name.to_owned())
        .collect();
    if extending.is_empty() {
        return;
    }
    let mut resolved = Vec::new();
    let mut extends = Extends { loader, interpolated: HashMap::new(), trail: Vec::new() };
    let file = File { path, document: layer, scope, is_canonical: true };
    for name in extending {
        let Some(at) = file.service(loader, &name) else { continue };
        extends.trail = vec![(path.to_owned(), name.clone())];
        resolved.extend(extends.resolved(&file, &at).map(|service| (name, service)));
    }
    let Some(services) = section_mut(layer, "services") else { return };
    for (name, service) in resolved {
        if let Some(place) = services.get_mut(&name) {
            *place = service;
        }
    }
}

/// A file with services that may be extended.
struct File<'a> {
    path: &'a Path,
    document: &'a Node,
    scope: Scope<'a>,
    /// Whether the document has its canonical form already.
    is_canonical: bool,
}

impl<'a> File<'a> {
    fn service(&self, loader: &'a Loader<'_>, name: &str) -> Option<At<'a>> {
        At::root(self.document, loader.sink).field("services")?.field(name)
    }
}

struct Extends<'a> {
    loader: &'a Loader<'a>,
    /// Other files with their variables replaced: very many services may extend the same one.
    interpolated: HashMap<PathBuf, Option<Rc<Vec<Node>>>>,
    /// The services on the way, by file and name: meeting one again is a circle.
    trail: Vec<(PathBuf, String)>,
}

impl Extends<'_> {
    /// A service as it stands, with what it extends beneath it.
    fn resolved(&mut self, file: &File<'_>, at: &At<'_>) -> Option<Node> {
        if !self.loader.may_copy(at.node, at) {
            return None;
        }
        let mut own = if file.is_canonical {
            at.node.clone()
        } else {
            self.loader.reader(file.scope).read(&THE_SERVICE, at)?
        };
        let Some(extends) = own.as_mapping_mut().and_then(|own| own.remove("extends")) else {
            return Some(own);
        };
        let base = self.base(file, &at.field("extends")?.instead(&extends))?;
        Some(merge::merge(&THE_SERVICE, base, own))
    }

    fn base(&mut self, file: &File<'_>, extends: &At<'_>) -> Option<Node> {
        let Some(wanted) = extends.field("service") else {
            extends.problem_at_key("'service' is missing: which one to extend");
            return None;
        };
        let name = wanted.node.as_str()?;
        let other = extends.field("file");
        let path = match &other {
            Some(other) => self.loader.path(other.node.as_str()?, other, file.scope)?,
            None => file.path.to_owned(),
        };
        let step = (path.clone(), name.to_owned());
        if self.trail.contains(&step) {
            wanted.problem("this extends itself in a circle; take one 'extends' out");
            return None;
        }
        if self.trail.len() > MAX_DEPTH {
            wanted.problem(format!("more than {MAX_DEPTH} services extend each other in a row"));
            return None;
        }
        self.trail.push(step);
        let base = match &other {
            Some(other) => self.elsewhere(&path, name, other, &wanted, file.scope),
            None => match file.service(self.loader, name) {
                Some(service) => self.resolved(file, &service),
                None => {
                    wanted.problem(format!("there is no service {} here", wanted.shown()));
                    None
                }
            },
        };
        self.trail.pop();
        base
    }

    /// A service of another file, whose paths start at that file's directory.
    fn elsewhere(
        &mut self,
        path: &Path,
        name: &str,
        named: &At<'_>,
        wanted: &At<'_>,
        scope: Scope<'_>,
    ) -> Option<Node> {
        let scope = Scope { dir: path.parent().unwrap_or(Path::new("/")), ..scope };
        let documents = self.documents(path, named, scope)?;
        let mut found: Option<Node> = None;
        for document in documents.iter() {
            let file = File { path, document, scope, is_canonical: false };
            let Some(service) = file.service(self.loader, name) else { continue };
            let service = self.resolved(&file, &service)?;
            found = Some(match found {
                Some(base) => merge::merge(&THE_SERVICE, base, service),
                None => service,
            });
        }
        if found.is_none() {
            named.problem(format!("there is no service {} in that file", wanted.shown()));
        }
        found
    }
}

impl Extends<'_> {
    /// The documents of another file, with their variables replaced.
    fn documents(
        &mut self,
        path: &Path,
        named: &At<'_>,
        scope: Scope<'_>,
    ) -> Option<Rc<Vec<Node>>> {
        if let Some(known) = self.interpolated.get(path) {
            return known.clone();
        }
        let documents = self.loader.documents(path, Some(named))?;
        let done =
            documents.iter().map(|document| self.loader.interpolated(document.clone(), scope));
        let done = done.collect::<Option<Vec<_>>>().map(Rc::new);
        self.interpolated.insert(path.to_owned(), done.clone());
        done
    }
}

fn services(layer: &Node) -> impl Iterator<Item = (&str, &Node)> {
    let services = layer.at("services").into_iter().flat_map(entries);
    services.map(|entry| (entry.key.text.as_str(), &entry.value))
}
