//! GPUs over the API: what there is, who has it, and who waits for it.

use std::time::Duration;

use nanny_lib::gpu::{Exclusive, Fit, GpuHealth, GpuProblem, GpuProcess};
use nanny_lib::{GpuId, Snapshot, Status};
use nanny_testkit::gpus::{ScriptedInventory, gpu};
use serde_json::{Value, json};

use crate::api::Api;

/// One GPU of 24 GiB, of which processes of nobody's use so much.
fn one_gpu(foreign_mib: u64) -> ScriptedInventory {
    let mut device = gpu("GPU-a", 24 * 1024);
    device.index = Some(0);
    device.pci = Some("0000:01:00.0".to_owned());
    let mut process = GpuProcess::new(4711);
    process.name = Some("trainer".to_owned());
    process.used_mib = Some(foreign_mib);
    device.used_mib = Some(foreign_mib);
    device.processes = Some(if foreign_mib == 0 { Vec::new() } else { vec![process] });
    ScriptedInventory::new(vec![device])
}

/// Waits until a snapshot is as it should be.
async fn until(api: &Api, is_so: impl Fn(&Snapshot) -> bool + Send) {
    let waited = tokio::time::timeout(Duration::from_secs(600), api.nanny.wait_until(is_so)).await;
    waited.expect("it becomes so in time").expect("the nanny runs");
}

async fn seen(api: &Api) {
    until(api, |now| !now.gpus.is_empty()).await;
}

fn status_is(now: &Snapshot, service: &str, status: Status) -> bool {
    now.services.get(service).is_some_and(|view| view.status == status)
}

