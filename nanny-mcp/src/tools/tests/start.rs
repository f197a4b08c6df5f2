//! Starting services.

use std::time::Duration;

use nanny_lib::backend::{
    BackendError, EngineHealth, ErrorKind, Healthcheck, HealthcheckTest, LogStream,
};
use nanny_lib::manifest::Service;
use nanny_lib::{StartOptions, Status, StopOptions};
use rmcp::model::{CallToolRequest, ClientRequest, ContentBlock};
use rmcp::service::PeerRequestOptions;
use serde_json::{Value, json};

use super::{Era, Guest, House, Person, cpu, gpu, named, request, with};

/// A service that is ready when the engine says that its container is healthy.
fn checked(name: &str) -> Service {
    let mut service = cpu(name);
    let project = std::sync::Arc::make_mut(&mut service.project);
    let part = project.parts.get_mut("main").expect("it has one part");
    part.spec.healthcheck = Some(Healthcheck::new(HealthcheckTest::Shell("true".into())));
    service
}

fn links(content: &[ContentBlock]) -> Vec<&str> {
    content.iter().filter_map(|block| Some(block.as_resource_link()?.uri.as_str())).collect()
}

fn progress(guest: &Guest) -> Vec<(f64, String)> {
    let told = guest.person.progress.lock().expect("no panic");
    told.iter().map(|(_, p)| (p.progress, p.message.clone().expect("it has words"))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_service_is_started_and_starting_it_again_is_no_error() {
    let house = House::new([gpu("a")]).await;
    for (era, outcome) in [(Era::Old, "running"), (Era::New, "already_running")] {
        let guest = house.guest(era, Person::nobody()).await;
        let result = guest.call("start_service", named("a")).await.unwrap();
        assert_eq!(links(&result.content), ["service://status/a", "service://logs/a"]);
        let answer = result.structured_content.unwrap();
        assert_eq!(
            (&answer["outcome"], &answer["service"]["ready"]),
            (&json!(outcome), &json!(true))
        );
        assert_eq!(answer["stopped"], json!([]));
    }
    assert_eq!(house.engine.runs("a-main-1"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_ends_well_and_tells_how_far_it_is() {
    for era in [Era::Old, Era::New] {
        let house = House::new([checked("a")]).await;
        let guest = house.guest(era, Person::nobody()).await;
        let answer = guest.done("start_service", named("a")).await;
        assert_eq!(answer["outcome"], "starting");
        assert!((45_000..46_000).contains(&answer["waited_ms"].as_u64().unwrap()), "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(
            message.contains("get_service_status") && message.contains("do not start it again")
        );
        assert_eq!(answer["service"]["ready"], false);

        let told = progress(&guest);
        assert!(told.len() >= 5, "{told:?}");
        assert!(told.is_sorted_by(|(a, _), (b, _)| a < b), "{told:?}");
        assert!(told.iter().all(|(percent, _)| (0.0..100.0).contains(percent)), "{told:?}");
        assert_eq!(told.last().unwrap().1, "waiting until it is healthy");
        let times: Vec<_> = guest.person.progress.lock().unwrap().iter().map(|p| p.0).collect();
        for pair in times.windows(2) {
            let between = pair[1] - pair[0];
            assert!((500..=10_500).contains(&between.as_millis()), "{between:?}");
        }

        // It goes on, and whoever asks again joins it.
        let (answer, ()) = tokio::join!(guest.done("start_service", named("a")), async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            house.engine.set_health("a-main-1", EngineHealth::Healthy);
        });
        assert_eq!(answer["outcome"], "already_running");
        assert_eq!(answer["service"]["ready"], true);
        assert_eq!(house.engine.runs("a-main-1"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn two_who_start_one_service_start_it_once() {
    let house = House::new([cpu("a")]).await;
    house.engine.start_takes("a-main-1", Duration::from_secs(30));
    let (one, two) = (house.machine().await, house.guest(Era::Old, Person::nobody()).await);
    let (one, two) = tokio::join!(
        one.done("start_service", named("a")),
        two.done("start_service", super::forced("a"))
    );
    assert_eq!((&one["outcome"], &two["outcome"]), (&json!("running"), &json!("running")));
    assert_eq!(house.engine.runs("a-main-1"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_failed_shows_the_end_of_the_log() {
    let house = House::new([cpu("a")]).await;
    let lines = (0..30).map(|n| (LogStream::Stderr, format!("line {n} api_key=abcdefgh{n}")));
    house.engine.prints("a-main-1", lines);
    house.engine.exits_after("a-main-1", Duration::ZERO, 1);
    let guest = house.machine().await;
    let refused = guest.refused("start_service", named("a")).await;
    assert_eq!(refused.code, "START_FAILED", "{refused:?}");
    let log = refused.details["log"].as_array().unwrap();
    assert_eq!(log.len(), 20);
    assert_eq!(log[19], "main-1  | line 29 api_key=[redacted]");
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_says_of_a_failed_start_is_told_without_secrets() {
    let house = House::new([cpu("a")]).await;
    let said = "pull https://me:hunter22@registry/x failed";
    house.engine.start_fails("a-main-1", BackendError::new(ErrorKind::Invalid, "start", said));
    let guest = house.machine().await;
    let refused = guest.refused("start_service", named("a")).await;
    assert_eq!(refused.code, "START_FAILED");
    assert!(refused.text.contains("me:[redacted]@registry"), "{}", refused.text);
    let status = guest.done("get_service_status", named("a")).await.to_string();
    assert!(status.contains("[redacted]") && !status.contains("hunter22"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stays_sick_is_said_to_be() {
    let sick = with("a", |manifest| {
        manifest.health_endpoint = Some("http://localhost:9/health".to_owned());
        manifest.health_timeout = Duration::from_secs(10);
    });
    let house = House::new([sick]).await;
    let guest = house.machine().await;
    // It may only be slow, until it was waited for once more.
    let first = guest.done("start_service", named("a")).await;
    assert_eq!(
        (&first["outcome"], &first["service"]["status"]),
        (&json!("starting"), &json!("unhealthy"))
    );
    assert_eq!(first["service"]["health"]["reason"], "status 503");
    let refused = guest.refused("start_service", named("a")).await;
    assert_eq!(refused.code, "HEALTH_TIMEOUT");
    assert!(refused.text.contains("status 503"), "{}", refused.text);
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn one_who_holds_the_gpu_is_named() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let guest = house.machine().await;
    let refused = guest.refused("start_service", named("b")).await;
    assert_eq!(refused.code, "GPU_BUSY");
    assert_eq!(refused.details["holders"][0]["name"], "a");
    assert_eq!(refused.details["need"]["mib"], 8192);
    assert!(refused.text.contains("force=true"), "{}", refused.text);
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_somebody_queued_is_joined() {
    let house = House::new([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let queued = StartOptions::default().queued_for(Duration::MAX);
    let nanny = house.nanny().clone();
    let waits = tokio::spawn(async move { nanny.start("b", queued).await });
    house.until("b", Status::Queued).await;
    let guest = house.machine().await;
    let answer = guest.done("start_service", named("b")).await;
    assert_eq!((&answer["outcome"], house.status("b")), (&json!("queued"), Status::Queued));
    assert!(progress(&guest)[0].1.contains("place 1"), "{:?}", progress(&guest));
    let (answer, _) = tokio::join!(guest.done("start_service", named("b")), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        house.nanny().stop("a", StopOptions::default()).await
    });
    assert_eq!(answer["outcome"], "running");
    waits.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_who_goes_away_changes_nothing() {
    for era in [Era::Old, Era::New] {
        let house = House::new([cpu("a")]).await;
        house.engine.start_takes("a-main-1", Duration::from_secs(30));
        let guest = house.guest(era, Person::nobody()).await;
        let call = ClientRequest::CallToolRequest(CallToolRequest::new(request(
            "start_service",
            named("a"),
        )));
        let sent =
            guest.client.peer().send_cancellable_request(call, PeerRequestOptions::default());
        let sent = sent.await.unwrap();
        house.until("a", Status::Starting).await;
        sent.cancel(Some("no more".to_owned())).await.unwrap();
        house.until("a", Status::Running).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_runs_and_is_not_ready_is_waited_for() {
    let house = House::new([checked("a")]).await;
    house.start("a").await;
    let guest = house.machine().await;
    let answer = guest.done("start_service", named("a")).await;
    assert_eq!(
        (&answer["outcome"], &answer["service"]["ready"]),
        (&json!("already_running"), &json!(false))
    );
    assert!(answer["message"].as_str().unwrap().contains("not ready yet"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn too_many_calls_at_once_are_refused() {
    let services: Vec<_> = (0..17).map(|n| cpu(&format!("s{n}"))).collect();
    let house = House::new(services).await;
    for n in 0..17 {
        house.engine.start_takes(&format!("s{n}-main-1"), Duration::from_secs(20));
    }
    let guest = house.machine().await;
    let calls = (0..17).map(|n| {
        let guest = &guest;
        async move { guest.call("start_service", named(&format!("s{n}"))).await.unwrap() }
    });
    let results = futures_util::future::join_all(calls).await;
    let refused: Vec<Value> = results
        .iter()
        .filter(|result| result.is_error == Some(true))
        .map(|result| super::Refused::from(result).details)
        .collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(
        (&refused[0]["code"], &refused[0]["retryable"]),
        (&json!("RATE_LIMITED"), &json!(true))
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_only_looks_is_not_kept_from_it_by_those_who_start() {
    let services: Vec<_> = (0..16).map(|n| cpu(&format!("s{n}"))).collect();
    let house = House::new(services).await;
    for n in 0..16 {
        house.engine.start_takes(&format!("s{n}-main-1"), Duration::from_secs(20));
    }
    let guest = house.machine().await;
    let starts = futures_util::future::join_all((0..16).map(|n| {
        let guest = &guest;
        async move { guest.done("start_service", named(&format!("s{n}"))).await }
    }));
    tokio::join!(starts, async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        guest.done("list_services", json!({})).await;
        guest.done("get_service_status", named("s0")).await;
        assert_eq!(guest.refused("get_service_logs", named("s0")).await.code, "RATE_LIMITED");
    });
}
