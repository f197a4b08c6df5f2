//! JSON Schemas that every client reads alike: all in place, no unions, nothing that may be null.

use std::sync::Arc;

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// What a tool takes.
pub(crate) fn of_input<T: JsonSchema>() -> Arc<JsonObject> {
    portable_schema::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

/// What a tool answers with, as [`plain`](crate::answer::plain) writes it.
pub(crate) fn of_output<T: JsonSchema>() -> Arc<JsonObject> {
    portable_schema::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn portable_schema<T: JsonSchema>(mut settings: SchemaSettings) -> Arc<JsonObject> {
    settings.inline_subschemas = true;
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let Value::Object(mut schema) = schema.to_value() else { return Arc::default() };
    // What the type is for is said of the tool.
    schema.remove("description");
    simplify(&mut schema);
    Arc::new(schema)
}

fn simplify(schema: &mut JsonObject) {
    for annotation in ["$schema", "$defs", "title", "format"] {
        schema.remove(annotation);
    }
    schema.retain(|keyword, value| !(keyword == "default" && value.is_null()));
    drop_null(schema);
    let mut may_be_missing = Vec::new();
    if let Some(Value::Object(fields)) = schema.get_mut("properties") {
        for (name, field) in fields {
            let Value::Object(field) = field else { continue };
            if may_be_null(field) {
                may_be_missing.push(name.clone());
            }
            simplify(field);
        }
    }
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| !may_be_missing.iter().any(|missing| *name == missing.as_str()));
        if required.is_empty() {
            schema.remove("required");
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(Value::Object(inner)) = schema.get_mut(inner) {
            simplify(inner);
        }
    }
}

fn may_be_null(schema: &JsonObject) -> bool {
    let is_null = |value: &Value| value == "null";
    let types = schema.get("type").and_then(Value::as_array);
    types.is_some_and(|types| types.iter().any(is_null))
        || alternatives(schema).is_some_and(|all| all.iter().any(|one| is_null(&one["type"])))
}

fn alternatives(schema: &JsonObject) -> Option<&Vec<Value>> {
    schema.get("anyOf").and_then(Value::as_array)
}

/// Makes of "this or null" this.
fn drop_null(schema: &mut JsonObject) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let others = alternatives(schema)
        .map(|all| all.iter().filter(|one| one["type"] != "null").cloned().collect::<Vec<_>>());
    if let Some([Value::Object(only)]) = others.as_deref() {
        schema.remove("anyOf");
        for (keyword, value) in only {
            schema.entry(keyword).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        Yes,
        No,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Inner {
        /// How many.
        count: u64,
        note: Option<String>,
    }

    /// Not shown.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Everything {
        inner: Option<Inner>,
        #[serde(default)]
        word: Option<Word>,
        many: Vec<Option<u32>>,
        by_name: BTreeMap<String, Inner>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        flag: bool,
    }

    #[test]
    fn what_may_be_null_may_be_missing_instead() {
        let inner = json!({
            "type": "object",
            "properties": {
                "count": {"description": "How many.", "type": "integer", "minimum": 0},
                "note": {"type": "string"},
            },
            "required": ["count"],
        });
        let schema = json!({
            "type": "object",
            "properties": {
                "inner": inner,
                "word": {"type": "string", "enum": ["yes", "no"]},
                "many": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                "by_name": {"type": "object", "additionalProperties": inner},
                "flag": {"type": "boolean"},
            },
            "required": ["many", "by_name"],
            "additionalProperties": false,
        });
        assert_eq!(Value::Object((*of_output::<Everything>()).clone()), schema);
    }
}
