//! Stopping services.

use std::time::Duration;

use nanny_lib::{StartOptions, Status};

use super::{Era, House, Person, cpu, gpu, named, with};
use crate::McpConfig;

#[tokio::test(start_paused = true)]
async fn a_service_is_stopped_and_stopping_it_again_is_no_error() {
    let house = House::new([cpu("a")]).await;
    for era in [Era::Old, Era::New] {
        house.start("a").await;
        let guest = house.guest(era, Person::nobody()).await;
        let stopped = guest.done("stop_service", named("a")).await;
        assert_eq!(
            (&stopped["outcome"], &stopped["service"]["status"]),
            (&"stopped".into(), &"stopped".into())
        );
        let again = guest.done("stop_service", named("a")).await;
        assert_eq!(again["outcome"], "already_stopped");
    }
    assert!(house.engine.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn g10_what_is_protected_is_not_stopped() {
    let house = House::new([with("a", |manifest| manifest.protected = true)]).await;
    house.start("a").await;
    let guest = house.guest(Era::Old, Person::who_says(true)).await;
    let refused = guest.refused("stop_service", named("a")).await;
    assert_eq!(refused.code, "PROTECTED");
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_a_start_back() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let queued = StartOptions::default().queued_for(Duration::MAX);
    let nanny = house.nanny().clone();
    let waits = tokio::spawn(async move { nanny.start("b", queued).await });
    house.until("b", Status::Queued).await;
    let guest = house.machine().await;
    let stopped = guest.done("stop_service", named("b")).await;
    assert_eq!(stopped["outcome"], "stopped");
    assert!(waits.await.unwrap().is_err());
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_takes_long_is_said_to_go_on() {
    let config = McpConfig { start_wait: Duration::from_secs(5), ..McpConfig::default() };
    let house = House::with(config, [cpu("a")]).await;
    house.engine.stop_takes("a-main-1", Duration::from_secs(3600));
    house.start("a").await;
    let guest = house.machine().await;
    let refused = guest.refused("stop_service", named("a")).await;
    assert_eq!(refused.code, "STOP_TIMEOUT");
    assert!(refused.text.contains("get_service_status"), "{}", refused.text);
}
