//! Whole calls: a client of either era over a pipe, a nanny, and an engine in memory, on paused
//! time. Every result is held against the schema that its tool declares.

mod audit;
mod force;
mod look;
mod schemas;
mod start;
mod stop;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nanny_lib::backend::{ContainerSpec, MemoryBackend};
use nanny_lib::manifest::{FixedSource, Manifest, Service};
use nanny_lib::probe::{Health, HealthProbe, ProbeTarget, StandardProbe};
use nanny_lib::project::Project;
use nanny_lib::{Builder, Nanny, ServiceName, StartOptions, Status};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig,
    ElicitRequestParams, ElicitResult, ElicitationAction, Implementation,
    ProgressNotificationParam, ProtocolVersion, Tool,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, ErrorData, RoleClient, RoleServer,
    ServiceError, ServiceExt as _,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::McpConfig;
use crate::server::{Server, Shared};

/// A nanny over an engine in memory, as the tools see it.
pub(super) struct House {
    pub(super) shared: Arc<Shared>,
    pub(super) engine: MemoryBackend,
}

impl House {
    pub(super) async fn new(services: impl IntoIterator<Item = Service>) -> Self {
        Self::with(McpConfig::default(), services).await
    }

    pub(super) async fn with(
        config: McpConfig,
        services: impl IntoIterator<Item = Service>,
    ) -> Self {
        Self::of(Nanny::builder(), config, services).await
    }

    pub(super) async fn of(
        builder: Builder,
        config: McpConfig,
        services: impl IntoIterator<Item = Service>,
    ) -> Self {
        let engine = MemoryBackend::new();
        let builder = builder
            .backend(Arc::new(engine.clone()))
            .source(FixedSource::new(services))
            .probe(Probe);
        let nanny = builder.start().await.expect("a nanny starts");
        Self { shared: Arc::new(Shared::new(nanny, config)), engine }
    }

    pub(super) fn nanny(&self) -> &Nanny {
        &self.shared.nanny
    }

    pub(super) async fn start(&self, name: &str) {
        self.nanny().start(name, StartOptions::default()).await.expect("it starts");
    }

    pub(super) fn status(&self, name: &str) -> Status {
        self.nanny().snapshot().services[name].status
    }

    /// Waits until a service has a status; two minutes of paused time are the limit.
    pub(super) async fn until(&self, name: &str, status: Status) {
        let seen = self.nanny().wait_until(|now| now.services[name].status == status);
        let seen = tokio::time::timeout(Duration::from_secs(120), seen).await;
        seen.unwrap_or_else(|_| panic!("never {status:?}, but {:?}", self.status(name)))
            .expect("the nanny lives");
    }

    /// A client that speaks the revision of `era`, whose user is `person`.
    pub(super) async fn guest(&self, era: Era, person: Person) -> Guest {
        let (near, far) = tokio::io::duplex(1 << 16);
        let server = Server::new(Arc::clone(&self.shared));
        let serving = tokio::spawn(async move { server.serve(far).await });
        let lifecycle = match era {
            Era::Old => ClientLifecycleMode::Initialize,
            Era::New => ClientLifecycleMode::Discover {
                preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            },
        };
        let client = person.clone().serve_with_lifecycle(near, lifecycle).await;
        let client = client.expect("a client connects");
        // Only the first request that asks for something tells the server which era it is.
        let tools = client.list_all_tools().await.expect("tools are listed");
        let server = serving.await.expect("no panic").expect("a server serves");
        Guest { client, server, person, tools }
    }

    /// A client of the newer era that cannot ask its user.
    pub(super) async fn machine(&self) -> Guest {
        self.guest(Era::New, Person::nobody()).await
    }
}

/// Which revision of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// 2025-11-25: sessions, and requests of the server's own.
    Old,
    /// 2026-07-28.
    New,
}

/// The user behind a client, and what they were shown.
#[derive(Debug, Clone)]
pub(super) struct Person {
    says: Option<ElicitResult>,
    hesitates: Duration,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
    pub(super) progress: Arc<Mutex<Vec<(Instant, ProgressNotificationParam)>>>,
}

impl Person {
    /// Nobody is there.
    pub(super) fn nobody() -> Self {
        Self {
            says: None,
            hesitates: Duration::ZERO,
            asked: Arc::default(),
            progress: Arc::default(),
        }
    }

