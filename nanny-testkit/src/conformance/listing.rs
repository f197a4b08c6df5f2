//! Lists, and what is known about each container.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nanny_lib::backend::{ContainerInfo, ContainerState, Labels, RestartPolicy, Selector};

use super::context::{Context, Outcome, Stop, fail, skip};
use super::{Program, cases};

cases![
    a_list_has_what_runs_and_what_does_not,
    a_list_is_as_complete_as_an_inspect,
    a_list_picks_by_all_labels,
    lists_follow_every_change,
    what_came_and_went_between_two_lists_shows,
    a_container_that_vanishes_breaks_no_list,
    labels_come_back_as_they_were,
    variables_arrive_as_they_were,
    restart_policies_come_back,
    a_plain_container_uses_no_gpu,
];

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn named(context: &Context, name: &str) -> Outcome<Option<ContainerInfo>> {
    let all = context.backend.list(&Selector::All).await?;
    Ok(all.into_iter().find(|info| info.name == name))
}

async fn a_list_has_what_runs_and_what_does_not(context: Arc<Context>) -> Outcome {
    let expected = BTreeSet::from([
        context.created(Program::Sleeps).await?,
        context.started(Program::Sleeps).await?,
        context.ended(Program::Exits(1)).await?,
    ]);
    let all = context.backend.list(&Selector::All).await?;
    let listed: BTreeSet<_> = all.into_iter().map(|info| info.id).collect();
    assert!(listed.is_superset(&expected), "{expected:?} are not all in {listed:?}");
    Ok(())
}

async fn a_list_is_as_complete_as_an_inspect(context: Arc<Context>) -> Outcome {
    for program in [Program::Sleeps, Program::Exits(3)] {
        let id = context.started(program.clone()).await?;
        if program == Program::Exits(3) {
            context.until(&id, "it ends", |info| !info.state.holds()).await?;
        }
        let inspected = context.backend.inspect(&id).await?;
        let listed = named(&context, &inspected.name).await?;
        assert_eq!(listed, Some(inspected));
    }
    Ok(())
}

async fn a_list_picks_by_all_labels(context: Arc<Context>) -> Outcome {
    let unique = context.name();
    let mut spec = context.spec(Program::Sleeps)?;
    spec.labels = labels(&[("conf.test", &unique), ("conf.role", "a")]);
    let a = context.backend.create(&spec).await?;
    let mut spec = context.spec(Program::Sleeps)?;
    spec.labels = labels(&[("conf.test", &unique), ("conf.role", "b")]);
    context.backend.create(&spec).await?;

    let both = Selector::Labels(labels(&[("conf.test", &unique)]));
    assert_eq!(context.backend.list(&both).await?.len(), 2);
    let one = Selector::Labels(labels(&[("conf.test", &unique), ("conf.role", "a")]));
    let listed = context.backend.list(&one).await?;
    assert_eq!(listed.into_iter().map(|info| info.id).collect::<Vec<_>>(), [a]);
    let none = Selector::Labels(labels(&[("conf.test", "x"), ("conf.role", "a")]));
    assert!(context.backend.list(&none).await?.is_empty());
    Ok(())
}

/// Whatever a backend remembers between two lists, it must not be wrong.
async fn lists_follow_every_change(context: Arc<Context>) -> Outcome {
    let spec = context.spec(Program::Sleeps)?;
    let id = context.backend.create(&spec).await?;
    let mut last_start = None;
    for _ in 0..3 {
        context.backend.start(&id).await?;
        let info = named(&context, &spec.name).await?.ok_or_else(|| missing(&spec.name))?;
        assert_eq!((info.state, info.exit), (ContainerState::Running, None));
        assert!(info.started_at > last_start, "an old start was listed");
        last_start = info.started_at;
        context.backend.stop(&id, Some(Duration::from_secs(5))).await?;
        let info = named(&context, &spec.name).await?.ok_or_else(|| missing(&spec.name))?;
        assert_eq!(info.state, ContainerState::Exited);
        assert!(info.exit.and_then(|exit| exit.at) >= last_start, "an old exit was listed");
    }
    context.backend.remove(&id).await?;
    assert_eq!(named(&context, &spec.name).await?, None);
    Ok(())
}

