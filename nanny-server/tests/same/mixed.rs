//! One nanny with every engine at once, and one GPU for the services of all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nanny_testkit::proxy::{Endpoint, Line, Proxy};
use serde_json::{Value, json};

use crate::containers::{Containers, DOCKER, PODMAN};
use crate::house::{House, free_port, pause, say, until};
use crate::http::exchange;
use crate::kind::{Kind, Program};
use crate::processes::PROCESS;
use crate::stage::Stage;
use crate::witness::{self, MARK};

const FORCE: &str = r#"{"force": true}"#;

/// A service that needs the GPU, and one that does not, on every engine.
const SERVICES: [(&str, &str, &dyn Kind); 3] = [
    ("on-docker", "plain-docker", &DOCKER),
    ("on-podman", "plain-podman", &PODMAN),
    ("on-process", "plain-process", &PROCESS),
];

fn mixed() -> Stage {
    let mut stage = Stage::new(&PROCESS);
    let (gpu, port) = (gpu(&stage), free_port());
    fs::create_dir(&gpu).expect("it is new");
    for (service, plain, kind) in SERVICES {
        let backend = format!("backend: {}\n", kind.name());
        let program = holding(&kind.sees(&gpu), port);
        let program = Program { mount: Some(gpu.clone()), is_in_the_open: true, ..program };
        stage.add_on(kind, service, &backend, &program);
        stage.add_on(kind, plain, &backend, &Program::idle());
    }
    stage
}

/// A folder that all of them see.
fn gpu(house: &House) -> PathBuf {
    house.directory().join("gpu")
}

/// Holds a port of the machine as long as it runs, in the GPU's stead. The kernel sees to it that no
/// two have it, and that it is free once the last process that held it is gone: a witness who never
/// looks away. Who finds it taken ends, and says so.
fn holding(place: &str, port: u16) -> Program {
    Program::new(&format!(
        "echo ${MARK} >>{place}/runs; exec busybox httpd -f -p 127.0.0.1:{port} -h {place}"
    ))
}

/// Who has run, so far.
fn runs(house: &House) -> Vec<String> {
    let text = fs::read_to_string(gpu(house).join("runs")).unwrap_or_default();
    text.lines().map(|line| line.replace(&format!("-{}", house.tag), "")).collect()
}

/// No service has ever met another.
#[track_caller]
fn never_met(house: &House) {
    for (service, ..) in SERVICES {
        let log = house.logs(service, "?tail=all");
        let log = log["logs"].as_str().expect("it is text");
        assert!(!log.contains("in use"), "'{service}' was not alone: {log}");
    }
}

/// Where the nanny of the moment is, and what it wants to hear.
#[derive(Default)]
struct Place(Mutex<(String, String)>);

impl Place {
    fn lock(&self) -> MutexGuard<'_, (String, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moves_to(&self, house: &House) {
        *self.lock() = (house.address().to_owned(), house.headers());
    }

    /// Asks for something; the status, if there is an answer.
    fn post(&self, path: &str, body: &str) -> Option<u16> {
        let (address, headers) = self.lock().clone();
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        let answer = exchange(stream, &format!("POST {path} HTTP/1.1"), &headers, body);
        Some(answer.ok()?.status)
    }
}

/// Until it is over, forces one service after the other; how often each status was the answer.
fn client(stage_tag: &str, place: &Place, nth: usize, over: &AtomicBool) -> BTreeMap<u16, usize> {
    let mut answers = BTreeMap::new();
    let mut turn = nth;
    while !over.load(Ordering::Relaxed) {
        let (service, ..) = SERVICES[turn % SERVICES.len()];
        // One of them goes the other way round.
        turn += 1 + nth % 2;
        match place.post(&format!("/services/{service}-{stage_tag}/start"), FORCE) {
            Some(status) => *answers.entry(status).or_default() += 1,
            // The nanny was killed.
            None => pause(),
        }
    }
    answers
}

const STORM: Duration = Duration::from_secs(20);
const CLIENTS: usize = 4;

