//! Interpolation of a whole tree, in place.

use std::collections::HashSet;

use super::at::Sink;
use crate::interpolate::interpolate;
use crate::yaml::{Node, Value};

/// Replaces the variables in all values of a tree; keys stay as they are.
///
/// Reports what cannot be interpolated, and warns once of each variable that is unset.
pub(super) fn replace(root: &mut Node, sink: &Sink, lookup: &dyn Fn(&str) -> Option<String>) {
    Walk {
        sink,
        lookup,
        warned: HashSet::new(),
    }
    .node(root, "");
}

struct Walk<'a> {
    sink: &'a Sink,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    warned: HashSet<String>,
}

impl Walk<'_> {
    fn node(&mut self, node: &mut Node, path: &str) {
        let place = (node.line, node.column);
        match &mut node.value {
            Value::Mapping(mapping) => {
                for (key, value) in mapping.values_mut() {
                    let dot = if path.is_empty() { "" } else { "." };
                    self.node(value, &format!("{path}{dot}{}", key.text));
                }
            }
            Value::Sequence(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.node(item, &format!("{path}[{index}]"));
                }
            }
            Value::String(text) if text.contains('$') => match interpolate(text, self.lookup) {
                Ok(done) => {
                    *text = done.text;
                    node.secret |= done.has_values;
                    self.warn(done.unset, place, path);
                }
                Err(error) => self.sink.problem(place, path, error.to_string()),
            },
            _ => {}
        }
    }

    fn warn(&mut self, unset: Vec<String>, place: (usize, usize), path: &str) {
        for name in unset {
            if self.warned.insert(name.clone()) {
                let message = format!("the variable {name} is not set; taken as empty");
                self.sink.warn(place, path, message);
            }
        }
    }
}
