//! Which GPUs services get, and what becomes of them.

use super::*;

#[tokio::test(start_paused = true)]
async fn c15_two_that_fit_share_a_gpu_and_a_third_evicts_exactly_one() {
    let services = vec![service("a", 8), service("b", 10), service("c", 12)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.start("a").await;
    lab.start("b").await;
    let error = lab.refused("c", StartOptions::default()).await;
    let Error::GpuConflict { holders, account } = &error else { panic!("{error:?}") };
    assert_eq!(*holders, ["a"], "whom force would stop");
    assert_eq!((account.need_mib, account.devices[0].free_mib), (12 * GIB, Some(6 * GIB)));
    assert!(error.to_string().contains("12288 MiB are needed"), "{error}");
    let plan = lab.house.nanny.plan("c", StartOptions::forced()).await.unwrap();
    assert!(matches!(&plan.verdict, Verdict::Evict { victims, .. } if *victims == [name("a")]));
    let started = lab.house.nanny.start("c", StartOptions::forced()).await.unwrap();
    assert_eq!(started.stopped, [name("a")]);
    assert_eq!(lab.house.engine.running(), ["b-main-1", "c-main-1"]);
    let view = &lab.house.nanny.snapshot().services["c"];
    assert_eq!(view.gpus, [GpuId::new("GPU-0")]);
}

#[tokio::test(start_paused = true)]
async fn a_gpu_that_is_lost_is_told_and_the_others_go_on() {
    let services = vec![service("a", 8), service("b", 8), service("c", 20)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24), card("GPU-1", 24)], services).await;
    lab.start("a").await;
    lab.set(|state| {
        state.gpus.remove(0);
    });
    lab.house
        .until_seen(|seen| seen.gpus.iter().any(|gpu| matches!(gpu.health, GpuHealth::Unusable(_))))
        .await;
    assert_eq!(lab.house.status("a"), Status::Running);
    let seen = lab.house.nanny.snapshot();
    let told = "it is on GPU-0, which is not in order: it is gone";
    let notices = &seen.services["a"].notices;
    assert!(notices.iter().any(|notice| notice == told), "{notices:?}");
    let lost = seen.gpus.iter().find(|gpu| gpu.id.as_str() == "GPU-0").unwrap();
    assert_eq!((lost.charged_mib, lost.free_mib), (8 * GIB, Some(0)));
    lab.start("b").await;
    assert_eq!(lab.house.nanny.snapshot().services["b"].gpus, [GpuId::new("GPU-1")]);
    let error = lab.refused("c", StartOptions::default()).await;
    let Error::GpuConflict { account, .. } = &error else { panic!("{error:?}") };
    let free = account.devices.iter().map(|device| (device.gpu.as_str(), device.free_mib));
    let free: BTreeMap<_, _> = free.collect();
    assert_eq!(free, [("GPU-0", Some(0)), ("GPU-1", Some(16 * GIB))].into());
    lab.set(|state| state.gpus.insert(0, card("GPU-0", 24)));
    lab.house.until_seen(|seen| seen.gpus.iter().all(|gpu| gpu.health == GpuHealth::Ok)).await;
}

