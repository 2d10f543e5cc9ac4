//! Character devices without a state of their own, mem(4), null(4), random(4): opened again by
//! name.

use std::fs::Metadata;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::error::{Error, Result};
use crate::file::parts::device_node::DeviceNode;
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::ObservedFile;
use crate::kind::open_file::OpenFile;

/// null, zero, full, random, urandom: Documentation/admin-guide/devices.txt, major 1.
const STATELESS: [u32; 5] = [3, 5, 7, 8, 9];

const ZERO: u32 = 5;

/// Table row.
pub struct Device;

impl OpenFile for Device {
    type Body = DeviceNode;
    const KIND: &'static str = "device";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        is_stateless(&observed.stat)
    }

    fn is_mappable(&self, observed: &ObservedFile<'_>) -> bool {
        // A private mapping of /dev/zero is anonymous memory with that name.
        OpenFile::takes(self, observed) && libc::minor(observed.stat.rdev()) == ZERO
    }

    fn dump(&self, observed: &ObservedFile<'_>, _objects: &mut dyn DumpContext) -> Result<DeviceNode> {
        DeviceNode::of(observed, "device")
    }

    fn restore(&self, body: DeviceNode, _context: &dyn RestoreContext) -> Result<OwnedFd> {
        if !is_stateless_number(body.rdev()) {
            return Err(Error::damaged(format!("{}: no device without a state", body.name())));
        }
        body.open()
    }
}

/// Whether it is a device without a state of its own.
pub fn is_stateless(stat: &Metadata) -> bool {
    stat.file_type().is_char_device() && is_stateless_number(stat.rdev())
}

/// Whether the character device of this number has no state of its own. Opening one changes
/// nothing.
pub fn is_stateless_number(rdev: u64) -> bool {
    libc::major(rdev) == 1 && STATELESS.contains(&libc::minor(rdev))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::kind::object::fake::none;
    use crate::kind::observed::fake::observed;

    #[test]
    fn only_a_device_without_a_state_is_opened() {
        for (path, opens) in [("/dev/null", true), ("/dev/urandom", true), ("/dev/kmsg", false), ("/dev/fuse", false)] {
            let name = rustix::fs::open(path, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
            let observed = ObservedFile { flags: libc::O_RDONLY, ..observed(&name) };
            assert_eq!(Device.takes(&observed), opens, "{path}");
            let restored = Device.restore(Device.dump(&observed, &mut none()).unwrap(), &none());
            assert_eq!(
                restored.map(drop).map_err(|error| error.kind()),
                if opens { Ok(()) } else { Err(Kind::Damaged) }
            );
        }
    }
}
