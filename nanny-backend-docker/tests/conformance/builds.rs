//! Builds by each of the engine's builders.

use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;

use bollard::Docker;
use bollard::models::ImageConfig;
use libtest_mimic::{Failed, Trial};
use nanny_backend_docker::{DockerBackend, DockerConfig};
use nanny_lib::backend::{BuildSpec, ContainerBackend as _, ErrorKind};
use tempfile::TempDir;

use super::IMAGE;

type Outcome = Result<(), Box<dyn std::error::Error>>;
type Run = fn(Bench) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

struct Bench {
    docker: DockerBackend,
    client: Docker,
    tag: String,
    directory: TempDir,
}

pub(crate) fn trials(config: &DockerConfig) -> Vec<Trial> {
    let cases: [(&str, Run); 4] = [
        ("everything_in_a_build_reaches_the_builder", |b| Box::pin(everything(b))),
        ("the_builder_sees_the_context_and_nothing_else", |b| Box::pin(context(b))),
        ("a_build_that_fails_says_why", |b| Box::pin(failure(b))),
        ("a_recipe_in_the_file_is_built", |b| Box::pin(inline(b))),
    ];
    let builders = [("buildkit", false), ("classic", true)];
    let all = builders.into_iter().flat_map(|builder| cases.map(|case| (builder, case)));
    let trial = |((builder, classic), (name, run)): ((&'static str, bool), (&str, Run))| {
        let mut config = config.clone();
        config.classic_builder = classic;
        let tag = format!("nanny-build-{}-{builder}-{name}:1", std::process::id());
        Trial::test(format!("{builder}::{name}"), move || {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(async {
                let client = Docker::connect_with_host(&config.host)?;
                let docker = DockerBackend::new(config)?;
                let directory = tempfile::tempdir()?;
                let bench = Bench { docker, client: client.clone(), tag: tag.clone(), directory };
                let ran = run(bench).await;
                let options = None::<bollard::query_parameters::RemoveImageOptions>;
                drop(client.remove_image(&tag, options, None).await);
                ran.map_err(|error| Failed::from(error.to_string()))
            })
        })
    };
    all.map(trial).collect()
}

impl Bench {
    fn write(&self, files: &[(&str, &str)]) -> Outcome {
        for (path, text) in files {
            let path = self.directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            fs::write(path, text.replace("BASE", IMAGE))?;
        }
        Ok(())
    }

    async fn build(&self, change: impl FnOnce(&mut BuildSpec)) -> Result<ImageConfig, Failure> {
        let mut spec = BuildSpec::new(&self.tag, self.directory.path());
        change(&mut spec);
        let images = self.docker.images().expect("it has images");
        let sent = Mutex::new(0);
        let note = |progress: nanny_lib::backend::BuildProgress| {
            *sent.lock().expect("nobody panics here") = progress.sent_bytes;
        };
        images.build(&spec, &note).await?;
        assert!(*sent.lock().expect("nobody panics here") > 0, "nothing was sent");
        let image = self.client.inspect_image(&self.tag).await.expect("it was built");
        Ok(image.config.unwrap_or_default())
    }
}

type Failure = nanny_lib::backend::BackendError;

fn variable(config: &ImageConfig, name: &str) -> Option<String> {
    let mut variables = config.env.iter().flatten().filter_map(|line| line.split_once('='));
    variables.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

async fn everything(bench: Bench) -> Outcome {
    bench.write(&[(
        "sub/My.Dockerfile",
        "FROM BASE AS first\nARG WHO=nobody\nARG UNSET=kept\nENV WHO=$WHO UNSET=$UNSET\n\
         RUN grep -q 10.9.8.7 /etc/hosts\n\
         FROM BASE AS last\nENV LAST=1\n",
    )])?;
    let config = bench
        .build(|spec| {
            spec.dockerfile = "sub/My.Dockerfile".into();
            spec.args.0.insert("WHO".to_owned(), Some("a \"b\" & c=d".to_owned()));
            spec.args.0.insert("UNSET".to_owned(), None);
            spec.labels.insert("some.label".to_owned(), "ja \"so\"".to_owned());
            spec.target = Some("first".to_owned());
            spec.extra_hosts = vec!["far:10.9.8.7".to_owned()];
            spec.network = Some("none".to_owned());
            spec.no_cache = true;
        })
        .await?;
    assert_eq!(variable(&config, "WHO").as_deref(), Some("a \"b\" & c=d"));
    assert_eq!(variable(&config, "UNSET").as_deref(), Some("kept"));
    assert_eq!(variable(&config, "LAST"), None);
    assert_eq!(config.labels.unwrap_or_default()["some.label"], "ja \"so\"");
    Ok(())
}

async fn context(bench: Bench) -> Outcome {
    let outside = tempfile::tempdir()?;
    fs::write(outside.path().join("secret"), "hunter2")?;
    bench.write(&[
        ("Dockerfile", "FROM BASE\nCOPY . /context\nRUN sh /context/check\n"),
        ("check", "cd /context && test -f a/b && test ! -e big && test -L link && test ! -e link"),
        ("a/b", "x"),
        ("big", "x"),
        (".dockerignore", "big\n"),
    ])?;
    std::os::unix::fs::symlink(outside.path().join("secret"), bench.directory.path().join("link"))?;
    bench.build(|_| {}).await?;
    Ok(())
}

async fn failure(bench: Bench) -> Outcome {
    bench.write(&[("Dockerfile", "FROM BASE\nRUN exit 7\n")])?;
    let error = bench.build(|_| {}).await.expect_err("it must fail");
    assert!(error.message().contains('7') && error.message().contains("exit"), "{error}");
    bench.write(&[("Dockerfile", "NONSENSE\n")])?;
    let error = bench.build(|_| {}).await.expect_err("it must fail");
    assert!(error.message().to_lowercase().contains("nonsense"), "{error}");
    let gone = |spec: &mut BuildSpec| spec.context = "/no/such/directory".into();
    let error = bench.build(gone).await.expect_err("it must fail");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let remote = |spec: &mut BuildSpec| spec.unsupported = vec!["build.ssh".to_owned()];
    let error = bench.build(remote).await.expect_err("it must fail");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("build.ssh"), "{error}");
    Ok(())
}

async fn inline(bench: Bench) -> Outcome {
    bench.write(&[("a", "x")])?;
    let recipe = format!("FROM {IMAGE}\nCOPY a /a\nENV INLINE=1\n");
    let config = bench.build(|spec| spec.dockerfile_inline = Some(recipe)).await?;
    assert_eq!(variable(&config, "INLINE").as_deref(), Some("1"));
    Ok(())
}
