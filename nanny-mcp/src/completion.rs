//! What an argument could be.

use rmcp::ErrorData;
use rmcp::model::{CompleteRequestParams, CompleteResult};

use crate::server::Shared;

/// Values that an argument of a prompt or of a resource could have.
pub(crate) fn complete(
    _shared: &Shared,
    _request: &CompleteRequestParams,
) -> Result<CompleteResult, ErrorData> {
    Ok(CompleteResult::default())
}
