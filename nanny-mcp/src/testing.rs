//! For tests: a nanny over an engine in memory, and clients of both eras.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use nanny_lib::backend::{ContainerSpec, LogStream, MemoryBackend};
use nanny_lib::manifest::{Changed, Discovery, Manifest, ManifestSource, Service};
use nanny_lib::project::Project;
use nanny_lib::{Nanny, ServiceName, StartOptions, StopOptions};
use rmcp::model::{
    ErrorCode, GetPromptRequestParams, GetPromptResult, ProtocolVersion, ReadResourceRequestParams,
    ResourceContents, ResourceUpdatedNotificationParam, ServerNotification, SubscriptionFilter,
};
use rmcp::service::{
    ClientLifecycleMode, NotificationContext, RoleClient, RunningService, ServiceError,
    Subscription,
};
use rmcp::{ClientHandler, ClientServiceExt as _, ErrorData, ServiceExt as _};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::McpConfig;
use crate::server::{Server, Shared};

/// A nanny, its engine, and the services that it finds.
pub(crate) struct House {
    pub(crate) nanny: Nanny,
    pub(crate) engine: MemoryBackend,
    pub(crate) shared: Arc<Shared>,
    shelf: Shelf,
}

impl House {
    pub(crate) async fn new(services: impl IntoIterator<Item = Service>) -> Self {
        Self::with(services, |_| {}).await
    }

    pub(crate) async fn with(
        services: impl IntoIterator<Item = Service>,
        change: impl FnOnce(&mut McpConfig),
    ) -> Self {
        let engine = MemoryBackend::new();
        let shelf = Shelf::default();
        shelf.hold(services);
        let nanny = Nanny::builder()
            .backend(Arc::new(engine.clone()))
            .source(shelf.clone())
            .start()
            .await
            .expect("a nanny starts");
        let mut config = McpConfig::default();
        change(&mut config);
        let shared = Arc::new(Shared::new(nanny.clone(), config));
        Self { nanny, engine, shared, shelf }
    }

    /// From now on these are the services there are.
    pub(crate) async fn hold(&self, services: impl IntoIterator<Item = Service>) {
        self.shelf.hold(services);
        self.nanny.rediscover().await.expect("it looks");
    }

    pub(crate) async fn start(&self, name: &str) {
        self.nanny.start(name, StartOptions::default()).await.expect("it starts");
    }

    pub(crate) async fn stop(&self, name: &str) {
        self.nanny.stop(name, StopOptions::default()).await.expect("it stops");
    }

    /// The service's container writes a line.
    pub(crate) fn print(&self, service: &str, line: &str) {
        self.engine.print(&format!("{service}-main-1"), LogStream::Stdout, line);
    }

    /// A client of 2025-11-25, with a session.
    pub(crate) async fn older(&self) -> Client {
        self.client(ClientLifecycleMode::Initialize).await
    }

    /// A client of 2026-07-28.
    pub(crate) async fn newer(&self) -> Client {
        let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
        self.client(ClientLifecycleMode::Discover { preferred_versions }).await
    }

    /// One of each.
    pub(crate) async fn both(&self) -> [Client; 2] {
        [self.older().await, self.newer().await]
    }

    async fn client(&self, lifecycle: ClientLifecycleMode) -> Client {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let server = Server::new(Arc::clone(&self.shared));
        let server = tokio::spawn(async move {
            if let Ok(running) = server.serve(far).await {
                let _ = running.waiting().await;
            }
        });
        let (tell, told) = mpsc::unbounded_channel();
        let client = Ear { tell }.serve_with_lifecycle(near, lifecycle).await;
        Client { client: client.expect("the server answers"), told, server }
    }
}

impl House {
    /// A client of 2025-11-25 that reads only when it is asked to, behind a pipe that holds so many
    /// bytes.
    pub(crate) async fn by_hand(&self, pipe: usize) -> ByHand {
        let (near, far) = tokio::io::duplex(pipe);
        let server = Server::new(Arc::clone(&self.shared));
        tokio::spawn(async move {
            if let Ok(running) = server.serve(far).await {
                let _ = running.waiting().await;
            }
        });
        let (reader, writer) = tokio::io::split(near);
        let mut client = ByHand { lines: BufReader::new(reader).lines(), writer };
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "by hand", "version": "1"},
        });
        client.ask("initialize", params).await;
        client.send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        client
    }
}

/// A client without a library.
pub(crate) struct ByHand {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    writer: WriteHalf<DuplexStream>,
}

