//! Plans, step by step.

use super::*;
use crate::backend::{
    ContainerSpec, Exit, FileInside, GpuDevices, Healthcheck, HealthcheckTest, Mount, MountKind,
};
use crate::gpu::GpuVendor;
use crate::name::GpuId;
use crate::project::{
    Dependency, HashLabel, ImageWanted, Join, LateHash, Namespace, PlacedGpu, PullPolicy, labels,
    spec_hash,
};

/// A project of `web` and what else `change` makes of it, each part hashed.
fn project(keys: &[&str], change: impl FnOnce(&mut Project)) -> Project {
    let mut project = Project::new("p");
    for key in keys {
        project = project.with_part(*key, ContainerSpec::new(format!("p-{key}-1"), "image"));
    }
    change(&mut project);
    for part in project.parts.values_mut() {
        let hash = spec_hash(&part.spec);
        part.spec.labels.insert(labels::SPEC_HASH.to_owned(), hash);
    }
    project
}

fn part<'a>(project: &'a mut Project, key: &str) -> &'a mut Part {
    project.parts.get_mut(key).unwrap()
}

/// An engine that does what it is told at once.
struct Engine {
    containers: Vec<ContainerInfo>,
    progress: Progress,
    made: u32,
    done: Vec<String>,
}

impl Engine {
    fn new() -> Self {
        let mut progress = Progress::default();
        let mut image = ImageInfo::new("image-1");
        image.volumes.insert("/var/lib".to_owned());
        progress.images.insert("image".to_owned(), image);
        Self { containers: Vec::new(), progress, made: 0, done: Vec::new() }
    }

    /// The next operation: nothing that the last one did is remembered.
    fn again(&mut self) {
        self.progress =
            Progress { images: std::mem::take(&mut self.progress.images), ..Progress::default() };
        self.done.clear();
    }

    fn next(&self, project: &Project, goal: Goal) -> Plan {
        let containers: Vec<_> = self.containers.iter().collect();
        plan(project, &containers, goal, &self.progress)
    }

    /// Takes steps until there is nothing to do, at most `most` of them; why it cannot go on.
    fn run(&mut self, project: &Project, goal: Goal, most: usize) -> Result<bool, String> {
        for _ in 0..most {
            match self.next(project, goal) {
                Plan::Done => return Ok(true),
                Plan::Stuck { reason } => return Err(reason),
                Plan::Next(steps) if steps.is_empty() => return Ok(false),
                Plan::Next(steps) => self.take(&steps[0]),
            }
        }
        Ok(false)
    }

    fn up(&mut self, project: &Project) -> Vec<String> {
        assert_eq!(self.run(project, Goal::Up, 100), Ok(true), "{:?}", self.done);
        std::mem::take(&mut self.done)
    }

    fn take(&mut self, step: &Step) {
        self.done.push(match step {
            Step::Create { spec, .. } => format!("create {}", spec.name),
            Step::Rename { id, name } => format!("rename {} to {name}", self.get(id).name),
            Step::Fill { id, .. } => format!("fill {}", self.get(id).name),
            Step::Start { id, .. } => format!("start {}", self.get(id).name),
            Step::Stop { id, .. } => format!("stop {}", self.get(id).name),
            Step::Remove { id } => format!("remove {}", self.get(id).name),
            other => other.to_string(),
        });
        match step {
            Step::Create { spec, .. } => {
                self.made += 1;
                let id = ContainerId::new(format!("{:020}", self.made));
                let mut made = ContainerInfo::new(id, &spec.name, "image");
                made.labels.clone_from(&spec.labels);
                for mount in &spec.mounts {
                    let volume = match &mount.kind {
                        MountKind::Volume { name, .. } => name.clone(),
                        _ => format!("anonymous-{}", self.made),
                    };
                    made.volumes.insert(mount.target.clone(), volume);
                }
                made.volumes
                    .entry("/var/lib".to_owned())
                    .or_insert_with(|| format!("image-{}", self.made));
                self.containers.push(made);
            }
            Step::Rename { id, name } => name.clone_into(&mut self.get_mut(id).name),
            Step::Fill { id, .. } => drop(self.progress.filled.insert(id.clone())),
            Step::Start { id, .. } => {
                self.progress.started.insert(id.clone());
                self.get_mut(id).state = ContainerState::Running;
            }
            Step::Stop { id, .. } => {
                self.progress.started.remove(id);
                let container = self.get_mut(id);
                container.state = ContainerState::Exited;
                container.exit = Some(Exit::with_code(143));
            }
            Step::Remove { id } => self.containers.retain(|container| container.id != *id),
            Step::Image(image) => {
                self.progress.images.insert(image.reference.clone(), ImageInfo::new("new"));
            }
            other => panic!("{other}"),
        }
    }

