//! Building images: the context goes up as a tar archive, and what the builder says comes down.

use std::borrow::Cow;
use std::collections::BTreeMap;

use nanny_engine_formats::{Context, carry_out};
use nanny_lib::backend::{BackendError, BuildProgress, BuildSpec, ErrorKind, Result};

use crate::connection::Connection;
use crate::wire::Payload;
use crate::{error, gateway};

pub(crate) async fn build(
    connection: &Connection,
    spec: &BuildSpec,
    progress: &(dyn for<'a> Fn(BuildProgress) + Send + Sync),
) -> Result<()> {
    let name = spec.tags.first().map_or("", String::as_str);
    if !spec.unsupported.is_empty() {
        let message = format!("a build cannot honour {}", spec.unsupported.join(", "));
        return Err(BackendError::new(ErrorKind::Unsupported, "build", message).on(name));
    }
    let network = network(spec)?;
    let context = Context::gather(spec.clone()).await.map_err(|fault| fault.on(name))?;
    let path = format!("/build?{}", query(spec, network, context.dockerfile()));
    let post = |pieces| async move {
        Ok(connection.upload("build", name, &path, Payload::Archive(pieces)))
    };
    let judge = |words: &str| error::said("build", name, 500, &with_cure(words));
    carry_out(context, name, post, judge, progress).await
}

/// What the builder says, and what helps against it.
fn with_cure(words: &str) -> Cow<'_, str> {
    // It finds the bases of a recipe by settings that many machines do not have.
    if !words.contains("no unqualified-search registries") {
        return words.into();
    }
    let cure = "name the registry in the recipe, such as docker.io/library/debian, or name docker.io in \
                unqualified-search-registries of registries.conf";
    format!("{words}: {cure}").into()
}

/// How the builder is told of the network: of all there are, its API has the host's, and none.
fn network(spec: &BuildSpec) -> Result<Option<&'static str>> {
    match spec.network.as_deref() {
        None | Some("default" | "host") => Ok(None),
        Some("none") => Ok(Some("NetworkDisabled")),
        Some(other) => {
            let message = format!("network {other:?}: Podman builds on the host's, or on none");
            let name = spec.tags.first().map_or("", String::as_str);
            Err(BackendError::new(ErrorKind::Unsupported, "build", message).on(name))
        }
    }
}

/// What is asked of the builder. Where it might look for layers is not: it takes no names with tags,
/// and what it has is at hand anyway.
fn query(spec: &BuildSpec, network: Option<&str>, dockerfile: &str) -> String {
    let json = |value: serde_json::Result<String>| value.unwrap_or_default();
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("dockerfile", dockerfile);
    query.append_pair("rm", "true").append_pair("forcerm", "true").append_pair("layers", "true");
    // Docker's format: the other one has no health checks.
    query.append_pair("outputformat", "application/vnd.docker.distribution.manifest.v2+json");
    for tag in &spec.tags {
        query.append_pair("t", tag);
    }
    // An argument without a value has the one of the recipe.
    let values = spec.args.0.iter();
    let args: BTreeMap<_, _> = values.filter_map(|(n, value)| Some((n, value.as_ref()?))).collect();
    if !args.is_empty() {
        query.append_pair("buildargs", &json(serde_json::to_string(&args)));
    }
    if !spec.labels.is_empty() {
        query.append_pair("labels", &json(serde_json::to_string(&spec.labels)));
    }
    if !spec.extra_hosts.is_empty() {
        // On the host's network, the host is near.
        let near = |host: &String| match host.strip_suffix(gateway::WORD) {
            Some(name) => format!("{name}:127.0.0.1"),
            None => host.clone(),
        };
        let hosts: Vec<_> = spec.extra_hosts.iter().map(near).collect();
        query.append_pair("extrahosts", &json(serde_json::to_string(&hosts)));
    }
    let shm_size = spec.shm_size.map(|bytes| bytes.to_string());
    let fields = [
        ("target", spec.target.as_deref()),
        ("platform", spec.platform.as_deref()),
        ("networkmode", network),
        ("shmsize", shm_size.as_deref()),
        ("nocache", spec.no_cache.then_some("true")),
        // Its `pull` means "if it is not there".
        ("pullpolicy", spec.pull.then_some("always")),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            query.append_pair(field, value);
        }
    }
    query.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_asked_for() {
        let mut spec = BuildSpec::new("web:1", "/context");
        spec.tags.push("other:2".to_owned());
        spec.args.0.insert("A".to_owned(), Some("x y&z".to_owned()));
        spec.args.0.insert("B".to_owned(), None);
        spec.labels.insert("l".to_owned(), "v".to_owned());
        spec.target = Some("last".to_owned());
        spec.cache_from = vec!["web:0".to_owned()];
        spec.platform = Some("linux/amd64".to_owned());
        spec.extra_hosts = vec!["h:1.2.3.4".to_owned(), "g:host-gateway".to_owned()];
        (spec.no_cache, spec.pull, spec.shm_size) = (true, true, Some(7));
        let query = query(&spec, Some("NetworkDisabled"), "sub/Dockerfile");
        let mut pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        pairs.retain(|(name, _)| {
            !matches!(name.as_str(), "rm" | "forcerm" | "layers" | "outputformat")
        });
        pairs.sort();
        let wanted = [
            ("buildargs", r#"{"A":"x y&z"}"#),
            ("dockerfile", "sub/Dockerfile"),
            ("extrahosts", r#"["h:1.2.3.4","g:127.0.0.1"]"#),
            ("labels", r#"{"l":"v"}"#),
            ("networkmode", "NetworkDisabled"),
            ("nocache", "true"),
            ("platform", "linux/amd64"),
            ("pullpolicy", "always"),
            ("shmsize", "7"),
            ("t", "other:2"),
            ("t", "web:1"),
            ("target", "last"),
        ];
        assert_eq!(pairs, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_build_is_on_the_hosts_network_or_on_none() {
        let told = |asked: Option<&str>| {
            let mut spec = BuildSpec::new("web:1", "/context");
            spec.network = asked.map(str::to_owned);
            network(&spec).map_err(|error| (error.kind(), error.to_string()))
        };
        assert_eq!((told(None), told(Some("host"))), (Ok(None), Ok(None)));
        assert_eq!(told(Some("none")), Ok(Some("NetworkDisabled")));
        let (kind, words) = told(Some("backbone")).unwrap_err();
        assert_eq!(kind, ErrorKind::Unsupported);
        assert!(words.contains("backbone"), "{words}");
    }

    #[test]
    fn a_base_that_is_not_found_by_its_short_name_brings_its_cure() {
        // As Podman 4.3.1 words it.
        let words = "creating build container: short-name \"a/b\" did not resolve to an alias and no \
                     unqualified-search registries are defined in \"/etc/containers/registries.conf\"";
        let told = with_cure(words);
        assert!(told.starts_with(words) && told.contains("name the registry"), "{told}");
        assert_eq!(with_cure("it failed"), "it failed");
    }
}
