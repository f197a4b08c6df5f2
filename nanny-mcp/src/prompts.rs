//! The prompts: what a user can pick.

use rmcp::ErrorData;
use rmcp::model::{GetPromptRequestParams, GetPromptResponse, ListPromptsResult};

use crate::server::Shared;

/// The prompts there are.
pub(crate) fn list() -> ListPromptsResult {
    ListPromptsResult::default()
}

/// One of them, with what is so now.
pub(crate) async fn get(
    _shared: &Shared,
    request: GetPromptRequestParams,
) -> Result<GetPromptResponse, ErrorData> {
    Err(ErrorData::invalid_params(format!("there is no prompt '{}'", request.name), None))
}
