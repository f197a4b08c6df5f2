//! Starts, stops and swaps: by bare engine calls, by the nanny, and by Compose, taking turns.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::Scale;
use crate::house::House;
use crate::http;
use crate::numbers::{Samples, ms, table, timed};

const ABOUT: &str = "\
The same service (one container of one busybox, with an init and a network of its own) by three hands \
that take turns at every operation, on one engine:

- **bare**: the fewest calls of the engine's API that do it, on its unix socket. Cold start: make the \
network, create, start. Warm start: start. Again: inspect. Stop: stop. Swap: stop one, start the other.
- **nanny**: one request over HTTP: `start` or `stop`; for the swap, `start` with `force` of a GPU \
service while another runs. It is answered when the container was seen to run, or to be down.
- **compose**: `up -d` for a cold start and again, else `start` and `stop`, its fastest commands; for \
the swap `stop` of one and `start` of the other.

Milliseconds: median (90th percentile). \"Within\" says whether the nanny's median is at most 1.1 times \
the bare one and 5 ms more.

";

/// Who does it.
trait Hand {
    /// From nothing to running.
    fn cold(&self, service: &str);
    /// From stopped to running.
    fn warm(&self, service: &str);
    /// It runs already.
    fn again(&self, service: &str);
    fn stop(&self, service: &str);
    /// Removes it with its network.
    fn clear(&self, service: &str);
    /// One runs, the other is to run in its place.
    fn swap(&self, from: &str, to: &str);
}

type Operation = (&'static str, fn(&dyn Hand));

/// In this order, each finds what the one before has left.
const OPERATIONS: [Operation; 4] = [
    ("cold start", |hand| hand.cold("plain")),
    ("start of what runs", |hand| hand.again("plain")),
    ("stop", |hand| hand.stop("plain")),
    ("warm start", |hand| hand.warm("plain")),
];
const SWAP: &str = "forced swap";

pub(crate) fn report(scale: Scale) -> String {
    let mut nanny = House::new();
    nanny.add("nanny-plain", "");
    for service in ["nanny-one", "nanny-two"] {
        nanny.add(service, "gpu_required: true\nvram_gb: 8\n");
    }
    nanny.open();
    let mut files = House::new();
    for service in ["compose-plain", "compose-one", "compose-two"] {
        files.add(service, "");
    }
    let bare = House::new();
    let hands: [&dyn Hand; 3] = [&Bare(&bare), &Nanny(&nanny), &Compose(&files)];
    for hand in hands {
        hand.cold("two");
        hand.stop("two");
        hand.cold("one");
    }
    let mut samples: Vec<[Samples; 3]> = Vec::new();
    samples.resize_with(OPERATIONS.len() + 1, Default::default);
    for turn in 0..scale.samples {
        let order = [0, 1, 2].map(|place| (place + turn) % 3);
        for ((_, operation), samples) in OPERATIONS.iter().zip(&mut samples) {
            for hand in order {
                samples[hand].push(timed(|| operation(hands[hand])));
            }
        }
        let (from, to) = if turn % 2 == 0 { ("one", "two") } else { ("two", "one") };
        for hand in order {
            samples[OPERATIONS.len()][hand].push(timed(|| hands[hand].swap(from, to)));
        }
        hands.iter().for_each(|hand| hand.clear("plain"));
    }
    hands.iter().for_each(|hand| ["one", "two"].iter().for_each(|service| hand.clear(service)));
    let names = OPERATIONS.iter().map(|(name, _)| *name).chain([SWAP]);
    let rows: Vec<_> = names.zip(&samples).map(|(name, samples)| row(name, samples)).collect();
    let heading = [
        "",
        "bare",
        "nanny",
        "compose",
        "nanny / bare",
        "nanny − bare",
        "within",
        "compose / nanny",
    ];
    format!(
        "## Starts, stops and swaps\n\n{ABOUT}{} of each.\n\n{}",
        scale.samples,
        table(&heading, &rows)
    )
}

fn row(name: &str, [bare, nanny, compose]: &[Samples; 3]) -> Vec<String> {
    let both =
        |samples: &Samples| format!("{} ({})", ms(samples.median()), ms(samples.percentile(90)));
    let ratio = |one: &Samples, other: &Samples| {
        format!("{:.2}", one.median().as_secs_f64() / other.median().as_secs_f64())
    };
    let limit = bare.median().mul_f64(1.1) + Duration::from_millis(5);
    let more = nanny.median().as_secs_f64() - bare.median().as_secs_f64();
    vec![
        name.to_owned(),
        both(bare),
        both(nanny),
        both(compose),
        ratio(nanny, bare),
        format!("{:+.1}", more * 1e3),
        if nanny.median() <= limit { "yes" } else { "no" }.to_owned(),
        ratio(compose, nanny),
    ]
}

#[derive(Debug)]
struct Bare<'a>(&'a House);

