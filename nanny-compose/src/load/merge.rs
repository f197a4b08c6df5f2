//! Merging canonical trees: what a later file says over what an earlier one says.

use std::collections::HashSet;

use super::read::{OVERRIDE, RESET, without_repeats};
use crate::spec::{Merge, Object, Repeats, Shape};
use crate::yaml::{Entry, Node, Value};

/// What `base` and then `over` say. The tags of `over` take their effect and stay, so that they
/// have it again on a file that is even earlier; [`settle`] removes them.
pub(super) fn merge(shape: &'static Shape, base: Node, over: Node) -> Node {
    match over.tag.as_deref() {
        Some(RESET | OVERRIDE) => return over,
        _ if base.is_null() || is_reset(&base) => return over,
        _ => {}
    }
    match shape {
        Shape::Command => over,
        // Nothing said is nothing changed.
        _ if over.is_null() => base,
        Shape::Short(_, long) | Shape::Optional(long) => merge(long, base, over),
        Shape::Object(object) => objects(object, base, over),
        Shape::Named(shape) => mappings(base, over, |_| Some(*shape)),
        Shape::Pairs | Shape::Variables | Shape::ContextRef => pairs(base, over),
        Shape::List(list) => match (base.value, over.value.clone()) {
            (Value::Sequence(mut items), Value::Sequence(more)) => {
                if let Repeats::KeptOfLater(key) = list.repeats {
                    let more = more.into_iter().map(|item| over_same(list.item, key, &items, item));
                    let more = if items.is_empty() { Vec::new() } else { more.collect() };
                    return over.with(Value::Sequence(more));
                }
                items.extend(more);
                over.with(Value::Sequence(without_repeats(list.repeats, items)))
            }
            _ => over,
        },
        Shape::Hosts => match (base.value, over.value.clone()) {
            (Value::Sequence(mut lines), Value::Sequence(mut more)) => {
                let known: HashSet<_> = lines.iter().filter_map(Node::to_text).collect();
                more.retain(|line| line.to_text().is_none_or(|line| !known.contains(&line)));
                lines.extend(more);
                over.with(Value::Sequence(lines))
            }
            _ => over,
        },
        Shape::Anything => match (&base.value, &over.value) {
            (Value::Mapping(_), Value::Mapping(_)) => {
                mappings(base, over, |_| Some(&Shape::Anything))
            }
            (Value::Sequence(_), Value::Sequence(more)) => {
                let more = more.clone();
                let mut items = base;
                if let Value::Sequence(items) = &mut items.value {
                    items.extend(more);
                }
                items
            }
            _ => over,
        },
        _ => over,
    }
}

/// An item over the one among `items` that has the same in a field.
fn over_same(shape: &'static Shape, key: &str, items: &[Node], item: Node) -> Node {
    let wanted = item.at(key);
    let is_same = |other: &&Node| match (wanted, other.at(key)) {
        (Some(wanted), Some(other)) => wanted.means(other),
        _ => false,
    };
    match items.iter().find(is_same).cloned() {
        Some(base) => merge(shape, base, item),
        None => item,
    }
}

/// Compose merges these as lists, in which a `!reset` finds no key any more.
fn pairs(base: Node, mut over: Node) -> Node {
    if base.listed
        && let Some(mapping) = over.as_mapping_mut()
    {
        mapping.retain(|value| !is_reset(value));
    }
    Node { listed: true, ..mappings(base, over, |_| None) }
}

fn objects(object: &'static Object, base: Node, over: Node) -> Node {
    let keeps_base = match object.merge {
        Merge::ByKey => true,
        Merge::Replace => false,
        Merge::ByKeyIfSame(key) => match (base.at(key), over.at(key)) {
            (Some(base), Some(over)) => base.means(over),
            _ => true,
        },
    };
    if !keeps_base {
        return over;
    }
    let note = |key: &str| key.starts_with("x-").then_some(&Shape::Anything);
    mappings(base, over, |key| object.field(key).map(|field| field.shape).or_else(|| note(key)))
}

/// Key by key; a key without a shape takes the later value.
fn mappings(base: Node, over: Node, shape_of: impl Fn(&str) -> Option<&'static Shape>) -> Node {
    let empty = Node { tag: over.tag.clone(), ..over.with(Value::Null) };
    let (mut merged, more) = match (base.value, over.value) {
        (Value::Mapping(merged), Value::Mapping(more)) => (merged, more),
        (_, value) => return Node { value, ..empty },
    };
    for Entry { key, value } in more.into_entries() {
        let before = merged.get_mut(&key.text).map(|node| std::mem::replace(node, empty.clone()));
        let value = match (before, shape_of(&key.text)) {
            (Some(before), Some(shape)) => merge(shape, before, value),
            _ => value,
        };
        merged.insert(key, value);
    }
    Node { value: Value::Mapping(merged), ..empty }
}

fn is_reset(node: &Node) -> bool {
    node.tag.as_deref() == Some(RESET)
}

/// Takes out what was reset, and the tags.
pub(super) fn settle(node: &mut Node) {
    node.tag = None;
    match &mut node.value {
        Value::Mapping(mapping) => {
            mapping.retain(|value| !is_reset(value));
            mapping.values_mut().for_each(|(_, value)| settle(value));
        }
        Value::Sequence(items) => {
            items.retain(|item| !is_reset(item));
            items.iter_mut().for_each(settle);
        }
        _ => {}
    }
}

/// What a copy of a tree costs: its nodes, and one more for as many bytes of text as a node has.
pub(super) fn weigh(node: &Node) -> usize {
    match &node.value {
        Value::Mapping(mapping) => {
            1 + mapping.iter().map(|entry| weigh(&entry.value)).sum::<usize>()
        }
        Value::Sequence(items) => 1 + items.iter().map(weigh).sum::<usize>(),
        Value::String(text) => 1 + text.len() / size_of::<Node>(),
        _ => 1,
    }
}
