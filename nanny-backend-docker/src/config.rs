//! Where the engine is.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use nanny_lib::backend::{BackendError, ErrorKind, Result};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Where a Docker Engine is, and how to prove that it is the right one.
///
/// Making one does not touch the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DockerConfig {
    /// `unix:///path`, `tcp://host:port` or `http://host:port`.
    pub host: String,
    /// Speaks TLS to it, and proves who we are; needs the cargo feature `tls`.
    pub tls: Option<TlsFiles>,
    /// Images are built by the builder that engines had before BuildKit.
    pub classic_builder: bool,
}

/// The files of a TLS connection, PEM each.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// Who may have signed the engine's certificate.
    pub ca: PathBuf,
    /// Our certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

impl DockerConfig {
    /// The engine at `host`, without TLS.
    #[must_use]
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into(), tls: None, classic_builder: false }
    }

    /// The engine that the `docker` command would talk to.
    ///
    /// `DOCKER_HOST` with `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`; else the Docker context in
    /// `DOCKER_CONTEXT` or in the `config.json` of `DOCKER_CONFIG` (`~/.docker`); else the local
    /// socket. `DOCKER_BUILDKIT=0` asks for the classic builder.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if a context is named that is not there or cannot be read.
    pub fn from_env() -> Result<Self> {
        Self::from_lookup(&|name| env::var(name).ok())
    }

    /// The same, with another environment than the process's.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_lookup(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let mut config = Self::place(variable)?;
        let buildkit = variable("DOCKER_BUILDKIT");
        config.classic_builder = matches!(buildkit.as_deref(), Some("0" | "false"));
        Ok(config)
    }

    fn place(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let home = set("HOME").map(PathBuf::from);
        let folder = set("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| home.map(|home| home.join(".docker")));
        if let Some(host) = set("DOCKER_HOST") {
            let certs = set("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| folder.clone());
            let verified = set("DOCKER_TLS_VERIFY").is_some() && !host.starts_with("unix:");
            let tls = certs.filter(|_| verified).map(|certs| TlsFiles::in_folder(&certs));
            return Ok(Self { tls, ..Self::new(host) });
        }
        let Some(folder) = folder else {
            return Ok(Self::default());
        };
        let context = match set("DOCKER_CONTEXT") {
            Some(context) => Some(context),
            None => current_context(&folder.join("config.json"))?,
        };
        match context {
            Some(context) if context != "default" => Self::from_context(&folder, &context),
            _ => Ok(Self::default()),
        }
    }

    fn from_context(folder: &Path, context: &str) -> Result<Self> {
        let key = Sha256::digest(context).iter().fold(String::new(), |mut key, byte| {
            // Writing to a String cannot fail.
            let _ = write!(key, "{byte:02x}");
            key
        });
        let path = folder.join("contexts/meta").join(&key).join("meta.json");
        let meta = fs::read_to_string(&path).map_err(|error| {
            invalid(format!("there is no Docker context {context:?}")).caused_by(error)
        })?;
        let meta: ContextMeta = serde_json::from_str(&meta)
            .map_err(|error| invalid(format!("cannot read {}", path.display())).caused_by(error))?;
        let certs = folder.join("contexts/tls").join(&key).join("docker");
        let tls = certs.is_dir().then(|| TlsFiles::in_folder(&certs));
        Ok(Self { tls, ..Self::new(meta.endpoints.docker.host) })
    }
}

impl Default for DockerConfig {
    /// The local socket.
    fn default() -> Self {
        Self::new(DEFAULT_HOST)
    }
}

impl TlsFiles {
    /// `ca.pem`, `cert.pem` and `key.pem` in `folder`.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            ca: folder.join("ca.pem"),
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        }
    }
}

#[derive(Deserialize)]
struct CommandConfig {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct ContextMeta {
    #[serde(rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Endpoint,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host")]
    host: String,
}

/// The context that `docker context use` chose; a file that is not there chose none.
fn current_context(path: &Path) -> Result<Option<String>> {
    let Ok(text) = fs::read_to_string(path) else {
        return Ok(None);
    };
    let config: CommandConfig = serde_json::from_str(&text)
        .map_err(|error| invalid(format!("cannot read {}", path.display())).caused_by(error))?;
    Ok(config.current_context.filter(|context| !context.is_empty()))
}

fn invalid(message: String) -> BackendError {
    BackendError::new(ErrorKind::Invalid, "configure docker", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<DockerConfig> {
        DockerConfig::from_lookup(&|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn folder_with_context(current: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let key = Sha256::digest("far").iter().map(|b| format!("{b:02x}")).collect::<String>();
        let meta = folder.path().join("contexts/meta").join(&key);
        fs::create_dir_all(&meta).unwrap();
        fs::create_dir_all(folder.path().join("contexts/tls").join(&key).join("docker")).unwrap();
        let text = r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":false}}}"#;
        fs::write(meta.join("meta.json"), text).unwrap();
        let text = format!(r#"{{"auths":{{}},"currentContext":"{current}"}}"#);
        fs::write(folder.path().join("config.json"), text).unwrap();
        folder
    }

    #[test]
    fn an_empty_environment_means_the_local_socket() {
        assert_eq!(config(&[]).unwrap().host, DEFAULT_HOST);
        assert_eq!(
            config(&[("HOME", "/nonexistent"), ("DOCKER_HOST", "")]).unwrap().host,
            DEFAULT_HOST
        );
    }

    #[test]
    fn the_builder_is_chosen_as_for_the_docker_command() {
        let classic = |value| config(&[("DOCKER_BUILDKIT", value)]).unwrap().classic_builder;
        assert!(classic("0") && !classic("1") && !classic(""));
    }

    #[test]
    fn the_host_variable_comes_before_a_context() {
        let config = config(&[("DOCKER_HOST", "tcp://h:1"), ("DOCKER_CONTEXT", "far")]).unwrap();
        assert_eq!((config.host.as_str(), config.tls), ("tcp://h:1", None));
    }

    #[test]
    fn certificates_come_from_the_folder_that_is_named() {
        let tls = config(&[
            ("DOCKER_HOST", "tcp://h:1"),
            ("DOCKER_TLS_VERIFY", "1"),
            ("DOCKER_CERT_PATH", "/certs"),
        ]);
        assert_eq!(tls.unwrap().tls.unwrap().key, Path::new("/certs/key.pem"));
    }

    #[test]
    fn contexts_are_found_by_variable_and_by_file() {
        let folder = folder_with_context("far");
        let home = folder.path().to_str().unwrap();
        let by_file = config(&[("DOCKER_CONFIG", home)]).unwrap();
        assert_eq!(by_file.host, "tcp://far:2376");
        assert!(by_file.tls.unwrap().ca.ends_with("docker/ca.pem"));
        let by_variable = config(&[("DOCKER_CONFIG", home), ("DOCKER_CONTEXT", "default")]);
        assert_eq!(by_variable.unwrap().host, DEFAULT_HOST);
    }

    #[test]
    fn a_context_that_is_not_there_is_an_error() {
        let folder = folder_with_context("near");
        let error = config(&[("DOCKER_CONFIG", folder.path().to_str().unwrap())]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains("near"));
    }
}
