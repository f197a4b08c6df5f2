//! Stopping others for a service.

use std::time::Duration;

use nanny_lib::backend::{ContainerBackend as _, ContainerSpec, DeviceMapping};
use nanny_lib::gpu::{Decision, GpuPolicy, GpuRequest, GpuSnapshot, HolderName, Placement};
use nanny_lib::lifecycle::Settings;
use nanny_lib::{Nanny, StartOptions, Status, StopOptions};
use rmcp::model::{
    CallToolRequest, CallToolResponse, ClientRequest, InputRequest, InputRequiredResult,
    InputResponses,
};
use rmcp::service::PeerRequestOptions;
use serde_json::json;

use super::{Era, Guest, House, Person, Refused, forced, gpu, named, request, with};
use crate::{Force, McpConfig};

/// 'a' has the GPU, and 'b' and 'c' want it.
async fn house(force: Force) -> House {
    let config = McpConfig { force, ..McpConfig::default() };
    let house = House::with(config, [gpu("a"), gpu("b"), gpu("c")]).await;
    house.start("a").await;
    house
}

/// The question that a call is answered with.
async fn question(guest: &Guest, service: &str) -> InputRequiredResult {
    match guest.call_once(request("start_service", forced(service))).await.unwrap() {
        CallToolResponse::InputRequired(question) => question,
        other => panic!("{other:?}"),
    }
}

/// The call that brings the answer.
fn retry(service: &str, state: &str, confirm: bool) -> rmcp::model::CallToolRequestParams {
    let said = json!({"action": "accept", "content": {"confirm": confirm}});
    let mut call = request("start_service", forced(service));
    call.input_responses = Some(InputResponses::from([("confirm_evict".to_owned(), said)]));
    call.request_state = Some(state.to_owned());
    call
}

