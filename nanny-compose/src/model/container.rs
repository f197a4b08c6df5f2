//! The smaller parts of a service: ports, devices, health, restarts, limits.

use std::fmt;
use std::time::Duration;

/// A port of the container, one of a range each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The host's address; all of them if absent.
    pub host_ip: Option<String>,
    /// The host's port, or a range to choose from (`8000-8010`); any free port if absent.
    pub published: Option<String>,
    /// The container's port.
    pub target: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// The protocol of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A device of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The host's path, or a CDI name (`vendor.com/class=name`).
    pub source: String,
    /// The path in the container.
    pub target: String,
    /// What the container may do: read, write, make nodes.
    pub permissions: String,
}

/// How the engine finds out whether a container is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Healthcheck {
    /// `["CMD", program, …]`, `["CMD-SHELL", line]` or `["NONE"]`; the image's if empty.
    pub test: Vec<String>,
    /// Between two checks.
    pub interval: Option<Duration>,
    /// How long one check may take.
    pub timeout: Option<Duration>,
    /// How many failures in a row make it unhealthy.
    pub retries: Option<u64>,
    /// How long failures do not count after the start.
    pub start_period: Option<Duration>,
    /// Between two checks within `start_period`.
    pub start_interval: Option<Duration>,
    /// `disable: true` in the file: no check, not even the image's.
    pub disabled: bool,
}

/// When the engine starts a container again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestartPolicy {
    /// Never.
    No,
    /// Whenever it ends, and when the engine starts.
    Always,
    /// Like `Always`, unless it was stopped on purpose.
    UnlessStopped,
    /// When it ends with a failure.
    OnFailure {
        /// How many times at most; without end if absent.
        max: Option<u32>,
    },
}

/// A resource limit of the container's processes; -1 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    /// What a process starts with.
    pub soft: i64,
    /// How far it may raise that.
    pub hard: i64,
}

impl Healthcheck {
    /// Whether the file switches the check off, by `disable` or `NONE`.
    pub fn is_off(&self) -> bool {
        self.disabled || self.test.first().is_some_and(|word| word == "NONE")
    }
}

impl Ulimit {
    /// One number for both limits.
    pub fn both(limit: i64) -> Self {
        Self { soft: limit, hard: limit }
    }
}

impl Protocol {
    /// The word in the file and in the engine's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// As Compose writes it in full: `127.0.0.1:8000-8010:80/tcp`.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host_ip {
            Some(ip) if ip.contains(':') => write!(f, "[{ip}]:")?,
            Some(ip) => write!(f, "{ip}:")?,
            None => {}
        }
        if self.host_ip.is_some() || self.published.is_some() {
            write!(f, "{}:", self.published.as_deref().unwrap_or_default())?;
        }
        write!(f, "{}/{}", self.target, self.protocol.as_str())
    }
}

/// The word in the file: `no`, `always`, `unless-stopped`, `on-failure`, `on-failure:3`.
impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
            Self::OnFailure { max: None } => f.write_str("on-failure"),
            Self::OnFailure { max: Some(max) } => write!(f, "on-failure:{max}"),
        }
    }
}
