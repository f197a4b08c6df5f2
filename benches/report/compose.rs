//! What it takes to read Compose files, beside the Compose CLI.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nanny_compose::{DiskFiles, Request, load};

use crate::Scale;
use crate::house::binary;
use crate::numbers::{Samples, ms, now, table, thousands};

pub(crate) fn report(scale: Scale) -> String {
    let folder = tempfile::tempdir().expect("a temporary directory");
    // A byte less than the loader takes at most, or what a test has time for.
    let large = if scale.test { 20_000 } else { 1_000_000 };
    let rows: Vec<_> = [0, large]
        .into_iter()
        .map(|bytes| {
            let file = folder.path().join(format!("{bytes}.yaml"));
            let bytes = write(&file, bytes);
            // Compose needs seconds for a large one.
            let rounds = if bytes > 100_000 { scale.samples.min(3) } else { scale.samples };
            let [library, nanny, compose] = times(&file, rounds);
            let ratio = compose.median().as_secs_f64() / nanny.median().as_secs_f64();
            vec![
                thousands(bytes as f64),
                ms(library.median()),
                ms(nanny.median()),
                ms(compose.median()),
                format!("{ratio:.0}"),
            ]
        })
        .collect();
    format!(
        "## Compose files\n\n\
         From a file to the canonical model as JSON: in a program that embeds `nanny-compose`, as \
         `nanny compose config --json`, and as `docker compose config --format json`, taking turns. \
         A typical file of two services, and a generated one. Medians, in ms.\n\n{}",
        table(&["bytes", "library", "nanny", "compose", "compose / nanny"], &rows)
    )
}

fn times(file: &Path, rounds: usize) -> [Samples; 3] {
    let mut samples: [Samples; 3] = Default::default();
    let [library, nanny, compose] = &mut samples;
    for _ in 0..rounds {
        let began = now();
        let loaded = load(&Request::new(file), &|_| None, &DiskFiles).expect("it is sound");
        assert!(!loaded.project.to_json().is_empty());
        library.push(began.elapsed());
        let mut command = Command::new(binary());
        command.args(["compose", "config", "--json", "-f"]).arg(file);
        run(&mut command, nanny);
        let mut command = Command::new("docker");
        command.args(["compose", "-f"]).arg(file).args(["config", "--format", "json"]);
        run(&mut command, compose);
    }
    samples
}

fn run(command: &mut Command, samples: &mut Samples) {
    let began = now();
    let output = command.output().expect("it is there");
    samples.push(began.elapsed());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Writes a file of as many services as `bytes` have room for, two at least; its real size.
fn write(file: &PathBuf, bytes: usize) -> usize {
    let mut text = "services:\n".to_owned();
    for number in 0.. {
        let service = service(number);
        if number > 1 && text.len() + service.len() >= bytes {
            break;
        }
        text += &service;
    }
    text += "volumes:\n  models:\n";
    fs::write(file, &text).expect("a new file");
    text.len()
}

fn service(number: usize) -> String {
    let mut text = format!("  service-{number}:\n");
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        r#"    image: example/service:${{TAG:-1}}
    ports: ["{}:8000", "127.0.0.1:{}:9000/udp"]
    volumes: ["./data:/data", "models:/models:ro"]
    environment:
      - MODE=fast
      - WORKERS=${{WORKERS:-4}}
    command: python -m server --host 0.0.0.0 --port 8000 --name "number {number}"
    healthcheck: {{test: ["CMD", "true"], interval: 5s}}
    deploy:
      resources:
        reservations:
          devices: [{{driver: nvidia, count: all, capabilities: [gpu]}}]
"#,
        10_000 + number,
        30_000 + number
    );
    text
}
