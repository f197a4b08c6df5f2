//! Many callers who want one GPU, watched by somebody who asks the engine only.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::engine;
use crate::house::{GPU, House, IDLE, pause, web};

const SERVICES: [&str; 4] = ["a", "b", "c", "d"];

fn house() -> Option<House> {
    let mut house = House::new()?;
    for service in SERVICES {
        house.add(service, GPU, &web(IDLE, ""));
    }
    house.open();
    Some(house)
}

/// Sends all requests at one moment, and meanwhile looks at the engine again and again; the
/// answers, and what was ever up.
fn storm(house: &House, callers: usize, body: &str) -> (Vec<u16>, Vec<Vec<String>>) {
    let (gate, over) = (Barrier::new(callers), AtomicBool::new(false));
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = Vec::new();
            while !over.load(Ordering::Relaxed) {
                seen.push(engine::projects_up(&house.tag));
                pause();
            }
            seen
        });
        let call = |caller: usize| {
            let gate = &gate;
            scope.spawn(move || {
                gate.wait();
                let answer = house.start(SERVICES[caller % SERVICES.len()], body);
                answer.json();
                answer.status
            })
        };
        let calls: Vec<_> = (0..callers).map(call).collect();
        let answers = calls.into_iter().map(|call| call.join().expect("an answer")).collect();
        over.store(true, Ordering::Relaxed);
        (answers, watch.join().expect("the engine answers"))
    })
}

fn count(answers: &[u16], status: u16) -> usize {
    answers.iter().filter(|answer| **answer == status).count()
}

#[test]
fn c1_of_sixty_starts_of_four_gpu_services_one_service_wins() {
    let Some(house) = house() else { return };
    let (answers, seen) = storm(&house, 60, "");
    assert!(seen.iter().all(|up| up.len() <= 1), "two at once: {seen:?}");
    let other = answers.iter().find(|status| !matches!(status, 200 | 409 | 503));
    assert_eq!(other, None, "{answers:?}");
    // Every start of the one that won was joined, and no other was let in.
    assert_eq!(count(&answers, 200), 15, "{answers:?}");
    let up = engine::projects_up(&house.tag);
    assert_eq!(up.len(), 1, "{up:?}");
    assert_eq!(up[0], house.project(house.holder().as_str().expect("somebody has it")));
}

#[test]
fn c2_a_storm_of_forced_swaps_ends_with_one_and_never_has_two() {
    let Some(house) = house() else { return };
    let (answers, seen) = storm(&house, 24, r#"{"force": true}"#);
    assert!(seen.iter().all(|up| up.len() <= 1), "two at once: {seen:?}");
    let other = answers.iter().find(|status| !matches!(status, 200 | 409 | 503));
    assert_eq!(other, None, "{answers:?}");
    assert!(count(&answers, 200) >= 1, "{answers:?}");
    let up = engine::projects_up(&house.tag);
    assert_eq!(up.len(), 1, "{up:?}, after {answers:?}");
    assert_eq!(up[0], house.project(house.holder().as_str().expect("somebody has it")));
    for service in SERVICES {
        let wanted = if up[0] == house.project(service) { "running" } else { "stopped" };
        assert_eq!(house.status(service)["status"], wanted, "{service}");
    }
}

#[test]
fn c2_a_storm_of_starts_and_stops_of_one_service_ends_as_the_engine_says() {
    let Some(house) = House::with(GPU, &web(IDLE, "")) else { return };
    let gate = Barrier::new(24);
    let answers: Vec<_> = thread::scope(|scope| {
        let call = |caller: usize| {
            let (gate, house) = (&gate, &house);
            scope.spawn(move || {
                gate.wait();
                match caller % 3 {
                    0 => house.start("web", ""),
                    1 => house.stop("web", ""),
                    _ => house.ask("POST", "/services/web/restart", ""),
                }
            })
        };
        let calls: Vec<_> = (0..24).map(call).collect();
        calls.into_iter().map(|call| call.join().expect("an answer")).collect()
    });
    for answer in &answers {
        assert!(matches!(answer.status, 200 | 409 | 503), "{answer:?}");
    }
    let now = house.until("web", |now| now["status"] == "running" || now["status"] == "stopped");
    assert_eq!(now["is_running"], engine::runs(&house.container("web")), "{now}");
    assert_eq!(now["holds_gpu"], now["is_running"], "{now}");
    house.started("web");
    assert_eq!(engine::containers(&house.project("web")).len(), 1);
    house.stop("web", "").expect(200);
    assert!(!engine::runs(&house.container("web")));
}
