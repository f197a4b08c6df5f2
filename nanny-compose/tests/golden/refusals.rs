//! What Compose accepts and we refuse on purpose, and the other way round.

use crate::difference::Outcome;

/// What every problem of a case that only we refuse must say: the beginning of the case's name,
/// a part of the message, and why we refuse it.
const STRICTER: &[(&str, &str, &str)] = &[
    ("", "not supported", "the specification's table says that we do not carry it out"),
    ("", "there is no swarm", "Compose drops it in silence when it creates the container"),
    ("", "must be none, on-failure or any", "no engine takes another policy"),
    ("", "must be no, always, unless-stopped, on-failure", "no engine takes another policy"),
    ("", "beginning with a letter or digit", "no engine takes such a name"),
    ("", "target: must be a whole number from 1 to 65535", "no engine takes port 0 of a container"),
    ("ours/services: stop_grace_period: -5s", "must be a duration", "no engine waits less than 0"),
    ("ours/deploy: gpus: [{cout: 1}]", "not a Compose key", "nothing is dropped in silence"),
    ("ours/extends: an unknown key", "not a Compose key", "nothing is dropped in silence"),
    ("ours/include: an unknown key", "not a Compose key", "nothing is dropped in silence"),
    ("ours/more: mem_limit", "must be a size", "no one means such a size"),
    ("ours/more: cpus", "must be a number", "no one means such a number"),
    ("ours/reset: ", "a single host cannot be reset", "Compose does or does not, by its form"),
    (
        "ours/yaml: two documents and an anchor",
        "unknown anchor",
        "YAML ends anchors with documents",
    ),
];

/// What only Compose refuses: the case and why we do not.
const LAXER: &[(&str, &str)] = &[
    ("ours/build: ssh as a map", "Compose only cannot print it"),
    ("ours/merge: build, ssh over ssh", "Compose only cannot print it"),
    ("ours/more: build: {context: ., ssh: [key1=value1]}", "Compose only cannot print it"),
    ("ours/more: build: {context: ., ssh: {key1: value1}}", "Compose only cannot print it"),
    (
        "ours/more: build: {context: ., ssh: [default, key1=value1, key2=/abs, key3=~/x]}",
        "Compose only cannot print it",
    ),
    ("ours/more: a config of an included file's variable", "Compose resolves it twice, and trips"),
    ("ours/more: names that begin like extensions", "Compose takes such a network for a note"),
    ("ours/merge: build, map over map", "two ssh lists have an obvious sum"),
    ("ours/merge: a note becomes another kind of note", "notes are the author's"),
    ("ours/merge: gpus", "'all' after a list has an obvious meaning"),
    ("ours/yaml: a line of a tab", "such a line is empty, which libyaml does not know"),
    ("ours/reset: a list", "'!reset,' is YAML, which libyaml does not know"),
    ("ours/yaml: JSON", r"'\/' is JSON, and so YAML, which libyaml does not know"),
    (
        "ours/yaml: a question mark and a dash in texts",
        "'?x' is a text, which libyaml does not know",
    ),
];

/// Whose canonical model is not read again as it was written. Compose's is not either.
const LOSSY: &[(&str, &str)] = &[
    ("ours/depends: a service of an inactive profile that is not required", "it is left out"),
    ("ours/deploy: deploy: {resources: {reservations: {devices: [{capabilities: []}]}}}", "is []"),
    (
        "ours/deploy: deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 0, \
         capabilities: [gpu]}]}}}",
        "0 is left out",
    ),
    ("ours/more: a cycle with a service of an inactive profile", "it is left out"),
    ("ours/more: devices: [\"${UNSET}\"]", "an empty path is left out"),
    ("ours/more: extra_hosts: {myhost: \"0.0.0.1,0.0.0.2\"}", "a list would be two addresses"),
    ("ours/more: extra_hosts: {myhost: [0.0.0.1, \"0.0.0.2,0.0.0.3\"]}", "the same"),
    ("ours/more: network_mode: \"${UNSET}\"", "an empty mode is left out"),
    ("ours/more: environment: [\"${UNSET}\"]", "a mapping has no empty key"),
    ("ours/more: labels: [\"${UNSET}\"]", "the same"),
    ("ours/networks: network_mode: \"\"", "an empty mode is left out"),
    ("ours/ports: ports: [{target: 80, published: 80}, \"80:80\"]", "80 becomes \"80\""),
    ("ours/rest: a config of a variable without a name", "an empty name is left out"),
    ("ours/services: devices: [\"\"]", "an empty path is left out"),
    ("ours/services: environment: [\"=1\"]", "a mapping has no empty key"),
    ("ours/services: mem_swappiness: -1", "-1 becomes \"-1\""),
    ("ours/services: memswap_limit: -1", "-1 becomes \"-1\""),
    ("ours/services: ulimits: {nofile: 0}", "0 becomes {}"),
    ("ours/variables: keys are left alone", "keys are left alone, and their dollars doubled"),
    ("ours/yaml: control characters", "JSON may hold some, YAML may not"),
];

/// Whether a case may come out like this.
pub(crate) fn judge(name: &str, outcome: &Outcome) -> Result<(), String> {
    let laxer = LAXER.iter().find(|(case, _)| *case == name);
    let lossy = LOSSY.iter().find(|(case, _)| *case == name);
    match outcome {
        Outcome::Lossy(_) if lossy.is_some() => Ok(()),
        _ if lossy.is_some() => Err("is on the list of what is not read again".to_owned()),
        Outcome::Lossy(again) => Err(format!("read again, it is:\n  {again}")),
        Outcome::Laxer(_) if laxer.is_some() => Ok(()),
        _ if laxer.is_some() => Err("is on the list of what only Compose refuses".to_owned()),
        Outcome::Identical | Outcome::RefusedByBoth => Ok(()),
        Outcome::Stricter(problems) => {
            let is_listed = |problem: &&String| {
                let fits = |(case, part, _): &&(&str, &str, &str)| {
                    name.starts_with(case) && problem.contains(part)
                };
                STRICTER.iter().find(fits).is_some()
            };
            match problems.iter().find(|problem| !is_listed(problem)) {
                None => Ok(()),
                Some(problem) => Err(format!("Compose accepts it, and we say:\n  {problem}")),
            }
        }
        Outcome::Laxer(error) => Err(format!("Compose refuses it:\n  {error}")),
        Outcome::Different(how) => Err(how.clone()),
    }
}
