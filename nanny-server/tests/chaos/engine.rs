//! Private engines with the image of the tests; and what a house asks of the engine of all others.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use nanny_testkit::dockerd::{Dockerd, Survival};

const IMAGE: &str = "nanny-test/busybox:1";

/// Whether private engines can be had. Without one a test cannot run, and says so.
pub(crate) fn answers() -> bool {
    let Err(trouble) = image() else { return true };
    let is_set = |name| std::env::var(name).is_ok_and(|value| value == "true" || value == "1");
    assert!(!is_set("CI") && !is_set("NANNY_TEST_DOCKER"), "{trouble}");
    crate::house::say(&format!("NOT TESTED: {trouble}"));
    false
}

/// A private engine ends with all that is on it.
pub(crate) fn clean(_: &str) {}

/// A private engine that has the image.
pub(crate) fn start(survival: Survival) -> Dockerd {
    let engine = Dockerd::start(survival).unwrap_or_else(|error| panic!("{error}"));
    let image = image().as_ref().expect("it was asked for").display().to_string();
    engine.docker(&["load", "--quiet", "--input", &image]).expect("it is an image");
    engine
}

/// A file with the image, from the engine that `scripts/engines` made it on.
fn image() -> &'static Result<PathBuf, String> {
    static IMAGE_FILE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    IMAGE_FILE.get_or_init(|| {
        if let Some(trouble) = Dockerd::unavailable() {
            return Err(trouble);
        }
        let file = image_file();
        let saved =
            Command::new("docker").args(["save", "--output"]).arg(&file).arg(IMAGE).output();
        match saved {
            Ok(saved) if saved.status.success() => Ok(file),
            Ok(saved) => {
                let said = String::from_utf8_lossy(&saved.stderr).into_owned();
                Err(format!("no {IMAGE} (see scripts/engines): {said}"))
            }
            Err(error) => Err(error.to_string()),
        }
    })
}

fn image_file() -> PathBuf {
    std::env::temp_dir().join(format!("nanny-chaos-image-{}.tar", std::process::id()))
}

pub(crate) fn forget_image() {
    // There is none if no test ran.
    let _ = fs::remove_file(image_file());
}
