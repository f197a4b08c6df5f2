//! Every key of a file against the table of keys.

use super::at::{At, Sink};
use crate::keys::{self, Support};
use crate::yaml::{Key, Node, Value};

/// Reports all keys that are unknown, refused or ignored, and tags that Compose gives a meaning.
pub(super) fn keys(root: &Node, sink: &Sink) {
    if root.as_mapping().is_some() {
        check(&At::root(root, sink), "");
    }
}

fn check(at: &At<'_>, place: &str) {
    if let Some(tag) = &at.node.tag {
        at.problem(format!("the tag {tag} is not supported; remove it"));
    }
    match &at.node.value {
        Value::Mapping(_) => {
            for (key, value) in at.entries() {
                if !key.is_string {
                    value.problem_at_key("a key must be a string; put it in quotes");
                }
                let child = keys::place_of(place, &key.text);
                if !keys::are_fixed_at(place) || known(place, &child, key, &value) {
                    check(&value, &child);
                }
            }
        }
        Value::Sequence(_) => {
            let child = format!("{place}.[]");
            at.items().iter().for_each(|item| check(item, &child));
        }
        _ => {}
    }
}

/// Whether a key is one to look into further.
fn known(place: &str, child: &str, key: &Key, value: &At<'_>) -> bool {
    match keys::support(child) {
        Some(Support::Supported) => return true,
        Some(Support::Ignored(notice)) => value.warn_at_key(notice),
        Some(Support::Refused(reason)) => value.problem_at_key(reason),
        None if key.text.starts_with("x-") || value.is_enough() => {}
        None => {
            let hint = match keys::nearest(place, &key.text) {
                Some(nearest) => format!("did you mean '{nearest}'?"),
                None => "remove it, or name it 'x-…' to keep it as a note".to_owned(),
            };
            value.problem_at_key(format!("not a Compose key; {hint}"));
        }
    }
    false
}
