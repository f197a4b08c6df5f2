//! What the tools take.

use nanny_lib::{ServiceView, Status};
use rmcp::model::JsonObject;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::ToolError;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListServices {
    /// Only services that fit all of this.
    pub(super) filter: Option<Filter>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    #[serde(default)]
    #[schemars(schema_with = "statuses")]
    status: Option<Status>,
    /// One of its tags.
    tag: Option<String>,
    /// Whether it needs a GPU.
    gpu: Option<bool>,
    /// A part of its name.
    name_contains: Option<String>,
}

impl Filter {
    pub(super) fn picks(&self, view: &ServiceView) -> bool {
        let Self { status, tag, gpu, name_contains } = self;
        let name = || view.name().as_str().to_lowercase();
        status.is_none_or(|status| status == view.status)
            && tag.as_ref().is_none_or(|tag| view.manifest.tags.contains(tag))
            && gpu.is_none_or(|gpu| view.manifest.gpu_required == gpu)
            && name_contains.as_ref().is_none_or(|part| name().contains(&part.to_lowercase()))
    }
}

fn statuses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": Status::ALL.map(Status::as_str)})
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    /// The service's name, as list_services shows it.
    pub(super) name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartService {
    /// The service's name, as list_services shows it.
    pub(super) name: String,
    /// Stop the services that hold the GPU, if they are in the way. Ask the user first.
    #[schemars(extend("default" = false))]
    pub(super) force: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GetServiceLogs {
    /// The service's name, as list_services shows it.
    pub(super) name: String,
    /// The last so many lines of each of its containers.
    #[schemars(range(min = 1, max = 1000), extend("default" = 100))]
    tail: Option<i64>,
    /// Of these lines, only those with this in them.
    pub(super) contains: Option<String>,
}

impl GetServiceLogs {
    pub(super) fn tail(&self) -> Result<u32, ToolError> {
        let tail = u32::try_from(self.tail.unwrap_or(100)).ok();
        tail.filter(|tail| (1..=1000).contains(tail))
            .ok_or_else(|| ToolError::invalid_argument("tail", "it must be from 1 to 1000"))
    }
}

/// Reads the arguments of a call.
pub(super) fn read<T: DeserializeOwned>(arguments: Option<JsonObject>) -> Result<T, ToolError> {
    let arguments = Value::Object(arguments.unwrap_or_default());
    serde_path_to_error::deserialize(arguments).map_err(|error| {
        let reason: String = error.inner().to_string().chars().take(REASON_LIMIT).collect();
        match error.path().to_string().as_str() {
            // One that is missing, or one that there is not: the reason names it.
            "." => {
                let field = reason.split('`').nth(1).unwrap_or_default().to_owned();
                ToolError::invalid_argument(&field, &reason)
            }
            field => ToolError::invalid_argument(field, &reason),
        }
    })
}

const REASON_LIMIT: usize = 300;