pub(crate) fn c2_a_storm_over_all_engines_and_kills_never_has_two() {
    let mut stage = mixed();
    stage.open_all(|_| {});
    let (place, over) = (Place::default(), AtomicBool::new(false));
    place.moves_to(&stage);
    let tag = stage.tag.clone();
    let suffix = format!("-{tag}");
    let exclusive = |project: &str| project.ends_with(&suffix) && project.starts_with("on-");
    let (kills, answers, by_engines) = witness::never_two(exclusive, || {
        thread::scope(|scope| {
            let (place, over, tag, exclusive) = (&place, &over, &tag, &exclusive);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|nth| scope.spawn(move || client(tag, place, nth, over)))
                .collect();
            let engines = scope.spawn(move || two_by_engines(exclusive, over));
            #[expect(clippy::disallowed_methods, reason = "the storm has a limit")]
            let began = Instant::now();
            let mut kills = 0;
            // As long as that, and on a slow machine until each of them has run.
            let ran = |stage: &House| runs(stage).into_iter().collect::<BTreeSet<_>>().len();
            while began.elapsed() < STORM
                || (began.elapsed() < 15 * STORM && ran(&stage) < SERVICES.len())
            {
                // In the midst of swaps of any age.
                for _ in 0..30 + kills * 7 % 40 {
                    pause();
                }
                stage.end_with("KILL");
                stage.open_all(|_| {});
                place.moves_to(&stage);
                kills += 1;
            }
            over.store(true, Ordering::Relaxed);
            let mut answers = BTreeMap::<u16, usize>::new();
            for client in clients {
                for (status, times) in client.join().expect("it only asks") {
                    *answers.entry(status).or_default() += times;
                }
            }
            (kills, answers, engines.join().expect("it only looks"))
        })
    });
    let runs = runs(&stage);
    let ran: BTreeSet<_> = runs.iter().cloned().collect();
    say(&format!("{} runs, {kills} kills, answers {answers:?}", runs.len()));
    never_met(&stage);
    assert_eq!(by_engines, None, "two at once");
    assert_eq!(ran, SERVICES.map(|(service, ..)| service.to_owned()).into());
    assert!(answers.contains_key(&200), "{answers:?}");
    let other = answers.keys().find(|status| !matches!(status, 200 | 409 | 503));
    assert_eq!(other, None, "{answers:?}");

    for (service, ..) in SERVICES {
        until(
            || (stage.start(service, FORCE).status == 200).then_some(()),
            || format!("'{service}' never gets the GPU: {}", stage.get("/services")),
        );
        stage.ends_with(&[service]);
    }
    never_met(&stage);
}

/// The same question to the engines themselves: two containers of different projects that they
/// called running at one moment.
fn two_by_engines(
    exclusive: impl Fn(&str) -> bool,
    over: &AtomicBool,
) -> Option<[BTreeSet<(String, String)>; 3]> {
    // Which run of it: a container keeps its identifier when it is started again.
    let run = |engine: &Containers, (name, id): (String, String)| {
        let since = engine.command(&["inspect", "--format", "{{.State.StartedAt}}", &id]);
        let since = String::from_utf8_lossy(&since.stdout).trim().to_owned();
        (!since.is_empty()).then(|| (name, format!("{id} {since}")))
    };
    let look = |engine: &Containers| -> BTreeSet<_> {
        let project = |name: &str| name.trim_end_matches("-web-1").to_owned();
        let up = engine.up().into_iter().filter(|(name, _)| exclusive(&project(name)));
        up.filter_map(|found| run(engine, found)).collect()
    };
    while !over.load(Ordering::Relaxed) {
        let (before, between, after) = (look(&DOCKER), look(&PODMAN), look(&DOCKER));
        let stayed = before.intersection(&after).count();
        if before.len() > 1 || between.len() > 1 || (stayed > 0 && !between.is_empty()) {
            return Some([before, between, after]);
        }
        for _ in 0..4 {
            pause();
        }
    }
    None
}

/// What `/health` says of each engine.
fn states(stage: &Stage) -> Vec<(String, String)> {
    let engines = stage.get("/health")["engines"].as_array().cloned().expect("a list");
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    engines.iter().map(|engine| (word(&engine["name"]), word(&engine["state"]))).collect()
}

#[track_caller]
fn become_(stage: &Stage, wanted: [(&str, &str); 3]) {
    let wanted = wanted.map(|(name, state)| (name.to_owned(), state.to_owned()));
    until(|| (states(stage) == wanted).then_some(()), || format!("{:?}", states(stage)));
}

