//! Ports, health, statistics, images, networks and volumes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nanny_lib::backend::{
    BuildProgress, BuildSpec, ContainerSpec, EngineHealth, ErrorKind, HostPorts, Labels,
    NetworkAttachment, NetworkSpec, PortMapping, Selector, Stats, VolumeSpec,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::context::{Context, Outcome, Stop, fail, fails_with, skip, within};
use super::{Program, cases};

cases![
    a_published_port_can_be_reached,
    b18_a_taken_port_fails_the_start,
    a_health_check_of_the_engines_becomes_healthy,
    what_does_not_run_uses_nothing,
    what_runs_uses_something,
    a_present_image_is_found_and_a_missing_one_is_none,
    a_pull_of_what_is_nowhere_fails,
    a_built_image_is_there,
    networks_are_made_found_and_removed,
    a_second_network_of_one_name_is_a_conflict,
    a_network_in_use_is_not_removed,
    a_container_is_found_by_its_aliases_on_every_network,
    volumes_are_made_and_found,
];

const SOON: Duration = Duration::from_secs(60);

async fn free_port() -> Outcome<u16> {
    let port = async { TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr() };
    port.await.map(|address| address.port()).map_err(|error| Stop::Fail(error.to_string()))
}

fn publish(spec: &mut ContainerSpec, container_port: u16, host_port: u16) {
    let mut port = PortMapping::new(container_port);
    port.host_ip = Some(Ipv4Addr::LOCALHOST.to_string());
    port.host_ports = Some(HostPorts { first: host_port, last: host_port });
    spec.ports = vec![port];
}

fn needs_ports(context: &Context) -> Outcome {
    if context.backend.capabilities().ports { Ok(()) } else { Err(skip("publishes no ports")) }
}

async fn answers(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/"))
}

async fn a_published_port_can_be_reached(context: Arc<Context>) -> Outcome {
    needs_ports(&context)?;
    let mut spec = context.spec(Program::Serves(8000))?;
    let port = free_port().await?;
    publish(&mut spec, 8000, port);
    context.start_spec(&spec).await?;
    let reached = async {
        while !answers(port).await.unwrap_or(false) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(SOON, reached).await
}

async fn b18_a_taken_port_fails_the_start(context: Arc<Context>) -> Outcome {
    needs_ports(&context)?;
    let port = free_port().await?;
    let mut first = context.spec(Program::Sleeps)?;
    publish(&mut first, 8000, port);
    let first = context.start_spec(&first).await?;
    let mut second = context.spec(Program::Sleeps)?;
    publish(&mut second, 8000, port);
    let second = context.backend.create(&second).await?;
    fails_with("start", ErrorKind::Conflict, context.backend.start(&second).await)?;
    assert!(!context.backend.inspect(&second).await?.state.holds());
    context.backend.remove(&first).await?;
    // Whatever an engine has clean up after it may have the port for a moment yet.
    let freed = async {
        loop {
            match context.backend.start(&second).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                started => return started,
            }
        }
    };
    within(SOON, freed).await??;
    Ok(())
}

async fn a_health_check_of_the_engines_becomes_healthy(context: Arc<Context>) -> Outcome {
    if !context.backend.capabilities().health_checks {
        return Err(skip("runs no health checks"));
    }
    let id = context.started(Program::Healthy).await?;
    let healthy = Some(EngineHealth::Healthy);
    let info = context.until(&id, "it is healthy", |info| info.health == healthy).await?;
    let listed = context.backend.list(&Selector::All).await?;
    assert!(listed.contains(&info), "the list says something else than {info:?}");
    Ok(())
}

async fn what_does_not_run_uses_nothing(context: Arc<Context>) -> Outcome {
    let created = context.created(Program::Sleeps).await?;
    let ended = context.ended(Program::Exits(0)).await?;
    for id in [created, ended] {
        assert_eq!(context.backend.stats(&id).await?, Stats::default());
    }
    Ok(())
}

async fn what_runs_uses_something(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::KeepsPrinting).await?;
    // What it has used is told in hundredths of a second, by some.
    let used = async {
        loop {
            match context.backend.stats(&id).await {
                Ok(stats) if stats.memory_bytes == 0 || stats.cpu == Duration::ZERO => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                stats => return stats,
            }
        }
    };
    let first = within(SOON, used).await??;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let second = context.backend.stats(&id).await?;
    assert!(second.cpu >= first.cpu, "a counter went back: {first:?}, {second:?}");
    Ok(())
}

async fn a_present_image_is_found_and_a_missing_one_is_none(context: Arc<Context>) -> Outcome {
    let images = context.backend.images().ok_or_else(|| skip("no images"))?;
    let image = context.spec(Program::Sleeps)?.image.ok_or_else(|| skip("no image"))?;
    let found = images.inspect(&image).await?;
    assert!(found.is_some_and(|found| found.id.starts_with("sha256:")));
    assert_eq!(images.inspect(context.harness.missing_image()).await?, None);
    Ok(())
}

async fn a_pull_of_what_is_nowhere_fails(context: Arc<Context>) -> Outcome {
    let images = context.backend.images().ok_or_else(|| skip("no images"))?;
    let missing = context.harness.missing_image();
    let pulled = within(Duration::from_secs(60), images.pull(missing, None, &|_| {})).await?;
    assert!(pulled.is_err());
    assert_eq!(images.inspect(missing).await?, None);
    Ok(())
}

