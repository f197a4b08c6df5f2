//! Where it all takes place: services, a nanny, its engine, clients, and the witness.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nanny_testkit::dockerd::{Dockerd, Look, Observer, Survival};

use super::clients::Clients;
use super::dice::Dice;
use super::mischief::{Deed, REQUESTS};
use super::nanny::{Nanny, ask};

/// Ends in this order: the nanny, the witness, the engine.
pub(crate) struct Stage {
    nanny: Nanny,
    observer: Observer,
    clients: Clients,
    engine: Dockerd,
    folder: PathBuf,
    /// Looks of the witness that were complained of.
    complained: usize,
    deeds: u64,
}

/// All but the last need the GPU.
const SERVICES: &[&str] = &["alpha", "beta", "gamma", "plain"];
/// In the same order; what engines bring back, and what they do not.
const POLICIES: &[&str] = &["always", "on-failure", "no", "unless-stopped"];
/// The view is the engine's within a few seconds of its answering; so long, because this machine has
/// other work, and may be a slow one.
const AGREES_WITHIN: Duration = Duration::from_secs(30);
const CALM: Duration = Duration::from_secs(12);
const SOON: Duration = Duration::from_millis(50);

fn needs_gpu(service: &str) -> bool {
    service != "plain"
}

impl Stage {
    pub(crate) fn set(binary: &Path, dice: &mut Dice) -> io::Result<Self> {
        if let Some(trouble) = Dockerd::unavailable() {
            return Err(io::Error::other(trouble));
        }
        let survival = dice.one_of(&[Survival::End, Survival::LiveOn]);
        let engine = Dockerd::start(survival)?;
        let folder = engine.folder().join("soak");
        for (service, policy) in SERVICES.iter().zip(POLICIES) {
            let home = folder.join("services").join(service);
            fs::create_dir_all(&home)?;
            let gpu = if needs_gpu(service) { "gpu_required: true\n" } else { "" };
            fs::write(home.join("service.yaml"), format!("name: {service}\n{gpu}"))?;
            let compose = format!(
                "services:\n  web:\n    image: nanny-test/busybox:1\n    init: true\n    \
                 restart: \"{policy}\"\n    command: [sh, -c, 'exec sleep 86400']\n"
            );
            fs::write(home.join("docker-compose.yml"), compose)?;
        }
        load_image(&engine)?;
        let observer = Observer::watch(engine.socket(), needs_gpu);
        let mut nanny = Nanny::new(binary, &folder, engine.host());
        nanny.open()?;
        let clients = Clients::default();
        Ok(Self { nanny, observer, clients, engine, folder, complained: 0, deeds: 0 })
    }

    /// A few seconds in which anything may happen; what did.
    pub(crate) fn storm(&mut self, dice: &mut Dice) -> io::Result<Vec<String>> {
        let mut deeds = Vec::new();
        for _ in 0..4 + dice.below(12) {
            let deed = Deed::any(dice);
            let service = dice.one_of(SERVICES);
            deeds.push(match deed {
                Deed::Hand(_) | Deed::Compose(_) => format!("{deed:?} {service}"),
                _ => format!("{deed:?}"),
            });
            self.deeds += 1;
            self.carry_out(deed, service, dice)?;
            std::thread::sleep(Duration::from_millis(dice.below(700)));
        }
        Ok(deeds)
    }

