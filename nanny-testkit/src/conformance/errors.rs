//! What goes wrong, and how it is said.

use std::sync::Arc;
use std::time::Duration;

use nanny_lib::ContainerId;
use nanny_lib::backend::{
    BuildSpec, ContainerSpec, ErrorKind, FileInside, GpuDevices, Healthcheck, HealthcheckTest,
    Mount, MountKind, NetworkAttachment, PortMapping, RestartPolicy,
};

use super::context::{Context, Outcome, fail, fails_with, is_unsupported, within};
use super::{Program, cases};

cases![
    what_does_not_exist_is_not_found,
    strange_ids_are_not_found,
    a_missing_image_is_not_found,
    b18_a_missing_program_fails_the_start_and_its_error_is_kept,
    a_gpu_request_is_never_dropped,
    no_wrong_spec_is_dropped_in_silence,
    what_a_backend_lacks_is_unsupported_and_named,
];

async fn is_not_found(context: &Context, id: &ContainerId) -> Outcome {
    let backend = &context.backend;
    let grace = Some(Duration::from_secs(1));
    fails_with("start", ErrorKind::NotFound, backend.start(id).await)?;
    fails_with("stop", ErrorKind::NotFound, backend.stop(id, grace).await)?;
    fails_with("stop", ErrorKind::NotFound, backend.stop(id, None).await)?;
    fails_with("kill", ErrorKind::NotFound, backend.kill(id).await)?;
    fails_with("inspect", ErrorKind::NotFound, backend.inspect(id).await)?;
    fails_with("stats", ErrorKind::NotFound, backend.stats(id).await)?;
    backend.remove(id).await?;
    Ok(())
}

async fn what_does_not_exist_is_not_found(context: Arc<Context>) -> Outcome {
    let id = context.created(Program::Sleeps).await?;
    context.backend.remove(&id).await?;
    is_not_found(&context, &id).await
}

async fn strange_ids_are_not_found(context: Arc<Context>) -> Outcome {
    for id in ["", "..", "../images/json", "a/b", "a b", "a?force=1", "%2e%2e", "ü", "a\nb"] {
        is_not_found(&context, &ContainerId::new(id)).await?;
    }
    Ok(())
}

async fn a_missing_image_is_not_found(context: Arc<Context>) -> Outcome {
    if !context.backend.capabilities().images {
        return Err(super::context::skip("no images"));
    }
    let spec = ContainerSpec::new(context.name(), context.harness.missing_image());
    fails_with("create", ErrorKind::NotFound, context.backend.create(&spec).await)
}

async fn b18_a_missing_program_fails_the_start_and_its_error_is_kept(
    context: Arc<Context>,
) -> Outcome {
    let id = context.created(Program::Missing).await?;
    let Err(error) = context.backend.start(&id).await else {
        return fail("a program that does not exist was started");
    };
    assert!(!error.message().is_empty());
    let info = context.backend.inspect(&id).await?;
    assert!(!info.state.holds(), "{info:?}");
    let kept = info.exit.and_then(|exit| exit.error);
    assert!(kept.is_some_and(|kept| !kept.is_empty()), "the error was not kept");
    Ok(())
}

/// It gets a GPU, or somebody says that it does not. Silently on the processor is the worst.
async fn a_gpu_request_is_never_dropped(context: Arc<Context>) -> Outcome {
    let gpu = || GpuDevices { capabilities: vec!["gpu".to_owned()], ..GpuDevices::default() };
    let all = |driver: &str| GpuDevices { driver: driver.to_owned(), count: Some(-1), ..gpu() };
    let ids = vec!["GPU-00000000-0000-0000-0000-000000000000".to_owned()];
    let one = GpuDevices { device_ids: ids, ..gpu() };
    for gpu in [all(""), all("nvidia"), one] {
        let mut spec = context.spec(Program::Sleeps)?;
        spec.gpus = vec![gpu];
        let Ok(id) = context.backend.create(&spec).await else {
            continue;
        };
        assert!(context.backend.inspect(&id).await?.uses_gpu, "created without the GPU");
        if within(Duration::from_secs(20), context.backend.start(&id)).await?.is_ok() {
            assert!(context.backend.inspect(&id).await?.uses_gpu, "started without the GPU");
            assert!(context.backend.capabilities().gpus, "a GPU where there are none");
        }
    }
    Ok(())
}

/// What a spec asks for that the backend has no such thing of, by its own word.
async fn what_a_backend_lacks_is_unsupported_and_named(context: Arc<Context>) -> Outcome {
    let backend = &context.backend;
    let can = backend.capabilities();
    let plain = context.spec(Program::Sleeps)?;
    type Ask = fn(&mut ContainerSpec);
    let cases: [(bool, &str, Ask); _] = [
        (can.images, "image", |spec| spec.image = Some("some/image:1".to_owned())),
        (backend.networks().is_some(), "network", |spec| {
            spec.networks = vec![NetworkAttachment::new("some-network", Vec::new())];
        }),
        (backend.volumes().is_some(), "mount", |spec| {
            spec.mounts = vec![Mount::new("/data", MountKind::volume("some-volume"))];
        }),
        (can.restarts, "restart", |spec| spec.restart = Some(RestartPolicy::Always)),
        (can.ports, "port", |spec| spec.ports = vec![PortMapping::new(8000)]),
        (can.health_checks, "health", |spec| {
            let test = HealthcheckTest::Command(vec!["true".to_owned()]);
            spec.healthcheck = Some(Healthcheck::new(test));
        }),
    ];
    if backend.images().is_some() && !can.images {
        return fail("it has images, and does not say that it runs them");
    }
    let lacking = cases.into_iter().filter(|(has, ..)| !has);
    for (_, what, ask) in lacking {
        let mut spec = plain.clone();
        ask(&mut spec);
        match backend.create(&spec).await {
            Err(error) => is_unsupported(what, &error)?,
            Ok(_) => return fail(format!("{what}: created without")),
        }
    }
    let id = backend.create(&plain).await?;
    if !can.files {
        let put = backend.put_files(&id, &[FileInside::new("/x", "x")]).await;
        fails_with("put files", ErrorKind::Unsupported, put)?;
    }
    if !can.builds
        && let Some(images) = backend.images()
    {
        let spec = BuildSpec::new(format!("{}:1", context.name()), "/no/such/directory");
        fails_with("build", ErrorKind::Unsupported, images.build(&spec, &|_| {}).await)?;
    }
    Ok(())
}

async fn no_wrong_spec_is_dropped_in_silence(context: Arc<Context>) -> Outcome {
    let mut nameless = context.spec(Program::Sleeps)?;
    nameless.name = String::new();
    if context.backend.create(&nameless).await.is_ok() {
        return fail("a container without a name was created");
    }
    Ok(())
}
