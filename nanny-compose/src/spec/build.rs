//! `build` of a service. What is not built here is refused when it comes to building, by name:
//! an image that is there already needs none of it.

use super::service::{REFERENCES, ULIMITS};
use super::{ALL_TEXTS, Field, Loose, Object, SIZE, Shape, TEXTS};

pub(super) static BUILD: Object = Object::new(&[
    Field::new("context", &Shape::PathOrUrl),
    Field::new("dockerfile", &Shape::Text),
    Field::new("dockerfile_inline", &Shape::Text),
    Field::new("entitlements", &ALL_TEXTS),
    Field::new("args", &Shape::Variables),
    Field::new("provenance", &Shape::Loose(Loose::Flag)),
    Field::new("sbom", &Shape::Loose(Loose::Flag)),
    Field::new("ssh", &Shape::Variables),
    Field::new("labels", &Shape::Pairs),
    Field::new("cache_from", &ALL_TEXTS),
    Field::new("cache_to", &ALL_TEXTS),
    Field::new("no_cache", &Shape::Flag),
    Field::new("additional_contexts", &Shape::ContextRef),
    Field::new("pull", &Shape::Flag),
    Field::new("extra_hosts", &Shape::Hosts),
    Field::new("isolation", &Shape::Text),
    Field::new("network", &Shape::Text),
    Field::new("target", &Shape::Text),
    Field::new("secrets", &REFERENCES),
    Field::new("shm_size", &SIZE),
    Field::new("tags", &TEXTS),
    Field::new("ulimits", &ULIMITS),
    Field::new("platforms", &ALL_TEXTS),
    Field::new("privileged", &Shape::Flag),
]);
