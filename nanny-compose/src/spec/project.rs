//! The top of a Compose file.

use super::resources::{CONFIG, MODEL, NETWORK, SECRET, VOLUME};
use super::service::SERVICE;
use super::{Field, Json, List, NOT_HERE, Object, Shape, Short, TEXT_OR_TEXTS};

pub(crate) static PROJECT: Object = Object::new(&[
    Field::new("version", &Shape::Text)
        .json(Json::Never)
        .ignored("obsolete and ignored; remove it"),
    Field::new("name", &Shape::Text),
    Field::new("services", &Shape::Named(&Shape::Object(&SERVICE))).json(Json::Always("{}")),
    Field::new("networks", &Shape::Named(&Shape::Optional(&Shape::Object(&NETWORK)))),
    Field::new("volumes", &Shape::Named(&Shape::Optional(&Shape::Object(&VOLUME)))),
    Field::new("secrets", &Shape::Named(&Shape::Object(&SECRET))),
    Field::new("configs", &Shape::Named(&Shape::Object(&CONFIG))),
    Field::new("models", &Shape::Named(&Shape::Object(&MODEL))).refused(NOT_HERE),
    Field::new("include", &INCLUDES).json(Json::Never),
]);

static INCLUDES: Shape =
    Shape::List(&List::of(&Shape::Short(Short::Include, &Shape::Object(&INCLUDE))));

static INCLUDE: Object = Object::new(&[
    Field::new("path", &TEXT_OR_TEXTS),
    Field::new("env_file", &TEXT_OR_TEXTS),
    Field::new("project_directory", &Shape::Text),
]);