impl Bare<'_> {
    fn name(&self, service: &str) -> String {
        self.0.name(&format!("bare-{service}"))
    }

    fn ask(&self, method: &str, path: &str, body: &str) {
        http::engine(method, path, body).expect("the engine answers").ok();
    }
}

impl Hand for Bare<'_> {
    fn cold(&self, service: &str) {
        let name = self.name(service);
        self.ask("POST", "/networks/create", &json!({"Name": name}).to_string());
        let container = json!({
            "Image": "nanny-test/busybox:1",
            "Cmd": ["sleep", "86400"],
            "HostConfig": {"Init": true, "NetworkMode": name},
        });
        self.ask("POST", &format!("/containers/create?name={name}"), &container.to_string());
        self.warm(service);
    }

    fn warm(&self, service: &str) {
        self.ask("POST", &format!("/containers/{}/start", self.name(service)), "");
    }

    fn again(&self, service: &str) {
        self.ask("GET", &format!("/containers/{}/json", self.name(service)), "");
    }

    fn stop(&self, service: &str) {
        self.ask("POST", &format!("/containers/{}/stop", self.name(service)), "");
    }

    fn clear(&self, service: &str) {
        let name = self.name(service);
        self.ask("DELETE", &format!("/containers/{name}?force=1"), "");
        self.ask("DELETE", &format!("/networks/{name}"), "");
    }

    fn swap(&self, from: &str, to: &str) {
        self.stop(from);
        self.warm(to);
    }
}

#[derive(Debug)]
struct Nanny<'a>(&'a House);

impl Nanny<'_> {
    fn ask(&self, service: &str, what: &str, body: &str) {
        self.0.ask("POST", &format!("nanny-{service}"), what, body).ok();
    }
}

impl Hand for Nanny<'_> {
    // By force, so that a GPU container of strangers on this engine is in nobody's way.
    fn cold(&self, service: &str) {
        self.ask(service, "/start", r#"{"force": true}"#);
    }

    fn warm(&self, service: &str) {
        self.cold(service);
    }

    fn again(&self, service: &str) {
        self.cold(service);
    }

    fn stop(&self, service: &str) {
        self.ask(service, "/stop", "");
    }

    fn clear(&self, service: &str) {
        self.ask(service, "/stop", r#"{"remove": true}"#);
    }

    fn swap(&self, _: &str, to: &str) {
        self.cold(to);
    }
}

#[derive(Debug)]
struct Compose<'a>(&'a House);

impl Compose<'_> {
    fn run(&self, service: &str, arguments: &[&str]) {
        let mut command = Command::new("docker");
        command.arg("compose").args(arguments);
        command.current_dir(self.0.home(&format!("compose-{service}")));
        let output = command.stdin(Stdio::null()).output().expect("there is Compose");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Hand for Compose<'_> {
    fn cold(&self, service: &str) {
        self.run(service, &["up", "-d"]);
    }

    fn warm(&self, service: &str) {
        self.run(service, &["start"]);
    }

    fn again(&self, service: &str) {
        self.cold(service);
    }

    fn stop(&self, service: &str) {
        self.run(service, &["stop"]);
    }

    fn clear(&self, service: &str) {
        self.run(service, &["down"]);
    }

    fn swap(&self, from: &str, to: &str) {
        self.stop(from);
        self.warm(to);
    }
}
