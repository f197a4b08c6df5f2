//! The journal on a disk that fails.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use nanny_lib::backend::MemoryBackend;
use nanny_lib::manifest::FixedSource;
use nanny_lib::{Nanny, StartOptions, Status, StopOptions};

use crate::house::{House, gpu};

#[tokio::test(start_paused = true)]
async fn h11_a_journal_that_cannot_be_written_is_said_so_and_written_later() {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("state");
    let engine = MemoryBackend::new();
    let begin = || {
        Nanny::builder()
            .backend(Arc::new(engine.clone()))
            .source(FixedSource::new([gpu("a"), gpu("b")]))
            .state_dir(&state)
            .start()
    };
    let house = House { nanny: begin().await.unwrap(), engine: engine.clone() };
    house.start("a").await;
    assert!(house.nanny.snapshot().degraded.is_empty());

    // Not even root can write into a directory that is a file.
    fs::rename(&state, root.path().join("aside")).unwrap();
    fs::write(&state, "").unwrap();
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    house.start("b").await;
    house.until_seen(|now| !now.degraded.is_empty()).await;
    let said = house.nanny.snapshot().degraded.clone();
    assert!(said[0].contains("journal"), "{said:?}");
    // Until every write that was due has failed.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((house.status("a"), house.status("b")), (Status::Stopped, Status::Running));

    fs::remove_file(&state).unwrap();
    fs::rename(root.path().join("aside"), &state).unwrap();
    house.until_seen(|now| now.degraded.is_empty()).await;
    // What could not be written when it happened is in it, though nothing has happened since.
    let written = fs::read_to_string(state.join("journal.json")).unwrap();
    assert!(written.contains("\"b\"") && !written.contains("\"a\""), "{written}");

    // A last try is made at the end.
    fs::rename(&state, root.path().join("aside")).unwrap();
    fs::write(&state, "").unwrap();
    house.nanny.stop("b", StopOptions::default()).await.unwrap();
    house.nanny.start("a", StartOptions::default()).await.unwrap();
    house.until_seen(|now| !now.degraded.is_empty()).await;
    fs::remove_file(&state).unwrap();
    fs::rename(root.path().join("aside"), &state).unwrap();
    house.nanny.shutdown().await;
    let written = fs::read_to_string(state.join("journal.json")).unwrap();
    assert!(written.contains("\"a\"") && !written.contains("\"b\""), "{written}");
    assert_eq!(engine.running(), ["a-main-1"]);
}
