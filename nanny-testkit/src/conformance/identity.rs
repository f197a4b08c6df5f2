//! Who a backend is, and what it says it can do.

use std::sync::Arc;

use super::context::{Context, Outcome};
use super::{Program, cases};

cases![it_says_who_it_is, what_it_can_do_is_fixed, an_engine_that_answers_gives_a_sign_of_life];

async fn it_says_who_it_is(context: Arc<Context>) -> Outcome {
    let info = context.backend.info();
    // It is a word of manifests.
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    assert!(!info.name.is_empty() && info.name.chars().all(is_plain), "{info:?}");
    assert!(!info.endpoint.is_empty(), "{info:?}");
    let authority = info.endpoint.split("://").nth(1).and_then(|rest| rest.split('/').next());
    assert!(!authority.is_some_and(|authority| authority.contains('@')), "it tells a credential");
    Ok(())
}

async fn what_it_can_do_is_fixed(context: Arc<Context>) -> Outcome {
    let before = context.backend.capabilities().clone();
    let id = context.started(Program::Sleeps).await?;
    context.backend.remove(&id).await?;
    assert_eq!(*context.backend.capabilities(), before);
    Ok(())
}

async fn an_engine_that_answers_gives_a_sign_of_life(context: Arc<Context>) -> Outcome {
    Ok(context.backend.ping().await?)
}