    fn get(&self, id: &ContainerId) -> &ContainerInfo {
        self.containers.iter().find(|container| container.id == *id).unwrap()
    }

    fn get_mut(&mut self, id: &ContainerId) -> &mut ContainerInfo {
        self.containers.iter_mut().find(|container| container.id == *id).unwrap()
    }

    fn named(&self, name: &str) -> &ContainerInfo {
        self.containers.iter().find(|container| container.name == name).unwrap()
    }

    fn stop_all(&mut self) {
        for container in &mut self.containers {
            container.state = ContainerState::Exited;
        }
    }

    fn replace_all(&mut self) {
        self.progress.replace = self.containers.iter().map(|c| c.id.clone()).collect();
    }
}

fn changed(project: &mut Project) {
    part(project, "web").spec.user = Some("somebody".to_owned());
}

#[test]
fn what_is_stopped_to_be_replaced_fails_nobody_who_waits_for_it() {
    let waits = |project: &mut Project| {
        part(project, "db").spec.healthcheck = Some(Healthcheck::new(HealthcheckTest::Inherit));
        part(project, "web").depends_on = vec![Dependency::new("db", Condition::Healthy)];
    };
    let project = project(&["db", "web"], waits);
    let mut engine = Engine::new();
    for key in ["db", "web"] {
        let spec = Box::new(project.parts[key].spec.clone());
        engine.take(&Step::Create { part: key.to_owned(), spec });
    }
    let db = engine.named("p-db-1").id.clone();
    engine.get_mut(&db).state = ContainerState::Exited;
    engine.get_mut(&db).exit = Some(Exit::with_code(143));
    engine.progress.started.insert(db.clone());
    engine.progress.replace.insert(db);
    let Plan::Next(steps) = engine.next(&project, Goal::Up) else { panic!("it goes on") };
    assert!(matches!(&steps[..], [Step::Create { part, .. }] if part == "db"), "{steps:?}");
}

#[test]
fn the_old_container_goes_when_there_is_a_new_one() {
    let mut engine = Engine::new();
    engine.up(&project(&["web"], |_| {}));
    engine.stop_all();
    engine.again();
    let heir = "00000000000000000001"[..12].to_owned() + "_p-web-1";
    assert_eq!(
        engine.up(&project(&["web"], changed)),
        [
            format!("create {heir}"),
            "remove p-web-1".to_owned(),
            format!("rename {heir} to p-web-1"),
            "start p-web-1".to_owned(),
        ]
    );
}

#[test]
fn what_runs_is_made_anew_only_if_somebody_asks_for_it() {
    let (before, after) = (project(&["web"], |_| {}), project(&["web"], changed));
    let mut engine = Engine::new();
    engine.up(&before);
    engine.again();
    assert!(engine.up(&after).is_empty());
    let containers: Vec<_> = engine.containers.iter().collect();
    assert!(has_drifted(&after, &containers, containers[0]));
    assert!(!has_drifted(&before, &containers, containers[0]));
    engine.replace_all();
    let done = engine.up(&after);
    assert_eq!(done[1..3], ["stop p-web-1", "remove p-web-1"], "{done:?}");
    assert_eq!(done.len(), 5, "{done:?}");
}

