//! GPUs that are declared, and flags that make no sense.

use std::process::Stdio;

use nanny_fake_nvml::Machine;
use serde_json::{Value, json};

use crate::stage::{GIB, Stage, command};

#[test]
fn declared_gpus_are_shared_by_what_services_declare() {
    for policy in ["fit", "ledger-only"] {
        let flags = ["--gpu-policy", policy, "--gpu", "24GiB", "--gpu-headroom", "1GiB"];
        let mut stage = Stage::new(Machine::with_gpus(&[8 * GIB]), &flags);
        for (name, gib) in [("small", 8), ("middle", 10), ("large", 6)] {
            stage.service(name, gib);
        }
        stage.open();
        stage.start("small", "").expect(200);
        stage.start("middle", "").expect(200);
        let refused = stage.start("large", "").expect(409);
        assert_eq!(refused["free"], json!({"declared:0": 5 * GIB}));
        let sum = "6144 MiB are needed, and free are 5120 MiB on declared:0";
        assert!(refused["detail"].as_str().unwrap().ends_with(sum), "{refused}");
        let gpu = stage.get("/gpus")["gpus"][0].clone();
        assert_eq!((&gpu["id"], &gpu["vendor"]), (&json!("declared:0"), &json!("declared")));
        assert_eq!((&gpu["total_mib"], &gpu["used_mib"]), (&json!(24 * GIB), &Value::Null));
        assert_eq!(gpu["charged_mib"], 18 * GIB);
        // The driver was not asked.
        assert!(stage.get("/gpus")["total"] == 1);
    }
}

#[test]
fn flags_that_make_no_sense_are_refused_with_what_to_do() {
    for (flags, code, says) in [
        (&["--gpu-pack", "spread"][..], 2, "choose fit or ledger-only"),
        (
            &["--gpu-policy", "allow-all", "--gpu-headroom", "1GiB"],
            2,
            "--gpu-headroom does nothing",
        ),
        (&["--gpu-policy", "fit", "--gpu", "none"], 2, "leave --gpu out"),
        (&["--gpu-policy", "best"], 2, "exclusive-per-gpu"),
        (&["--gpu", "24"], 2, "'24' has no unit"),
        (&["--gpu", "24GiB,x"], 2, "size 2"),
        (&["--gpu-max-bypass", "soon"], 2, "never"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let mut command = command();
        command.arg("--services").arg(place.path()).arg("--state-dir").arg(place.path());
        let output = command.args(flags).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {said}");
        assert!(said.contains(says), "{flags:?}: {said}");
    }
}
