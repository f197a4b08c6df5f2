//! What an argument could be.

use nanny_lib::Snapshot;
use rmcp::ErrorData;
use rmcp::model::{CompleteRequestParams, CompleteResult, CompletionInfo, Reference};

use crate::server::Shared;
use crate::{prompts, resources};

/// Values that an argument of a prompt or of a resource could have: names of services that begin with
/// what is there, in any case.
pub(crate) fn complete(
    shared: &Shared,
    request: &CompleteRequestParams,
) -> Result<CompleteResult, ErrorData> {
    let argument = request.argument.name.as_str();
    let takes_it = match &request.r#ref {
        Reference::Prompt(prompt) => prompts::takes(shared, &prompt.name, argument)?,
        Reference::Resource(template) => {
            if !resources::TEMPLATES.contains(&template.uri.as_str()) {
                let message = format!("there is no resource template '{}'", brief(&template.uri));
                return Err(ErrorData::invalid_params(message, None));
            }
            argument == "name"
        }
        _ => return Err(ErrorData::invalid_params("unknown kind of reference", None)),
    };
    if !takes_it {
        let message = format!("it takes no argument '{}'", brief(argument));
        return Err(ErrorData::invalid_params(message, None));
    }
    Ok(CompleteResult::new(names(&shared.nanny.snapshot(), &request.argument.value)))
}

fn names(now: &Snapshot, begun: &str) -> CompletionInfo {
    let begun = begun.to_lowercase();
    let names = now.services.keys().map(ToString::to_string);
    let mut values: Vec<_> = names.filter(|name| name.to_lowercase().starts_with(&begun)).collect();
    let total = values.len();
    values.truncate(CompletionInfo::MAX_VALUES);
    let mut completion = CompletionInfo::default();
    completion.has_more = Some(total > values.len());
    completion.total = u32::try_from(total).ok();
    completion.values = values;
    completion
}

/// The names most like `name`, the best first.
pub(crate) fn closest(name: &str, now: &Snapshot) -> Vec<String> {
    let wanted: String = name.to_lowercase().chars().take(100).collect();
    let likeness = |known: &str| {
        let known = known.to_lowercase();
        let holds = !wanted.is_empty() && (known.contains(&wanted) || wanted.contains(&known));
        if holds { 1.0 } else { strsim::jaro_winkler(&known, &wanted) }
    };
    let known = now.services.keys().map(|known| (likeness(known.as_str()), known.to_string()));
    let mut alike: Vec<_> = known.filter(|(likeness, _)| *likeness >= 0.8).collect();
    alike.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    alike.into_iter().take(3).map(|(_, name)| name).collect()
}

/// What a client sent, at a length for a sentence.
pub(crate) fn brief(text: &str) -> String {
    match text.char_indices().nth(100) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