/// The container looks the same in both lists, and is not.
async fn what_came_and_went_between_two_lists_shows(context: Arc<Context>) -> Outcome {
    let spec = context.spec(Program::IgnoresStop)?;
    let id = context.backend.create(&spec).await?;
    let mut last_start = None;
    for _ in 0..4 {
        context.backend.start(&id).await?;
        let info = named(&context, &spec.name).await?.ok_or_else(|| missing(&spec.name))?;
        assert!(info.started_at > last_start, "an old start was listed");
        last_start = info.started_at;
        context.backend.kill(&id).await?;
        context.until(&id, "it is down", |info| info.state == ContainerState::Exited).await?;
    }
    Ok(())
}

fn missing(name: &str) -> Stop {
    Stop::Fail(format!("{name} is not in the list"))
}

async fn a_container_that_vanishes_breaks_no_list(context: Arc<Context>) -> Outcome {
    let stays = context.created(Program::Sleeps).await?;
    let churn = async {
        for _ in 0..10 {
            let id = context.created(Program::Sleeps).await?;
            context.backend.remove(&id).await?;
        }
        Ok::<_, Stop>(())
    };
    let lists = async {
        for _ in 0..40 {
            let all = context.backend.list(&Selector::All).await?;
            if !all.iter().any(|info| info.id == stays) {
                return fail("a container that stays was left out");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    };
    let (churned, listed) = tokio::join!(churn, lists);
    churned?;
    listed
}

async fn labels_come_back_as_they_were(context: Arc<Context>) -> Outcome {
    let mut spec = context.spec(Program::Sleeps)?;
    spec.labels = labels(&[
        ("plain", "value"),
        ("empty", ""),
        ("quotes", r#"a "b" 'c' \d"#),
        ("unicode", "größe ✓ 模型"),
        ("lines", "one\ntwo\ttab"),
        ("equals", "a=b=c"),
        ("json", r#"{"a":["b",1]}"#),
        ("com.example/weird key", "x"),
    ]);
    let id = context.backend.create(&spec).await?;
    let listed = named(&context, &spec.name).await?.ok_or_else(|| missing(&spec.name))?;
    for mut info in [context.backend.inspect(&id).await?, listed] {
        // An image may bring labels of its own.
        info.labels.retain(|key, _| spec.labels.contains_key(key));
        assert_eq!(info.labels, spec.labels);
    }
    let exact = Selector::Labels(spec.labels.clone());
    assert_eq!(context.backend.list(&exact).await?.len(), 1);
    Ok(())
}

async fn variables_arrive_as_they_were(context: Arc<Context>) -> Outcome {
    for value in ["plain", "", "a=b", r#"quotes " ' \ $HOME"#, "größe ✓", "  spaces  "] {
        let mut spec = context.spec(Program::PrintsVariable("CONF_VALUE".to_owned()))?;
        spec.environment.0.insert("CONF_VALUE".to_owned(), Some(value.to_owned()));
        let id = context.start_spec(&spec).await?;
        context.until(&id, "it ends", |info| !info.state.holds()).await?;
        let lines = super::logs::read(&context, &id).await?;
        let text = lines.first().map(|line| String::from_utf8_lossy(&line.bytes).into_owned());
        assert_eq!(text.as_deref(), Some(value));
    }
    Ok(())
}

async fn restart_policies_come_back(context: Arc<Context>) -> Outcome {
    if !context.backend.capabilities().restarts {
        return Err(skip("starts nothing by itself"));
    }
    let policies = [
        RestartPolicy::No,
        RestartPolicy::Always,
        RestartPolicy::UnlessStopped,
        RestartPolicy::OnFailure { max_retries: None },
        RestartPolicy::OnFailure { max_retries: Some(4) },
    ];
    for policy in policies {
        let mut spec = context.spec(Program::Sleeps)?;
        spec.restart = Some(policy);
        let id = context.backend.create(&spec).await?;
        assert_eq!(context.backend.inspect(&id).await?.restart, policy);
    }
    Ok(())
}

async fn a_plain_container_uses_no_gpu(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::Sleeps).await?;
    assert!(!context.backend.inspect(&id).await?.uses_gpu);
    Ok(())
}