    pub(super) fn who_says(answer: bool) -> Self {
        let says =
            ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "confirm": answer }));
        Self { says: Some(says), ..Self::nobody() }
    }

    pub(super) fn who_declines() -> Self {
        Self { says: Some(ElicitResult::new(ElicitationAction::Decline)), ..Self::nobody() }
    }

    pub(super) fn after(self, hesitates: Duration) -> Self {
        Self { hesitates, ..self }
    }

    pub(super) fn was_asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder();
        let capabilities = match &self.says {
            Some(_) => capabilities.enable_elicitation().build(),
            None => capabilities.build(),
        };
        ClientConfig::new(capabilities, Implementation::new("a client", "1"))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::FormElicitationParams { message, .. } = request else {
            return Err(ErrorData::invalid_params("no form", None));
        };
        self.asked.lock().expect("no panic").push(message);
        tokio::time::sleep(self.hesitates).await;
        self.says.clone().ok_or_else(|| ErrorData::internal_error("nobody is there", None))
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.progress.lock().expect("no panic").push((Instant::now(), params));
    }
}

/// A client that is connected.
pub(super) struct Guest {
    pub(super) client: RunningService<RoleClient, Person>,
    #[expect(dead_code, reason = "it serves for as long as it is held")]
    server: RunningService<RoleServer, Server>,
    pub(super) person: Person,
    pub(super) tools: Vec<Tool>,
}

impl Guest {
    /// Calls a tool, and answers questions as the user does.
    pub(super) async fn call(
        &self,
        tool: &str,
        arguments: Value,
    ) -> Result<CallToolResult, ServiceError> {
        let result = self.client.call_tool(request(tool, arguments)).await?;
        if result.is_error != Some(true) {
            schemas::assert_valid(&self.tools, tool, &result);
        }
        Ok(result)
    }

    /// Calls a tool once.
    pub(super) async fn call_once(
        &self,
        request: CallToolRequestParams,
    ) -> Result<CallToolResponse, ServiceError> {
        self.client.peer().call_tool_once(request).await
    }

    /// What a call that is done answers with.
    pub(super) async fn done(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await.expect("it is answered");
        assert_ne!(result.is_error, Some(true), "{result:?}");
        result.structured_content.expect("it is structured")
    }

    /// The code of a call that is refused, what a model reads, and the details.
    pub(super) async fn refused(&self, tool: &str, arguments: Value) -> Refused {
        let result = self.call(tool, arguments).await.expect("it is answered");
        Refused::from(&result)
    }
}

#[derive(Debug)]
pub(super) struct Refused {
    pub(super) code: String,
    pub(super) text: String,
    pub(super) details: Value,
}

impl From<&CallToolResult> for Refused {
    fn from(result: &CallToolResult) -> Self {
        assert_eq!(result.is_error, Some(true), "{result:?}");
        assert_eq!(result.structured_content, None);
        let [text, details] = result.content.as_slice() else { panic!("{result:?}") };
        let text = text.as_text().expect("it is text").text.clone();
        let details = &details.as_text().expect("it is text").text;
        let mut details: Value = serde_json::from_str(details).expect("it is JSON");
        let details = details["error"].take();
        let code = details["code"].as_str().expect("it has a code").to_owned();
        assert!(text.starts_with(&format!("{code}: ")), "{text}");
        assert!(details["retryable"].is_boolean() && details["next"].is_string(), "{details}");
        Self { code, text, details }
    }
}

pub(super) fn request(tool: &str, arguments: Value) -> CallToolRequestParams {
    let Value::Object(arguments) = arguments else { panic!("{arguments}") };
    CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments)
}

/// What probes say: a service with an endpoint is sick.
#[derive(Debug)]
struct Probe;

#[async_trait::async_trait]
impl HealthProbe for Probe {
    async fn probe(&self, target: &ProbeTarget) -> Health {
        if target.endpoint.is_none() {
            return StandardProbe::new().probe(target).await;
        }
        Health::Unhealthy { reason: "status 503".to_owned() }
    }
}

/// A service of one container that needs no GPU.
pub(super) fn cpu(service: &str) -> Service {
    with(service, |_| {})
}

/// A service of one container that needs the GPU.
pub(super) fn gpu(service: &str) -> Service {
    with(service, |manifest| *manifest = manifest.clone().with_gpu(8))
}

pub(super) fn with(service: &str, change: impl FnOnce(&mut Manifest)) -> Service {
    let container = ContainerSpec::new(format!("{service}-main-1"), "image");
    let project = Project::single(service, container);
    let mut manifest = Manifest::new(ServiceName::new(service).expect("a valid name"));
    change(&mut manifest);
    Service::new(manifest, project, service)
}

pub(super) fn named(service: &str) -> Value {
    json!({ "name": service })
}

pub(super) fn forced(service: &str) -> Value {
    json!({ "name": service, "force": true })
}
