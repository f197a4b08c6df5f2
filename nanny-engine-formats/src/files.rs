//! Files that are put into a container, as tar archives.

use jiff::Timestamp;
use nanny_lib::backend::FileInside;

/// An archive of `file` alone, to be unpacked at the root.
///
/// # Errors
///
/// If its path leads out of the root, or is none.
pub fn archive(file: &FileInside) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(file.content.len() as u64);
    header.set_mode(file.mode);
    let (user, group) = file.owner.unwrap_or_default();
    header.set_uid(user.into());
    header.set_gid(group.into());
    header.set_mtime(u64::try_from(Timestamp::now().as_second()).unwrap_or_default());
    let mut archive = tar::Builder::new(Vec::new());
    let path = file.path.trim_start_matches('/');
    archive.append_data(&mut header, path, file.content.as_slice())?;
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn an_archive_holds_the_file_with_its_owner_and_mode() {
        let mut file = FileInside::new("/run/secrets/key", "hunter2");
        (file.mode, file.owner) = (0o400, Some((7, 8)));
        let bytes = archive(&file).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("run/secrets/key"));
        let header = entry.header();
        assert_eq!((header.mode().unwrap(), header.uid().unwrap()), (0o400, 7));
        assert_eq!((header.gid().unwrap(), header.size().unwrap()), (8, 7));
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        assert_eq!(content, "hunter2");
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        archive(&FileInside::new("/run/../../etc/passwd", "x")).unwrap_err();
    }
}
