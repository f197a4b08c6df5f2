use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{ErrorCode, SubscriptionFilter};
use rmcp::model::{SubscribeRequestParams, UnsubscribeRequestParams};
use rmcp::service::SubscriptionEnd;
use tokio::time::{Instant, sleep, timeout};

use crate::testing::{Client, House, cpu, gpu, refusal, told_within};

const MINUTE: Duration = Duration::from_secs(60);

#[expect(deprecated, reason = "it is what the older revisions have")]
async fn subscribe(client: &Client, uri: &str) {
    client.client.subscribe(SubscribeRequestParams::new(uri)).await.expect("it may subscribe");
    settle().await;
}

#[expect(deprecated, reason = "it is what the older revisions have")]
async fn unsubscribe(client: &Client, uri: &str) {
    client.client.unsubscribe(UnsubscribeRequestParams::new(uri)).await.expect("it may");
}

fn to(uris: &[&str]) -> SubscriptionFilter {
    SubscriptionFilter::builder().resource_subscriptions(uris.iter().copied()).build()
}

/// Whatever is under way is done.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

fn sorted(mut told: Vec<String>) -> Vec<String> {
    told.sort();
    told.dedup();
    told
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_to_those_who_want_to_know_of_the_service() {
    let house = House::new([cpu("a"), cpu("b")]).await;
    let uris = ["service://status", "service://status/a", "service://status/b", "service://logs/a"];
    let mut older = house.older().await;
    for uri in uris {
        subscribe(&older, uri).await;
    }
    let newer = house.newer().await;
    let mut stream = newer.listen(to(&uris)).await;
    house.start("a").await;
    let expected = ["service://logs/a", "service://status", "service://status/a"];
    assert_eq!(sorted(older.told_within(MINUTE).await), expected);
    assert_eq!(sorted(told_within(&mut stream, MINUTE).await), expected);
}

#[tokio::test(start_paused = true)]
async fn the_first_change_of_a_burst_is_told_at_once_and_the_last_too() {
    let house = House::new([cpu("a")]).await;
    let newer = house.newer().await;
    let mut stream = newer.listen(to(&["service://status/a"])).await;
    let began = Instant::now();
    for _ in 0..20 {
        house.start("a").await;
        house.stop("a").await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "all of it happens at once");
    assert_eq!(told_within(&mut stream, Duration::from_millis(100)).await.len(), 1);
    assert_eq!(told_within(&mut stream, MINUTE).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_grows_is_told_of_once_in_a_pause() {
    let house = House::new([cpu("a")]).await;
    house.start("a").await;
    let mut older = house.older().await;
    subscribe(&older, "service://logs/a").await;
    let newer = house.newer().await;
    let mut stream = newer.listen(to(&["service://logs/a"])).await;
    settle().await;
    for line in 0..100 {
        house.print("a", &format!("line {line}"));
        sleep(Duration::from_millis(100)).await;
    }
    for told in [older.told_within(MINUTE).await, told_within(&mut stream, MINUTE).await] {
        assert!((10..=11).contains(&told.len()), "ten seconds of lines: {}", told.len());
    }
    house.print("a", "one more");
    assert_eq!(older.told_within(MINUTE).await, ["service://logs/a"]);
    assert_eq!(told_within(&mut stream, MINUTE).await, ["service://logs/a"]);
}

#[tokio::test(start_paused = true)]
async fn a_log_is_followed_through_stops_crashes_and_outages() {
    let house = House::new([cpu("a")]).await;
    let mut older = house.older().await;
    subscribe(&older, "service://logs/a").await;
    house.start("a").await;
    house.stop("a").await;
    house.start("a").await;
    older.told_within(MINUTE).await;
    house.print("a", "after a restart");
    assert_eq!(older.told_within(MINUTE).await, ["service://logs/a"]);
    house.engine.remove_by_hand("a-main-1");
    older.told_within(MINUTE).await;
    house.start("a").await;
    older.told_within(MINUTE).await;
    house.print("a", "from a new container");
    assert_eq!(older.told_within(MINUTE).await, ["service://logs/a"]);
    house.engine.go_down();
    older.told_within(MINUTE).await;
    house.engine.come_back();
    older.told_within(MINUTE).await;
    house.print("a", "after an outage");
    assert_eq!(older.told_within(MINUTE).await, ["service://logs/a"]);
}

#[tokio::test(start_paused = true)]
async fn metrics_are_told_of_as_time_passes_and_only_to_those_who_want_them() {
    let house = House::new([cpu("a")]).await;
    let mut older = house.older().await;
    assert!(older.told_within(MINUTE).await.is_empty());
    subscribe(&older, "service://metrics").await;
    let told = older.told_within(MINUTE).await;
    assert!((11..=12).contains(&told.len()), "once in five seconds: {}", told.len());
    unsubscribe(&older, "service://metrics").await;
    assert!(older.told_within(MINUTE).await.is_empty());
    subscribe(&older, "service://metrics").await;
    assert!(!older.told_within(MINUTE).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_has_unsubscribed_hears_nothing() {
    let house = House::new([cpu("a")]).await;
    house.start("a").await;
    let mut older = house.older().await;
    for uri in ["service://status", "service://status/a", "service://logs/a"] {
        subscribe(&older, uri).await;
        unsubscribe(&older, uri).await;
    }
    house.print("a", "a line");
    house.stop("a").await;
    assert!(older.told_within(MINUTE).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_hears_nothing_of_the_past() {
    let house = House::new([cpu("a")]).await;
    house.start("a").await;
    let uris = ["service://status", "service://status/a", "service://logs/a"];
    let mut older = house.older().await;
    for uri in uris {
        subscribe(&older, uri).await;
    }
    let newer = house.newer().await;
    let mut stream = newer.listen(to(&uris)).await;
    assert!(older.told_within(MINUTE).await.is_empty());
    assert!(told_within(&mut stream, MINUTE).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn services_that_come_and_go_are_told_of() {
    let house = House::new([cpu("a")]).await;
    let mut older = house.older().await;
    subscribe(&older, "service://status/b").await;
    let newer = house.newer().await;
    let mut stream =
        newer.listen(SubscriptionFilter::builder().resources_list_changed().build()).await;
    settle().await;
    house.start("a").await;
    assert!(older.told_within(MINUTE).await.is_empty(), "the list is the same");
    house.hold([cpu("a"), cpu("b")]).await;
    assert_eq!(sorted(older.told_within(MINUTE).await), ["list", "service://status/b"]);
    assert_eq!(told_within(&mut stream, MINUTE).await, ["list"]);
    house.hold([cpu("a")]).await;
    assert_eq!(older.told_within(MINUTE).await, ["list"], "b is not there to be told of");
    assert_eq!(told_within(&mut stream, MINUTE).await, ["list"]);
}

#[tokio::test(start_paused = true)]
async fn each_is_told_by_the_uri_that_it_gave() {
    let house = House::new([cpu("a b")]).await;
    let given = "SERVICE://status/a b/";
    let mut older = house.older().await;
    subscribe(&older, given).await;
    let newer = house.newer().await;
    let mut stream = newer.listen(to(&[given])).await;
    house.start("a b").await;
    assert_eq!(sorted(older.told_within(MINUTE).await), [given]);
    assert_eq!(sorted(told_within(&mut stream, MINUTE).await), [given]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_told_what_it_was_granted() {
    let house = House::new([cpu("a")]).await;
    let newer = house.newer().await;
    let filter = to(&["service://status/a", "service://status/later", "test://other"]);
    let stream = newer.listen(filter).await;
    let granted = stream.acknowledged().resource_subscriptions.clone().unwrap();
    assert_eq!(granted, ["service://status/a", "service://status/later"]);
}

#[tokio::test(start_paused = true)]
#[expect(deprecated, reason = "it is what the older revisions have")]
async fn a_session_may_subscribe_to_what_is_not_ours_but_not_to_what_is_no_uri() {
    let house = House::new([cpu("a")]).await;
    let older = house.older().await;
    subscribe(&older, "test://watched-resource").await;
    let error = older.client.subscribe(SubscribeRequestParams::new("nothing")).await.unwrap_err();
    assert_eq!(refusal(error).code, ErrorCode::INVALID_PARAMS);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_client_that_went_away() {
    let house = House::new([gpu("a")]).await;
    house.start("a").await;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let held = Arc::strong_count(&house.shared);
    let older = house.older().await;
    for uri in ["service://status", "service://logs/a", "service://metrics"] {
        subscribe(&older, uri).await;
    }
    let newer = house.newer().await;
    let stream = newer.listen(to(&["service://logs/a", "service://metrics"])).await;
    drop(stream);
    older.leave().await;
    newer.leave().await;
    settle().await;
    assert_eq!(Arc::strong_count(&house.shared), held);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_its_client_gave_up_is_told_nothing_and_makes_room() {
    let house = House::new([cpu("a")]).await;
    let newer = house.newer().await;
    let places = house.shared.listeners.available_permits();
    let mut stream = newer.listen(to(&["service://status"])).await;
    settle().await;
    assert_eq!(house.shared.listeners.available_permits(), places - 1);
    stream.cancel().await.unwrap();
    settle().await;
    assert_eq!(house.shared.listeners.available_permits(), places);
}

#[tokio::test(start_paused = true)]
async fn streams_end_in_order_when_the_nanny_does() {
    let house = House::new([cpu("a")]).await;
    let newer = house.newer().await;
    let mut stream = newer.listen(to(&["service://status"])).await;
    house.nanny.shutdown().await;
    let ended = timeout(MINUTE, async { while stream.next().await.unwrap().is_some() {} }).await;
    ended.expect("it ends");
    assert!(matches!(stream.end(), Some(SubscriptionEnd::Graceful(_))));
}

#[tokio::test(start_paused = true)]
async fn who_missed_changes_is_told_of_everything_it_wants() {
    let house = House::new([cpu("a"), cpu("b")]).await;
    let mut client = house.by_hand(256).await;
    for uri in ["service://status", "service://status/b"] {
        client.subscribe(uri).await;
    }
    // It reads nothing, so that nothing can be told once the pipe is full, and more happens than is
    // remembered.
    for change in 0..1000 {
        house.start("a").await;
        house.stop("a").await;
        if change < 10 {
            sleep(Duration::from_secs(1)).await;
        }
    }
    let told = client.told_within(MINUTE).await;
    assert!(told.contains(&"service://status/b".to_owned()), "{told:?}");
}