    fn carry_out(&mut self, deed: Deed, service: &str, dice: &mut Dice) -> io::Result<()> {
        match deed {
            Deed::KillNanny | Deed::StopNanny => {
                self.nanny.end(if deed == Deed::KillNanny { "KILL" } else { "TERM" })?;
                std::thread::sleep(Duration::from_millis(dice.below(1500)));
                self.nanny.open()?;
            }
            Deed::FreezeNanny => {
                self.nanny.signal("STOP")?;
                std::thread::sleep(Duration::from_millis(dice.below(4000)));
                self.nanny.signal("CONT")?;
            }
            Deed::KillEngine | Deed::RestartEngine => {
                let back = self.may_come_back();
                self.engine.end(if deed == Deed::KillEngine { "KILL" } else { "TERM" })?;
                std::thread::sleep(Duration::from_millis(dice.below(4000)));
                back.iter().for_each(|service| self.observer.by_hand(service));
                self.engine.boot()?;
                if dice.below(2) == 0 {
                    self.engine.wait()?;
                }
            }
            Deed::FreezeEngine => {
                self.engine.signal("STOP")?;
                std::thread::sleep(Duration::from_millis(dice.below(9000)));
                self.engine.signal("CONT")?;
            }
            // It may have none at the moment.
            Deed::KillContainerd => drop(self.engine.kill_containerd()),
            Deed::Hand(verb) => self.by_hand(verb, service),
            Deed::Compose(arguments) => self.compose(arguments, service),
            Deed::Requests(number) => {
                for _ in 0..number {
                    let (action, body) = dice.one_of(REQUESTS);
                    let path = format!("/services/{}/{action}", dice.one_of(SERVICES));
                    self.clients.send(self.nanny.address(), path, body);
                }
            }
        }
        Ok(())
    }