#[test]
fn who_was_placed_elsewhere_is_made_anew_once_it_rests() {
    let on = |gpus: &[(&str, u64)]| {
        let asks = |project: &mut Project| {
            let all = GpuDevices { count: Some(-1), ..GpuDevices::default() };
            part(project, "web").spec.gpus = vec![all];
        };
        let gpu = |&(id, mib): &(&str, u64)| PlacedGpu::new(GpuId::new(id), GpuVendor::Nvidia, mib);
        let gpus: Vec<_> = gpus.iter().map(gpu).collect();
        project(&["db", "web"], asks).placed_on(&gpus).project
    };
    let mut engine = Engine::new();
    engine.up(&on(&[]));
    let moves = [
        (&[("GPU-a", 8)][..], true),
        (&[("GPU-a", 8)], false),
        // It is charged for more than it was.
        (&[("GPU-a", 9)], false),
        (&[("GPU-b", 9)], true),
        (&[("GPU-a", 9), ("GPU-b", 9)], true),
        (&[], true),
        (&[], false),
    ];
    for (gpus, is_anew) in moves {
        let project = on(gpus);
        // What runs stays where it is.
        assert_eq!(engine.up(&project), [""; 0]);
        let web = engine.named("p-web-1").id.clone();
        engine.get_mut(&web).state = ContainerState::Exited;
        engine.again();
        let heir = format!("{}_p-web-1", &web.as_str()[..12]);
        let (create, rename) = (format!("create {heir}"), format!("rename {heir} to p-web-1"));
        let anew = [create.as_str(), "remove p-web-1", &rename, "start p-web-1"];
        let wanted = if is_anew { &anew[..] } else { &anew[3..] };
        assert_eq!(engine.up(&project), wanted, "{gpus:?}");
    }
}

#[test]
fn killed_at_any_point_of_a_recreation_it_converges() {
    let (before, after) = (project(&["web"], |_| {}), project(&["web"], changed));
    for forced in [false, true] {
        for point in 0..6 {
            for wanted in [&after, &before] {
                let mut engine = Engine::new();
                engine.up(&before);
                engine.again();
                if forced {
                    engine.replace_all();
                } else {
                    engine.stop_all();
                }
                engine.run(&after, Goal::Up, point).unwrap();
                // Killed; and perhaps somebody changed the files back.
                engine.again();
                let done = engine.up(wanted);
                let told = format!("{forced} {point}: {done:?} {:?}", engine.containers);
                assert_eq!(engine.containers.len(), 1, "{told}");
                assert_eq!(engine.containers[0].name, "p-web-1", "{told}");
                assert_eq!(engine.containers[0].state, ContainerState::Running, "{told}");
                engine.again();
                assert!(engine.up(wanted).is_empty());
                engine.run(wanted, Goal::Removed, 10).unwrap();
                assert!(engine.containers.is_empty());
            }
        }
    }
}

#[test]
fn volumes_without_a_name_go_over_to_the_next_container() {
    let volumes = |project: &mut Project| {
        let web = &mut part(project, "web").spec;
        let named = MountKind::volume("data");
        web.mounts = vec![
            Mount::new("/scratch", MountKind::Anonymous),
            Mount::new("/data", named),
            Mount::new("/gone", MountKind::Anonymous),
        ];
    };
    let mut engine = Engine::new();
    engine.up(&project(&["web"], volumes));
    let before = engine.named("p-web-1").volumes.clone();
    engine.stop_all();
    engine.again();
    engine.up(&project(&["web"], |project| {
        volumes(project);
        part(project, "web").spec.mounts.pop();
        part(project, "web").spec.mounts[1].kind = MountKind::volume("other");
    }));
    let after = &engine.named("p-web-1").volumes;
    assert_eq!(after["/scratch"], before["/scratch"]);
    assert_eq!(after["/var/lib"], before["/var/lib"], "the image's own");
    assert_eq!(after["/data"], "other", "what the file names is the file's business");
    assert!(!after.contains_key("/gone"));
}

