//! Descriptors of the namespaces that the process is in, namespaces(7). All tasks of an image are
//! in the daemon's own namespaces, so they are opened again as those of the daemon.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kind::object::{DumpContext, RestoreContext};
use crate::kind::observed::{NOT_KEPT, ObservedFile, open_link};
use crate::kind::open_file::OpenFile;

/// The names below /proc/PID/ns.
const NAMES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Table row.
pub struct Namespace;

/// The record.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceBody {
    /// What it is a namespace of: a name below /proc/PID/ns.
    what: String,
    flags: i32,
}

impl OpenFile for Namespace {
    type Body = NamespaceBody;
    const KIND: &'static str = "namespace";

    fn takes(&self, observed: &ObservedFile<'_>) -> bool {
        own(observed).is_some()
    }

    fn dump(&self, observed: &ObservedFile<'_>, _objects: &mut dyn DumpContext) -> Result<NamespaceBody> {
        let what = own(observed).ok_or_else(|| observed.refuse("a namespace that it is not in"))?;
        Ok(NamespaceBody { what: what.to_owned(), flags: observed.flags & !NOT_KEPT })
    }

    fn restore(&self, body: NamespaceBody, _context: &dyn RestoreContext) -> Result<OwnedFd> {
        if !NAMES.contains(&body.what.as_str()) {
            return Err(Error::damaged(format!("{}: no kind of namespace", body.what)));
        }
        open_link(Path::new(&link(&body.what)), body.flags).map(OwnedFd::from)
    }
}

fn link(what: &str) -> String {
    format!("/proc/self/ns/{what}")
}

/// Which of the daemon's namespaces it is. Its link is `net:[4026531840]`.
fn own(observed: &ObservedFile<'_>) -> Option<&'static str> {
    let (what, _) = observed.target.to_str()?.split_once(":[")?;
    let what = NAMES.into_iter().find(|name| *name == what)?;
    let own = std::fs::metadata(link(what)).ok()?;
    ((own.dev(), own.ino()) == (observed.stat.dev(), observed.stat.ino())).then_some(what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::kind::object::fake::none;
    use crate::kind::observed::fake::observed;

    #[test]
    fn an_own_namespace_comes_back() {
        for what in NAMES {
            let file = File::open(link(what)).unwrap();
            let observed = observed(&file);
            assert!(Namespace.takes(&observed));
            let body = OpenFile::dump(&Namespace, &observed, &mut none()).unwrap();
            let again = File::from(OpenFile::restore(&Namespace, body, &none()).unwrap());
            assert_eq!(again.metadata().unwrap().ino(), file.metadata().unwrap().ino(), "{what}");
        }
        let forged = NamespaceBody { what: "../environ".into(), flags: 0 };
        assert!(OpenFile::restore(&Namespace, forged, &none()).is_err());
    }
}
