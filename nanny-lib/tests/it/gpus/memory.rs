//! Whose memory is whose, what is charged, and what a start waits for.

use super::*;

#[tokio::test(start_paused = true)]
async fn c6_a_newcomer_waits_until_the_memory_is_really_free() {
    for policy in [false, true] {
        let (gpus, services) = (vec![card("GPU-0", 24)], vec![service("a", 16), service("b", 16)]);
        let lab = if policy {
            Lab::new(Fit::new(), gpus, services).await
        } else {
            Lab::new(Exclusive, gpus, services).await
        };
        lab.set(|state| state.late = secs(3));
        lab.start("a").await;
        let began = Instant::now();
        lab.house.nanny.start("b", StartOptions::forced()).await.unwrap();
        // The machine counts from when it was last looked at, up to a second before.
        assert!(began.elapsed() >= secs(2), "{:?}", began.elapsed());
        assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_free_before_others_took_it_lets_nobody_in() {
    let services = vec![service("a", 10), service("b", 12), service("c", 8)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.set(|state| state.late = secs(3));
    lab.start("a").await;
    lab.house.until_seen(|seen| seen.gpus[0].used_mib == Some(10 * GIB)).await;
    // When the GPU was last looked at, there was room for 'c' beside 'a', and 'b' was not there.
    lab.house.start("b").await;
    let began = Instant::now();
    let started = lab.house.nanny.start("c", StartOptions::forced()).await.unwrap();
    assert_eq!(started.stopped, [name("a")]);
    // The machine counts from when it was last looked at, up to a second before.
    assert!(began.elapsed() >= secs(2), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_came_after_the_last_look_is_seen_before_anybody_starts_beside() {
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![service("a", 8)]).await;
    lab.set(|state| {
        let mut game = GpuProcess::new(77);
        game.used_mib = Some(20 * GIB);
        state.strangers.push((GpuId::new("GPU-0"), game));
    });
    let said = lab.refused("a", StartOptions::default()).await.to_string();
    assert!(said.contains("77"), "{said}");
    assert!(lab.house.engine.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn memory_of_a_process_that_ends_before_its_container_is_no_strangers() {
    let engine = MemoryBackend::new().with_stop_time(secs(5));
    let services = vec![service("a", 16), service("b", 16)];
    let lab = Lab::on(engine, Exclusive, vec![card("GPU-0", 24)], services).await;
    lab.start("a").await;
    let nanny = lab.house.nanny.clone();
    let forced = tokio::spawn(async move { nanny.start("b", StartOptions::forced()).await });
    // From now on its process is gone, its container is not, and its memory is not free.
    lab.set(|state| {
        let (gpu, mib) = state.uses.remove("a-main-1").unwrap();
        state.remains = Some((gpu, mib));
    });
    tokio::time::sleep(secs(12)).await;
    assert!(lab.house.engine.running().is_empty(), "it is down, and its memory is not free");
    lab.set(|state| state.remains = None);
    forced.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn c6_memory_that_never_becomes_free_fails_the_start_and_names_who_has_it() {
    let services = vec![service("a", 16), service("b", 16)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.start("a").await;
    // What it used stays, in a process that nobody knows.
    lab.set(|state| {
        let mut left = GpuProcess::new(4711);
        left.used_mib = Some(16 * GIB);
        left.name = Some("python".to_owned());
        state.uses.remove("a-main-1");
        state.strangers.push((GpuId::new("GPU-0"), left));
    });
    let began = Instant::now();
    let error = lab.refused("b", StartOptions::forced()).await;
    let Error::GpuMemoryHeld { reason, restored, .. } = &error else { panic!("{error:?}") };
    assert!(reason.contains("4711") && reason.contains("python"), "{reason}");
    assert!(restored.is_empty(), "there is no room for it any more either: {restored:?}");
    assert!(began.elapsed() >= secs(15) && began.elapsed() < secs(20), "{:?}", began.elapsed());
    assert_eq!(lab.house.status("b"), Status::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_on_the_gpu_is_named_in_the_conflict() {
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![service("a", 8)]).await;
    lab.set(|state| {
        let mut game = GpuProcess::new(77);
        game.used_mib = Some(20 * GIB);
        game.name = Some("game".to_owned());
        state.strangers.push((GpuId::new("GPU-0"), game));
    });
    lab.house.until_seen(|seen| seen.gpus[0].foreign_mib == 20 * GIB).await;
    for options in [StartOptions::default(), StartOptions::forced()] {
        let error = lab.refused("a", options).await;
        let account = match &error {
            Error::GpuConflict { account, .. } | Error::GpuRefused { account, .. } => account,
            other => panic!("{other:?}"),
        };
        assert_eq!(account.devices[0].others[0].pid, 77);
    }
    let said = lab.refused("a", StartOptions::default()).await.to_string();
    assert!(said.contains("77") && said.contains("game") && said.contains("4096 MiB"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_came_just_now_is_named_at_once() {
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![service("a", 8)]).await;
    // Just after a look.
    tokio::time::sleep(Duration::from_millis(100)).await;
    lab.set(|state| {
        let mut game = GpuProcess::new(77);
        game.used_mib = Some(20 * GIB);
        state.strangers.push((GpuId::new("GPU-0"), game));
    });
    let began = Instant::now();
    let error = lab.refused("a", StartOptions::default()).await;
    let Error::GpuRefused { account, .. } = &error else { panic!("{error:?}") };
    assert_eq!(account.devices[0].others[0].pid, 77);
    assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
    assert_eq!(lab.house.status("a"), Status::Stopped);
    lab.set(|state| state.strangers.clear());
    lab.house.until_seen(|seen| seen.gpus[0].foreign_mib == 0).await;
    lab.start("a").await;
}

#[tokio::test(start_paused = true)]
async fn one_that_crashes_is_restarted_on_its_own_memory_once_that_is_free() {
    let mut crashing = service("a", 16);
    let project = Arc::make_mut(&mut crashing.project);
    project.parts.get_mut("main").unwrap().restart = RestartPolicy::Always;
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![crashing]).await;
    lab.set(|state| state.late = secs(6));
    lab.start("a").await;
    let began = Instant::now();
    lab.house.engine.exit("a-main-1", 1);
    lab.house.until("a", Status::Starting).await;
    lab.house.until("a", Status::Running).await;
    assert!(began.elapsed() >= secs(4), "{:?}", began.elapsed());
    assert_eq!(lab.house.engine.runs("a-main-1"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_stops_answering_holds_nobody_up() {
    let services = vec![service("a", 16), service("b", 16)];
    let lab = Lab::new(Exclusive, vec![card("GPU-0", 24)], services).await;
    lab.start("a").await;
    lab.set(|state| state.is_stuck = true);
    lab.house.nanny.start("b", StartOptions::forced()).await.unwrap();
    let seen = lab.house.nanny.snapshot();
    assert_eq!(seen.gpus[0].used_mib, None);
    assert!(seen.gpu_problems[0].contains("not answered"), "{:?}", seen.gpu_problems);
}

#[tokio::test(start_paused = true)]
async fn what_was_used_is_charged_for_as_long_as_the_claim_lasts() {
    let services = vec![service("a", 8), service("b", 12)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.set(|state| state.uses.get_mut("a-main-1").unwrap().1 = 14 * GIB);
    lab.start("a").await;
    lab.set(|state| state.uses.get_mut("a-main-1").unwrap().1 = GIB);
    tokio::time::sleep(secs(5)).await;
    let error = lab.refused("b", StartOptions::default()).await;
    assert!(matches!(error, Error::GpuConflict { .. }), "{error:?}");
    let seen = lab.house.nanny.snapshot();
    let claim = &seen.gpus[0].claims[0];
    assert_eq!((claim.charge_mib, claim.used_mib), (14 * GIB, Some(GIB)));
    let notices = &seen.services["a"].notices;
    assert!(notices.iter().any(|notice| notice.contains("vram_gb: 14")), "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_view_of_processes_memory_is_arbitrated_all_the_same() {
    let services = vec![service("a", 8), service("b", 10), service("c", 12)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.set(|state| {
        state.hides_processes = true;
        state.late = secs(3);
    });
    lab.start("a").await;
    lab.start("b").await;
    assert!(matches!(lab.refused("c", StartOptions::default()).await, Error::GpuConflict { .. }));
    let began = Instant::now();
    lab.house.nanny.start("c", StartOptions::forced()).await.unwrap();
    assert!(began.elapsed() >= secs(2), "{:?}", began.elapsed());
    assert_eq!(lab.house.engine.running().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_swap_that_was_cut_short_waits_for_the_memory_of_who_made_way() {
    for comes_back in [true, false] {
        let journal = tempfile::tempdir().unwrap();
        let begun = r#"{"boot": "", "services": {"b": "starting"}}"#;
        std::fs::write(journal.path().join("journal.json"), begun).unwrap();
        let engine = MemoryBackend::new();
        // What 'a' had is in use, by nobody that is seen, and 'a' is down.
        let remains = Some((GpuId::new("GPU-0"), 16 * GIB));
        let state = State { gpus: vec![card("GPU-0", 24)], remains, ..State::default() };
        let machine = Arc::new(Machine { engine: engine.clone(), state: Mutex::new(state) });
        let nanny = Nanny::builder()
            .backend(Arc::new(engine.clone()))
            .source(FixedSource::new(vec![service("a", 16), service("b", 16)]))
            .policy(Fit::new())
            .gpus(Arc::<Machine>::clone(&machine))
            .state_dir(journal.path())
            .start()
            .await
            .unwrap();
        let lab = Lab { house: House { nanny, engine }, machine };
        lab.house.until("b", Status::Queued).await;
        if comes_back {
            lab.set(|state| state.remains = None);
            lab.house.until("b", Status::Running).await;
        } else {
            // It is somebody else's after all.
            lab.house.until("b", Status::Stopped).await;
            lab.set(|state| state.remains = None);
            tokio::time::sleep(secs(60)).await;
            assert!(lab.house.engine.running().is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_measured_exclusive_still_holds() {
    let services = vec![service("a", 8), service("b", 8)];
    let lab = Lab::new(Exclusive, vec![card("GPU-0", 24)], services).await;
    lab.set(|state| {
        state.gpus.clear();
        state.problem = Some("the driver is not loaded".to_owned());
    });
    lab.start("a").await;
    assert!(matches!(lab.refused("b", StartOptions::default()).await, Error::GpuConflict { .. }));
    let problems = lab.house.nanny.snapshot().gpu_problems.clone();
    assert_eq!(problems, ["the driver is not loaded"]);
    lab.house.nanny.start("b", StartOptions::forced()).await.unwrap();
    lab.house.nanny.stop("b", StopOptions::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_that_is_made_anew_does_not_wait_for_its_own_memory() {
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![service("a", 16)]).await;
    lab.set(|state| state.late = secs(3));
    lab.start("a").await;
    let mut anew = StartOptions::default();
    anew.recreate = true;
    let began = Instant::now();
    lab.house.nanny.start("a", anew).await.unwrap();
    assert!(began.elapsed() >= secs(2), "what the old one had is not free yet");
    assert!(began.elapsed() < secs(6), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_part_that_ends_is_restarted_beside_the_memory_of_the_others() {
    for hides_processes in [false, true] {
        let mut made = service("a", 16);
        let spec = |part: &str| ContainerSpec::new(format!("a-{part}-1"), "image");
        let mut project =
            Project::new("a").with_part("llm", spec("llm")).with_part("web", spec("web"));
        project.parts.get_mut("web").unwrap().restart = RestartPolicy::Always;
        made.project = Arc::new(project);
        let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![made]).await;
        lab.set(|state| {
            state.uses.insert("a-llm-1".to_owned(), (GpuId::new("GPU-0"), 16 * GIB));
            state.hides_processes = hides_processes;
        });
        lab.start("a").await;
        lab.house.engine.exit("a-web-1", 1);
        tokio::time::sleep(secs(5)).await;
        assert_eq!(lab.house.status("a"), Status::Running);
        assert_eq!(lab.house.engine.runs("a-web-1"), 2);
        assert_eq!(lab.house.engine.runs("a-llm-1"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_started_by_hand_is_charged_what_it_declares() {
    let engine = MemoryBackend::new();
    let services = || vec![service("a", 20), service("b", 20)];
    let lab = Lab::on(engine.clone(), Exclusive, vec![card("GPU-0", 24)], services()).await;
    lab.start("a").await;
    lab.house.nanny.shutdown().await;
    // It has loaded little of its model yet.
    let lab = Lab::using(engine, Fit::new(), vec![card("GPU-0", 24)], services(), GIB).await;
    tokio::time::sleep(secs(5)).await;
    let error = lab.refused("b", StartOptions::default()).await;
    assert!(matches!(error, Error::GpuConflict { .. }), "{error:?}");
    assert_eq!(lab.house.nanny.snapshot().gpus[0].claims[0].charge_mib, 20 * GIB);
}

#[tokio::test(start_paused = true)]
async fn whoever_needs_less_than_is_free_does_not_wait_for_the_rest() {
    let services = vec![service("a", 16), service("b", 16)];
    let lab = Lab::new(Exclusive, vec![card("GPU-0", 24)], services).await;
    lab.set(|state| {
        state.hides_processes = true;
        state.late = secs(3);
    });
    lab.start("a").await;
    let nanny = lab.house.nanny.clone();
    let began = Instant::now();
    let forced = tokio::spawn(async move { nanny.start("b", StartOptions::forced()).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    lab.set(|state| state.remains = Some((GpuId::new("GPU-0"), 200)));
    forced.await.unwrap().unwrap();
    assert!(began.elapsed() > secs(2), "{:?}", began.elapsed());
    assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn where_nothing_can_be_told_apart_a_swap_waits_and_goes_on() {
    for (remains, least, most) in [(0, secs(2), secs(5)), (200, secs(14), secs(17))] {
        let lab =
            Lab::new(Exclusive, vec![card("GPU-0", 24)], vec![service("a", 0), service("b", 0)])
                .await;
        lab.set(|state| {
            state.uses.insert("a-main-1".to_owned(), (GpuId::new("GPU-0"), 16 * GIB));
            state.hides_processes = true;
            state.late = secs(3);
        });
        lab.start("a").await;
        let nanny = lab.house.nanny.clone();
        let began = Instant::now();
        let forced = tokio::spawn(async move { nanny.start("b", StartOptions::forced()).await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        lab.set(|state| state.remains = Some((GpuId::new("GPU-0"), remains)));
        forced.await.unwrap().unwrap();
        let took = began.elapsed();
        assert!(least <= took && took < most, "{took:?}");
        assert_eq!(lab.house.nanny.snapshot().gpus[0].foreign_mib, remains);
    }
}