#[test]
fn who_is_to_follow_is_stopped_before_and_started_after() {
    let follows = |project: &mut Project| {
        let mut on_db = Dependency::new("web", Condition::Started);
        on_db.restart = true;
        part(project, "app").depends_on = vec![on_db];
        part(project, "bystander").depends_on = vec![Dependency::new("web", Condition::Started)];
    };
    let keys = ["app", "bystander", "web"];
    let mut engine = Engine::new();
    engine.up(&project(&keys, follows));
    engine.again();
    let web = engine.named("p-web-1").id.clone();
    engine.progress.replace.insert(web);
    let done = engine.up(&project(&keys, |project| {
        follows(project);
        changed(project);
    }));
    let shown: Vec<_> = done.iter().map(|step| step.replace("000000000000_", "~")).collect();
    assert_eq!(
        shown,
        [
            "create ~p-web-1",
            "stop p-app-1",
            "stop p-web-1",
            "remove p-web-1",
            "rename ~p-web-1 to p-web-1",
            "start p-web-1",
            "start p-app-1",
        ]
    );
}

fn sharing(project: &mut Project) {
    let side = part(project, "side");
    side.joins = vec![Join::new(Namespace::Network, "web")];
    side.late_hash = Some(LateHash::new("late", r#"{"network_mode":"service:web"}"#));
}

#[test]
fn a_shared_namespace_is_that_of_the_other_s_container() {
    let project = project(&["side", "web"], sharing);
    let mut engine = Engine::new();
    assert_eq!(
        engine.up(&project),
        ["create p-web-1", "create p-side-1", "start p-web-1", "start p-side-1"]
    );
    let containers: Vec<_> = engine.containers.iter().collect();
    assert!(!containers.iter().any(|found| has_drifted(&project, &containers, found)));
    engine.again();
    assert!(engine.up(&project).is_empty());
}

#[test]
fn whose_namespace_is_shared_is_removed_after_the_other() {
    let project = project(&["side", "web"], sharing);
    let mut engine = Engine::new();
    engine.up(&project);
    engine.again();
    for container in &mut engine.containers {
        container.state = ContainerState::Exited;
    }
    let Plan::Next(steps) = engine.next(&project, Goal::Removed) else { panic!("it goes on") };
    assert_eq!(steps, [Step::Remove { id: engine.named("p-side-1").id.clone() }]);
    assert_eq!(engine.run(&project, Goal::Removed, 20), Ok(true));
    assert!(engine.containers.is_empty());
}

#[test]
fn who_shares_a_namespace_is_made_anew_with_the_other() {
    let mut engine = Engine::new();
    let before = project(&["side", "web"], sharing);
    engine.up(&before);
    let old = engine.named("p-side-1").labels.clone();
    let after = project(&["side", "web"], |project| {
        sharing(project);
        changed(project);
    });
    for stopped in [true, false] {
        engine.again();
        if stopped {
            engine.stop_all();
            engine.up(&after);
        } else {
            engine.replace_all();
            engine.up(&before);
        }
        assert_eq!(engine.containers.len(), 2);
        let now = &engine.named("p-side-1").labels;
        assert_ne!(
            (&now["late"], &now[labels::SPEC_HASH]),
            (&old["late"], &old[labels::SPEC_HASH])
        );
    }
}

#[test]
fn files_that_change_after_the_other_has_ended_keep_nobody_waiting() {
    let mut engine = Engine::new();
    let before = project(&["side", "web"], sharing);
    engine.up(&before);
    engine.stop_all();
    for container in &mut engine.containers {
        container.exit = Some(Exit::with_code(0));
    }
    // It was started just now, ran to its end, and is compared no more.
    let web = engine.named("p-web-1").id.clone();
    engine.progress.started = [web].into();
    let after = project(&["side", "web"], |project| {
        sharing(project);
        changed(project);
    });
    assert_eq!(engine.up(&after), ["start p-side-1"]);
}

#[test]
fn a_ring_of_shared_namespaces_takes_no_time() {
    let keys: Vec<_> = (0..60).map(|number| format!("part-{number}")).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    let project = project(&keys, |project| {
        for (number, key) in keys.iter().enumerate() {
            let next = keys[(number + 1) % keys.len()];
            let all = [Namespace::Network, Namespace::Ipc, Namespace::Pid];
            part(project, key).joins = all.map(|namespace| Join::new(namespace, next)).to_vec();
        }
    });
    assert_eq!(Engine::new().next(&project, Goal::Up), Plan::Next(Vec::new()));
}

#[test]
fn files_are_put_in_before_each_start() {
    let with_files = |project: &mut Project| {
        part(project, "web").files = vec![FileInside::new("/run/secrets/key", "hunter2")];
    };
    let project = project(&["web"], with_files);
    let mut engine = Engine::new();
    assert_eq!(engine.up(&project), ["create p-web-1", "fill p-web-1", "start p-web-1"]);
    engine.stop_all();
    engine.again();
    assert_eq!(engine.up(&project), ["fill p-web-1", "start p-web-1"]);
    engine.again();
    assert!(engine.up(&project).is_empty());
}

#[test]
fn a_part_that_is_not_wanted_has_no_container_and_keeps_nobody_waiting() {
    let without = |project: &mut Project| {
        part(project, "db").is_wanted = false;
        part(project, "web").depends_on = vec![Dependency::new("db", Condition::Healthy)];
    };
    let (with, without) = (project(&["db", "web"], |_| {}), project(&["db", "web"], without));
    let mut engine = Engine::new();
    assert_eq!(engine.up(&without), ["create p-web-1", "start p-web-1"]);
    engine.again();
    engine.up(&with);
    engine.again();
    assert_eq!(engine.up(&without), ["stop p-db-1", "remove p-db-1"]);
}

#[test]
fn orphans_are_stopped_and_never_removed() {
    let mut engine = Engine::new();
    engine.up(&project(&["web", "gone", "asleep"], |_| {}));
    let now = project(&["web"], |project| project.inactive = ["asleep".to_owned()].into());
    let orphans: Vec<_> =
        engine.containers.iter().filter(|c| now.is_orphan(c)).map(|c| c.name.as_str()).collect();
    assert_eq!(orphans, ["p-gone-1"]);
    engine.again();
    assert_eq!(engine.run(&now, Goal::Removed, 20), Ok(true));
    let left: Vec<_> = engine.containers.iter().map(|c| (c.name.as_str(), c.state)).collect();
    assert_eq!(left, [("p-gone-1", ContainerState::Exited)]);
    // Files that cannot be read know of no part, and make no orphans.
    assert!(!Project::new("p").is_orphan(&engine.containers[0]));
}

#[test]
fn of_one_image_the_greater_wish_counts() {
    let project = project(&["db", "web"], |project| {
        part(project, "db").pull = PullPolicy::Never;
        part(project, "web").pull = PullPolicy::Always;
    });
    let mut engine = Engine::new();
    engine.progress.images.clear();
    let Plan::Next(steps) = engine.next(&project, Goal::Up) else { panic!("it goes on") };
    let mut wanted = ImageWanted::new("image");
    wanted.pull = PullPolicy::Always;
    assert_eq!(steps, [Step::Image(Box::new(wanted))]);
}

#[test]
fn what_runs_needs_no_image() {
    let project = project(&["db", "web"], |project| {
        part(project, "db").spec.image = Some("other".to_owned());
    });
    let mut engine = Engine::new();
    engine.up(&project);
    let web = engine.named("p-web-1").id.clone();
    engine.get_mut(&web).state = ContainerState::Exited;
    engine.again();
    engine.progress.images.clear();
    assert_eq!(engine.up(&project), ["image 'image'", "start p-web-1"]);
}

#[test]
fn a_hash_of_an_unknown_maker_is_no_change() {
    let mut project = project(&["web"], |_| {});
    let hash = HashLabel {
        label: "hash".to_owned(),
        maker: Some(("version".to_owned(), "2.40.".to_owned())),
    };
    project.hash_labels = vec![HashLabel::new("ours"), hash];
    let mut engine = Engine::new();
    engine.up(&project);
    let drifts = |labels: &[(&str, &str)]| {
        let mut found = engine.containers[0].clone();
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
        found.labels.retain(|label, _| label != "ours");
        found.labels.extend(labels);
        has_drifted(&project, &[&found], &found)
    };
    assert!(drifts(&[("hash", "another"), ("version", "2.40.3")]));
    assert!(!drifts(&[("hash", "another"), ("version", "5.0.0")]));
    assert!(!drifts(&[("hash", "another")]));
    assert!(drifts(&[("ours", "another"), ("hash", "another"), ("version", "5.0.0")]));
    assert!(!drifts(&[]));
}
