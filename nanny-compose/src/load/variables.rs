//! Interpolation of a whole tree, in place.

use std::collections::HashSet;

use super::at::{Place, Sink};
use crate::interpolate::interpolate;
use crate::yaml::{Node, Value};

/// Replaces the variables in all values of a tree; keys stay as they are.
///
/// Reports what cannot be interpolated, and warns once of each variable that is unset.
pub(super) fn replace(root: &mut Node, sink: &Sink, lookup: &dyn Fn(&str) -> Option<String>) {
    let path = String::new();
    Walk { sink, lookup, warned: HashSet::new(), path, length: 0 }.node(root);
}

/// How long all replaced texts together may be: a few variables named very often must not fill
/// the memory.
const MAX_LENGTH: usize = 16 << 20;

struct Walk<'a> {
    sink: &'a Sink,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    warned: HashSet<String>,
    /// The path of the node at hand.
    path: String,
    length: usize,
}

impl Walk<'_> {
    fn node(&mut self, node: &mut Node) {
        let place = Place::from(&*node);
        let parent = self.path.len();
        match &mut node.value {
            Value::Mapping(mapping) => {
                for (key, value) in mapping.values_mut() {
                    let dot = if parent == 0 { "" } else { "." };
                    self.path.extend([dot, &key.text]);
                    self.node(value);
                    self.path.truncate(parent);
                }
            }
            Value::Sequence(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push_str(&format!("[{index}]"));
                    self.node(item);
                    self.path.truncate(parent);
                }
            }
            Value::String(text) if text.contains('$') && self.length <= MAX_LENGTH => {
                match interpolate(text, self.lookup) {
                    Ok(done) => {
                        *text = done.text;
                        node.secret |= done.has_values;
                        self.length += text.len();
                        self.note(done.unset, place);
                    }
                    Err(error) => self.sink.problem(place, &self.path, error.to_string()),
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, unset: Vec<String>, place: Place) {
        for name in unset {
            if self.warned.insert(name.clone()) {
                let message = format!("the variable {name} is not set; taken as empty");
                self.sink.warn(place, &self.path, message);
            }
        }
        if self.length > MAX_LENGTH {
            let message = "the values of variables make the file too long; use shorter ones";
            self.sink.problem(place, &self.path, message);
        }
    }
}
