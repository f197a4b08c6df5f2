//! Reading files: one Compose file, and a folder of services.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use nanny_compose::{DiskFiles, Request, load};
use nanny_lib::manifest::{DirectorySource, ManifestSource as _};

const COMPOSE: &str = r#"
services:
  web:
    image: example/web:${TAG:-1}
    ports: ["8000:8000", "127.0.0.1:9000:9000/udp"]
    volumes: ["./data:/data", "models:/models:ro"]
    environment:
      - MODE=fast
      - WORKERS=${WORKERS:-4}
    depends_on:
      db: {condition: service_healthy}
    deploy:
      resources:
        reservations:
          devices: [{driver: nvidia, count: all, capabilities: [gpu]}]
  db:
    image: example/db:1
    healthcheck: {test: ["CMD", "true"], interval: 5s}
volumes:
  models:
"#;

fn write_service(root: &Path, index: usize) {
    let directory = root.join(format!("service-{index}"));
    fs::create_dir(&directory).expect("a new directory");
    let manifest =
        format!("name: service-{index}\nversion: 1.0.0\ngpu_required: true\nvram_gb: 8\n");
    fs::write(directory.join("service.yaml"), manifest).expect("a new file");
    fs::write(directory.join("docker-compose.yml"), COMPOSE).expect("a new file");
}

fn compose(criterion: &mut Criterion) {
    let root = tempfile::tempdir().expect("a temporary directory");
    write_service(root.path(), 0);
    let request = Request::new(root.path().join("service-0/docker-compose.yml"));
    criterion.bench_function("compose/typical", |bencher| {
        bencher.iter(|| black_box(load(&request, &|_| None, &DiskFiles)).is_ok());
    });
}

fn discovery(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut group = criterion.benchmark_group("discovery");
    group.sample_size(10);
    for services in [10, 1_000] {
        let root = tempfile::tempdir().expect("a temporary directory");
        for index in 0..services {
            write_service(root.path(), index);
        }
        let source = DirectorySource::new(root.path());
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter(|| {
                let found = runtime.block_on(source.discover());
                assert_eq!(found.services.len(), services, "{:?}", found.problems);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, compose, discovery);
criterion_main!(benches);
