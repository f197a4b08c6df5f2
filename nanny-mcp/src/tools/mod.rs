//! The tools: what a model can call.

use std::sync::Arc;

use rmcp::model::{CallToolRequestParams, CallToolResponse, ListToolsResult};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};

use crate::server::Shared;

/// The tools there are.
pub(crate) fn list(_shared: &Shared) -> ListToolsResult {
    ListToolsResult::default()
}

/// Calls one.
pub(crate) async fn call(
    _shared: &Arc<Shared>,
    request: CallToolRequestParams,
    _context: RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    Err(ErrorData::invalid_params(format!("there is no tool '{}'", request.name), None))
}
