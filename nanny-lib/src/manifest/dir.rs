//! A directory of service directories.
/// Finds services beneath one directory.
#[derive(Debug)]
pub struct DirectorySource {}
