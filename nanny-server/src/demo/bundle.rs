//! The services of the demo, as files.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Writes the services that are not there yet, and notes at `place` which binary plays them.
pub(super) fn write(place: &Path, services: &Path) -> io::Result<()> {
    fs::create_dir_all(services)?;
    // By way of a link, the manifests are right also when the binary has moved.
    let binary = place.join("nanny");
    let link = place.join("nanny.new");
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(env::current_exe()?, &link)?,
    }
    fs::rename(&link, &binary)?;
    let binary = serde_json::to_string(&binary.to_string_lossy())?;
    for (name, manifest) in BUNDLE {
        let directory = services.join(name);
        let file = directory.join("service.yaml");
        if !file.exists() {
            fs::create_dir_all(&directory)?;
            let half = directory.join("service.yaml.new");
            fs::write(&half, manifest.replace("{nanny}", &binary))?;
            fs::rename(&half, &file)?;
        }
    }
    Ok(())
}

const BUNDLE: [(&str, &str); 5] = [
    ("stable-diffusion", include_str!("services/stable-diffusion.yaml")),
    ("llm-chat", include_str!("services/llm-chat.yaml")),
    ("text-to-speech", include_str!("services/text-to-speech.yaml")),
    ("rag-search", include_str!("services/rag-search.yaml")),
    ("_template", include_str!("services/template.yaml")),
];

#[cfg(test)]
mod tests {
    use nanny_lib::manifest::{DirectorySource, ManifestSource as _};

    use super::*;

    #[tokio::test]
    async fn the_bundle_is_sound_and_is_what_the_readme_says() {
        let place = tempfile::tempdir().unwrap();
        let services = place.path().join("services");
        write(place.path(), &services).unwrap();
        let found = DirectorySource::new(&services).discover().await;
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        let mut shown: Vec<_> = found
            .services
            .iter()
            .map(|service| &service.manifest)
            .map(|is| {
                (
                    is.name.as_str().to_owned(),
                    is.vram_gb.as_u64().unwrap(),
                    super::super::port(is).unwrap(),
                )
            })
            .collect();
        shown.sort();
        let expected = [
            ("llm-chat", 12, 18001),
            ("rag-search", 0, 18003),
            ("stable-diffusion", 8, 18000),
            ("text-to-speech", 0, 18002),
        ];
        assert_eq!(shown, expected.map(|(name, vram, port)| (name.to_owned(), vram, port)));
        for service in &found.services {
            let manifest = &service.manifest;
            assert_eq!(
                manifest.gpu_required,
                manifest.vram_gb.as_u64() > Some(0),
                "{}",
                manifest.name
            );
            let endpoint = manifest.health_endpoint.as_deref().unwrap();
            let port = super::super::port(manifest).unwrap();
            assert_eq!(endpoint, format!("http://localhost:{port}/health"));
            assert_eq!(manifest.ports, [format!("{port}:{port}")]);
        }
    }

    #[test]
    fn what_is_there_is_kept_and_what_is_missing_comes_back() {
        let place = tempfile::tempdir().unwrap();
        let services = place.path().join("services");
        write(place.path(), &services).unwrap();
        let (mine, gone) = (services.join("llm-chat"), services.join("rag-search"));
        fs::write(mine.join("service.yaml"), "mine").unwrap();
        fs::remove_dir_all(&gone).unwrap();
        write(place.path(), &services).unwrap();
        assert_eq!(fs::read_to_string(mine.join("service.yaml")).unwrap(), "mine");
        assert!(gone.join("service.yaml").exists());
        let binary = fs::canonicalize(place.path().join("nanny")).unwrap();
        assert_eq!(binary, fs::canonicalize(env::current_exe().unwrap()).unwrap());
    }
}
