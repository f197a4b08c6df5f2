//! The resources: what a client can read and watch.

use rmcp::ErrorData;
use rmcp::model::{ListResourceTemplatesResult, ListResourcesResult, ReadResourceResponse};

use crate::server::Shared;

/// The resources there are now.
pub(crate) fn list(_shared: &Shared) -> ListResourcesResult {
    ListResourcesResult::default()
}

/// The kinds of resources there are.
pub(crate) fn templates() -> ListResourceTemplatesResult {
    ListResourceTemplatesResult::default()
}

/// Reads one.
pub(crate) async fn read(_shared: &Shared, uri: &str) -> Result<ReadResourceResponse, ErrorData> {
    Err(ErrorData::resource_not_found(format!("there is no resource '{uri}'"), None))
}
