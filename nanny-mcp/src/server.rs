//! What a client talks to: one for each session, or for each request of the newer revisions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nanny_lib::Nanny;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, DiscoverResult,
    GetPromptRequestParams, GetPromptResponse, Implementation, InitializeRequestParams,
    InitializeResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, MetaObject, PaginatedRequestParams, ProtocolVersion,
    ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig,
    SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequestParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::sync::Semaphore;

use crate::subscriptions::{self, Session};
use crate::{Force, McpConfig, completion, prompts, resources, tools};

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) nanny: Nanny,
    pub(crate) config: McpConfig,
    /// Places for those who listen.
    pub(crate) listeners: Semaphore,
    pub(crate) tools: tools::Desk,
}

impl Shared {
    pub(crate) fn new(nanny: Nanny, config: McpConfig) -> Self {
        Self { nanny, config, listeners: Semaphore::new(LISTENERS), tools: tools::Desk::new() }
    }
}

/// The server, as one client sees it.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    /// The session has begun.
    initialized: AtomicBool,
    session: Session,
    /// The latest change when somebody last asked to listen: the answer takes a moment, and what
    /// happens meanwhile is news.
    asked_to_listen: AtomicU64,
}

impl Server {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            initialized: AtomicBool::new(false),
            session: Session::new(),
            asked_to_listen: AtomicU64::new(0),
        }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_completions()
            .build();
        let mut info = ServerConfig::new(capabilities);
        info.server_info = this_server();
        info.instructions = Some(instructions(&self.shared.config));
        info
    }

    /// Once for each session. A second time would have the library take its client to be one of
    /// another revision, and refuse what it may do.
    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        if self.initialized.swap(true, Ordering::AcqRel) {
            return Err(ErrorData::invalid_request("already initialized", None));
        }
        let result = self.negotiate_initialize(&request)?;
        note_client(&request.client_info, &result.protocol_version);
        context.peer.set_peer_info(request);
        Ok(result)
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        self.session.begin(&self.shared, &context.peer);
    }

    async fn discover(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<DiscoverResult, ErrorData> {
        if let (Some(client), Some(version)) = (context.client_info(), context.protocol_version()) {
            note_client(&client, &version);
        }
        let versions = self.supported_protocol_versions().into_owned();
        Ok(DiscoverResult::from_server_info(versions, self.get_info()))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        one_page(request)?;
        let mut result = tools::list(&self.shared);
        sign(&mut result.meta, &context);
        Ok(result)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let signed = context.clone();
        let mut response = tools::call(&self.shared, request, context).await?;
        match &mut response {
            CallToolResponse::Complete(result) => sign(&mut result.meta, &signed),
            CallToolResponse::InputRequired(result) => sign(&mut result.meta, &signed),
            _ => {}
        }
        Ok(response)
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        one_page(request)?;
        let mut result = resources::list(&self.shared);
        sign(&mut result.meta, &context);
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        one_page(request)?;
        let mut result = resources::templates();
        sign(&mut result.meta, &context);
        Ok(result)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let mut result = resources::read(&self.shared, &request.uri).await?;
        sign(&mut result.meta, &context);
        Ok(result.into())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        self.asked_to_listen.store(self.shared.nanny.latest_change(), Ordering::Release);
        Some(subscriptions::accepted(requested))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let since = self.asked_to_listen.load(Ordering::Acquire);
        subscriptions::listen(&self.shared, &context, since).await
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        // Not every client says that it is initialized.
        self.session.begin(&self.shared, &context.peer);
        self.session.subscribe(&request.uri)
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.session.unsubscribe(&request.uri);
        Ok(())
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        one_page(request)?;
        let mut result = prompts::list(&self.shared);
        sign(&mut result.meta, &context);
        Ok(result)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let mut result = prompts::get(&self.shared, request).await?;
        sign(&mut result.meta, &context);
        Ok(result.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let mut result = completion::complete(&self.shared, &request)?;
        sign(&mut result.meta, &context);
        Ok(result)
    }
}

fn this_server() -> Implementation {
    let mut this = Implementation::new("service-nanny", env!("CARGO_PKG_VERSION"));
    this.title = Some("Service Nanny".to_owned());
    this
}

/// Says who answers, in a revision without a handshake that would have said it.
fn sign(meta: &mut Option<MetaObject>, context: &RequestContext<RoleServer>) {
    let has_handshake = context.protocol_version().is_none_or(|version| version.has_initialize());
    if has_handshake {
        return;
    }
    if let Ok(this) = serde_json::to_value(this_server()) {
        meta.get_or_insert_default().insert("io.modelcontextprotocol/serverInfo".to_owned(), this);
    }
}

/// Every list is one page, so a cursor is none of ours.
fn one_page(request: Option<PaginatedRequestParams>) -> Result<(), ErrorData> {
    match request.and_then(|request| request.cursor) {
        Some(_) => Err(ErrorData::invalid_params("there is no such page", None)),
        None => Ok(()),
    }
}

fn note_client(client: &Implementation, version: &ProtocolVersion) {
    // It says what it likes: in quotes, and not at any length.
    let short = |text: &str| text.chars().take(100).collect::<String>();
    let (name, release) = (short(&client.name), short(&client.version));
    tracing::info!(client = ?name, release = ?release, revision = version.as_str(), "a client");
}

/// What a model is told before anything else. Clients cut it off at about 2 KB.
fn instructions(config: &McpConfig) -> String {
    let doing = match (config.read_only, config.force) {
        (true, _) => String::new(),
        (false, Force::Never) => {
            format!("{BUSY}ask the user whether to stop that one first.\n{DOING}")
        }
        (false, Force::Ask | Force::Always) => format!("{BUSY}{FORCE}{DOING}"),
    };
    format!("{INTRODUCTION}{LOOKING}{doing}{READING}")
}

const INTRODUCTION: &str = "\
Service Nanny runs AI services (image generation, LLMs, speech, ...) on this machine's GPU. Usually \
one GPU service runs at a time.\n";
const LOOKING: &str = "\
- list_services shows what there is, what runs and who has the GPU.
- get_service_status tells of one: its state, its health, and why it failed.
- get_service_logs shows the last lines, which tell why something fails.\n";
const BUSY: &str = "\
- start_service starts one. If another has the GPU, it fails with GPU_BUSY and says who: ";
const FORCE: &str = "\
ask the user before you try again with force=true, which stops that one.\n";
const DOING: &str = "\
- A start that answers \"starting\" goes on: look at get_service_status until it is ready, models \
take minutes; do not start it again.
- stop_service stops one; its data stays.\n";
const READING: &str = "\
A service is ready when it runs and is healthy; it is used at its own endpoint, not through this \
server. One with an `mcp` endpoint is an MCP server itself, once it runs.
The resources service://status, service://status/{name}, service://logs/{name} and service://metrics \
hold the same and more, and can be subscribed to.";

/// So many can listen at once.
const LISTENERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instructions_are_short_and_speak_of_no_tool_that_is_not_there() {
        let mut config = McpConfig::default();
        let all = instructions(&config);
        assert!(all.len() < 2000, "{}", all.len());
        assert!(all.contains("start_service"));
        assert!(all.contains("force=true"));
        config.force = Force::Never;
        let unforced = instructions(&config);
        assert!(unforced.contains("start_service") && !unforced.contains("force"), "{unforced}");
        config.read_only = true;
        let looking = instructions(&config);
        assert!(looking.contains("list_services"));
        assert!(!looking.contains("start_service") && !looking.contains("stop_service"));
    }
}
