//! Extended attributes, xattr(7) (ACLs and file capabilities among them), of files that a restore
//! creates anew.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Result};

/// XATTR_SIZE_MAX and XATTR_LIST_MAX, include/uapi/linux/limits.h.
const MOST: usize = 65536;

/// One attribute: its name and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xattr(Vec<u8>, Vec<u8>);

/// All attributes of a file, sorted by name; none if its filesystem has no attributes.
pub fn of(fd: &OwnedFd) -> Result<Vec<Xattr>> {
    let mut names = vec![0; MOST];
    let len = match flistxattr(fd, &mut names[..]) {
        Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS) => return Ok(Vec::new()),
        got => got.doing(|| "listing extended attributes")?,
    };
    let mut found = Vec::new();
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let shown = || format!("reading extended attribute {}", String::from_utf8_lossy(name));
        let mut value = vec![0; MOST];
        let name = CString::new(name).map_err(std::io::Error::from).doing(shown)?;
        let len = fgetxattr(fd, &name, &mut value[..]).doing(shown)?;
        value.truncate(len);
        found.push(Xattr(name.into_bytes(), value));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// Restores them.
pub fn restore(fd: &OwnedFd, xattrs: &[Xattr]) -> Result<()> {
    for Xattr(name, value) in xattrs {
        let shown = || format!("setting extended attribute {}", String::from_utf8_lossy(name));
        let name = CString::new(name.as_slice()).map_err(std::io::Error::from).doing(shown)?;
        fsetxattr(fd, &name, value, XattrFlags::empty()).doing(shown)?;
    }
    Ok(())
}
