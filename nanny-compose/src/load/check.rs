//! What must hold once everything is merged: what is required is there, and what must not be
//! repeated is not.

use super::at::At;
use crate::spec::{Object, Repeats, Shape};

/// Reports what is missing or listed twice anywhere in a canonical tree.
pub(super) fn object(object: &'static Object, at: &At<'_>) {
    for key in object.required {
        if at.field(key).is_none() {
            at.problem_at_key(format!("'{key}' is missing"));
        }
    }
    for (key, value) in at.entries() {
        if let Some(field) = object.field(&key.text) {
            shape(field.shape, &value);
        }
    }
}

fn shape(shape_of: &'static Shape, at: &At<'_>) {
    match shape_of {
        Shape::Optional(_) | Shape::Command | Shape::Anything | Shape::Loose(_)
            if at.node.is_null() => {}
        _ if at.node.is_null() => {
            at.problem_at_key("nothing stands here; give it a value, or remove the key");
        }
        Shape::Short(_, long) | Shape::Optional(long) => shape(long, at),
        // The short form of a limit is a number also here.
        Shape::Object(inner) if at.node.as_mapping().is_some() => object(inner, at),
        Shape::Named(value) => {
            at.entries().iter().for_each(|(_, at)| shape(value, at));
        }
        Shape::List(list) => {
            let items = at.items().unwrap_or_default();
            if list.repeats == Repeats::Refused {
                repeats(&items);
            }
            items.iter().for_each(|item| shape(list.item, item));
        }
        _ => {}
    }
}

fn repeats(items: &[At<'_>]) {
    let mut seen = std::collections::HashSet::new();
    for item in items {
        if !seen.insert(item.node.to_text()) {
            item.problem(format!("{} is listed twice; keep one", item.shown()));
        }
    }
}
