//! A nanny on an engine in memory, and its API without a socket.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use nanny_lib::backend::{ContainerSpec, MemoryBackend};
use nanny_lib::gpu::GpuPolicy;
use nanny_lib::manifest::{FixedSource, Manifest, McpEndpoint, Service};
use nanny_lib::project::Project;
use nanny_lib::{Builder, Nanny, ServiceName};
use nanny_server::{EdgeConfig, app};
use nanny_testkit::gpus::ScriptedInventory;
use serde_json::Value;
use tower::ServiceExt as _;

/// Three services: `web` without a GPU, `llm` and `sd` with one.
pub(crate) struct Api {
    pub(crate) engine: MemoryBackend,
    pub(crate) nanny: Nanny,
    pub(crate) app: Router,
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::with_edge(edge()).await
    }

    pub(crate) async fn with_edge(edge: EdgeConfig) -> Self {
        Self::built(edge, |builder| builder).await
    }

    /// The same with these GPUs, and with who decides about them.
    pub(crate) async fn with_gpus(gpus: &ScriptedInventory, policy: impl GpuPolicy) -> Self {
        Self::built(edge(), |builder| builder.gpus(Arc::new(gpus.clone())).policy(policy)).await
    }

    async fn built(edge: EdgeConfig, further: impl FnOnce(Builder) -> Builder) -> Self {
        let engine = MemoryBackend::new();
        let builder = Nanny::builder()
            .backend(Arc::new(engine.clone()))
            .source(FixedSource::new([web(), gpu("llm", 8), gpu("sd", 12)]));
        let nanny = further(builder).start().await;
        let nanny = nanny.expect("a nanny without a state directory starts");
        Self { engine, app: app(nanny.clone(), edge), nanny }
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(request("GET", target), "").await
    }

    pub(crate) async fn post(&self, target: &str, body: &str) -> Answer {
        self.send(request("POST", target), body.to_owned()).await
    }

    pub(crate) async fn send(
        &self,
        request: axum::http::request::Builder,
        body: impl Into<Body>,
    ) -> Answer {
        let request = request.body(body.into()).expect("the tests' requests are well-formed");
        let response = self.app.clone().oneshot(request).await.expect("a router always answers");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("the body is complete").to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).expect("answers are UTF-8"),
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body of a 200.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        self.json()
    }

    /// The problem document of an error, with everything such a document must have.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["code"], code);
        for member in ["type", "title", "detail", "instance"] {
            assert!(problem[member].is_string(), "no {member} in {problem}");
        }
        problem
    }
}

/// The edge of a server on the usual port.
pub(crate) fn edge() -> EdgeConfig {
    EdgeConfig::new(([127, 0, 0, 1], 8080).into())
}

/// A request as curl would send it.
pub(crate) fn request(method: &str, target: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(target).header("host", "localhost:8080")
}

fn web() -> Service {
    let mut manifest = Manifest::new(name("web"));
    manifest.description = "A web page".to_owned();
    manifest.version = "1.0.0".to_owned();
    manifest.ports = vec!["8001:8000".to_owned()];
    manifest.tags = vec!["page".to_owned()];
    let mut mcp = McpEndpoint::new("http://localhost:8001/mcp");
    mcp.tools = vec!["draw".to_owned()];
    manifest.mcp = Some(mcp);
    service(manifest)
}

fn gpu(service_name: &str, vram_gb: u32) -> Service {
    let mut manifest = Manifest::new(name(service_name)).with_gpu(vram_gb);
    manifest.tags = vec!["model".to_owned()];
    service(manifest)
}

fn service(manifest: Manifest) -> Service {
    let name = manifest.name.to_string();
    let mut spec = ContainerSpec::new(format!("{name}-main-1"), "example/image:1");
    spec.environment.0.insert("TOKEN".to_owned(), Some("canary".to_owned()));
    Service::new(manifest, Project::single(&name, spec), format!("/services/{name}"))
}

fn name(name: &str) -> ServiceName {
    ServiceName::new(name).expect("the tests' names are names")
}
