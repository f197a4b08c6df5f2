//! `deploy` of a service, and the devices it reserves.

use super::{
    ALL_TEXTS, ANY_WHOLE, Field, Json, List, Object, SWARM, Shape, Size, UNIQUE_TEXTS, WHOLE, Whole,
};

pub(super) static DEPLOY: Object = Object::new(&[
    Field::new("mode", &Shape::Text).ignored(SWARM),
    Field::new("replicas", &WHOLE).if_present().unhashed(),
    Field::new("labels", &Shape::Pairs).ignored(SWARM),
    Field::new("update_config", &Shape::Object(&UPDATE)).if_present().ignored(SWARM),
    Field::new("rollback_config", &Shape::Object(&UPDATE)).if_present().ignored(SWARM),
    Field::new("resources", &Shape::Object(&RESOURCES)).json(Json::Always("{}")),
    Field::new("restart_policy", &Shape::Object(&RESTART)).if_present(),
    Field::new("placement", &Shape::Object(&PLACEMENT)).json(Json::Always("{}")).ignored(SWARM),
    Field::new("endpoint_mode", &Shape::Text).ignored(SWARM),
]);

static UPDATE: Object = Object::new(&[
    Field::new("parallelism", &Shape::Whole(Whole { min: 0, ..ANY_WHOLE })).if_present(),
    Field::new("delay", &Shape::Duration),
    Field::new("failure_action", &Shape::Text),
    Field::new("monitor", &Shape::Duration),
    Field::new("max_failure_ratio", &Shape::Decimal),
    Field::new("order", &Shape::Choice(&["start-first", "stop-first"])),
]);

static RESOURCES: Object = Object::new(&[
    Field::new("limits", &Shape::Object(&LIMITS)).if_present(),
    Field::new("reservations", &Shape::Object(&RESERVATIONS)).if_present(),
]);

static LIMITS: Object = Object::new(&[
    Field::new("cpus", &Shape::Decimal),
    Field::new("memory", &Shape::Size(Size::Text)),
    Field::new("pids", &WHOLE),
]);

static RESERVATIONS: Object = Object::new(&[
    Field::new("cpus", &Shape::Decimal).ignored(SWARM),
    Field::new("memory", &Shape::Size(Size::Text)),
    Field::new("devices", &DEVICES),
    Field::new("generic_resources", &GENERIC)
        .refused("there is no swarm that could count them; reserve 'devices' instead"),
]);

static GENERIC: Shape = Shape::List(&List::of(&Shape::Anything));

static DEVICES: Shape = Shape::List(&List::of(&Shape::Object(&DEVICE)));

/// A reservation of devices; `gpus` has the same.
pub(super) static DEVICE: Object = Object::new(&[
    Field::new("capabilities", &UNIQUE_TEXTS),
    Field::new("driver", &Shape::Text),
    Field::new("count", &Shape::Count),
    Field::new("device_ids", &UNIQUE_TEXTS),
    Field::new("options", &Shape::Pairs),
]);

static RESTART: Object = Object::new(&[
    Field::new("condition", &Shape::Text),
    Field::new("delay", &Shape::Duration).if_present().ignored("the engine has a delay of its own"),
    Field::new("max_attempts", &WHOLE).if_present(),
    Field::new("window", &Shape::Duration)
        .if_present()
        .ignored("the engine does not look at a window"),
]);

static PLACEMENT: Object = Object::new(&[
    Field::new("constraints", &ALL_TEXTS),
    Field::new("preferences", &Shape::List(&List::of(&Shape::Object(&PREFERENCE)))),
    Field::new("max_replicas_per_node", &WHOLE),
]);

static PREFERENCE: Object = Object::new(&[Field::new("spread", &Shape::Text)]);