async fn a_built_image_is_there(context: Arc<Context>) -> Outcome {
    let images = context.backend.images().ok_or_else(|| skip("no images"))?;
    if !context.backend.capabilities().builds {
        return Err(skip("builds no images"));
    }
    let base = context.spec(Program::Sleeps)?.image.ok_or_else(|| skip("no image"))?;
    let directory = tempfile::tempdir().map_err(|error| Stop::Fail(error.to_string()))?;
    let recipe = format!("FROM {base}\nVOLUME /built\n");
    std::fs::write(directory.path().join("Dockerfile"), recipe)
        .map_err(|error| Stop::Fail(error.to_string()))?;
    let mut spec = BuildSpec::new(format!("{}:1", context.name()), directory.path());
    spec.tags.push(format!("{}:2", context.name()));
    let moves = AtomicU32::new(0);
    let count = |_: BuildProgress| {
        moves.fetch_add(1, Ordering::Relaxed);
    };
    within(Duration::from_secs(60), images.build(&spec, &count)).await??;
    assert!(moves.into_inner() > 0, "nothing was said about it");
    for tag in &spec.tags {
        assert!(images.inspect(tag).await?.is_some(), "there is no {tag}");
    }
    Ok(())
}

fn network(name: &str) -> NetworkSpec {
    let labels = Labels::from([("conf.network".to_owned(), name.to_owned())]);
    NetworkSpec { name: name.to_owned(), labels, ..NetworkSpec::default() }
}

async fn networks_are_made_found_and_removed(context: Arc<Context>) -> Outcome {
    let networks = context.networks()?;
    let spec = network(&context.name());
    assert!(networks.find(&spec.name).await?.is_empty());
    networks.create(&spec).await?;
    // One whose name contains the other's.
    networks.create(&network(&format!("{}x", spec.name))).await?;

    let found = networks.find(&spec.name).await?;
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].name, &found[0].labels), (&spec.name, &spec.labels));
    let listed = networks.list(&Selector::Labels(spec.labels.clone())).await?;
    assert_eq!(listed, found);

    networks.remove(&found[0].id).await?;
    networks.remove(&found[0].id).await?;
    assert!(networks.find(&spec.name).await?.is_empty());
    Ok(())
}

async fn a_second_network_of_one_name_is_a_conflict(context: Arc<Context>) -> Outcome {
    let networks = context.networks()?;
    let spec = network(&context.name());
    networks.create(&spec).await?;
    fails_with("create", ErrorKind::Conflict, networks.create(&spec).await)?;
    assert_eq!(networks.find(&spec.name).await?.len(), 1);

    let spec = network(&context.name());
    let (one, other) = tokio::join!(networks.create(&spec), networks.create(&spec));
    assert!(one.is_ok() != other.is_ok(), "{one:?}, {other:?}");
    assert_eq!(networks.find(&spec.name).await?.len(), 1);
    Ok(())
}

async fn a_network_in_use_is_not_removed(context: Arc<Context>) -> Outcome {
    let networks = context.networks()?;
    let name = context.name();
    networks.create(&network(&name)).await?;
    let mut spec = context.spec(Program::Sleeps)?;
    spec.networks = vec![NetworkAttachment::new(&name, Vec::new())];
    let id = context.start_spec(&spec).await?;
    let found = networks.find(&name).await?;
    fails_with("remove", ErrorKind::Conflict, networks.remove(&found[0].id).await)?;
    context.backend.remove(&id).await?;
    networks.remove(&found[0].id).await?;
    Ok(())
}

async fn a_container_is_found_by_its_aliases_on_every_network(context: Arc<Context>) -> Outcome {
    let networks = context.networks()?;
    let mut server = context.spec(Program::Sleeps)?;
    for alias in ["first-alias", "second-alias", "third-alias"] {
        let name = context.name();
        networks.create(&network(&name)).await?;
        server.networks.push(NetworkAttachment::new(name, vec![alias.to_owned()]));
    }
    context.start_spec(&server).await?;
    for attachment in &server.networks {
        for wanted in attachment.aliases.iter().chain([&server.name]) {
            let mut client = context.spec(Program::Resolves(wanted.clone()))?;
            client.networks = vec![NetworkAttachment::new(&attachment.network, Vec::new())];
            let id = context.start_spec(&client).await?;
            let info = context.until(&id, "it ends", |info| !info.state.holds()).await?;
            if info.exit.and_then(|exit| exit.code) != Some(0) {
                return fail(format!("{wanted} was not found on {}", attachment.network));
            }
        }
    }
    Ok(())
}

async fn volumes_are_made_and_found(context: Arc<Context>) -> Outcome {
    let volumes = context.backend.volumes().ok_or_else(|| skip("no volumes"))?;
    let labels = Labels::from([("conf.volume".to_owned(), "ja \"so\"".to_owned())]);
    let spec = VolumeSpec { name: context.name(), labels, ..VolumeSpec::default() };
    assert_eq!(volumes.find(&spec.name).await?, None);
    volumes.create(&spec).await?;
    volumes.create(&spec).await?;
    let found = volumes.find(&spec.name).await?;
    let found = found.ok_or_else(|| Stop::Fail("the volume is not found".to_owned()))?;
    assert_eq!((found.name, found.labels), (spec.name, spec.labels));
    Ok(())
}
