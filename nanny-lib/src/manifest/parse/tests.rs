use std::time::Duration;

use proptest::prelude::{prop_assert, proptest};
use serde_json::{Number, json};

use super::*;

/// The example of the document that the project was made from.
const SEED: &str = "\
name: my-service
description: What the service does
version: 1.0.0

gpu_required: false  # Set to true for GPU services
vram_gb: 0           # Estimated VRAM usage

compose_file: docker-compose.yml
ports:
  - \"8001:8000\"

health_endpoint: http://localhost:8001/health
health_timeout: 30

tags:
  - category1
";

fn parse_text(text: &str) -> Result<Parsed, Vec<Problem>> {
    parse(text, Path::new("/srv/chat"), Path::new("service.yaml"))
}

fn manifest(text: &str) -> Manifest {
    parse_text(text).expect("a good manifest").manifest
}

/// Every message about `text`, errors and hints.
fn messages(text: &str) -> Vec<String> {
    let problems = match parse_text(text) {
        Ok(parsed) => parsed.problems,
        Err(problems) => problems,
    };
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_seed_example_is_read_whole() {
    let parsed = parse_text(SEED).unwrap();
    let mut expected = Manifest::new(ServiceName::new("my-service").unwrap());
    expected.description = "What the service does".to_owned();
    expected.version = "1.0.0".to_owned();
    expected.ports = vec!["8001:8000".to_owned()];
    expected.health_endpoint = Some("http://localhost:8001/health".to_owned());
    expected.tags = vec!["category1".to_owned()];
    assert_eq!(parsed.manifest, expected);
    assert_eq!(parsed.files.compose_file.unwrap().text, "docker-compose.yml");
    assert!(parsed.problems.is_empty());
}

#[test]
fn every_other_field_has_its_place() {
    let text = "\
gpu_required: yes
vram_gb: 7.5
ports: [8000, '9000:9000']
author: me
repository: https://example.test/chat
backend: podman
restart_policy: keep
gpus: {count: 2, vram_gb: 8, devices: [0, GPU-abc]}
priority: -3
pinned: true
protected: true
profiles: [gpu]
stop_timeout: 1m30s
health: {interval: 2s, timeout: 500ms, expect: 204, failures: 3, successes: 2}
command: python 'my server.py'
env: {PORT: 8000, EMPTY: ''}
depends_on: [db, {service: cache, required: false}]
scheduling: {auto_start: true, auto_stop_after: 10m}
resources: {cpu_limit: 1.50, memory_limit: 4G}
";
    let manifest = manifest(text);
    assert_eq!(manifest.name.as_str(), "chat");
    assert!(manifest.gpu_required && manifest.pinned && manifest.protected);
    assert_eq!(manifest.vram_gb, Number::from_f64(7.5).unwrap());
    assert_eq!(manifest.ports, ["8000", "9000:9000"]);
    assert_eq!(manifest.author.as_deref(), Some("me"));
    assert_eq!(manifest.repository.as_deref(), Some("https://example.test/chat"));
    assert_eq!(manifest.backend.as_deref(), Some("podman"));
    assert_eq!(manifest.restart, RestartMode::Keep);
    assert_eq!(manifest.gpus.count, Some(2));
    assert_eq!(manifest.gpus.vram_gb, Some(Number::from(8)));
    assert_eq!(manifest.gpus.devices, ["0", "GPU-abc"]);
    assert_eq!(manifest.priority, -3);
    assert_eq!(manifest.profiles, ["gpu"]);
    assert_eq!(manifest.stop_timeout, Some(Duration::from_secs(90)));
    let health = HealthSettings {
        interval: Duration::from_secs(2),
        timeout: Duration::from_millis(500),
        expect: 204,
        failures: 3,
        successes: 2,
    };
    assert_eq!(manifest.health, health);
    assert_eq!(manifest.command.unwrap(), ["/bin/sh", "-c", "python 'my server.py'"]);
    assert_eq!(manifest.env.0["PORT"].as_deref(), Some("8000"));
    let optional = ServiceDependency { required: false, ..ServiceDependency::new("cache") };
    assert_eq!(manifest.depends_on, [ServiceDependency::new("db"), optional]);
    assert_eq!(manifest.autostart, Some(true));
    assert_eq!(manifest.idle_timeout, Some(Duration::from_secs(600)));
    assert_eq!(manifest.resources.nano_cpus, Some(1_500_000_000));
    assert_eq!(manifest.resources.memory_bytes, Some(4 << 30));
    assert!(manifest.extra.is_empty());
}

#[test]
fn a_version_is_what_was_written() {
    for (written, expected) in
        [("1.10", "1.10"), ("2", "2"), ("'1.0'", "1.0"), ("2024-01-31", "2024-01-31"), ("v1", "v1")]
    {
        assert_eq!(manifest(&format!("version: {written}")).version, expected);
    }
}

#[test]
fn whole_gigabytes_stay_integers() {
    assert_eq!(manifest("vram_gb: 8").vram_gb.to_string(), "8");
    assert_eq!(manifest("vram_gb: 7.5").vram_gb.to_string(), "7.5");
}

#[test]
fn null_is_absent_and_so_is_an_empty_endpoint() {
    let text = "name:\ntags: ~\nversion: null\nhealth_endpoint: ''\nhealth:\nbackend: ''\n";
    assert_eq!(manifest(text), Manifest::new(ServiceName::new("chat").unwrap()));
}

#[test]
fn marks_and_line_ends_of_windows_are_fine() {
    assert_eq!(manifest("\u{feff}name: a\r\nversion: 1.10\r\n").version, "1.10");
}

#[test]
fn unknown_fields_are_kept_and_are_no_fault() {
    let text = "\
performance: {tokens_per_second: 40, warm: true}
model: llama
port: 8000
ports: []
";
    let parsed = parse_text(text).unwrap();
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    let extra = serde_json::to_value(&parsed.manifest.extra).unwrap();
    let expected = json!({
        "model": "llama",
        "performance": {"tokens_per_second": 40, "warm": true},
        "port": 8000,
    });
    assert_eq!(extra, expected);
}

#[test]
fn what_is_kept_is_kept_as_written() {
    let text = "\u{feff}base: &base {whole: 8, part: 1.10}\r
other: {<<: *base, whole: '8', mode: 0755, word: yes, day: 2024-01-31, 7: x, tag: !t 1}\r
";
    let parsed = parse_text(text).unwrap();
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    let extra = serde_json::to_value(&parsed.manifest.extra).unwrap();
    let other = json!({
        "whole": "8", "part": 1.1, "mode": "0755", "word": "yes", "day": "2024-01-31",
        "7": "x", "tag": {"!t": 1},
    });
    assert_eq!(extra, json!({"base": {"whole": 8, "part": 1.1}, "other": other}));
}

#[test]
fn what_json_cannot_say_is_hinted_at_and_tells_no_secret() {
    for (text, kept) in [
        ("model: {~: x}\nlicense: mit", 1),
        ("7: x\nlicense: mit", 1),
        ("env: {TOKEN: 99999999999999999999}\nlicense: mit", 0),
    ] {
        let parsed = parse_text(text).unwrap();
        assert_eq!(parsed.manifest.extra.len(), kept, "{text}");
        assert_eq!(parsed.problems.len(), 1, "{:?}", parsed.problems);
        let message = &parsed.problems[0].message;
        assert!(message.contains("is not kept") && !message.contains("999"), "{message}");
    }
}

#[test]
fn a_near_miss_of_an_absent_field_is_hinted_at() {
    for (text, expected) in [
        (
            "health-endpoint: x",
            "service.yaml:1:1: 'health-endpoint' is no field and does nothing; \
             did you mean 'health_endpoint'?",
        ),
        (
            "version: 1\ntgas: [a]",
            "service.yaml:2:1: 'tgas' is no field and does nothing; did you mean 'tags'?",
        ),
        (
            "health: {intervall: 3}",
            "service.yaml:1:10: 'health.intervall' is no field and does nothing; \
             did you mean 'health.interval'?",
        ),
        (
            "gpu: true",
            "service.yaml:1:1: 'gpu' is no field and does nothing; did you mean 'gpu_required'?",
        ),
        (
            "health_check: x",
            "service.yaml:1:1: 'health_check' is no field and does nothing; \
             did you mean 'health_endpoint'?",
        ),
        (
            "command: x\nresources: {memory: 4G}",
            "service.yaml:2:13: 'resources.memory' is no field and does nothing; \
             did you mean 'resources.memory_limit'?",
        ),
        ("gpus: {color: red}", "service.yaml:1:8: 'gpus.color' is no field and does nothing"),
        ("idle_timeout: 5m", "service.yaml:1:1: 'idle_timeout' is read and does not act yet"),
    ] {
        assert_eq!(messages(text), [expected], "{text}");
        assert!(parse_text(text).is_ok(), "{text}");
    }
}

#[test]
fn as_many_gpus_are_needed_as_are_named_unless_it_says_how_many() {
    for (text, count) in [
        ("name: chat", 1),
        ("gpus: {}", 1),
        ("gpus: {count: 3}", 3),
        ("gpus: {devices: [0, GPU-a]}", 2),
        ("gpus: {devices: [0, GPU-a], count: 1}", 1),
        ("gpus: {devices: 0}", 1),
    ] {
        assert_eq!(manifest(text).gpus.count(), count, "{text}");
        assert_eq!(messages(text), [""; 0], "{text}");
    }
}

#[test]
fn faults_name_line_column_field_and_cure() {
    for (text, expected) in [
        ("gpus: {count: 0}", "1:15: 'gpus.count' must be from 1 to 1024"),
        (
            "gpus:\n  count: 3\n  devices: [0, GPU-a]",
            "2:10: 'gpus.count' is 3, and 'gpus.devices' names 2; lower it, or name more",
        ),
        (
            "gpus:\n  devices:\n    - 0\n    - a,b",
            "4:7: 'gpus.devices' names no GPU with 'a,b'; \
             write an index as in 0, a UUID or a PCI address",
        ),
        (
            "gpus: {devices: all}",
            "1:17: 'gpus.devices' names no GPU with 'all'; \
             leave it out, and say with 'gpus.count' how many",
        ),
        ("gpus: {devices: [0, 1, 0]}", "1:24: 'gpus.devices' names '0' twice; name each GPU once"),
        (
            "",
            "1:1: the file is empty; write fields such as 'name: my-service' on lines of their own",
        ),
        (
            "- a",
            "1:1: this is no mapping; write fields such as 'name: my-service' on lines of their own",
        ),
        (
            "name: a/b",
            "1:7: 'name' is not a service name: it contains '/'; write one such as 'my-service'",
        ),
        ("name: [a]", "1:7: 'name' must be text, not a list; put it in quotes"),
        (
            "gpu_required: 1",
            "1:15: 'gpu_required' must be true or false, not a number; \
             write true or false without quotes",
        ),
        (
            "version: 1\nvram_gb: 8GB",
            "2:10: 'vram_gb' must be a number, not a string; \
             write the GB as in 8 or 7.5, without quotes or unit",
        ),
        (
            "vram_gb: -1",
            "1:10: 'vram_gb' must not be negative or infinite; write the GB as in 8 or 7.5",
        ),
        (
            "ports:\n  http: 80",
            "2:3: 'ports' must be a list, not a mapping; begin each line with '- '",
        ),
        ("tags:\n  - a\n  - [b]", "3:5: 'tags' must be text, not a list; put it in quotes"),
        (
            "health_endpoint: /health",
            "1:18: 'health_endpoint' is no address: it does not begin with a scheme; \
             write http://localhost:8000/health or tcp://localhost:8000",
        ),
        (
            "health_timeout: soon",
            "1:17: 'health_timeout' is no time that can be waited for; \
             write seconds as in 30, or 10s, 1m30s, 500ms",
        ),
        (
            "restart_policy: always",
            "1:17: 'restart_policy' must be 'nanny' (the nanny restarts the containers of a GPU \
             service) or 'keep' (the engine does, as the Compose file says)",
        ),
        (
            "health: /health",
            "1:9: 'health' must be a mapping, not a string; \
             write its fields on lines of their own, indented",
        ),
        ("health: {interval: 0}", "1:20: 'health.interval' must be at least 100ms"),
        ("health: {expect: 1000}", "1:18: 'health.expect' must be from 100 to 599"),
        (
            "priority: high",
            "1:11: 'priority' must be a whole number, not a string; \
             write one from -2147483648 to 2147483647",
        ),
        ("a: 1\nb: 2\na: 3", "3:1: 'a' is already set at 1:1; keep one of the two"),
    ] {
        assert_eq!(messages(text), [format!("service.yaml:{expected}")], "{text}");
        assert!(parse_text(text).is_err(), "{text}");
    }
}

#[test]
fn of_a_manifest_with_faults_is_known_what_must_not_be_got_wrong() {
    let known = |text: Option<&str>| {
        let manifest = salvage(text, Path::new("services/chat")).expect("it has a name");
        (manifest.name.to_string(), manifest.gpu_required)
    };
    for (text, name, gpu) in [
        ("name: talk\ngpu_required: true\ntags: [\n", "talk", true),
        ("tags: [\ngpu_required: yes\nname: 'talk'", "talk", true),
        ("name: talk\nvram_gb: lots\ngpu_required: false", "talk", false),
        ("name: talk\ngpu_required: false\ngpus: [", "talk", false),
        ("command: [sleep\n", "chat", false),
        ("name: talk\n  gpu_required: true\n: :", "talk", true),
        ("gpus:\n  count: 1\ntags: [", "chat", true),
        ("gpu_required true\n", "chat", true),
        ("{\"gpu_required\": true", "chat", true),
        ("gpu_required: perhaps\n", "chat", true),
        ("gpu_required: [\n", "chat", true),
        ("", "chat", false),
    ] {
        assert_eq!(known(Some(text)), (name.to_owned(), gpu), "{text}");
    }
    assert_eq!(known(None), ("chat".to_owned(), true));
    // Its directory's name need be none of a service.
    let talk = "name: talk\ngpu_required: false\npinned: true\nprotected: true\ntags: [";
    let talk = salvage(Some(talk), Path::new("services/-")).unwrap();
    assert_eq!((talk.gpu_required, talk.pinned, talk.protected), (false, true, true));
    assert!(salvage(Some("name: a/b\n"), Path::new("services/chat")).is_none());
    assert!(salvage(None, Path::new("services/-")).is_none());
}

#[test]
fn all_faults_are_found_at_once() {
    let found = messages("name: a/b\nvram_gb: x\npinned: 3");
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn h5_a_directory_whose_name_is_no_service_name_needs_a_name_in_the_file() {
    let found = parse("version: 1", Path::new("/srv/-v"), Path::new("service.yaml"));
    let message = found.unwrap_err()[0].to_string();
    assert!(message.starts_with("service.yaml:1:1: there is no 'name'"), "{message}");
}

#[test]
fn values_of_variables_are_in_no_message_and_no_debug() {
    let found = messages("env: {TOKEN: [hunter2]}");
    assert_eq!(found.len(), 1);
    assert!(!found[0].contains("hunter2"), "{found:?}");
    let manifest = manifest("env: {TOKEN: hunter2}");
    assert!(!format!("{manifest:?}").contains("hunter2"));
}

#[test]
fn h1_hostile_texts_end_in_an_error() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
        + &(b'b'..=b'i')
            .map(|c| {
                let (name, before) = (c as char, (c - 1) as char);
                format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(","))
            })
            .collect::<String>();
    let huge = "x: ".to_owned() + &"y".repeat(MAX_BYTES);
    for text in [bomb.as_str(), &huge, &"[".repeat(10_000), "a: \0", "a: b\n---\nc: d", "a:\n\t- b"]
    {
        assert!(parse_text(text).is_err(), "{:.40}", text);
    }
}

proptest! {
    /// Whatever an editor left half-written: an answer, and every fault inside the file.
    #[test]
    fn h8_half_a_manifest_is_no_disaster(cut in 0..SEED.len(), other in "[ -~\n]{0,20}") {
        let text: String = SEED.chars().take(cut).chain(other.chars()).collect();
        let lines = text.lines().count().max(1);
        let problems = parse_text(&text).map_or_else(|problems| problems, |parsed| parsed.problems);
        for problem in problems {
            prop_assert!((1..=lines + 1).contains(&problem.line) && problem.column >= 1, "{problem}");
        }
    }
}
