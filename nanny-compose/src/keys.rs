//! Which keys of the Compose specification mean something to us: the one table.
//!
//! The loader checks every key of a file against it, so nothing is dropped in silence: a key is
//! supported, ignored with a notice, or refused with a reason; what is not in the table is not a
//! Compose key at all.

use std::collections::HashMap;
use std::sync::LazyLock;

use Support::{Ignored, Refused, Supported};

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Support {
    /// It is carried out as Compose does.
    Supported,
    /// It has no effect, and a warning with this notice.
    Ignored(&'static str),
    /// It is an error, for this reason.
    Refused(&'static str),
}

/// What becomes of a key, by its place: `name`, `services.*.image`. Names that the author
/// chooses are `*`, items of a list `[]`. `None` if Compose has no such key.
pub fn support(path: &str) -> Option<Support> {
    INDEX.get(path).copied()
}

/// All keys with their places, in the order of the table.
pub fn all() -> impl Iterator<Item = (String, Support)> {
    TABLE
        .iter()
        .flat_map(|(place, keys)| keys.iter().map(|(key, support)| (join(place, key), *support)))
}

/// Whether the keys at a place are fixed, rather than names the author chooses.
pub(crate) fn are_fixed_at(place: &str) -> bool {
    TABLE.iter().any(|(known, _)| *known == place)
}

/// The place of a key: names that the author chooses become `*`.
pub(crate) fn place_of(parent: &str, key: &str) -> String {
    if NAMED.contains(&parent) { join(parent, "*") } else { join(parent, key) }
}

/// The key at a place that an author most likely meant.
pub(crate) fn nearest(place: &str, key: &str) -> Option<&'static str> {
    // No key is so long that a longer one could be a slip of the pen.
    if key.len() > 40 {
        return None;
    }
    let keys = TABLE.iter().find(|(known, _)| *known == place)?.1;
    let lower = key.to_lowercase().replace('-', "_");
    let distance = |known: &str| strsim::damerau_levenshtein(&lower, known);
    let (nearest, _) = keys.iter().min_by_key(|(known, _)| distance(known))?;
    let at_most = 1 + lower.chars().count() / 4;
    (distance(nearest) <= at_most).then_some(nearest)
}

fn join(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}

static INDEX: LazyLock<HashMap<String, Support>> = LazyLock::new(|| all().collect());

/// Places whose keys are names.
const NAMED: &[&str] = &[
    "services",
    "networks",
    "volumes",
    "services.*.networks",
    "services.*.depends_on",
    "services.*.ulimits",
];

type Keys = &'static [(&'static str, Support)];

/// Keys that are part of the plan and not built yet.
const LATER: Support =
    Refused("not supported yet; remove it, or run this project with docker compose");
/// Keys that make no sense here.
const NEVER: Support = Refused("not supported; remove it, or run this project with docker compose");

