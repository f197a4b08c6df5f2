//! The smaller parts of a service.

use std::collections::BTreeMap;

use indexmap::IndexSet;

use super::at::At;
use crate::model::{Condition, Dependency, Device, Healthcheck, RestartPolicy, Ulimit};

pub(super) fn container_name(at: &At<'_>) -> Option<String> {
    let name = at.word()?;
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if first && name.len() > 1 && characters.all(rest) {
        return Some(name);
    }
    at.wrong_kind("two or more letters, digits and _ . -, beginning with a letter or digit")
}

pub(super) fn expose(at: &At<'_>) -> Vec<String> {
    let mut ports = IndexSet::new();
    for item in at.items() {
        let Some(text) = item.string_or_number() else {
            continue;
        };
        let (range, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let is_port = |text: &str| text.parse::<u16>().is_ok();
        if !is_port(first) || !is_port(last) || !["tcp", "udp", "sctp"].contains(&protocol) {
            item.problem(format!("{} is not a port, such as 80, 80-90 or 80/udp", item.shown()));
        } else {
            ports.insert(text);
        }
    }
    ports.into_iter().collect()
}

pub(super) fn devices(at: &At<'_>) -> Vec<Device> {
    at.items().iter().filter_map(device).collect()
}

fn device(at: &At<'_>) -> Option<Device> {
    let (source, target, permissions) = if at.node.as_mapping().is_some() {
        let word = |key: &str| at.field(key).and_then(|at| at.word());
        let Some(source) = word("source") else {
            at.problem("'source' is missing");
            return None;
        };
        (source, word("target"), word("permissions"))
    } else {
        let text = at.word()?;
        let mut parts = text.split(':').map(str::to_owned);
        let device = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        if parts.next().is_some() {
            at.problem(format!("{} is not a device: too many colons", at.shown()));
            return None;
        }
        device
    };
    let target = target.filter(|text| !text.is_empty()).unwrap_or_else(|| source.clone());
    let permissions = permissions.unwrap_or_else(|| "rwm".to_owned());
    if permissions.is_empty() || !permissions.chars().all(|c| "rwm".contains(c)) {
        at.problem("a device's permissions are letters of 'rwm'");
        return None;
    }
    Some(Device { source, target, permissions })
}

pub(super) fn ipc(at: &At<'_>) -> Option<String> {
    let mode = at.word()?;
    if mode.starts_with("service:") || mode.starts_with("container:") {
        at.problem("another container's IPC is not supported yet; use host, private or shareable");
        return None;
    }
    Some(mode)
}

pub(super) fn restart(at: &At<'_>) -> Option<RestartPolicy> {
    // Without quotes `no` is a string too, but `false` is not.
    match at.word()?.as_str() {
        "no" => Some(RestartPolicy::No),
        "always" => Some(RestartPolicy::Always),
        "unless-stopped" => Some(RestartPolicy::UnlessStopped),
        "on-failure" => Some(RestartPolicy::OnFailure { max: None }),
        text => {
            let max = text.strip_prefix("on-failure:").and_then(|max| max.parse().ok());
            match max {
                Some(max) => Some(RestartPolicy::OnFailure { max: Some(max) }),
                None => at.wrong_kind("no, always, unless-stopped, on-failure or on-failure:N"),
            }
        }
    }
}

pub(super) fn healthcheck(at: &At<'_>) -> Option<Healthcheck> {
    at.mapping()?;
    let duration = |key: &str| at.field(key).and_then(|at| at.duration());
    let mut check = Healthcheck {
        test: at.field("test").map(|at| test(&at)).unwrap_or_default(),
        interval: duration("interval"),
        timeout: duration("timeout"),
        retries: None,
        start_period: duration("start_period"),
        start_interval: duration("start_interval"),
        disabled: at.field("disable").and_then(|at| at.boolean()).unwrap_or(false),
    };
    if let Some(at) = at.field("retries") {
        let retries = at.integer();
        check.retries = retries.and_then(|retries| u64::try_from(retries).ok());
        if retries.is_some() && check.retries.is_none() {
            at.wrong_kind::<()>("a whole number from 0 on");
        }
    }
    Some(check)
}

fn test(at: &At<'_>) -> Vec<String> {
    if let Some(line) = at.node.as_str() {
        return vec!["CMD-SHELL".to_owned(), line.to_owned()];
    }
    let words = at.strings();
    let kind = words.first().map(String::as_str);
    if at.node.as_sequence().is_some() && !matches!(kind, None | Some("CMD" | "CMD-SHELL" | "NONE"))
    {
        at.problem("a test begins with CMD, CMD-SHELL or NONE; or write it as one string");
    }
    words
}

pub(super) fn depends_on(at: &At<'_>) -> BTreeMap<String, Dependency> {
    let plain = Dependency { condition: Condition::Started, restart: false, required: true };
    if at.node.as_mapping().is_none() {
        return at.unique_strings().into_iter().map(|name| (name, plain)).collect();
    }
    let mut dependencies = BTreeMap::new();
    for (key, value) in at.entries() {
        if value.mapping().is_none() {
            continue;
        }
        let flag = |key: &str| value.field(key).and_then(|at| at.boolean());
        let condition = match value.field("condition") {
            Some(at) => condition(&at).unwrap_or_default(),
            None => {
                value.problem_at_key("'condition' is missing; 'service_started' is the plain one");
                Condition::Started
            }
        };
        let restart = flag("restart").unwrap_or(false);
        let required = flag("required").unwrap_or(true);
        dependencies.insert(key.text.clone(), Dependency { condition, restart, required });
    }
    dependencies
}

fn condition(at: &At<'_>) -> Option<Condition> {
    let text = at.string()?;
    let all = [Condition::Started, Condition::Healthy, Condition::CompletedSuccessfully];
    let found = all.into_iter().find(|condition| condition.as_str() == text);
    let wanted = "service_started, service_healthy or service_completed_successfully";
    found.or_else(|| at.wrong_kind(wanted))
}

pub(super) fn extra_hosts(at: &At<'_>) -> BTreeMap<String, Vec<String>> {
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |at: &At<'_>, host: &str, addresses: Vec<String>| {
        if host.is_empty() || host.contains([':', '=']) {
            at.problem("has no host name; write 'host:address' or 'host=address'");
            return;
        }
        let bare = |address: String| {
            let inner = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
            inner.map_or(address.clone(), str::to_owned)
        };
        hosts.entry(host.to_owned()).or_default().extend(addresses.into_iter().map(bare));
    };
    if at.node.as_mapping().is_some() {
        for (key, value) in at.entries() {
            let addresses = if value.node.as_sequence().is_some() {
                value.texts()
            } else {
                vec![value.string().unwrap_or_default()]
            };
            add(&value, &key.text, addresses);
        }
        return hosts;
    }
    for item in at.items() {
        let Some(text) = item.string() else { continue };
        match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((host, addresses)) => {
                add(&item, host, addresses.split(',').map(str::to_owned).collect());
            }
            None => item.problem("has no address; write 'host:address' or 'host=address'"),
        }
    }
    hosts
}

pub(super) fn ulimits(at: &At<'_>) -> BTreeMap<String, Ulimit> {
    let entries = at.entries().into_iter();
    entries.filter_map(|(key, at)| Some((key.text.clone(), ulimit(&at)?))).collect()
}

fn ulimit(at: &At<'_>) -> Option<Ulimit> {
    if at.node.as_mapping().is_none() {
        return at.integer().map(Ulimit::both);
    }
    let (Some(soft), Some(hard)) = (at.field("soft"), at.field("hard")) else {
        at.problem("needs both 'soft' and 'hard', or one number for both");
        return None;
    };
    Some(Ulimit { soft: soft.integer()?, hard: hard.integer()?, single: false })
}
