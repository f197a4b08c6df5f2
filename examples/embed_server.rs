//! The documented API inside your own web application, beside routes of your own.
//!
//! Run it with `cargo run -p nanny-examples --example embed_server`. It needs no engine, serves
//! on a free port of this machine, asks itself one question and ends.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use nanny_lib::backend::{ContainerSpec, MemoryBackend};
use nanny_lib::manifest::{FixedSource, Manifest, Service};
use nanny_lib::project::Project;
use nanny_lib::{Nanny, ServiceName};
use nanny_server::EdgeConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let container = ContainerSpec::new("painter-1", "example/painter:1");
    let manifest = Manifest::new(ServiceName::new("painter")?).with_gpu(8);
    let painter = Service::new(manifest, Project::single("painter", container), "painter");
    let nanny = Nanny::builder()
        .backend(Arc::new(MemoryBackend::new()))
        .source(FixedSource::new([painter]))
        .start()
        .await?;

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let app = Router::new()
        .route("/mine", get(|| async { "a route of my own" }))
        .fallback_service(nanny_server::app(nanny.clone(), EdgeConfig::new(address)));

    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        // A sender that is gone is as good as one that sent.
        let _ = stopped.await;
    };
    let server = tokio::spawn(nanny_server::serve(listener, app, shutdown));

    for (method, path) in
        [("GET", "/mine"), ("POST", "/services/painter/start"), ("GET", "/services")]
    {
        let mut client = TcpStream::connect(address).await?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        println!("{method} {path}\n  {body}");
    }

    drop(stop);
    server.await?;
    nanny.shutdown().await;
    Ok(())
}
