//! A service.

use super::build::BUILD;
use super::deploy::{DEPLOY, DEVICE};
use super::{
    ANY_WHOLE, CUT, CUT_NUMBER, FILLED_TEXTS, Field, Identity, Json, LOOSE_MAP, List, Loose, Merge,
    NOT_HERE, Object, Repeats, SIZE, Shape, Short, Size, TEXT_OR_TEXTS, TEXTS, UNIQUE_TEXTS, WHOLE,
    Whole,
};

pub(crate) static SERVICE: Object = Object::new(&[
    Field::new("profiles", &TEXTS).unhashed(),
    Field::new("annotations", &Shape::Pairs).needs_api("1.43"),
    Field::new("attach", &Shape::Flag).if_present().ignored("nothing is attached here"),
    Field::new("build", &Shape::Short(Short::Build, &Shape::Object(&BUILD)))
        .if_present()
        .unhashed(),
    Field::new("develop", &Shape::Optional(&Shape::Object(&DEVELOP)))
        .if_present()
        .ignored("nothing is watched for development here"),
    Field::new("blkio_config", &Shape::Anything).refused(NOT_HERE),
    Field::new("cap_add", &TEXTS),
    Field::new("cap_drop", &TEXTS),
    Field::new("cgroup_parent", &Shape::Text),
    Field::new("cgroup", &Shape::Choice(&["host", "private"])),
    Field::new("cpu_count", &Shape::Whole(Whole { min: 0, ..ANY_WHOLE })),
    Field::new("cpu_percent", &Shape::Whole(Whole { min: 0, max: 100, ..ANY_WHOLE })),
    Field::new("cpu_period", &CUT),
    Field::new("cpu_quota", &CUT),
    Field::new("cpu_rt_period", &CUT),
    Field::new("cpu_rt_runtime", &CUT),
    Field::new("cpus", &Shape::Decimal),
    Field::new("cpuset", &Shape::Text),
    Field::new("cpu_shares", &CUT),
    Field::new("command", &Shape::Command).json(Json::Always("null")),
    Field::new("configs", &CONFIGS),
    Field::new("container_name", &Shape::Checked(container_name)),
    Field::new("credential_spec", &Shape::Anything).refused(NOT_HERE),
    Field::new("depends_on", &DEPENDS_ON).unhashed(),
    Field::new("deploy", &Shape::Optional(&Shape::Object(&DEPLOY))).if_present(),
    Field::new("device_cgroup_rules", &UNIQUE_TEXTS),
    Field::new("devices", &DEVICES),
    Field::new("dns", &FILLED_TEXTS),
    Field::new("dns_opt", &TEXTS),
    Field::new("dns_search", &TEXT_OR_TEXTS),
    Field::new("domainname", &Shape::Text),
    Field::new("entrypoint", &Shape::Command).json(Json::Always("null")),
    Field::new("provider", &Shape::Anything).refused(NOT_HERE),
    Field::new("environment", &Shape::Variables),
    Field::new("env_file", &ENV_FILES).json(Json::Never),
    Field::new("expose", &Shape::List(&List::unique(&Shape::Loose(Loose::Whole), Identity::Text))),
    Field::new("extends", &Shape::Short(Short::Extends, &Shape::Object(&EXTENDS)))
        .json(Json::Never),
    Field::new("external_links", &UNIQUE_TEXTS),
    Field::new("extra_hosts", &Shape::Hosts),
    Field::new(
        "group_add",
        &Shape::List(&List { repeats: Repeats::Refused, ..List::of(&Shape::Loose(Loose::Whole)) }),
    ),
    Field::new("gpus", &GPUS),
    Field::new("hostname", &Shape::Text),
    Field::new("healthcheck", &Shape::Object(&HEALTHCHECK)).if_present(),
    Field::new("image", &Shape::Text),
    Field::new("init", &Shape::Flag).if_present(),
    Field::new("ipc", &Shape::Text),
    Field::new("isolation", &Shape::Text).refused(NOT_HERE),
    Field::new("labels", &Shape::Pairs),
    Field::new("label_file", &LABEL_FILES).json(Json::InLabel),
    Field::new("links", &TEXTS),
    Field::new("logging", &Shape::Object(&LOGGING)).if_present(),
    Field::new("mem_limit", &SIZE),
    Field::new("mem_reservation", &Shape::Size(Size::Whole)),
    Field::new("memswap_limit", &SIZE),
    Field::new("mem_swappiness", &Shape::Size(Size::Whole)),
    Field::new("mac_address", &Shape::Text),
    Field::new("models", &Shape::Anything).refused(NOT_HERE),
    Field::new("network_mode", &Shape::Text),
    Field::new("networks", &NETWORKS),
    Field::new("oom_kill_disable", &Shape::Flag),
    Field::new("oom_score_adj", &Shape::Whole(Whole { min: -1000, max: 1000, ..ANY_WHOLE })),
    Field::new("pid", &Shape::Text),
    Field::new("pids_limit", &CUT),
    Field::new("platform", &Shape::Text),
    Field::new("ports", &PORTS),
    Field::new("privileged", &Shape::Flag),
    Field::new("pull_policy", &Shape::Checked(pull_policy)).unhashed(),
    Field::new("read_only", &Shape::Flag),
    Field::new("restart", &Shape::Text),
    Field::new("runtime", &Shape::Text),
    Field::new("scale", &WHOLE).if_present().unhashed(),
    Field::new("secrets", &SECRETS),
    Field::new("security_opt", &UNIQUE_TEXTS),
    Field::new("shm_size", &SIZE),
    Field::new("stdin_open", &Shape::Flag),
    Field::new("stop_grace_period", &Shape::Duration).if_present(),
    Field::new("stop_signal", &Shape::Text),
    Field::new("storage_opt", &STORAGE_OPTIONS),
    Field::new("sysctls", &Shape::Pairs),
    Field::new("tmpfs", &TEXT_OR_TEXTS),
    Field::new("tty", &Shape::Flag),
    Field::new("ulimits", &ULIMITS),
    Field::new("use_api_socket", &Shape::Flag).refused(NOT_HERE),
    Field::new("user", &Shape::Text),
    Field::new("userns_mode", &Shape::Text),
    Field::new("uts", &Shape::Text),
    Field::new("volumes", &VOLUMES),
    Field::new("volumes_from", &UNIQUE_TEXTS).refused(NOT_HERE),
    Field::new("working_dir", &Shape::Text),
    Field::new("post_start", &Shape::Anything).refused(NOT_HERE),
    Field::new("pre_stop", &Shape::Anything).refused(NOT_HERE),
]);