#[tokio::test(start_paused = true)]
async fn with_the_users_consent_others_are_stopped() {
    for era in [Era::Old, Era::New] {
        for force in [Force::Ask, Force::Always] {
            let house = house(force).await;
            let guest = house.guest(era, Person::who_says(true)).await;
            let answer = guest.done("start_service", forced("b")).await;
            assert_eq!(
                (&answer["outcome"], &answer["stopped"]),
                (&json!("running"), &json!(["a"]))
            );
            assert_eq!(house.engine.running(), ["b-main-1"]);
            let asked = guest.person.was_asked();
            assert_eq!(asked.len(), 1, "{asked:?}");
            assert!(asked[0].contains("'a'") && asked[0].contains("'b'"), "{asked:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_it_nothing_is_stopped() {
    for era in [Era::Old, Era::New] {
        for person in [Person::who_says(false), Person::who_declines()] {
            let house = house(Force::Always).await;
            let guest = house.guest(era, person).await;
            let refused = guest.refused("start_service", forced("b")).await;
            assert_eq!(refused.code, "USER_DECLINED");
            assert_eq!(house.engine.running(), ["a-main-1"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_cannot_ask_is_refused_unless_that_is_allowed() {
    for era in [Era::Old, Era::New] {
        let house = house(Force::Ask).await;
        let guest = house.guest(era, Person::nobody()).await;
        let refused = guest.refused("start_service", forced("b")).await;
        assert_eq!(refused.code, "CONFIRMATION_REQUIRED");
        assert_eq!(refused.details["would_stop"], json!(["a"]));
        assert!(refused.text.contains("--mcp-allow-force"), "{}", refused.text);
        assert_eq!(house.engine.running(), ["a-main-1"]);
    }
    for era in [Era::Old, Era::New] {
        let house = house(Force::Always).await;
        let guest = house.guest(era, Person::nobody()).await;
        let answer = guest.done("start_service", forced("b")).await;
        assert_eq!(answer["stopped"], json!(["a"]));
    }
}

#[tokio::test(start_paused = true)]
async fn where_force_is_never_allowed_nobody_is_asked() {
    let house = house(Force::Never).await;
    let guest = house.guest(Era::Old, Person::who_says(true)).await;
    let refused = guest.refused("start_service", forced("b")).await;
    assert_eq!(refused.code, "GPU_BUSY");
    assert!(!refused.text.contains("force=true"), "{}", refused.text);
    assert!(guest.person.was_asked().is_empty());
    assert_eq!(house.engine.running(), ["a-main-1"]);
    house.nanny().stop("a", StopOptions::default()).await.unwrap();
    assert_eq!(guest.done("start_service", named("b")).await["outcome"], "running");
}

#[tokio::test(start_paused = true)]
async fn force_that_stops_nobody_needs_no_consent() {
    let house = house(Force::Ask).await;
    let guest = house.machine().await;
    let answer = guest.done("start_service", forced("a")).await;
    assert_eq!(answer["outcome"], "already_running");
    house.nanny().stop("a", StopOptions::default()).await.unwrap();
    assert_eq!(guest.done("start_service", forced("b")).await["outcome"], "running");
}

#[tokio::test(start_paused = true)]
async fn g10_what_is_protected_makes_way_for_nobody() {
    let protected = with("a", |manifest| {
        *manifest = manifest.clone().with_gpu(8);
        manifest.protected = true;
    });
    for force in [Force::Ask, Force::Always, Force::Never] {
        let config = McpConfig { force, ..McpConfig::default() };
        let house = House::with(config, [protected.clone(), gpu("b")]).await;
        house.start("a").await;
        for person in [Person::nobody(), Person::who_says(true)] {
            let guest = house.guest(Era::Old, person).await;
            let refused = guest.refused("start_service", forced("b")).await;
            let code = if force == Force::Never { "GPU_BUSY" } else { "PROTECTED" };
            assert_eq!(refused.code, code);
            assert!(refused.text.contains("'a' is protected"), "{}", refused.text);
            assert!(guest.person.was_asked().is_empty());
        }
        assert_eq!(house.engine.running(), ["a-main-1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_stopped_is_who_the_user_was_asked_about() {
    let house = house(Force::Always).await;
    let guest = house.guest(Era::New, Person::who_says(true)).await;
    let first = question(&guest, "b").await;
    let requests = first.input_requests.unwrap();
    let InputRequest::Elicitation(_) = &requests["confirm_evict"] else { panic!("{requests:?}") };
    // Meanwhile another has it.
    house.nanny().stop("a", StopOptions::default()).await.unwrap();
    house.start("c").await;
    let state = first.request_state.unwrap();
    let again = guest.call_once(retry("b", &state, true)).await.unwrap();
    let CallToolResponse::InputRequired(second) = again else { panic!("{again:?}") };
    assert_eq!(house.engine.running(), ["c-main-1"]);
    let state = second.request_state.unwrap();
    let done = guest.call_once(retry("b", &state, true)).await.unwrap();
    let CallToolResponse::Complete(done) = done else { panic!("{done:?}") };
    assert_eq!(done.structured_content.unwrap()["stopped"], json!(["c"]));
    assert_eq!(house.engine.running(), ["b-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn who_has_it_when_the_user_answers_is_asked_about_in_the_old_era_too() {
    let house = house(Force::Ask).await;
    let guest = house.guest(Era::Old, Person::who_says(true).after(Duration::from_secs(20))).await;
    let (answer, ()) = tokio::join!(guest.done("start_service", forced("b")), async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        house.nanny().stop("a", StopOptions::default()).await.unwrap();
        house.start("c").await;
    });
    assert_eq!(answer["stopped"], json!(["c"]));
    let asked = guest.person.was_asked();
    assert!(asked[0].contains("'a'") && asked[1].contains("'c'"), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn one_answer_stops_them_once() {
    let house = house(Force::Always).await;
    let guest = house.guest(Era::New, Person::who_says(true)).await;
    let state = question(&guest, "b").await.request_state.unwrap();
    let call = || guest.call_once(retry("b", &state, true));
    assert!(matches!(call().await.unwrap(), CallToolResponse::Complete(_)));
    house.nanny().stop("b", StopOptions::default()).await.unwrap();
    house.start("a").await;
    let error = call().await.unwrap_err().to_string();
    assert!(error.contains("-32602") && error.contains("requestState"), "{error}");
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_needs_the_note_that_came_with_its_question() {
    let house = house(Force::Ask).await;
    let guest = house.guest(Era::New, Person::who_says(true)).await;
    let state = question(&guest, "b").await.request_state.unwrap();
    let mut tampered = state.clone();
    tampered.replace_range(8..9, if &state[8..9] == "A" { "B" } else { "A" });
    for (service, state) in [("b", tampered.as_str()), ("b", "rs1.x.y"), ("c", state.as_str())] {
        let error = guest.call_once(retry(service, state, true)).await.unwrap_err().to_string();
        assert!(error.contains("-32602") && error.contains("requestState"), "{error}");
    }
    // Without a note, and without an answer, it is asked again.
    let mut call = retry("b", &state, true);
    call.request_state = None;
    assert!(matches!(guest.call_once(call).await.unwrap(), CallToolResponse::InputRequired(_)));
    let mut call = retry("b", &state, true);
    call.input_responses = None;
    assert!(matches!(guest.call_once(call).await.unwrap(), CallToolResponse::InputRequired(_)));
    assert_eq!(house.engine.running(), ["a-main-1"]);
    let declined = guest.call_once(retry("b", &state, false)).await.unwrap();
    let CallToolResponse::Complete(declined) = declined else { panic!("{declined:?}") };
    assert_eq!(Refused::from(&declined).code, "USER_DECLINED");
}

#[tokio::test(start_paused = true)]
async fn force_does_not_wait_in_a_queue_that_somebody_else_stands_in() {
    let house = house(Force::Ask).await;
    let nanny = house.nanny().clone();
    let queued = StartOptions::default().queued_for(Duration::MAX);
    let waits = tokio::spawn(async move { nanny.start("b", queued).await });
    house.until("b", Status::Queued).await;
    let guest = house.guest(Era::New, Person::who_says(true)).await;
    let answer = guest.done("start_service", forced("b")).await;
    assert_eq!((&answer["outcome"], &answer["stopped"]), (&json!("running"), &json!(["a"])));
    assert_eq!(guest.person.was_asked().len(), 1);
    waits.await.unwrap().unwrap();
}

/// Whoever has the GPU makes way, if that is of a lower priority.
#[derive(Debug)]
struct Polite;

impl GpuPolicy for Polite {
    fn name(&self) -> &'static str {
        "polite"
    }

    fn measures(&self) -> bool {
        false
    }

    fn decide(&self, _: &GpuRequest, snapshot: &GpuSnapshot) -> Decision {
        let services = snapshot.holders.iter().filter_map(|holder| match &holder.who {
            HolderName::Service(name) => Some(name.clone()),
            _ => None,
        });
        let (victims, placement) = (services.collect::<Vec<_>>(), Placement::default());
        if victims.is_empty() {
            Decision::Admit { placement }
        } else {
            Decision::Evict { victims, placement }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_does_not_have_what_is_protected_make_way_for_an_assistant() {
    for protected in [true, false] {
        let of_priority = |name: &str, priority| {
            with(name, |manifest| {
                *manifest = manifest.clone().with_gpu(8);
                manifest.priority = priority;
                manifest.protected = protected;
            })
        };
        let mut settings = Settings::default();
        settings.gpu.min_hold = Duration::ZERO;
        let builder = Nanny::builder().policy(Polite).settings(settings);
        let services = [of_priority("a", 0), of_priority("b", 1)];
        let config = McpConfig { force: Force::Always, ..McpConfig::default() };
        let house = House::of(builder, config, services).await;
        house.start("a").await;
        let guest = house.machine().await;
        if protected {
            let refused = guest.refused("start_service", named("b")).await;
            assert_eq!(refused.code, "GPU_BUSY");
            assert!(refused.text.contains("'a' is protected"), "{}", refused.text);
            assert_eq!(house.engine.running(), ["a-main-1"]);
        } else {
            let answer = guest.done("start_service", named("b")).await;
            assert_eq!(answer["stopped"], json!(["a"]));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_has_nobody_make_way_for_an_assistant_unasked() {
    for force in [Force::Ask, Force::Never] {
        let of_priority = |name: &str, priority| {
            with(name, |manifest| {
                *manifest = manifest.clone().with_gpu(8);
                manifest.priority = priority;
            })
        };
        let mut settings = Settings::default();
        settings.gpu.min_hold = Duration::ZERO;
        let builder = Nanny::builder().policy(Polite).settings(settings);
        let config = McpConfig { force, ..McpConfig::default() };
        let house = House::of(builder, config, [of_priority("a", 0), of_priority("b", 1)]).await;
        house.start("a").await;
        let guest = house.guest(Era::New, Person::who_says(true)).await;
        let refused = guest.refused("start_service", named("b")).await;
        assert_eq!(refused.code, "GPU_BUSY");
        assert_eq!(refused.text.contains("force"), force == Force::Ask, "{}", refused.text);
        assert_eq!(house.engine.running(), ["a-main-1"]);
        if force == Force::Never {
            assert_eq!(guest.refused("start_service", forced("b")).await.code, "GPU_BUSY");
            assert_eq!(house.engine.running(), ["a-main-1"]);
            assert!(guest.person.was_asked().is_empty());
        } else {
            let answer = guest.done("start_service", forced("b")).await;
            assert_eq!(answer["stopped"], json!(["a"]));
            assert_eq!(guest.person.was_asked().len(), 1);
        }
    }
}

/// A container of other hands that has the GPU.
fn stranger() -> ContainerSpec {
    let mut spec = ContainerSpec::new("stranger", "image");
    spec.devices = vec![DeviceMapping::new("/dev/nvidia0")];
    spec
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_beside_a_container_of_other_hands_unasked() {
    for force in [Force::Ask, Force::Always, Force::Never] {
        let config = McpConfig { force, ..McpConfig::default() };
        let house = House::with(config, [gpu("b")]).await;
        let id = house.engine.create(&stranger()).await.unwrap();
        house.engine.start(&id).await.unwrap();
        let seen = house.nanny().wait_until(|now| !now.foreign_gpu_containers.is_empty());
        tokio::time::timeout(Duration::from_secs(120), seen).await.unwrap().unwrap();
        let refused = house.machine().await.refused("start_service", named("b")).await;
        assert_eq!(refused.code, "GPU_BUSY");
        assert!(refused.text.contains("'stranger' is none of our services"), "{}", refused.text);
        assert!(!refused.text.contains("force"), "{}", refused.text);
        match force {
            Force::Never => {
                let refused = house.machine().await.refused("start_service", forced("b")).await;
                assert_eq!(refused.code, "GPU_BUSY");
            }
            Force::Always => {
                let answer = house.machine().await.done("start_service", forced("b")).await;
                assert_eq!(answer["outcome"], "running");
                continue;
            }
            Force::Ask => {
                let refused = house.machine().await.refused("start_service", forced("b")).await;
                assert_eq!(refused.code, "CONFIRMATION_REQUIRED");
                assert_eq!(refused.details["would_pass_over"], json!(["stranger"]));
            }
        }
        assert_eq!(house.status("b"), Status::Stopped);
        if force == Force::Never {
            continue;
        }
        let guest = house.guest(Era::Old, Person::who_says(false)).await;
        assert_eq!(guest.refused("start_service", forced("b")).await.code, "USER_DECLINED");
        assert_eq!(house.status("b"), Status::Stopped);
        for era in [Era::Old, Era::New] {
            let guest = house.guest(era, Person::who_says(true)).await;
            let answer = guest.done("start_service", forced("b")).await;
            assert_eq!(answer["outcome"], "running");
            let asked = guest.person.was_asked();
            assert!(asked.len() == 1 && asked[0].contains("'stranger'"), "{asked:?}");
            house.nanny().stop("b", StopOptions::default()).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_before_one_who_has_waited_long_unasked() {
    let mut settings = Settings::default();
    settings.gpu.max_bypass = Some(Duration::ZERO);
    settings.gpu.min_hold = Duration::from_secs(3600);
    let builder = Nanny::builder().settings(settings);
    let config = McpConfig { force: Force::Never, ..McpConfig::default() };
    let house = House::of(builder, config, [gpu("a"), gpu("b"), gpu("c")]).await;
    house.start("a").await;
    let nanny = house.nanny().clone();
    let queued = StartOptions::default().queued_for(Duration::MAX);
    let waits = tokio::spawn(async move { nanny.start("b", queued).await });
    house.until("b", Status::Queued).await;
    let refused = house.machine().await.refused("start_service", forced("c")).await;
    assert_eq!(refused.code, "GPU_BUSY");
    assert!(refused.text.contains("'b' waits before you"), "{}", refused.text);
    waits.abort();
}

#[tokio::test(start_paused = true)]
async fn progress_grows_over_a_call_in_which_the_user_is_asked() {
    let house = house(Force::Ask).await;
    house.engine.start_takes("b-main-1", Duration::from_secs(20));
    let guest = house.guest(Era::Old, Person::who_says(true).after(Duration::from_secs(40))).await;
    let answer = guest.done("start_service", forced("b")).await;
    // Little is left of its time, and that it goes on is said all the same.
    assert_eq!(answer["outcome"], "starting");
    assert!((45_000..46_000).contains(&answer["waited_ms"].as_u64().unwrap()), "{answer}");
    let told = guest.person.progress.lock().unwrap().clone();
    let percents: Vec<_> = told.iter().map(|(_, progress)| progress.progress).collect();
    assert!(percents.len() >= 5 && percents.is_sorted_by(|a, b| a < b), "{percents:?}");
    assert_eq!(told[0].1.message.as_deref(), Some("waiting for the user's answer"));
    for pair in told.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= Duration::from_millis(500), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn users_who_think_take_no_place_from_others() {
    let mut services: Vec<_> = (0..20).map(|n| gpu(&format!("g{n}"))).collect();
    services.extend([gpu("a"), super::cpu("free")]);
    let house = House::new(services).await;
    house.start("a").await;
    let guest = house.guest(Era::Old, Person::who_says(false).after(Duration::from_secs(60))).await;
    let thinking = futures_util::future::join_all((0..20).map(|n| {
        let guest = &guest;
        async move {
            // Not all at one moment: each has a place until its user is asked.
            tokio::time::sleep(Duration::from_millis(100 * n)).await;
            guest.refused("start_service", forced(&format!("g{n}"))).await.code
        }
    }));
    let (codes, started) = tokio::join!(thinking, async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        guest.done("start_service", named("free")).await
    });
    assert_eq!(started["outcome"], "running");
    assert!(codes.iter().all(|code| code == "USER_DECLINED"), "{codes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_user_who_does_not_answer_has_not_agreed() {
    let house = house(Force::Ask).await;
    let guest =
        house.guest(Era::Old, Person::who_says(true).after(Duration::from_secs(3600))).await;
    let refused = guest.refused("start_service", forced("b")).await;
    assert_eq!(refused.code, "CONFIRMATION_REQUIRED");
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn one_who_goes_away_while_the_user_is_asked_has_started_nothing() {
    let house = house(Force::Ask).await;
    let guest = house.guest(Era::Old, Person::who_says(true).after(Duration::from_secs(30))).await;
    let call = CallToolRequest::new(request("start_service", forced("b")));
    let call = ClientRequest::CallToolRequest(call);
    let sent = guest.client.peer().send_cancellable_request(call, PeerRequestOptions::default());
    let sent = sent.await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(guest.person.was_asked().len(), 1);
    sent.cancel(Some("no more".to_owned())).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(house.engine.running(), ["a-main-1"]);
}
