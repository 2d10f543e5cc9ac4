//! Which opens share an instant: those of one caller that holds it. Every other open takes the
//! instant of its own.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use ckptfs_tests::{Mounted, Spec, Victim, build, tool, wait};

use crate::{count, ends_well, mounted_worker};

/// When the instant of an open file was taken.
fn taken(file: &File) -> (i64, i64) {
    let metadata = file.metadata().unwrap();
    (metadata.mtime(), metadata.mtime_nsec())
}

fn verify(image: &Path) {
    let _whole = tool::run(&[build::ckptfs().as_os_str(), "verify".as_ref(), image.as_os_str()]).success();
}

/// The instants of `image` that a script prints: the times of open files, by `stat -L`.
fn printed(mount: &Mounted, image: &Path, script: &str) -> Vec<String> {
    let output = tool::shell(script, &[image.to_owned(), mount.snap("copy")]).success();
    assert_eq!(output.stderr, "");
    output.text().lines().map(str::to_owned).collect()
}

/// A reader that keeps an image open gives no later reader its instant, and keeps its own.
#[test]
fn an_open_never_shows_the_instant_of_another_reader() {
    let (victim, mount) = mounted_worker();
    for name in ["image", "core", "maps", "info.json"] {
        let path = mount.of(victim.pid(), name);
        let mut held = File::open(&path).unwrap();
        let instant = taken(&held);
        let before = count(&victim);
        wait::until("the worker goes on", || count(&victim) > before + 2);
        let times = printed(
            &mount,
            &path,
            r#"for n in 1 2; do exec 3< "$1"; cat <&3 > "$2"; stat -L -c %y /dev/fd/3; exec 3<&-; done"#,
        );
        assert_eq!(times.len(), 2, "{name}");
        assert!(times[0] < times[1], "{name}: {times:?}");
        let own = printed(&mount, &path, r#"stat -c %y "$2" > /dev/null; cat "$1" > "$2""#);
        assert!(own.is_empty());
        let mut bytes = Vec::new();
        held.read_to_end(&mut bytes).unwrap();
        assert_eq!((taken(&held), bytes.len() as u64), (instant, held.metadata().unwrap().len()), "{name}");
        if name == "image" {
            assert!(fs::read(mount.snap("copy")).unwrap() != bytes, "the worker has gone on");
            verify(&mount.snap("copy"));
            fs::write(mount.snap("held"), &bytes).unwrap();
            verify(&mount.snap("held"));
        }
    }
    ends_well(victim);
}

/// A held tree has a current image, although another reader still reads an older one.
#[test]
fn a_held_tree_is_dumped_whatever_others_read() {
    let (victim, mount) = mounted_worker();
    let reader = File::open(mount.of(victim.pid(), "image")).unwrap();
    let _frozen = mount.write(&mount.of(victim.pid(), "freeze"), "1").success();
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    verify(&snap);
    let whole = tool::shell(r#"cat "$1" > "$2""#, &[mount.file("image"), mount.snap("whole")]);
    let _dumped = whole.success();
    let _thawed = mount.write(&mount.of(victim.pid(), "freeze"), "0").success();
    drop(reader);
    ends_well(victim);
}

/// A caller shares what it holds: by a file that it opened, by a descriptor that it inherited, and
/// also while others have an instant of their own.
#[test]
fn a_caller_shares_what_it_holds() {
    let (victim, mount) = mounted_worker();
    let other = File::open(mount.of(victim.pid(), "image")).unwrap();
    let script = r#"
import os, subprocess, sys
image = sys.argv[1]
core = image.replace("image", "core")
first = os.open(image, os.O_RDONLY)
taken = os.fstat(first).st_mtime_ns
for path in image, core, f"/proc/self/fd/{first}":
    again = os.open(path, os.O_RDONLY)
    assert os.fstat(again).st_mtime_ns == taken, path
    os.close(again)
child = "import os, sys; print(os.stat(sys.argv[1]).st_mtime_ns, os.fstat(os.open(sys.argv[1], os.O_RDONLY)).st_mtime_ns)"
for path in image, f"/proc/self/fd/{first}":
    out = subprocess.run([sys.executable, "-c", child, path], pass_fds=[first], check=True, capture_output=True)
    assert out.stdout.split() == [b"%d" % taken] * 2, (path, out)
out = subprocess.run([sys.executable, "-c", child, image], check=True, capture_output=True)
assert int(out.stdout.split()[1]) > taken, out
"#;
    let image = mount.of(victim.pid(), "image");
    let _shared = tool::run(&["python3".as_ref(), "-c".as_ref(), script.as_ref(), image.as_os_str()]).success();
    assert!(taken(&File::open(&image).unwrap()) == taken(&other), "this process holds the first one");
    drop(other);
    ends_well(victim);
}

/// An open right after a close takes a new instant, although the kernel reports the close to the
/// daemon only later.
#[test]
fn an_open_after_a_close_is_a_new_instant() {
    let (victim, mount) = mounted_worker();
    for path in [mount.of(victim.pid(), "image"), mount.file("image")] {
        let mut last = (0, 0);
        for _ in 0..50 {
            let file = File::open(&path).unwrap();
            let now = taken(&file);
            assert!(now > last, "{}", path.display());
            last = now;
        }
    }
    ends_well(victim);
}

/// Many readers at once, each a process of its own: each has a whole image.
#[test]
fn many_readers_have_an_instant_each() {
    let (victim, mount) = mounted_worker();
    let script = r#"
        jobs=; for n in 1 2 3 4 5 6 7 8; do cat "$1" > "$2.$n" & jobs="$jobs $!"; done
        for job in $jobs; do wait "$job" || exit 1; done
    "#;
    for path in [mount.of(victim.pid(), "image"), mount.file("image")] {
        assert!(printed(&mount, &path, script).is_empty());
        for n in 1..=8 {
            verify(&mount.snap(&format!("copy.{n}")));
        }
    }
    ends_well(victim);
}

/// One user can have 32 snapshots open at a time, and takes nothing from root.
#[test]
fn a_user_has_a_bounded_number() {
    let victim = Victim::ready(&Spec::c("worker").user(65534));
    let mount = Mounted::over(victim.pid());
    fs::set_permissions(mount.path().parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    let script = r#"
import errno, os, signal, sys
answers, children = b"", []
for n in range(36):
    end, start = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.open(sys.argv[1], os.O_RDONLY)
            answer = b"h"
        except OSError as error:
            answer = b"r" if error.errno == errno.EMFILE else b"?"
        os.write(start, answer)
        signal.pause()
    children.append(child)
    answers += os.read(end, 1)
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print(answers.decode())
"#;
    let as_nobody =
        "PATH=/usr/bin:/bin exec setpriv --reuid 65534 --regid 65534 --clear-groups python3 -c \"$2\" \"$1\"";
    let output = tool::shell(as_nobody, &[mount.of(victim.pid(), "image"), script.into()]).success();
    assert_eq!(output.text().trim(), "h".repeat(32) + "rrrr", "{}", mount.log());
    assert!(mount.log().contains("user 65534 has 32 snapshots open already"), "{}", mount.log());
    mount.dump(victim.pid(), &mount.snap("snap"));
    drop(mount);
    ends_well(victim);
}
