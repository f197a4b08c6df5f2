//! Starts that wait for a GPU that is measured.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_start_in_the_queue_waits_for_strangers_to_go() {
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![service("a", 8)]).await;
    lab.set(|state| {
        let mut game = GpuProcess::new(77);
        game.used_mib = Some(20 * GIB);
        state.strangers.push((GpuId::new("GPU-0"), game));
    });
    lab.house.until_seen(|seen| seen.gpus[0].foreign_mib == 20 * GIB).await;
    let waits = lab.queued("a").await;
    lab.set(|state| state.strangers.clear());
    waits.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_pinned_keeps_nobody_from_other_room() {
    let mut pinned = service("p", 10);
    Arc::make_mut(&mut pinned.manifest).pinned = true;
    let services = vec![pinned, service("h", 20), service("s", 8)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.start("p").await;
    let waits = lab.queued("h").await;
    tokio::time::sleep(secs(600)).await;
    lab.house.nanny.start("s", StartOptions::default()).await.unwrap();
    lab.house.nanny.stop("p", StopOptions::default()).await.unwrap();
    waits.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_on_waiting_while_its_gpu_is_not_in_order() {
    let services = vec![service("a", 16), service("b", 16)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.start("a").await;
    let waits = lab.queued("b").await;
    lab.set(|state| state.gpus[0].health = GpuHealth::Suspect("XID 62".to_owned()));
    tokio::time::sleep(secs(5)).await;
    lab.set(|state| state.gpus[0].health = GpuHealth::Ok);
    tokio::time::sleep(secs(5)).await;
    lab.house.nanny.stop("a", StopOptions::default()).await.unwrap();
    waits.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_by_those_of_no_higher_priority() {
    let mut above = service("x", 8);
    Arc::make_mut(&mut above.manifest).priority = 100;
    let services = vec![above, service("y", 8), service("h", 12)];
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], services).await;
    lab.start("x").await;
    lab.start("y").await;
    let started = lab.queued("h").await.await.unwrap().unwrap();
    assert_eq!(started.stopped, [name("y")]);
}

#[tokio::test(start_paused = true)]
async fn who_finds_a_stranger_that_came_just_now_waits_for_it_to_go() {
    let lab = Lab::new(Fit::new(), vec![card("GPU-0", 24)], vec![service("a", 8)]).await;
    // Just after a look.
    tokio::time::sleep(Duration::from_millis(100)).await;
    lab.set(|state| {
        let mut game = GpuProcess::new(77);
        game.used_mib = Some(20 * GIB);
        state.strangers.push((GpuId::new("GPU-0"), game));
    });
    let waits = lab.queued("a").await;
    tokio::time::sleep(secs(60)).await;
    assert!(!waits.is_finished() && lab.house.engine.running().is_empty());
    lab.set(|state| state.strangers.clear());
    waits.await.unwrap().unwrap();
}
