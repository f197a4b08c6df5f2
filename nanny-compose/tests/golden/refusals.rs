//! What Compose accepts and we refuse, on purpose.

use crate::difference::Outcome;

/// The cases by the beginning of their names, and why.
const REFUSALS: &[(&str, &str)] = &[];

/// Whether a case may come out like this.
pub(crate) fn judge(name: &str, outcome: &Outcome) -> Result<(), String> {
    let on_the_list = REFUSALS.iter().find(|(case, _)| name.starts_with(case));
    match (outcome, on_the_list) {
        (Outcome::Identical | Outcome::RefusedByBoth, None) => Ok(()),
        (Outcome::Refused(_), Some(_)) => Ok(()),
        (Outcome::Refused(why), None) => Err(format!("refused, and not on the list:\n{why}")),
        (Outcome::Different(how), _) => Err(how.clone()),
        (_, Some((_, reason))) => Err(format!("on the list of refusals, but it is not: {reason}")),
    }
}
