//! Building images: the context goes up as a tar archive, and what the builder says comes down.

use nanny_engine_formats::{Context, carry_out};
use nanny_lib::backend::{BackendError, BuildProgress, BuildSpec, ErrorKind, Result};

use crate::backend::LOOK;
use crate::connection::Connection;
use crate::error;

/// BuildKit is in every engine from this minor version of the API on.
const MINOR_BUILDKIT: usize = 39;

/// Builds the image. The context is gathered on a thread of its own.
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
    let context = Context::gather(spec.clone()).await.map_err(|fault| fault.on(name))?;
    let minor = connection.api_minor("build", LOOK).await?;
    let classic = connection.wants_classic_builder() || minor < MINOR_BUILDKIT;
    let path = format!("/build?{}", query(spec, context.dockerfile(), classic));
    let post = |body| connection.post("build", name, LOOK, path, body);
    let judge = |words: &str| {
        let error = bollard::errors::Error::DockerStreamError { error: words.to_owned() };
        error::from_client("build", name, error)
    };
    carry_out(context, name, post, judge, progress).await
}

/// What is asked of the builder.
fn query(spec: &BuildSpec, dockerfile: &str, classic: bool) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("version", if classic { "1" } else { "2" });
    query.append_pair("dockerfile", dockerfile);
    // Containers that the classic builder leaves behind are of no use to anybody.
    query.append_pair("rm", "1").append_pair("forcerm", "1");
    for tag in &spec.tags {
        query.append_pair("t", tag);
    }
    let json = |value: serde_json::Result<String>| value.unwrap_or_default();
    if !spec.args.0.is_empty() {
        query.append_pair("buildargs", &json(serde_json::to_string(&spec.args)));
    }
    if !spec.labels.is_empty() {
        query.append_pair("labels", &json(serde_json::to_string(&spec.labels)));
    }
    if !spec.cache_from.is_empty() {
        query.append_pair("cachefrom", &json(serde_json::to_string(&spec.cache_from)));
    }
    for host in &spec.extra_hosts {
        query.append_pair("extrahosts", host);
    }
    let shm_size = spec.shm_size.map(|bytes| bytes.to_string());
    let fields = [
        ("target", spec.target.as_deref()),
        ("platform", spec.platform.as_deref()),
        ("networkmode", spec.network.as_deref()),
        ("shmsize", shm_size.as_deref()),
        ("nocache", spec.no_cache.then_some("1")),
        ("pull", spec.pull.then_some("1")),
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
        spec.extra_hosts = vec!["h:1.2.3.4".to_owned()];
        (spec.no_cache, spec.pull, spec.shm_size) = (true, true, Some(7));
        let query = query(&spec, "sub/Dockerfile", false);
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let value = |key: &str| {
            let found = pairs.iter().filter(|(found, _)| found == key);
            found.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(value("t"), ["web:1", "other:2"]);
        assert_eq!(value("version"), ["2"]);
        assert_eq!(value("dockerfile"), ["sub/Dockerfile"]);
        assert_eq!(value("buildargs"), [r#"{"A":"x y&z","B":null}"#]);
        assert_eq!(value("labels"), [r#"{"l":"v"}"#]);
        assert_eq!(value("cachefrom"), [r#"["web:0"]"#]);
        assert_eq!(value("extrahosts"), ["h:1.2.3.4"]);
        for (key, wanted) in
            [("target", "last"), ("platform", "linux/amd64"), ("shmsize", "7"), ("pull", "1")]
        {
            assert_eq!(value(key), [wanted]);
        }
    }
}
