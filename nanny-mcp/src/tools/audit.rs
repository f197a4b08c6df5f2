//! One line in the log for each call: who wanted what, and what came of it; nothing of what was read.

use rmcp::RoleServer;
use rmcp::model::CallToolRequestParams;
use rmcp::service::RequestContext;
use serde_json::Value;

/// A call, which is logged when it ends, however it ends.
#[derive(Debug)]
pub(super) struct Audit {
    tool: String,
    service: Option<String>,
    force: bool,
    client: Option<String>,
    pub(super) outcome: &'static str,
}

impl Audit {
    pub(super) fn new(
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Self {
        let argument = |name| request.arguments.as_ref().and_then(|all| all.get(name));
        Self {
            tool: short(&request.name),
            service: argument("name").and_then(Value::as_str).map(short),
            force: argument("force") == Some(&Value::Bool(true)),
            client: context.client_info().map(|client| short(&client.name)),
            outcome: "abandoned",
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        let Self { tool, service, force, client, outcome } = self;
        // What the client says is quoted: it may hold anything.
        tracing::info!(?tool, ?service, force, ?client, outcome, "an assistant called a tool");
    }
}

fn short(text: &str) -> String {
    text.chars().take(LIMIT).collect()
}

const LIMIT: usize = 64;
