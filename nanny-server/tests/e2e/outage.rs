//! An engine that goes away and comes back. The one of this machine stays: what is cut is a line
//! of our own to it.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, IDLE, web};

/// A socket that leads to the engine, while it is not cut.
#[derive(Debug)]
struct Line {
    path: PathBuf,
    open: Arc<Mutex<Option<Vec<UnixStream>>>>,
}

impl Line {
    fn new(directory: &Path) -> Self {
        let line = Self { path: directory.join("engine.sock"), open: Arc::default() };
        let listener = UnixListener::bind(&line.path).expect("it is new");
        line.mend();
        let open = Arc::clone(&line.open);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Who comes while it is cut is hung up on.
                if let Some(open) = &mut *open.lock().expect("nobody panics here") {
                    open.extend(connect(client).into_iter().flatten());
                }
            }
        });
        line
    }

    fn cut(&self) {
        let open = self.open.lock().expect("nobody panics here").take();
        for stream in open.into_iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        *self.open.lock().expect("nobody panics here") = Some(Vec::new());
    }
}

/// Copies both ways, each until its end.
fn connect(client: UnixStream) -> io::Result<[UnixStream; 2]> {
    let server = UnixStream::connect(engine::socket())?;
    for (mut from, mut to) in
        [(client.try_clone()?, server.try_clone()?), (server.try_clone()?, client.try_clone()?)]
    {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok([client, server])
}

#[test]
fn b1_an_engine_out_of_reach_is_said_so_and_nothing_is_lost() {
    let Some(mut house) = House::new() else { return };
    house.add("web", GPU, &web(IDLE, "restart: always"));
    house.add("rival", GPU, &web(IDLE, ""));
    let line = Line::new(house.directory());
    let host = format!("unix://{}", line.path.display());
    house.open_with(|command| {
        command.args(["--docker-host", &host]);
    });
    house.started("web");
    let container = house.container("web");
    let before = engine::inspect(&container)["State"]["StartedAt"].clone();

    line.cut();
    let now = house.sees("web", |now| now["status"] == "unknown");
    assert_eq!((&now["is_running"], &now["holds_gpu"]), (&json!(true), &json!(true)), "{now}");
    assert!(now["stale_since"].is_string(), "{now}");
    assert_eq!(house.get("/health")["status"], "healthy");
    assert_eq!(house.get("/health")["engines"][0]["state"], "down");
    assert_eq!(house.get("/services")["total"], 2);
    for request in ["web/stop", "rival/start", "web/start"] {
        let answer = house.ask("POST", &format!("/services/{request}"), "");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert_eq!(answer.expect(503)["code"], "engine_unavailable", "{request}");
    }

    // While nobody looks, it ends.
    engine::docker(&["stop", &container]);
    line.mend();
    let now = house.sees("web", |now| now["status"] != "unknown" && now["is_running"] == false);
    assert_eq!(now["stale_since"], Value::Null, "{now}");
    house.start("web", r#"{"force": true}"#).expect(200);
    assert_ne!(engine::inspect(&container)["State"]["StartedAt"], before);

    let before = engine::inspect(&container)["State"]["StartedAt"].clone();
    line.cut();
    house.sees("web", |now| now["status"] == "unknown");
    line.mend();
    house.sees("web", |now| now["status"] == "running" && now["stale_since"].is_null());
    assert_eq!(house.holder(), "web");
    assert_eq!(engine::inspect(&container)["State"]["StartedAt"], before);
}

#[test]
fn b14_a_nanny_without_an_engine_serves_and_waits_for_one() {
    let Some(mut house) = House::new() else { return };
    house.add("web", "", &web(IDLE, ""));
    let socket = house.directory().join("late/engine.sock");
    let host = format!("unix://{}", socket.display());
    house.open_with(|command| {
        command.args(["--docker-host", &host]);
    });
    assert_eq!(house.get("/health")["engines"][0]["state"], "absent");
    assert_eq!(house.status("web")["status"], "unknown");
    assert_eq!(house.start("web", "").expect(503)["code"], "engine_unavailable");
    std::fs::create_dir(house.directory().join("late")).unwrap();
    std::os::unix::fs::symlink(engine::socket(), &socket).unwrap();
    house.becomes("web", "stopped");
    house.started("web");
}
