//! Character devices without a state of their own, mem(4), null(4), random(4): by name.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::{NOT_KEPT, ObservedFile, open_device};
use crate::kind::open_file::OpenFile;

/// null, zero, full, random, urandom: Documentation/admin-guide/devices.txt, major 1.
const STATELESS: [u32; 5] = [3, 5, 7, 8, 9];

const ZERO: u32 = 5;

/// Table row.
pub struct Device;

/// The record.
#[derive(Serialize, Deserialize)]
pub struct DeviceBody {
    path: Vec<u8>,
    /// Readable twin of `path`.
    name: String,
    rdev: u64,
    flags: i32,
}

impl OpenFile for Device {
    type Body = DeviceBody;
    const KIND: &'static str = "device";

    fn takes(&self, seen: &ObservedFile<'_>) -> bool {
        let rdev = seen.stat.rdev();
        seen.stat.file_type().is_char_device() && libc::major(rdev) == 1 && STATELESS.contains(&libc::minor(rdev))
    }

    fn is_mappable(&self, seen: &ObservedFile<'_>) -> bool {
        // A private mapping of /dev/zero is anonymous memory that keeps the name.
        OpenFile::takes(self, seen) && libc::minor(seen.stat.rdev()) == ZERO
    }

    fn dump(&self, seen: &ObservedFile<'_>, _objects: &dyn DumpContext) -> Result<DeviceBody> {
        let name = seen.target.display().to_string();
        if !seen.is_named() {
            return Err(seen.refuse(format_args!("device {name} whose name is gone")));
        }
        let path = seen.target.clone().into_os_string().into_vec();
        Ok(DeviceBody { path, name, rdev: seen.stat.rdev(), flags: seen.flags & !NOT_KEPT })
    }

    fn restore(&self, body: DeviceBody, _anchors: &dyn RestoreContext) -> Result<OwnedFd> {
        open_device(body.path, body.rdev, body.flags)
    }
}