const TABLE: &[(&str, Keys)] = &[
    (
        "",
        &[
            ("configs", LATER),
            ("include", LATER),
            ("models", NEVER),
            ("name", Supported),
            ("networks", Supported),
            ("secrets", LATER),
            ("services", Supported),
            ("version", Ignored("obsolete and ignored; remove it")),
            ("volumes", Supported),
        ],
    ),
    (
        "services.*",
        &[
            ("annotations", LATER),
            ("attach", LATER),
            ("blkio_config", NEVER),
            ("build", Ignored("images are not built here; the image must be there already")),
            ("cap_add", Supported),
            ("cap_drop", Supported),
            ("cgroup", LATER),
            ("cgroup_parent", LATER),
            ("command", Supported),
            ("configs", LATER),
            ("container_name", Supported),
            ("cpu_count", LATER),
            ("cpu_percent", LATER),
            ("cpu_period", LATER),
            ("cpu_quota", LATER),
            ("cpu_rt_period", LATER),
            ("cpu_rt_runtime", LATER),
            ("cpu_shares", LATER),
            ("cpus", LATER),
            ("cpuset", LATER),
            ("credential_spec", NEVER),
            ("depends_on", Supported),
            ("deploy", Supported),
            ("develop", LATER),
            ("device_cgroup_rules", LATER),
            ("devices", Supported),
            ("dns", LATER),
            ("dns_opt", LATER),
            ("dns_search", LATER),
            ("domainname", LATER),
            ("entrypoint", Supported),
            ("env_file", Supported),
            ("environment", Supported),
            ("expose", Supported),
            ("extends", LATER),
            ("external_links", NEVER),
            ("extra_hosts", Supported),
            ("gpus", Supported),
            ("group_add", Supported),
            ("healthcheck", Supported),
            ("hostname", Supported),
            ("image", Supported),
            ("init", Supported),
            ("ipc", Supported),
            ("isolation", NEVER),
            ("label_file", LATER),
            ("labels", Supported),
            ("links", NEVER),
            ("logging", LATER),
            ("mac_address", LATER),
            ("mem_limit", LATER),
            ("mem_reservation", LATER),
            ("mem_swappiness", LATER),
            ("memswap_limit", LATER),
            ("models", NEVER),
            ("network_mode", Supported),
            ("networks", Supported),
            ("oom_kill_disable", LATER),
            ("oom_score_adj", LATER),
            ("pid", LATER),
            ("pids_limit", LATER),
            ("platform", LATER),
            ("ports", Supported),
            ("post_start", NEVER),
            ("pre_start", NEVER),
            ("pre_stop", NEVER),
            ("privileged", LATER),
            ("profiles", Supported),
            ("provider", NEVER),
            ("pull_policy", LATER),
            ("pull_refresh_after", LATER),
            ("read_only", LATER),
            ("restart", Supported),
            ("runtime", Supported),
            ("scale", LATER),
            ("secrets", LATER),
            ("security_opt", Supported),
            ("shm_size", Supported),
            ("stdin_open", Supported),
            ("stop_grace_period", Supported),
            ("stop_signal", Supported),
            ("storage_opt", LATER),
            ("sysctls", LATER),
            ("tmpfs", LATER),
            ("tty", Supported),
            ("ulimits", Supported),
            ("use_api_socket", NEVER),
            ("user", Supported),
            ("userns_mode", LATER),
            ("uts", LATER),
            ("volumes", Supported),
            ("volumes_from", NEVER),
            ("working_dir", Supported),
        ],
    ),
    (
        "services.*.deploy",
        &[
            ("endpoint_mode", LATER),
            ("labels", LATER),
            ("mode", LATER),
            ("placement", LATER),
            ("replicas", LATER),
            ("resources", Supported),
            ("restart_policy", LATER),
            ("rollback_config", LATER),
            ("update_config", LATER),
        ],
    ),
    ("services.*.deploy.resources", &[("limits", LATER), ("reservations", Supported)]),
    (
        "services.*.deploy.resources.reservations",
        &[
            ("cpus", LATER),
            ("devices", Supported),
            ("generic_resources", NEVER),
            ("memory", LATER),
            ("pids", LATER),
        ],
    ),
    ("services.*.deploy.resources.reservations.devices.[]", GPU_REQUEST),
    ("services.*.gpus.[]", GPU_REQUEST),
    (
        "services.*.depends_on.*",
        &[("condition", Supported), ("required", Supported), ("restart", Supported)],
    ),
    (
        "services.*.devices.[]",
        &[("permissions", Supported), ("source", Supported), ("target", Supported)],
    ),
    (
        "services.*.env_file.[]",
        &[("format", Supported), ("path", Supported), ("required", Supported)],
    ),
    (
        "services.*.healthcheck",
        &[
            ("disable", Supported),
            ("interval", Supported),
            ("retries", Supported),
            ("start_interval", Supported),
            ("start_period", Supported),
            ("test", Supported),
            ("timeout", Supported),
        ],
    ),
    (
        "services.*.networks.*",
        &[
            ("aliases", Supported),
            ("driver_opts", LATER),
            ("gw_priority", LATER),
            ("interface_name", LATER),
            ("ipv4_address", LATER),
            ("ipv6_address", LATER),
            ("link_local_ips", LATER),
            ("mac_address", LATER),
            ("priority", Supported),
        ],
    ),
    ("services.*.ulimits.*", &[("hard", Supported), ("soft", Supported)]),
    (
        "networks.*",
        &[
            ("attachable", Supported),
            ("driver", Supported),
            ("driver_opts", Supported),
            ("enable_ipv4", Supported),
            ("enable_ipv6", Supported),
            ("external", Supported),
            ("internal", Supported),
            ("ipam", LATER),
            ("labels", Supported),
            ("name", Supported),
        ],
    ),
    ("networks.*.external", &[("name", Supported)]),
    (
        "volumes.*",
        &[
            ("driver", Supported),
            ("driver_opts", Supported),
            ("external", Supported),
            ("labels", Supported),
            ("name", Supported),
        ],
    ),
    ("volumes.*.external", &[("name", Supported)]),
];

const GPU_REQUEST: Keys = &[
    ("capabilities", Supported),
    ("count", Supported),
    ("device_ids", Supported),
    ("driver", Supported),
    ("options", Supported),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_looked_up_by_their_place() {
        assert_eq!(support("services.*.image"), Some(Supported));
        assert!(matches!(support("services.*.blkio_config"), Some(Refused(_))));
        assert!(matches!(support("version"), Some(Ignored(_))));
        assert_eq!(support("services.*.imag"), None);
        assert_eq!(place_of("services", "image"), "services.*");
    }

    #[test]
    fn near_misses_are_recognised_and_far_ones_are_not() {
        for (key, expected) in [
            ("imag", Some("image")),
            ("enviroment", Some("environment")),
            ("container-name", Some("container_name")),
            ("Ports", Some("ports")),
            ("flavour", None),
        ] {
            assert_eq!(nearest("services.*", key), expected, "{key}");
        }
    }

    #[test]
    fn no_key_is_in_the_table_twice() {
        assert_eq!(all().count(), INDEX.len());
    }
}
