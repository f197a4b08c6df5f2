//! What is asked of a process: from a container's spec to what is kept of it.

use std::collections::BTreeMap;
use std::time::Duration;

use nanny_lib::GpuId;
use nanny_lib::backend::{
    BackendError, ContainerSpec, Dns, Environment, ErrorKind, GpuDevices, Healthcheck,
    HealthcheckTest, Labels, Limits, Namespaces, RestartPolicy, Result, Ulimit,
};
use rustix::process::Resource;
use serde::{Deserialize, Serialize};

use crate::signal;

/// What is kept of a spec, for the shim and for those who look. Others may not read it: the
/// environment may hold secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Saved {
    version: u32,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Environment,
    pub(crate) labels: Labels,
    pub(crate) working_dir: Option<String>,
    pub(crate) stop_signal: i32,
    pub(crate) stop_grace: Duration,
    /// It is to see only certain GPUs.
    pub(crate) names_gpus: bool,
    pub(crate) ulimits: Vec<(String, Option<u64>, Option<u64>)>,
    pub(crate) bounds: Bounds,
    /// Bytes that its log may take up.
    pub(crate) log_bytes: u64,
}

/// How much of the machine it may use: what the kernel holds a group of processes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bounds {
    pub(crate) memory_bytes: Option<u64>,
    /// Processor time in billionths of a processor.
    pub(crate) nano_cpus: Option<u64>,
    pub(crate) pids: Option<u64>,
    pub(crate) oom_score_adj: Option<i64>,
}

impl Saved {
    /// The GPUs that it is told to use.
    pub(crate) fn chosen_gpus(&self) -> Vec<GpuId> {
        let chosen = [CHOICE, "ROCR_VISIBLE_DEVICES"].into_iter();
        let lists = chosen.filter_map(|name| self.environment.0.get(name)?.as_deref());
        let names = lists.flat_map(|list| list.split(',').map(str::trim));
        names.filter(|name| !name.is_empty()).map(GpuId::new).collect()
    }
}

/// Tells the processes of one container from all others, wherever they have gone.
pub(crate) const MARK: &str = "NANNY_PROCESS_ID";
/// By which programs choose GPUs.
const CHOICE: &str = "CUDA_VISIBLE_DEVICES";
const CHOICES: &[&str] = &[CHOICE, "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"];
/// By which they count them.
const ORDER: &str = "CUDA_DEVICE_ORDER";
/// As for containers.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
const VERSION: u32 = 1;

