//! Containers of services that were placed on certain GPUs.

use nanny_lib::backend::{ContainerSpec, ImageInfo};
use nanny_lib::project::{PlacedGpu, Progress, Project, Step, preview};

/// What the container of a service is made from that is placed on `gpus`, where the files say `spec`.
///
/// # Panics
///
/// If there is no way to such a container.
#[must_use]
pub fn placed(spec: ContainerSpec, gpus: &[PlacedGpu]) -> ContainerSpec {
    let mut progress = Progress::default();
    let image = spec.image.clone().map(|image| (image, ImageInfo::new("image")));
    progress.images.extend(image);
    let project = Project::single(spec.name.clone(), spec).placed_on(gpus).project;
    let steps = preview(&project, &[], &progress).expect("one container is no riddle");
    let made = steps.into_iter().find_map(|step| match step {
        Step::Create { spec, .. } => Some(*spec),
        _ => None,
    });
    made.expect("it is made")
}