impl ByHand {
    /// The answer to a request.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.send(json!({"jsonrpc": "2.0", "id": method, "method": method, "params": params}))
            .await;
        loop {
            let message = self.next().await;
            if message["id"] == method {
                return message;
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, uri: &str) {
        let answer = self.ask("resources/subscribe", json!({ "uri": uri })).await;
        assert!(answer.get("result").is_some(), "{answer}");
    }

    /// The URIs that it is told of within `time`, counted from when it begins to read.
    pub(crate) async fn told_within(&mut self, time: Duration) -> Vec<String> {
        let end = Instant::now() + time;
        let mut told = Vec::new();
        while let Ok(message) = timeout_at(end, self.next()).await {
            if let Some(uri) = message["params"]["uri"].as_str() {
                told.push(uri.to_owned());
            }
        }
        told
    }

    async fn send(&mut self, message: Value) {
        let line = format!("{message}\n");
        self.writer.write_all(line.as_bytes()).await.expect("the server reads");
    }

    async fn next(&mut self) -> Value {
        let line = self.lines.next_line().await.expect("it is text").expect("the server lives");
        serde_json::from_str(&line).expect("it is JSON")
    }
}

/// A client, and what it is told.
pub(crate) struct Client {
    pub(crate) client: RunningService<RoleClient, Ear>,
    told: mpsc::UnboundedReceiver<String>,
    server: tokio::task::JoinHandle<()>,
}

impl Client {
    /// The text of a resource, its media type, and the URI that it says it has.
    pub(crate) async fn read(&self, uri: &str) -> Result<(String, String, String), ErrorData> {
        let read = self.client.read_resource(ReadResourceRequestParams::new(uri)).await;
        match read.map_err(refusal)?.contents.remove(0) {
            ResourceContents::TextResourceContents { uri, mime_type, text, .. } => {
                Ok((text, mime_type.unwrap_or_default(), uri))
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn read_json(&self, uri: &str) -> Value {
        let (text, mime_type, as_named) = self.read(uri).await.expect("it is there");
        assert_eq!((mime_type.as_str(), as_named.as_str()), ("application/json", uri));
        serde_json::from_str(&text).expect("it is JSON")
    }

    pub(crate) async fn prompt(
        &self,
        name: &str,
        arguments: Value,
    ) -> Result<GetPromptResult, ErrorData> {
        let mut request = GetPromptRequestParams::new(name);
        request.arguments = arguments.as_object().cloned();
        self.client.get_prompt(request).await.map_err(refusal)
    }

    /// What this client is told within `time`: URIs, and `list` for the list of resources.
    pub(crate) async fn told_within(&mut self, time: Duration) -> Vec<String> {
        let end = Instant::now() + time;
        let mut told = Vec::new();
        while let Ok(Some(one)) = timeout_at(end, self.told.recv()).await {
            told.push(one);
        }
        told
    }

    pub(crate) async fn listen(&self, filter: SubscriptionFilter) -> Subscription {
        self.client.listen(filter).await.expect("it may listen")
    }

    /// Goes away, and waits until the server has noticed.
    pub(crate) async fn leave(self) {
        let _ = self.client.cancel().await;
        let ended = timeout(Duration::from_secs(60), self.server).await;
        ended.expect("the server notices").expect("it does not panic");
    }
}

/// What is told on `subscription` within `time`: URIs, and `list` for the list of resources.
pub(crate) async fn told_within(subscription: &mut Subscription, time: Duration) -> Vec<String> {
    let end = Instant::now() + time;
    let mut told = Vec::new();
    while let Ok(next) = timeout_at(end, subscription.next()).await {
        match next.expect("the stream is sound") {
            Some(ServerNotification::ResourceUpdatedNotification(update)) => {
                told.push(update.params.uri);
            }
            Some(ServerNotification::ResourceListChangedNotification(_)) => {
                told.push("list".to_owned());
            }
            Some(other) => panic!("{other:?}"),
            None => break,
        }
    }
    told
}

/// What the server answered instead.
pub(crate) fn refusal(error: ServiceError) -> ErrorData {
    match error {
        ServiceError::McpError(error) => error,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn is_invalid(error: &ErrorData) -> bool {
    error.code == ErrorCode::INVALID_PARAMS
}

/// A client's ear.
#[derive(Debug)]
pub(crate) struct Ear {
    tell: mpsc::UnboundedSender<String>,
}

impl ClientHandler for Ear {
    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        let _ = self.tell.send(params.uri);
    }

    async fn on_resource_list_changed(&self, _context: NotificationContext<RoleClient>) {
        let _ = self.tell.send("list".to_owned());
    }
}

/// A manifest source whose services change when a test says so.
#[derive(Debug, Clone, Default)]
struct Shelf(Arc<Mutex<Vec<Service>>>);

impl Shelf {
    fn hold(&self, services: impl IntoIterator<Item = Service>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = services.into_iter().collect();
    }
}

#[async_trait]
impl ManifestSource for Shelf {
    async fn discover(&self) -> Discovery {
        let services = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Discovery::new(services, Vec::new())
    }

    fn watch(&self) -> BoxStream<'static, Changed> {
        stream::pending().boxed()
    }
}

/// A service of one container, whose manifest is changed.
pub(crate) fn service(name: &str, change: impl FnOnce(&mut Manifest)) -> Service {
    let project = Project::single(name, ContainerSpec::new(format!("{name}-main-1"), "image"));
    let mut manifest = Manifest::new(ServiceName::new(name).expect("a valid name"));
    change(&mut manifest);
    Service::new(manifest, project, name)
}

/// A service of one container that needs no GPU.
pub(crate) fn cpu(name: &str) -> Service {
    service(name, |_| {})
}

/// One that needs the GPU.
pub(crate) fn gpu(name: &str) -> Service {
    service(name, |manifest| manifest.gpu_required = true)
}
