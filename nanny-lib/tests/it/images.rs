//! Images and files: found, pulled, built and put in, as the files say.

use std::time::Duration;

use nanny_lib::backend::{BuildSpec, FileInside, MemoryBackend, RestartPolicy};
use nanny_lib::manifest::Service;
use nanny_lib::project::{Part, PullPolicy};
use nanny_lib::{StartOptions, Status, StopOptions};

use crate::house::{House, gpu_with};

/// A service `a` of one part, which `change` may change.
fn service(change: impl FnOnce(&mut Part)) -> Service {
    gpu_with("a", |project| change(project.parts.get_mut("main").expect("it has one part")))
}

/// An engine that has `here`, and a registry that has `there`.
fn engine<const H: usize, const T: usize>(here: [&str; H], there: [&str; T]) -> MemoryBackend {
    MemoryBackend::new().with_images(here).with_registry(there)
}

fn built(is_unnamed: bool) -> impl FnOnce(&mut Part) {
    move |part| {
        let mut build = BuildSpec::new("image", "/context");
        build.is_unnamed = is_unnamed;
        part.build = Some(build);
    }
}

async fn failure(house: &House) -> String {
    let started = house.nanny.start("a", StartOptions::default()).await;
    started.expect_err("it cannot be started").to_string()
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_pulled_and_not_again() {
    let house = House::on(engine([], ["image"]), [service(|_| {})]).await;
    house.start("a").await;
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    house.start("a").await;
    assert_eq!(house.engine.pulls(), ["image"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_always_pulled_is_pulled_at_each_start_and_not_after_a_crash() {
    let always = |part: &mut Part| {
        part.pull = PullPolicy::Always;
        part.restart = RestartPolicy::Always;
    };
    let house = House::on(engine(["image"], ["image"]), [service(always)]).await;
    house.start("a").await;
    assert_eq!(house.engine.pulls().len(), 1);
    house.engine.exit("a-main-1", 1);
    house.until_seen(|_| house.engine.runs("a-main-1") == 2).await;
    house.until("a", Status::Running).await;
    assert_eq!(house.engine.pulls().len(), 1, "a crash is no time for news");
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    house.start("a").await;
    assert_eq!(house.engine.pulls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_pulled_is_not() {
    let never = |part: &mut Part| part.pull = PullPolicy::Never;
    let house = House::on(engine([], ["image"]), [service(never)]).await;
    let error = failure(&house).await;
    assert!(error.contains("'image'") && error.contains("allow to pull it"), "{error}");
    assert!(house.engine.pulls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_nowhere_is_named_with_the_cure() {
    let house = House::on(engine([], []), [service(|_| {})]).await;
    let error = failure(&house).await;
    assert!(error.contains("image 'image' cannot be pulled"), "{error}");
    assert!(error.contains("log in to its registry"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_only_a_builder_names_is_built_and_never_pulled() {
    let house = House::on(engine([], ["image"]), [service(built(true))]).await;
    house.start("a").await;
    assert!(house.engine.pulls().is_empty());
    assert_eq!(house.engine.builds().len(), 1);
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    house.start("a").await;
    assert_eq!(house.engine.builds().len(), 1, "what is there wins");
}

#[tokio::test(start_paused = true)]
async fn what_can_be_built_is_pulled_where_it_can_be() {
    let house = House::on(engine([], ["image"]), [service(built(false))]).await;
    house.start("a").await;
    assert_eq!((house.engine.pulls().len(), house.engine.builds().len()), (1, 0));

    let house = House::on(engine([], []), [service(built(false))]).await;
    house.start("a").await;
    assert_eq!((house.engine.pulls().len(), house.engine.builds().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_always_built_is_built_at_each_start() {
    let always = |part: &mut Part| {
        built(false)(part);
        part.pull = PullPolicy::Build;
    };
    let house = House::on(engine(["image"], ["image"]), [service(always)]).await;
    house.start("a").await;
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    house.start("a").await;
    assert_eq!((house.engine.pulls().len(), house.engine.builds().len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn how_far_a_build_is_shows_and_callers_wait_for_it() {
    let slow = engine([], []).with_pull_time(Duration::from_secs(1000));
    let house = House::on(slow, [service(built(true))]).await;
    let options = StartOptions::default().within(Duration::from_secs(5));
    let start = house.nanny.start("a", options);
    let see = house.nanny.wait_until(|now| now.services["a"].building.is_some());
    let (started, seen) = tokio::join!(start, see);
    seen.unwrap();
    // The time that a build takes is not the caller's.
    started.unwrap();
    assert!(house.nanny.snapshot().services["a"].building.is_none());
}

#[tokio::test(start_paused = true)]
async fn files_are_put_in_before_each_start() {
    let secret = |part: &mut Part| part.files = vec![FileInside::new("/run/secrets/key", "k")];
    let house = House::on(MemoryBackend::new(), [service(secret)]).await;
    house.start("a").await;
    let files = house.engine.files_of("a-main-1");
    assert_eq!(files["/run/secrets/key"].content, b"k");
}

#[tokio::test(start_paused = true)]
async fn a_build_that_says_nothing_for_long_is_given_up() {
    let silent = engine([], []).with_pull_time(Duration::from_secs(2 * 3600));
    let house = House::on(silent, [service(built(true))]).await;
    let error = failure(&house).await;
    assert!(error.contains("its build said nothing"), "{error}");
    assert!(house.engine.builds().is_empty());
}