#[tokio::test(start_paused = true)]
async fn without_an_inventory_nothing_is_known_of_gpus() {
    let api = Api::new().await;
    api.post("/services/llm/start", "").await.ok();
    let expected = json!({
        "total": 0,
        "policy": "exclusive",
        "gpus": [],
        "totals": {"total_mib": 0, "used_mib": 0, "charged_mib": 0, "free_mib": 0},
        "holders": [{"service": "llm", "status": "running", "gpus": []}],
        "foreign_gpu_containers": [],
        "queue": [],
        "problems": [],
    });
    assert_eq!(api.get("/gpus").await.ok(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_gpu_tells_what_it_has_and_who_has_it() {
    let api = Api::with_gpus(&one_gpu(1000), Fit::new()).await;
    seen(&api).await;
    api.post("/services/llm/start", "").await.ok();
    until(&api, |now| now.gpus[0].charged_mib > 0).await;
    let llm = json!({
        "phase": "running", "charge_mib": 8192, "used_mib": 0, "high_water_mib": null,
    });
    let with = |key: &str, value: &str| {
        let mut claim = llm.clone();
        claim[key] = json!(value);
        claim
    };
    let gpu = json!({
        "id": "GPU-a",
        "index": 0,
        "name": "Scripted GPU",
        "vendor": "nvidia",
        "pci": "0000:01:00.0",
        "memory": "dedicated",
        "health": {"state": "ok", "reason": null},
        "total_mib": 24576,
        "used_mib": 1000,
        "headroom_mib": 0,
        "foreign_mib": 1000,
        "charged_mib": 8192,
        "free_mib": 15384,
        "utilization_percent": null,
        "temperature_celsius": null,
        "claims": [with("service", "llm")],
        "others": [{"pid": 4711, "name": "trainer", "used_mib": 1000}],
    });
    let list = api.get("/gpus").await.ok();
    assert_eq!(list["gpus"], json!([gpu]));
    let totals = json!({
        "total_mib": 24576, "used_mib": 1000, "charged_mib": 8192, "free_mib": 15384,
    });
    assert_eq!(list["totals"], totals);
    assert_eq!(list["policy"], "fit");
    let its = json!([with("id", "GPU-a")]);
    assert_eq!(list["holders"], json!([{"service": "llm", "status": "running", "gpus": its}]));
    assert_eq!(api.get("/services/llm/status").await.ok()["gpus"], its);
    assert_eq!(api.get("/services/web/status").await.ok()["gpus"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_gpu_is_told() {
    let gpus = one_gpu(0);
    gpus.change(|sweep| {
        sweep.devices[0].health = GpuHealth::Suspect("XID 79".to_owned());
        sweep.problems.push(GpuProblem::new(Some(GpuId::new("GPU-b")), "it is lost"));
    });
    let api = Api::with_gpus(&gpus, Exclusive).await;
    seen(&api).await;
    let list = api.get("/gpus").await.ok();
    assert_eq!(list["gpus"][0]["health"], json!({"state": "suspect", "reason": "XID 79"}));
    assert_eq!(list["problems"], json!(["GPU-b: it is lost"]));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_does_the_sum_and_names_who_has_the_rest() {
    let api = Api::with_gpus(&one_gpu(10_000), Fit::new()).await;
    seen(&api).await;
    api.post("/services/llm/start", "").await.ok();
    let problem = api.post("/services/sd/start", "").await.problem(409, "gpu_conflict");
    assert_eq!(problem["conflicts"], json!(["llm"]));
    assert_eq!(problem["need"], json!({"mib": 12288, "gpus": 1}));
    assert_eq!(problem["free"], json!({"GPU-a": 6384}));
    let holders = json!([
        {"name": "llm", "gpus": {"GPU-a": 8192}},
        {"name": "trainer", "pid": 4711, "gpus": {"GPU-a": 10_000}},
    ]);
    assert_eq!(problem["holders"], holders);
    assert_eq!(problem["account"]["policy"], "fit");
    assert!(problem["hint"].as_str().unwrap().contains("force"));
}

#[tokio::test(start_paused = true)]
async fn a_process_in_the_way_is_named_and_force_is_no_cure() {
    let api = Api::with_gpus(&one_gpu(20 * 1024), Fit::new()).await;
    seen(&api).await;
    let answer = api.post("/services/llm/start", r#"{"force": true}"#).await;
    let problem = answer.problem(409, "gpu_refused");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("process 4711 (trainer, 20480 MiB)"), "{detail}");
    let process = json!({"name": "trainer", "pid": 4711, "gpus": {"GPU-a": 20480}});
    assert_eq!(problem["holders"], json!([process]));
    assert_eq!(problem["need"], json!({"mib": 8192, "gpus": 1}));
    assert_eq!(problem["free"], json!({"GPU-a": 4096}));
    assert!(problem["hint"].as_str().unwrap().contains("end it yourself"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_says_where_and_on_what_grounds() {
    let api = Api::with_gpus(&one_gpu(0), Fit::new()).await;
    seen(&api).await;
    let plan = api.get("/services/llm/plan").await.ok();
    assert_eq!((&plan["verdict"], &plan["placement"]), (&json!("admit"), &json!({"GPU-a": 8192})));
    let device = json!({
        "gpu": "GPU-a", "capacity_mib": 24576, "headroom_mib": 0, "foreign_mib": 0,
        "charges": [], "free_mib": 24576, "is_usable": true, "others": [],
    });
    let account = json!({
        "policy": "fit", "by_memory": true, "need_mib": 8192, "count": 1, "devices": [device],
    });
    assert_eq!((&plan["account"], &plan["position"]), (&account, &Value::Null));
    let web = api.get("/services/web/plan").await.ok();
    assert_eq!((&web["placement"], &web["account"]), (&Value::Null, &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn who_waits_has_a_place_and_a_reason_and_is_served() {
    let api = Api::with_gpus(&one_gpu(0), Exclusive).await;
    seen(&api).await;
    api.post("/services/llm/start", "").await.ok();
    let plan = api.get("/services/sd/plan?queue=true").await.ok();
    assert_eq!((&plan["verdict"], &plan["position"]), (&json!("wait"), &json!(0)));
    assert!(plan["reason"].as_str().unwrap().contains("'llm'"));

    let queued = api.post("/services/sd/start", r#"{"queue": true}"#);
    let meanwhile = async {
        until(&api, |now| status_is(now, "sd", Status::Queued)).await;
        let status = api.get("/services/sd/status").await.ok();
        assert_eq!(status["status"], "queued");
        assert_eq!(status["queue"]["position"], 0);
        assert!(status["queue"]["since"].is_string(), "{status}");
        assert!(status["queue"]["reason"].as_str().unwrap().contains("'llm'"), "{status}");
        let mut waiting = status["queue"].clone();
        waiting["service"] = json!("sd");
        assert_eq!(api.get("/gpus").await.ok()["queue"], json!([waiting]));
        api.post("/services/llm/stop", "").await.ok();
    };
    let (started, ()) = tokio::join!(queued, meanwhile);
    assert_eq!(started.ok()["message"], "Service 'sd' started successfully");
    let status = api.get("/services/sd/status").await.ok();
    assert_eq!((&status["status"], &status["queue"]), (&json!("running"), &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_long_enough_is_refused() {
    let api = Api::with_gpus(&one_gpu(0), Exclusive).await;
    seen(&api).await;
    api.post("/services/llm/start", "").await.ok();
    let refused = api.post("/services/sd/start", r#"{"queue": 5}"#).await;
    assert_eq!(refused.problem(409, "gpu_conflict")["conflicts"], json!(["llm"]));
    until(&api, |now| status_is(now, "sd", Status::Stopped)).await;
    assert_eq!(api.get("/gpus").await.ok()["queue"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn memory_that_does_not_come_back_is_said_with_who_has_it() {
    let gpus = one_gpu(0);
    let api = Api::with_gpus(&gpus, Fit::new()).await;
    seen(&api).await;
    api.post("/services/llm/start", "").await.ok();
    // Who uses it cannot be told apart, and it stays in use when the service is down.
    gpus.change(|sweep| sweep.devices[0].processes = None);
    gpus.set_used("GPU-a", 20_000);
    until(&api, |now| now.gpus[0].used_mib == Some(20_000)).await;
    let failed = api.post("/services/sd/start", r#"{"force": true}"#).await;
    let problem = failed.problem(503, "gpu_memory_held");
    assert!(problem["detail"].as_str().unwrap().contains("GPU-a"), "{problem}");
    assert_eq!(problem["restored"], json!([]), "there is no room for it either");
    assert!(failed.header("retry-after").is_some());
}
