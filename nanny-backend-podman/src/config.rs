//! Where Podman's API is.

use std::env;
use std::path::Path;

/// Where Podman's API is. Making one does not touch the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PodmanConfig {
    /// `unix:///path`, `tcp://host:port` or `http://host:port`.
    pub host: String,
}

const ROOTS_SOCKET: &str = "/run/podman/podman.sock";

impl PodmanConfig {
    /// The API at `host`.
    #[must_use]
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into() }
    }

    /// The API that Podman's own programs would talk to.
    ///
    /// `CONTAINER_HOST`; else, for root, `/run/podman/podman.sock`; else
    /// `$XDG_RUNTIME_DIR/podman/podman.sock`, unless only root's socket is there.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_lookup(&|name| env::var(name).ok())
    }

    /// The same, with another environment than the process's.
    #[must_use]
    pub fn from_lookup(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        Self::find(variable, rustix::process::geteuid().is_root(), &|path| path.exists())
    }

    fn find(
        variable: &dyn Fn(&str) -> Option<String>,
        root: bool,
        is_there: &dyn Fn(&Path) -> bool,
    ) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        if let Some(host) = set("CONTAINER_HOST") {
            return Self::new(host);
        }
        let users = set("XDG_RUNTIME_DIR").map(|folder| format!("{folder}/podman/podman.sock"));
        let path = match users {
            Some(own) if !root && (is_there(own.as_ref()) || !is_there(ROOTS_SOCKET.as_ref())) => {
                own
            }
            _ => ROOTS_SOCKET.to_owned(),
        };
        Self::new(format!("unix://{path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(variables: &[(&str, &str)], root: bool, there: &[&str]) -> String {
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let is_there = |path: &Path| there.iter().any(|known| path == Path::new(known));
        PodmanConfig::find(&variable, root, &is_there).host
    }

    const USER: (&str, &str) = ("XDG_RUNTIME_DIR", "/run/user/7");
    const USERS_SOCKET: &str = "/run/user/7/podman/podman.sock";

    #[test]
    fn a_host_that_is_named_comes_first() {
        let named = [("CONTAINER_HOST", "tcp://far:1"), USER];
        assert_eq!(find(&named, false, &[USERS_SOCKET]), "tcp://far:1");
        assert_eq!(find(&[("CONTAINER_HOST", "")], true, &[]), format!("unix://{ROOTS_SOCKET}"));
    }

    #[test]
    fn root_has_its_own_socket_and_so_has_each_user() {
        assert_eq!(find(&[USER], true, &[USERS_SOCKET]), format!("unix://{ROOTS_SOCKET}"));
        assert_eq!(find(&[USER], false, &[]), format!("unix://{USERS_SOCKET}"));
        let both = [ROOTS_SOCKET, USERS_SOCKET];
        assert_eq!(find(&[USER], false, &both), format!("unix://{USERS_SOCKET}"));
    }

    #[test]
    fn a_user_without_a_socket_takes_roots() {
        assert_eq!(find(&[USER], false, &[ROOTS_SOCKET]), format!("unix://{ROOTS_SOCKET}"));
        assert_eq!(find(&[], false, &[]), format!("unix://{ROOTS_SOCKET}"));
    }
}