#[tokio::test(start_paused = true)]
async fn where_no_gpu_is_in_order_a_refusal_says_what_is_wrong() {
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![service("a", 8)]).await;
    lab.set(|state| {
        state.gpus[0].health = GpuHealth::Unusable("it fell off the bus".to_owned());
        state.problem = Some("the driver is of another version: reboot".to_owned());
    });
    lab.house.until_seen(|seen| !seen.gpu_problems.is_empty()).await;
    let said = lab.refused("a", StartOptions::default()).await.to_string();
    assert!(said.contains("in order; the driver is of another version: reboot"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn whoever_declares_nothing_is_told_what_that_means() {
    let services = vec![service("a", 8), service("b", 0)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.start("a").await;
    let said = lab.refused("b", StartOptions::default()).await.to_string();
    assert!(said.contains("declares no vram_gb and so needs a GPU of its own"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn one_whose_gpu_is_lost_is_restarted_on_another() {
    let mut crashing = service("a", 16);
    let project = Arc::make_mut(&mut crashing.project);
    project.parts.get_mut("main").unwrap().restart = RestartPolicy::Always;
    let gpus = vec![card("GPU-0", 24), card("GPU-1", 24)];
    let lab = Lab::new(Fit::new(), gpus, vec![crashing]).await;
    lab.start("a").await;
    let placed = || lab.house.nanny.snapshot().services["a"].gpus.clone();
    assert_eq!(placed(), [GpuId::new("GPU-0")]);
    lab.set(|state| {
        state.gpus.remove(0);
    });
    lab.house.engine.exit("a-main-1", 1);
    lab.house.until("a", Status::Starting).await;
    lab.house.until("a", Status::Running).await;
    assert_eq!(placed(), [GpuId::new("GPU-1")]);
}

#[tokio::test(start_paused = true)]
async fn starts_on_one_gpu_come_one_after_another() {
    let engine = MemoryBackend::new().with_start_time(secs(5));
    let services = vec![service("a", 8), service("b", 8)];
    let lab = Lab::on(engine, Fit::new(), vec![card("GPU-0", 24)], services).await;
    let began = Instant::now();
    let (a, b) = tokio::join!(
        lab.house.nanny.start("a", StartOptions::default()),
        lab.house.nanny.start("b", StartOptions::default()),
    );
    a.unwrap();
    b.unwrap();
    assert!(began.elapsed() >= secs(10), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn starts_on_different_gpus_go_on_at_once() {
    let engine = MemoryBackend::new().with_start_time(secs(5));
    let services = vec![service("a", 20), service("b", 20)];
    let lab =
        Lab::on(engine, Fit::new(), vec![card("GPU-0", 24), card("GPU-1", 24)], services).await;
    let began = Instant::now();
    let (a, b) = tokio::join!(
        lab.house.nanny.start("a", StartOptions::default()),
        lab.house.nanny.start("b", StartOptions::default()),
    );
    a.unwrap();
    b.unwrap();
    assert!(began.elapsed() < secs(8), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_nanny_that_comes_back_knows_where_everything_is() {
    let engine = MemoryBackend::new();
    let services = || vec![service("a", 20), service("b", 20)];
    let gpus = || vec![card("GPU-0", 24), card("GPU-1", 24)];
    let lab = Lab::on(engine.clone(), Fit::new(), gpus(), services()).await;
    lab.start("a").await;
    lab.start("b").await;
    let seen = |lab: &Lab| {
        let seen = lab.house.nanny.snapshot();
        [seen.services["a"].gpus.clone(), seen.services["b"].gpus.clone()]
    };
    let before = seen(&lab);
    assert_ne!(before[0], before[1]);
    lab.house.nanny.shutdown().await;
    let lab = Lab::on(engine, Fit::new(), gpus(), services()).await;
    assert_eq!(seen(&lab), before);
    assert!(!lab.house.nanny.snapshot().services["a"].drift);
}

#[tokio::test(start_paused = true)]
async fn one_whose_gpu_is_lost_goes_elsewhere_when_somebody_restarts_it() {
    let gpus = vec![card("GPU-0", 24), card("GPU-1", 24)];
    let lab = Lab::new(Fit::new(), gpus, vec![service("a", 16)]).await;
    lab.start("a").await;
    lab.set(|state| drop(state.gpus.remove(0)));
    tokio::time::sleep(secs(3)).await;
    lab.house.nanny.restart("a", StartOptions::default()).await.unwrap();
    assert_eq!(lab.house.nanny.snapshot().services["a"].gpus, [GpuId::new("GPU-1")]);
}

#[tokio::test(start_paused = true)]
async fn a_pull_holds_nobody_up_on_its_gpu() {
    let engine = MemoryBackend::new()
        .with_images(["image"])
        .with_registry(["big"])
        .with_pull_time(secs(110));
    let mut pulling = service("a", 8);
    let project = Arc::make_mut(&mut pulling.project);
    project.parts.get_mut("main").unwrap().spec.image = Some("big".to_owned());
    let services = vec![pulling, service("b", 8)];
    let lab = Lab::on(engine, Fit::new(), vec![card("GPU-0", 24)], services).await;
    let nanny = lab.house.nanny.clone();
    let pulls = tokio::spawn(async move { nanny.start("a", StartOptions::default()).await });
    tokio::time::sleep(secs(1)).await;
    let began = Instant::now();
    lab.house.nanny.start("b", StartOptions::default()).await.unwrap();
    assert!(began.elapsed() < secs(2), "{:?}", began.elapsed());
    pulls.await.unwrap().unwrap();
}
