//! What the tools declare.

use rmcp::model::{CallToolResult, JsonObject, Tool};
use serde_json::{Value, json};

use super::{Era, House, Person, cpu};
use crate::{Force, McpConfig};

/// That `result` is what `tool` declares, that it has nothing else, and that its text is the same.
pub(super) fn assert_valid(tools: &[Tool], tool: &str, result: &CallToolResult) {
    let tool = tools.iter().find(|known| known.name == tool).expect("it is listed");
    let value = result.structured_content.as_ref().expect("it is structured");
    let text = &result.content[0].as_text().expect("it is text").text;
    assert_eq!(*value, serde_json::from_str::<Value>(text).expect("it is JSON"));
    let mut schema = Value::Object((**tool.output_schema.as_ref().expect("it has one")).clone());
    close(&mut schema);
    assert_fits(&schema, value, "");
}

/// What JSON Schema says of the keywords that [`assert_portable`] lets through; clients of others
/// judge with validators of their own in `nanny-mcp/acceptance`.
fn assert_fits(schema: &Value, value: &Value, path: &str) {
    let is_it = match schema["type"].as_str().expect("a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        other => panic!("{path}: {other}"),
    };
    assert!(is_it, "{path}: {value} is no {}", schema["type"]);
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{path}: {value}");
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_f64(), value.as_f64()) {
        assert!(number >= least, "{path}: {value}");
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().expect("a name");
        assert!(value.get(name).is_some(), "{path}: no {name} in {value}");
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match &schema["properties"][name] {
            Value::Null => assert_ne!(schema["additionalProperties"], false, "{path}"),
            inner => assert_fits(inner, field, &path),
        }
    }
    for item in value.as_array().into_iter().flatten() {
        assert_fits(&schema["items"], item, &format!("{path}[]"));
    }
}

/// Lets nothing through that is not declared.
fn close(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    if let Some(Value::Object(fields)) = schema.get_mut("properties") {
        fields.values_mut().for_each(close);
        schema.insert("additionalProperties".to_owned(), false.into());
    }
    if let Some(items) = schema.get_mut("items") {
        close(items);
    }
}

fn names(tools: &[Tool]) -> Vec<&str> {
    tools.iter().map(|tool| &*tool.name).collect()
}

fn every_schema(tools: &[Tool]) -> Vec<(&JsonObject, bool)> {
    tools
        .iter()
        .flat_map(|tool| {
            let output = tool.output_schema.as_deref().expect("every tool declares its output");
            [(&*tool.input_schema, true), (output, false)]
        })
        .collect()
}

/// Whatever some client does not understand.
fn assert_portable(schema: &Value, closed: bool, path: &str) {
    let Value::Object(fields) = schema else { panic!("{path}: {schema}") };
    for (keyword, value) in fields {
        let known = [
            "type",
            "properties",
            "required",
            "items",
            "enum",
            "description",
            "minimum",
            "maximum",
            "default",
            "additionalProperties",
        ];
        assert!(known.contains(&keyword.as_str()), "{path}: {keyword}");
        assert!(!value.is_null(), "{path}: {keyword}");
    }
    let kind = fields["type"].as_str().unwrap_or_else(|| panic!("{path}: {schema}"));
    assert_ne!(kind, "null", "{path}");
    if let Some(Value::Object(inner)) = fields.get("properties") {
        assert_eq!(fields.get("additionalProperties"), closed.then_some(&json!(false)), "{path}");
        for (name, field) in inner {
            assert_portable(field, closed, &format!("{path}.{name}"));
        }
    }
    if let Some(items) = fields.get("items") {
        assert_portable(items, closed, &format!("{path}[]"));
    }
}

#[tokio::test(start_paused = true)]
async fn every_schema_is_understood_by_every_client() {
    let guest = House::new([]).await.machine().await;
    assert_eq!(
        names(&guest.tools),
        [
            "list_services",
            "get_service_status",
            "start_service",
            "stop_service",
            "get_service_logs"
        ]
    );
    for (schema, is_input) in every_schema(&guest.tools) {
        assert_eq!(schema["type"], "object");
        assert_portable(&Value::Object(schema.clone()), is_input, "");
    }
}

#[tokio::test(start_paused = true)]
async fn every_tool_says_what_it_may_do() {
    let guest = House::new([]).await.machine().await;
    for tool in &guest.tools {
        let hints = tool.annotations.as_ref().unwrap();
        let looks = !["start_service", "stop_service"].contains(&&*tool.name);
        assert_eq!(hints.read_only_hint, Some(looks), "{}", tool.name);
        assert_eq!(hints.destructive_hint, Some(!looks), "{}", tool.name);
        assert_eq!((hints.idempotent_hint, hints.open_world_hint), (Some(true), Some(false)));
        assert!(tool.title.is_some() && tool.description.as_ref().unwrap().len() < 400);
    }
}

#[tokio::test(start_paused = true)]
async fn an_input_is_declared_as_it_is_read() {
    let guest = House::new([]).await.machine().await;
    let input = |name: &str| {
        let tool = guest.tools.iter().find(|tool| tool.name == name).unwrap();
        Value::Object((*tool.input_schema).clone())
    };
    let start = input("start_service");
    assert_eq!(start["required"], json!(["name"]));
    assert_eq!(start["properties"]["force"]["default"], json!(false));
    let tail = &input("get_service_logs")["properties"]["tail"];
    assert_eq!((&tail["minimum"], &tail["maximum"]), (&json!(1), &json!(1000)));
    assert_eq!(tail["default"], json!(100));
    let status = &input("list_services")["properties"]["filter"]["properties"]["status"];
    assert_eq!(status["enum"].as_array().unwrap().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_only_looks_has_no_other_tools() {
    let config = McpConfig { read_only: true, ..McpConfig::default() };
    let house = House::with(config, [cpu("a")]).await;
    let guest = house.guest(Era::Old, Person::nobody()).await;
    assert_eq!(names(&guest.tools), ["list_services", "get_service_status", "get_service_logs"]);
    for tool in ["start_service", "stop_service"] {
        let refused = guest.refused(tool, super::named("a")).await;
        assert_eq!(refused.code, "READ_ONLY");
    }
    assert!(house.engine.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn where_force_is_never_allowed_it_is_not_offered() {
    let config = McpConfig { force: Force::Never, ..McpConfig::default() };
    let guest = House::with(config, []).await.machine().await;
    let start = guest.tools.iter().find(|tool| tool.name == "start_service").unwrap();
    let input = Value::Object((*start.input_schema).clone());
    assert!(input["properties"]["name"].is_object() && input["properties"]["force"].is_null());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_tool_is_an_error_of_the_protocol_that_names_those_there_are() {
    let guest = House::new([]).await.machine().await;
    let error = guest.call("restart_service", json!({})).await.unwrap_err().to_string();
    assert!(error.contains("-32602") && error.contains("get_service_logs"), "{error}");
}
