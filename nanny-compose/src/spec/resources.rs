//! Networks, volumes, secrets, configs and models at the top of a file.

use super::{ALL_TEXTS, Field, Json, LOOSE_MAP, List, Object, Repeats, Shape, Short, WHOLE};

pub(crate) static NETWORK: Object = Object::new(&[
    Field::new("name", &Shape::Text),
    Field::new("driver", &Shape::Text),
    Field::new("driver_opts", &LOOSE_MAP),
    Field::new("ipam", &Shape::Object(&IPAM)).json(Json::Always("{}")),
    EXTERNAL,
    Field::new("internal", &Shape::Flag),
    Field::new("attachable", &Shape::Flag),
    Field::new("labels", &Shape::Pairs),
    Field::new("enable_ipv4", &Shape::Flag).if_present().needs_api("1.47"),
    Field::new("enable_ipv6", &Shape::Flag).if_present(),
]);

static IPAM: Object = Object::new(&[
    Field::new("driver", &Shape::Text),
    Field::new(
        "config",
        &Shape::List(&List {
            repeats: Repeats::KeptOfLater("subnet"),
            ..List::of(&Shape::Object(&IPAM_POOL))
        }),
    ),
    Field::new("options", &Shape::Named(&Shape::Text))
        .json(Json::Never)
        .ignored("Compose does not hand it to the engine"),
]);

static IPAM_POOL: Object = Object::new(&[
    Field::new("subnet", &Shape::Text),
    Field::new("gateway", &Shape::Text),
    Field::new("ip_range", &Shape::Text),
    Field::new("aux_addresses", &Shape::Named(&Shape::Text)),
]);

pub(crate) static VOLUME: Object = Object::new(&[
    Field::new("name", &Shape::Text),
    Field::new("driver", &Shape::Text),
    Field::new("driver_opts", &LOOSE_MAP),
    EXTERNAL,
    Field::new("labels", &Shape::Pairs),
]);

pub(crate) static SECRET: Object = Object::new(&[
    Field::new("name", &Shape::Text),
    Field::new("file", &Shape::Path),
    Field::new("environment", &Shape::Text),
    EXTERNAL.refused("there is no swarm to take it from; give it a 'file' or 'environment'"),
    Field::new("labels", &Shape::Pairs),
    Field::new("driver", &Shape::Text).refused("there is no swarm whose driver could serve it"),
    Field::new("driver_opts", &LOOSE_MAP).refused("there is no swarm whose driver could serve it"),
    Field::new("template_driver", &Shape::Text)
        .refused("there is no swarm whose driver could fill it in"),
]);

pub(crate) static CONFIG: Object = Object::new(&[
    Field::new("name", &Shape::Text),
    Field::new("file", &Shape::Path),
    Field::new("environment", &Shape::Text),
    Field::new("content", &Shape::Text),
    EXTERNAL
        .refused("there is no swarm to take it from; give it a 'file', 'content' or 'environment'"),
    Field::new("labels", &Shape::Pairs),
    Field::new("template_driver", &Shape::Text)
        .refused("there is no swarm whose driver could fill it in"),
]);

pub(crate) static MODEL: Object = Object::new(&[
    Field::new("name", &Shape::Text),
    Field::new("model", &Shape::Text),
    Field::new("context_size", &WHOLE),
    Field::new("runtime_flags", &ALL_TEXTS),
])
.requiring(&["model"]);

const EXTERNAL: Field = Field::new("external", &Shape::Short(Short::External, &Shape::Flag));