pub(crate) fn b1_an_engine_that_is_down_never_blocks_services_of_another() {
    let mut stage = mixed();
    let lines = [&DOCKER, &PODMAN].map(|engine| line(&stage, engine));
    let flags = [&DOCKER, &PODMAN].map(Containers::host_flag);
    stage.open_all(|command| {
        for (line, flag) in lines.iter().zip(flags) {
            command.args([flag, &line.endpoint().to_string()]);
        }
    });
    become_(&stage, [("docker", "up"), ("podman", "up"), ("process", "up")]);
    for (nth, down) in ["docker", "podman"].into_iter().enumerate() {
        let (holder, down_plain, _) = SERVICES[nth];
        let (other, other_plain, _) = SERVICES[1 - nth];
        stage.start(holder, FORCE).expect(200);
        stage.started(down_plain);
        let run = stage.run(holder);
        lines[nth].line(Line::HangUp);
        stage.sees(holder, |now| now["status"] == "unknown");
        let state = |name| if name == down { "down" } else { "up" };
        become_(&stage, ["docker", "podman", "process"].map(|name| (name, state(name))));

        // Whoever needs no GPU is no matter of the engine that is down.
        for plain in [other_plain, "plain-process"] {
            stage.started(plain);
            stage.stop(plain, "").expect(200);
        }
        let refused = stage.ask("POST", &format!("/services/{down_plain}/stop"), "");
        assert_eq!(refused.expect(503)["code"], "engine_unavailable");
        // The GPU is held by what may still run there.
        for service in [other, "on-process"] {
            let refused = stage.ask("POST", &format!("/services/{service}/start"), FORCE);
            assert!(refused.header("retry-after").is_some(), "{refused:?}");
            assert_eq!(refused.expect(503)["code"], "engine_unavailable");
        }
        lines[nth].line(Line::Open);
        stage.until(holder, |now| now["status"] == "running" && now["stale_since"].is_null());
        assert_eq!(stage.run(holder), run);
        stage.start("on-process", FORCE).expect(200);
        stage.stop("on-process", "").expect(200);
        stage.stop(down_plain, "").expect(200);
    }
    stage.ends_with(&[]);
    never_met(&stage);
}

/// A line to an engine that can be cut.
fn line(house: &House, engine: &Containers) -> Proxy {
    let socket = house.directory().join(format!("{}.sock", engine.name()));
    let upstream = Endpoint::unix(engine.socket());
    Proxy::start(&Endpoint::unix(socket), upstream).expect("it can listen")
}

pub(crate) fn b14_an_engine_that_is_absent_blocks_nobody_else() {
    let mut stage = mixed();
    let nowhere = format!("unix://{}/nowhere.sock", stage.directory().display());
    for absent in [&DOCKER, &PODMAN] {
        stage.open_all(|command| {
            command.args([absent.host_flag(), &nowhere]);
        });
        let state = |name| if name == absent.name() { "absent" } else { "up" };
        become_(&stage, ["docker", "podman", "process"].map(|name| (name, state(name))));
        for (service, plain, kind) in SERVICES {
            if kind.name() == absent.name() {
                let refused = stage.ask("POST", &format!("/services/{service}/start"), "");
                assert_eq!(refused.expect(503)["code"], "engine_unavailable");
                continue;
            }
            stage.started(plain);
            stage.start(service, FORCE).expect(200);
            assert_eq!(stage.holder(), service);
            stage.stop(plain, "").expect(200);
        }
        stage.stop("on-process", "").expect(200);
        stage.end_with("TERM");
    }
}

pub(crate) fn services_go_where_their_manifests_say() {
    let mut stage = mixed();
    stage.open_all(|_| {});
    for (service, plain, kind) in SERVICES {
        for name in [service, plain] {
            stage.until(name, |now| now["status"] == "stopped");
            assert_eq!(stage.get(&format!("/services/{name}"))["backend"], json!(kind.name()));
        }
        stage.start(service, FORCE).expect(200);
        stage.started(plain);
        stage.run(service);
        let others = SERVICES.iter().filter(|(name, ..)| *name != service);
        assert_eq!(others.filter(|(name, ..)| stage.runs(name)).count(), 0);
        assert!(kind.keeps(&stage, service));
    }
    for (_, plain, kind) in SERVICES {
        stage.stop(plain, r#"{"remove": true}"#).expect(200);
        assert!(!kind.keeps(&stage, plain));
    }
    stage.ends_with(&["on-process"]);
}
