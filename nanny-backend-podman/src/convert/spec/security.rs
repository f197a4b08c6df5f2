//! Security options.

use nanny_lib::backend::{ErrorKind, Result};

use super::Convert;

/// Security options, each where Podman wants it.
#[derive(Debug, Default)]
pub(super) struct Security {
    pub(super) no_new_privileges: bool,
    pub(super) seccomp: Option<String>,
    pub(super) apparmor: Option<String>,
    pub(super) selinux: Vec<String>,
    pub(super) mask: Vec<String>,
    pub(super) unmask: Vec<String>,
}

pub(super) fn security(convert: &Convert<'_>, options: &[String]) -> Result<Security> {
    let mut security = Security::default();
    for option in options {
        // Old files have a colon.
        let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        let paths = || value.split(':').map(str::to_owned);
        match (name, value) {
            ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
            ("no-new-privileges", "false") => security.no_new_privileges = false,
            ("seccomp", "unconfined") => security.seccomp = Some(value.to_owned()),
            ("seccomp", _) => {
                let message = "security_opt: Podman takes no seccomp profile by its API";
                return Err(convert.fail(ErrorKind::Unsupported, message));
            }
            ("apparmor", _) => security.apparmor = Some(value.to_owned()),
            ("label", _) => security.selinux.push(value.to_owned()),
            ("systempaths", "unconfined") => security.unmask.push("ALL".to_owned()),
            ("mask", _) => security.mask.extend(paths()),
            ("unmask", _) => security.unmask.extend(paths()),
            _ => {
                let message = format!("security_opt: Podman has no {option:?}");
                return Err(convert.fail(ErrorKind::Unsupported, message));
            }
        }
    }
    Ok(security)
}