static DEPENDS_ON: Shape = Shape::Short(
    Short::DependsOn,
    &Shape::Named(&Shape::Object(
        &Object::new(&[
            Field::new(
                "condition",
                &Shape::Choice(&[
                    "service_started",
                    "service_healthy",
                    "service_completed_successfully",
                ]),
            ),
            Field::new("restart", &Shape::Flag),
            Field::new("required", &Shape::PlainFlag).if_present(),
        ])
        .requiring(&["condition"]),
    )),
);

static NETWORKS: Shape =
    Shape::Short(Short::Names, &Shape::Named(&Shape::Optional(&Shape::Object(&ATTACHMENT))));

static ATTACHMENT: Object = Object::new(&[
    Field::new("aliases", &TEXTS),
    Field::new("driver_opts", &LOOSE_MAP),
    Field::new("gw_priority", &CUT_NUMBER).needs_api("1.48"),
    Field::new("interface_name", &Shape::Text).needs_api("1.49"),
    Field::new("ipv4_address", &Shape::Text),
    Field::new("ipv6_address", &Shape::Text),
    Field::new("link_local_ips", &TEXTS),
    Field::new("mac_address", &Shape::Text).needs_api("1.44"),
    Field::new("priority", &CUT_NUMBER),
]);

static PORTS: Shape =
    Shape::List(&List::unique(&Shape::Short(Short::Port, &Shape::Object(&PORT)), Identity::Port));

