//! What a signature costs: two mounts over one process, one of them with a key, dump and restore it
//! in turns.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use ckptfs_tests::Mounted;

use crate::subject::Subject;
use crate::table::{self, median};
use crate::transfer::{self, CAT};

/// The size of the process in MiB, and how often each figure is measured.
const SIZE: (u64, usize) = (256, 7);

/// Prints the table.
pub fn bench() {
    let (mib, runs) = SIZE;
    let mut subject = Subject::start(mib, 0);
    let pid = subject.victim().pid();
    let place = tempfile::Builder::new().prefix("ckptfs-bench-").tempdir_in("/dev/shm").expect("a place in tmpfs");
    let key = place.path().join("key");
    fs::write(&key, [7; 32]).expect("writing a key");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("closing the key to others");
    let option = format!("freeze-timeout=30,key={}", key.display());
    let signing = Mounted::with(&["--tree", &pid.to_string(), "-o", &option]);

    let (mut dumps, mut restores) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let snaps: [PathBuf; 2] = ["signed", "plain"].map(|name| place.path().join(name));
    let images = [signing.of(pid, "image"), subject.mount().of(pid, "image")];
    for (image, snap) in images.iter().zip(&snaps) {
        transfer::copy(image, snap);
        subject.settled();
    }
    for _ in 0..runs {
        for (image, dumps) in images.iter().zip(&mut dumps) {
            dumps.push(transfer::pass(image, CAT, 0).whole());
            subject.settled();
        }
    }
    let entries = [signing.file("restore"), subject.mount().file("restore")];
    for _ in 0..runs {
        for ((snap, entry), restores) in snaps.iter().zip(&entries).zip(&mut restores) {
            subject.victim().kill();
            restores.push(transfer::copy(snap, entry));
            assert!(subject.victim().is_here(), "the process does not live again");
        }
    }
    let [dumps, restores] = [dumps, restores].map(|[signed, plain]| table::times(median(signed), median(plain)));
    table::head(&["process", "signed dump : dump", "restore with a key : restore"]);
    table::row(&[table::size(mib), dumps, restores]);
    drop(signing);
    subject.finish();
}