    /// What the engine may bring back by itself: what Compose made, with the policy of its file.
    fn may_come_back(&self) -> Vec<&'static str> {
        let comes_back = |service: &&&str| {
            let path = format!("/containers/{service}-web-1/json");
            // An engine that does not say may do anything.
            self.engine.get(&path, Duration::from_secs(2)).map_or(true, |answer| {
                let container = answer.json();
                let policy = container["HostConfig"]["RestartPolicy"]["Name"].as_str();
                policy.is_some_and(|policy| !matches!(policy, "" | "no"))
            })
        };
        SERVICES.iter().filter(comes_back).copied().collect()
    }

    /// Does to a container what people do. It may not be there, and the engine may not answer:
    /// that is their trouble.
    fn by_hand(&self, verb: &str, service: &str) {
        let name = format!("{service}-web-1");
        let aside = format!("{name}-aside");
        let commands: &[&[&str]] = match verb {
            "rm" => &[&["rm", "--force", &name]],
            "rename" => &[&["rename", &name, &aside], &["rename", &aside, &name]],
            "pause" => &[&["pause", &name], &["unpause", &name]],
            "stop" | "restart" => &[&[verb, "--time", "1", &name]],
            _ => &[&[verb, &name]],
        };
        if matches!(verb, "start" | "restart" | "pause") {
            self.observer.by_hand(service);
        }
        for arguments in commands {
            let mut command = self.engine.docker_command(arguments);
            drop(bounded(&mut command));
        }
    }

    fn compose(&self, arguments: &[&str], service: &str) {
        if arguments[0] == "up" {
            self.observer.by_hand(service);
        }
        let mut command = self.engine.docker_command(&[&["compose"], arguments].concat());
        command.current_dir(self.folder.join("services").join(service));
        drop(bounded(&mut command));
    }

    /// Nobody does anything any more; what is wrong once all has had its time.
    pub(crate) fn calm(&mut self, dice: &mut Dice) -> io::Result<Vec<String>> {
        if !self.nanny.is_up() {
            self.nanny.open()?;
        }
        self.engine.wait()?;
        let mut wrong = self.clients.wait(Duration::from_secs(200));
        // Clients may have been busy until now; their last wishes have to be seen, too.
        self.agrees(AGREES_WITHIN).err().into_iter().for_each(|trouble| wrong.push(trouble));
        std::thread::sleep(CALM);
        self.agrees(AGREES_WITHIN).err().into_iter().for_each(|trouble| wrong.push(trouble));
        wrong.extend(self.two_at_once());
        wrong.extend(self.can_be_had(dice.one_of(&SERVICES[..3])));
        Ok(wrong)
    }

    /// Waits until what the nanny says of each service is what the engine says before and after.
    fn agrees(&self, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        loop {
            let before = self.engine_says();
            let view = self.nanny.get("/services");
            let details: Vec<_> = SERVICES
                .iter()
                .map(|service| self.nanny.get(&format!("/services/{service}/status")))
                .collect();
            let after = self.engine_says();
            let Some(up) = before.clone().filter(|_| before == after) else {
                if Instant::now() > deadline {
                    return Err("the engine does not stay as it is, or does not answer".to_owned());
                }
                std::thread::sleep(SOON);
                continue;
            };
            let mut trouble = Vec::new();
            for (service, now) in SERVICES.iter().zip(&details) {
                let runs = up.contains(*service);
                match now {
                    Ok(now) => {
                        let held = !needs_gpu(service) || !runs || now["holds_gpu"] == true;
                        if now["is_running"] != runs || now["status"] == "unknown" || !held {
                            trouble
                                .push(format!("{service} runs: {runs}, and the nanny says {now}"));
                        }
                    }
                    Err(error) => trouble.push(format!("{service}: {error}")),
                }
            }
            if view.is_ok() && trouble.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("view and engine differ: {}", trouble.join("; ")));
            }
            std::thread::sleep(SOON);
        }
    }

    fn engine_says(&self) -> Option<BTreeSet<String>> {
        let answer = self.engine.get("/containers/json", Duration::from_secs(5)).ok()?;
        let listed = answer.json();
        let projects = listed.as_array()?.iter();
        let projects = projects.filter_map(|c| c["Labels"]["com.docker.compose.project"].as_str());
        Some(projects.map(str::to_owned).collect())
    }

    fn two_at_once(&mut self) -> Vec<String> {
        let two = self.observer.two_at_once();
        let new = two[self.complained..].iter().map(|Look { at, up, .. }| {
            format!("two at once, {:.1} s after the beginning: {up:?}", at.as_secs_f64())
        });
        let new = new.collect();
        self.complained = two.len();
        new
    }

    /// Whatever has happened, whoever wants the GPU by force gets it.
    fn can_be_had(&self, service: &str) -> Option<String> {
        let path = format!("/services/{service}/start");
        let body = r#"{"force": true}"#;
        let start = || ask(self.nanny.address(), "POST", &path, body, Duration::from_secs(130));
        let mut answer = start();
        if matches!(answer, Ok((503, _))) {
            // The engine was slow.
            answer = start();
        }
        let is_up = || {
            // So is its list, at times.
            let listed = (0..20).find_map(|_| self.engine_says());
            listed.is_some_and(|up| up.contains(service))
        };
        match answer {
            Ok((200, _)) if is_up() => None,
            answer => Some(format!("{service} cannot be started: {answer:?}")),
        }
    }

    /// What nanny and engine said at last.
    pub(crate) fn trace(&self) -> String {
        let log = self.nanny.log();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(120)..].join("\n");
        format!("the nanny said at last:\n{last}\nthe engine:\n{}", self.engine.log_tail())
    }

    pub(crate) fn figures(&self) -> String {
        let (looks, deeds) = (self.observer.looks(), self.deeds);
        let (answers, dropped) = (&self.clients.answers, self.clients.dropped);
        format!("{deeds} deeds, {looks} looks; answers {answers:?}, {dropped} dropped")
    }
}

/// Runs a command of which nobody expects anything, for 20 s at most.
fn bounded(command: &mut Command) -> io::Result<()> {
    let quiet = std::process::Stdio::null;
    let mut child = command.stdout(quiet()).stderr(quiet()).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            break;
        }
        std::thread::sleep(SOON);
    }
    Ok(())
}

/// The image of the tests, from the engine that `scripts/engines images` made it on.
fn load_image(engine: &Dockerd) -> io::Result<()> {
    let file = engine.folder().join("image.tar");
    let saved = Command::new("docker")
        .args(["save", "--output"])
        .arg(&file)
        .arg("nanny-test/busybox:1")
        .output()?;
    if !saved.status.success() {
        let said = String::from_utf8_lossy(&saved.stderr).into_owned();
        return Err(io::Error::other(format!("{said}(see scripts/engines images)")));
    }
    engine.docker(&["load", "--quiet", "--input", &file.display().to_string()])?;
    fs::remove_file(file)
}