/// What is kept of `spec`, or why it cannot be run as a process.
pub(crate) fn to_saved(spec: &ContainerSpec, log_bytes: u64) -> Result<Saved> {
    // Taken apart whole: what is new in a spec must not compile until something is made of it.
    let ContainerSpec {
        name,
        image,
        platform,
        entrypoint,
        command,
        environment,
        labels,
        annotations,
        hostname,
        domainname,
        user,
        working_dir,
        tty,
        stdin_open,
        init: _, // The shim does all that one does: it waits for orphans and passes signals on.
        ports,
        expose: _, // All of its ports can be reached.
        mounts,
        tmpfs,
        storage_options,
        read_only,
        devices,
        device_cgroup_rules,
        gpus,
        group_add,
        cap_add,
        cap_drop,
        security_opt,
        privileged,
        sysctls,
        namespaces: Namespaces { ipc, pid, uts, userns, cgroup },
        shm_size,
        runtime,
        restart,
        logging,
        healthcheck,
        network_mode,
        networks,
        mac_address,
        links,
        dns: Dns { servers, options, search },
        extra_hosts,
        ulimits,
        limits,
        stop_signal,
        stop_grace,
    } = spec;
    let check = Check(name);
    let not_of_the_host = |mode: &Option<String>| mode.as_ref().is_some_and(|mode| mode != "host");
    let checked = |check: &Option<Healthcheck>| {
        check.as_ref().is_some_and(|check| check.test != HealthcheckTest::Disabled)
    };
    check.lacks(&[
        ("image", image.is_some()),
        ("platform", platform.is_some()),
        ("annotations", !annotations.is_empty()),
        ("hostname", hostname.is_some()),
        ("domainname", domainname.is_some()),
        ("user", user.is_some()),
        ("tty", *tty),
        ("stdin_open", *stdin_open),
        ("ports", !ports.is_empty()),
        ("mounts", !mounts.is_empty()),
        ("tmpfs", !tmpfs.is_empty()),
        ("storage_options", !storage_options.is_empty()),
        ("read_only", *read_only),
        ("devices", !devices.is_empty()),
        ("device_cgroup_rules", !device_cgroup_rules.is_empty()),
        ("group_add", !group_add.is_empty()),
        ("cap_add", !cap_add.is_empty()),
        ("cap_drop", !cap_drop.is_empty()),
        ("security_opt", !security_opt.is_empty()),
        ("privileged", *privileged),
        ("sysctls", !sysctls.is_empty()),
        ("ipc", not_of_the_host(ipc)),
        ("pid", not_of_the_host(pid)),
        ("uts", not_of_the_host(uts)),
        ("userns", not_of_the_host(userns)),
        ("cgroup", not_of_the_host(cgroup)),
        ("shm_size", shm_size.is_some()),
        ("runtime", runtime.is_some()),
        ("restart", !matches!(restart, None | Some(RestartPolicy::No))),
        ("logging", logging.is_some()),
        ("healthcheck", checked(healthcheck)),
        ("network_mode", not_of_the_host(network_mode)),
        ("networks", !networks.is_empty()),
        ("mac_address", mac_address.is_some()),
        ("links", !links.is_empty()),
        ("dns", !(servers.is_empty() && options.is_empty() && search.is_empty())),
        ("extra_hosts", !extra_hosts.is_empty()),
    ])?;
    check_name("create", name)?;
    let command: Vec<_> = entrypoint.iter().chain(command).flatten().cloned().collect();
    check.command(&command, working_dir.as_deref())?;
    let mut environment = environment.clone();
    check.environment(&environment)?;
    check.gpus(gpus, &mut environment)?;
    Ok(Saved {
        version: VERSION,
        command,
        environment,
        labels: labels.clone(),
        working_dir: working_dir.clone(),
        stop_signal: match stop_signal {
            Some(signal) => signal::number(signal).ok_or_else(|| {
                check.invalid(format!("'{signal}' is no signal that a process can be sent"))
            })?,
            None => signal::TERM,
        },
        stop_grace: stop_grace.unwrap_or(GRACE),
        names_gpus: !gpus.is_empty(),
        ulimits: ulimits.iter().map(|ulimit| check.ulimit(ulimit)).collect::<Result<_>>()?,
        bounds: check.limits(limits)?,
        log_bytes,
    })
}

/// A name goes into a file of its own, and into messages.
pub(crate) fn check_name(operation: &'static str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 255 || name.contains(['/', '\n', '\0']) {
        let message = "a name has 1 to 255 bytes, and no '/' or line end";
        return Err(BackendError::new(ErrorKind::Invalid, operation, message).on(name));
    }
    Ok(())
}

/// Whom to blame.
struct Check<'a>(&'a str);