static PORT: Object = Object::new(&[
    Field::new("name", &Shape::Text),
    Field::new("mode", &Shape::Text),
    Field::new("host_ip", &Shape::Checked(ip_address)),
    Field::new("target", &Shape::Whole(Whole { min: 1, max: 65_535, ..ANY_WHOLE })),
    Field::new("published", &Shape::Loose(Loose::Whole)),
    Field::new("protocol", &Shape::Text),
    Field::new("app_protocol", &Shape::Text),
])
.requiring(&["target"]);

static VOLUMES: Shape = Shape::List(&List::unique(
    &Shape::Short(Short::Mount, &Shape::Object(&MOUNT)),
    Identity::Target,
));

static MOUNT: Object = Object::new(&[
    Field::new("type", &Shape::Choice(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"])),
    Field::new("source", &Shape::Text),
    Field::new("target", &Shape::Text),
    Field::new("read_only", &Shape::Flag),
    Field::new("consistency", &Shape::Text),
    Field::new("bind", &Shape::Object(&MOUNT_BIND)).if_present(),
    Field::new("volume", &Shape::Object(&MOUNT_VOLUME)).if_present(),
    Field::new("tmpfs", &Shape::Object(&MOUNT_TMPFS)).if_present(),
    Field::new("image", &Shape::Object(&MOUNT_IMAGE))
        .if_present()
        .ignored("an image cannot be mounted here"),
])
.requiring(&["type", "target"]);

static MOUNT_BIND: Object = Object::new(&[
    Field::new("selinux", &Shape::Choice(&["z", "Z"])),
    Field::new("propagation", &Shape::Text),
    Field::new("create_host_path", &Shape::Flag),
    Field::new("recursive", &Shape::Choice(&["enabled", "disabled", "writable", "readonly"])),
]);

static MOUNT_VOLUME: Object = Object::new(&[
    Field::new("labels", &Shape::Pairs),
    Field::new("nocopy", &Shape::Flag),
    Field::new("subpath", &Shape::Text).needs_api("1.45"),
]);

static MOUNT_TMPFS: Object = Object::new(&[
    Field::new("size", &Shape::Size(Size::NotNegative)),
    Field::new("mode", &Shape::Whole(Whole { cuts: true, reads: false, min: 0, max: 0xffff_ffff })),
]);

static MOUNT_IMAGE: Object = Object::new(&[Field::new("subpath", &Shape::Text)]);

static DEVICES: Shape = Shape::List(&List::unique(
    &Shape::Short(Short::Device, &Shape::Object(&DEVICE_MAPPING)),
    Identity::Target,
));

static DEVICE_MAPPING: Object = Object::new(&[
    Field::new("source", &Shape::Text),
    Field::new("target", &Shape::Text),
    Field::new("permissions", &Shape::Text),
])
.requiring(&["source", "target"]);

static GPUS: Shape = Shape::Short(Short::Gpus, &Shape::List(&List::of(&Shape::Object(&DEVICE))));

static SECRETS: Shape =
    Shape::List(&List::unique(&REFERENCE, Identity::TargetOrSource("/run/secrets")));

static CONFIGS: Shape = Shape::List(&List::unique(&REFERENCE, Identity::TargetOrSource("")));

/// Secrets of a build.
pub(super) static REFERENCES: Shape = Shape::List(&List::of(&REFERENCE));

static REFERENCE: Shape = Shape::Short(
    Short::Reference,
    &Shape::Object(&Object::new(&[
        Field::new("source", &Shape::Text),
        Field::new("target", &Shape::Text),
        Field::new("uid", &Shape::Text),
        Field::new("gid", &Shape::Text),
        Field::new("mode", &Shape::Mode).if_present(),
    ])),
);

static ENV_FILES: Shape = Shape::List(&List::unique(&ENV_FILE, Identity::Path).or_single());

static ENV_FILE: Shape = Shape::Short(
    Short::EnvFile,
    &Shape::Object(
        &Object::new(&[
            Field::new("path", &Shape::Path),
            Field::new("required", &Shape::Flag),
            Field::new("format", &Shape::Text),
        ])
        .requiring(&["path"]),
    ),
);

static LABEL_FILES: Shape = Shape::List(&List::of(&Shape::Path).or_single());

pub(crate) static EXTENDS: Object =
    Object::new(&[Field::new("service", &Shape::Text), Field::new("file", &Shape::Text)])
        .requiring(&["service"])
        .merged(Merge::Replace);

static HEALTHCHECK: Object = Object::new(&[
    Field::new("test", &Shape::Test),
    Field::new("timeout", &Shape::Duration).if_present(),
    Field::new("interval", &Shape::Duration).if_present(),
    Field::new("retries", &Shape::Whole(Whole { cuts: true, min: 0, ..ANY_WHOLE })).if_present(),
    Field::new("start_period", &Shape::Duration).if_present(),
    Field::new("start_interval", &Shape::Duration).if_present().needs_api("1.44"),
    Field::new("disable", &Shape::Flag),
]);

static LOGGING: Object =
    Object::new(&[Field::new("driver", &Shape::Text), Field::new("options", &LOGGING_OPTIONS)])
        .merged(Merge::ByKeyIfSame("driver"));

static STORAGE_OPTIONS: Shape = Shape::Named(&Shape::Loose(Loose::WholeOrNull));

static LOGGING_OPTIONS: Shape = Shape::Named(&Shape::Loose(Loose::NumberOrNull));

pub(super) static ULIMITS: Shape = Shape::Named(&Shape::Short(
    Short::Ulimit,
    &Shape::Object(
        &Object::new(&[Field::new("soft", &WHOLE), Field::new("hard", &WHOLE)])
            .requiring(&["soft", "hard"])
            .merged(Merge::Replace),
    ),
));

static DEVELOP: Object =
    Object::new(&[Field::new("watch", &Shape::List(&List::of(&Shape::Object(&WATCH))))]);

static WATCH: Object = Object::new(&[
    Field::new("path", &Shape::Path),
    Field::new(
        "action",
        &Shape::Choice(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"]),
    ),
    Field::new("target", &Shape::Text),
    Field::new("exec", &Shape::Object(&HOOK)).json(Json::Always("{\"command\":null}")),
    Field::new("include", &ANY_TEXTS),
    Field::new("ignore", &ANY_TEXTS),
    Field::new("initial_sync", &Shape::PlainFlag),
])
.requiring(&["path", "action"]);

static HOOK: Object = Object::new(&[
    Field::new("command", &Shape::Command).json(Json::Always("null")),
    Field::new("user", &Shape::Text),
    Field::new("privileged", &Shape::Flag),
    Field::new("working_dir", &Shape::Text),
    Field::new("environment", &Shape::Variables),
])
.requiring(&["command"]);

static ANY_TEXTS: Shape = Shape::List(&List::of(&Shape::Text).or_single());

/// What an engine takes; Compose itself lets more pass, which then cannot be created.
fn container_name(name: &str) -> Result<(), &'static str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let begins_well = bare.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins_well && bare.len() > 1 && bare.chars().all(allowed) {
        return Ok(());
    }
    Err("must be two or more letters, digits and _ . -, beginning with a letter or digit")
}

fn pull_policy(policy: &str) -> Result<(), &'static str> {
    // Compose looks for one of these anywhere in the text.
    let known =
        ["always", "never", "build", "if_not_present", "missing", "refresh", "daily", "weekly"];
    if known.iter().any(|word| policy.contains(word)) || every(policy) {
        return Ok(());
    }
    Err("must be always, missing, if_not_present, never, build, daily, weekly or every_<duration>")
}

fn every(policy: &str) -> bool {
    policy.split_once("every_").is_some_and(|(_, rest)| {
        let unit = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        unit > 0 && rest[unit..].starts_with(['w', 'd', 'h', 'm', 's'])
    })
}

fn ip_address(address: &str) -> Result<(), &'static str> {
    if address.parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    Err("must be an IP address")
}