impl Check<'_> {
    fn invalid(&self, message: impl Into<String>) -> BackendError {
        BackendError::new(ErrorKind::Invalid, "create", message).on(self.0)
    }

    fn unsupported(&self, what: &str) -> BackendError {
        let message = format!("a plain process cannot have '{what}'");
        BackendError::new(ErrorKind::Unsupported, "create", message).on(self.0)
    }

    fn lacks(&self, wanted: &[(&str, bool)]) -> Result<()> {
        match wanted.iter().find(|(_, is_wanted)| *is_wanted) {
            Some((what, _)) => Err(self.unsupported(what)),
            None => Ok(()),
        }
    }

    fn command(&self, command: &[String], working_dir: Option<&str>) -> Result<()> {
        if command.first().is_none_or(String::is_empty) {
            return Err(self.invalid("there is no command to run"));
        }
        if command.iter().any(|word| word.contains('\0')) {
            return Err(self.invalid("a command cannot hold a zero byte"));
        }
        if working_dir.is_some_and(|path| !path.starts_with('/') || path.contains('\0')) {
            return Err(self.invalid("a working directory is an absolute path"));
        }
        Ok(())
    }

    fn environment(&self, Environment(environment): &Environment) -> Result<()> {
        for (name, value) in environment {
            let value = value.as_deref().unwrap_or_default();
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(self.invalid(format!("the variable '{name}' cannot be set")));
            }
            if name == MARK {
                return Err(self.invalid(format!("the variable {MARK} is ours to set")));
            }
        }
        Ok(())
    }

    /// The request becomes a variable, which no file sets beside it.
    fn gpus(&self, gpus: &[GpuDevices], environment: &mut Environment) -> Result<()> {
        let Some(first) = gpus.first() else { return Ok(()) };
        let set = |name: &&&str| environment.0.get(**name).is_some_and(Option::is_some);
        if let Some(name) = CHOICES.iter().find(set) {
            return Err(self.invalid(format!(
                "the environment sets {name}, and which GPUs it gets is said elsewhere; \
                 take one of them out"
            )));
        }
        let mut chosen = Vec::new();
        let mut all = false;
        for GpuDevices { driver, count, device_ids, capabilities: _, options } in gpus {
            if !matches!(driver.as_str(), "" | "nvidia") {
                return Err(self.unsupported(&format!("GPUs by the driver {driver}")));
            }
            if !options.is_empty() {
                return Err(self.unsupported("options of a GPU driver"));
            }
            match (count, device_ids.as_slice()) {
                (Some(-1), []) => all = true,
                (None, [_, ..]) => chosen.extend(device_ids.iter().cloned()),
                _ => return Err(self.unsupported("GPUs by number; name them, or ask for all")),
            }
        }
        if chosen.iter().any(|id| id.contains(':')) {
            // What is no name to CUDA hides all of them.
            return Err(self.unsupported("GPUs by PCI address; name an index or a UUID"));
        }
        if chosen.iter().any(|id| id.is_empty() || id.contains([',', '\0'])) {
            return Err(self.invalid(format!("{:?} are no names of GPUs", first.device_ids)));
        }
        // Nothing chosen is all of them, whatever the variable says where the nanny runs.
        let choice = (!all).then(|| chosen.join(","));
        environment.0.insert(CHOICE.to_owned(), choice);
        let is_index = |id: &String| id.bytes().all(|byte| byte.is_ascii_digit());
        if !all && chosen.iter().any(is_index) {
            // As engines and `nvidia-smi` count them; left alone, CUDA begins with the fastest.
            environment.0.entry(ORDER.to_owned()).or_insert(Some("PCI_BUS_ID".to_owned()));
        }
        Ok(())
    }

    fn ulimit(&self, ulimit: &Ulimit) -> Result<(String, Option<u64>, Option<u64>)> {
        let Ulimit { name, soft, hard } = ulimit;
        if resource(name).is_none() {
            return Err(self.unsupported(&format!("the ulimit {name}")));
        }
        Ok((name.clone(), u64::try_from(*soft).ok(), u64::try_from(*hard).ok()))
    }

    fn limits(&self, limits: &Limits) -> Result<Bounds> {
        let Limits {
            nano_cpus,
            cpu_shares,
            cpu_period,
            cpu_quota,
            cpu_realtime_period,
            cpu_realtime_runtime,
            cpu_count,
            cpu_percent,
            cpuset,
            memory,
            memory_swap,
            memory_reservation,
            memory_swappiness,
            pids,
            oom_kill_disable,
            oom_score_adj,
            cgroup_parent,
        } = limits;
        self.lacks(&[
            ("cpu_shares", *cpu_shares != 0),
            ("cpu_period", *cpu_period != 0),
            ("cpu_quota", *cpu_quota > 0),
            ("cpu_realtime_period", *cpu_realtime_period != 0),
            ("cpu_realtime_runtime", *cpu_realtime_runtime != 0),
            ("cpu_count", *cpu_count != 0),
            ("cpu_percent", *cpu_percent != 0),
            ("cpuset", !cpuset.is_empty()),
            ("memory_swap", *memory_swap > 0),
            ("memory_reservation", *memory_reservation > 0),
            ("memory_swappiness", memory_swappiness.is_some()),
            ("oom_kill_disable", *oom_kill_disable),
            ("cgroup_parent", cgroup_parent.is_some()),
        ])?;
        let limit = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
        Ok(Bounds {
            memory_bytes: limit(*memory),
            nano_cpus: limit(*nano_cpus),
            pids: pids.and_then(limit),
            oom_score_adj: Some(*oom_score_adj).filter(|score| *score != 0),
        })
    }
}

/// What the kernel calls a ulimit.
pub(crate) fn resource(name: &str) -> Option<Resource> {
    let resources = BTreeMap::from([
        ("as", Resource::As),
        ("core", Resource::Core),
        ("cpu", Resource::Cpu),
        ("data", Resource::Data),
        ("fsize", Resource::Fsize),
        ("locks", Resource::Locks),
        ("memlock", Resource::Memlock),
        ("msgqueue", Resource::Msgqueue),
        ("nice", Resource::Nice),
        ("nofile", Resource::Nofile),
        ("nproc", Resource::Nproc),
        ("rss", Resource::Rss),
        ("rtprio", Resource::Rtprio),
        ("rttime", Resource::Rttime),
        ("sigpending", Resource::Sigpending),
        ("stack", Resource::Stack),
    ]);
    resources.get(name).copied()
}

#[cfg(test)]
mod tests;
