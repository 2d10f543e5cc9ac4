//! Images of live processes go through the page cache of the kernel. Snapshots are never mixed,
//! whatever was read before.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ckptfs_tests::{Event, Mounted, Spec, Victim, build, process, tool};

use crate::pinned::kept;
use crate::{count, ends_well, mounted_worker};

/// Asserts that `image` is a complete image, from its header to its trailer.
fn verify(image: &Path) {
    let _whole = tool::run(&[build::ckptfs().as_os_str(), "verify".as_ref(), image.as_os_str()]).success();
}

/// Reads to the end in pieces of `len` bytes, without asking for the size first.
fn read_in_pieces(file: &mut File, len: usize) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), vec![0; len]);
    loop {
        match file.read(&mut piece).unwrap() {
            0 => return all,
            read => all.extend_from_slice(&piece[..read]),
        }
    }
}

/// The process grows and shrinks by a multiple of its size between reads. Every reader gets a
/// complete image, without zeros at its end.
#[test]
fn images_that_grow_and_shrink() {
    let victim = Victim::ready(&Spec::c("grows"));
    let mount = Mounted::over(victim.pid());
    let (image, copy) = (mount.of(victim.pid(), "image"), mount.snap("copy"));
    let mut sizes = Vec::new();
    for step in 1..=6 {
        for piece in [512, 10 << 10, 1 << 20] {
            let read = read_in_pieces(&mut File::open(&image).unwrap(), piece);
            fs::write(&copy, &read).unwrap();
            verify(&copy);
            sizes.push(read.len());
        }
        let script = r#"
import mmap, os, subprocess, sys
for way in "sendfile", "mmap", "pread", "splice":
    file, to = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    if way == "sendfile":
        while os.sendfile(to, file, None, 1 << 20): pass
    elif way == "mmap":
        os.write(to, mmap.mmap(file, 0, prot=mmap.PROT_READ))
    elif way == "pread":
        at = 0
        while piece := os.pread(file, 4096, at):
            at += os.write(to, piece)
    else:
        out, into = os.pipe()
        while got := os.splice(file, into, 65536):
            while got: got -= os.splice(out, to, got)
        os.close(out), os.close(into)
    told, read = os.fstat(file).st_size, os.fstat(to).st_size
    assert told == read, f"{way}: {read} bytes of {told}"
    os.close(file), os.close(to)
    subprocess.run([sys.argv[3], "verify", sys.argv[2]], check=True, stdout=subprocess.DEVNULL)
"#;
        let argv = ["python3".as_ref(), "-c".as_ref(), script.as_ref(), image.as_os_str(), copy.as_os_str()];
        let ckptfs = build::ckptfs();
        let _read = tool::run(&argv.into_iter().chain([ckptfs.as_os_str()]).collect::<Vec<_>>()).success();
        victim.go(step);
        assert_eq!(victim.event(step), if step < 6 { Event::Ready(step + 1) } else { Event::Ok });
    }
    let (large, small): (Vec<usize>, Vec<usize>) = sizes.iter().partition(|size| **size > 24 << 20);
    assert_eq!((large.len(), small.len()), (9, 9), "{sizes:?}");
    victim.finish();
}

/// An open during another open shares its snapshot, with the parts that are not read yet. An open
/// after the last close takes a new snapshot, with a size and a time of its own.
#[test]
fn one_instant_at_a_time() {
    let (victim, mount) = mounted_worker();
    let path = mount.of(victim.pid(), "image");
    let mut first = File::open(&path).unwrap();
    let mut head = vec![0; 100_000];
    first.read_exact(&mut head).unwrap();
    let now = count(&victim);
    ckptfs_tests::wait::until("the worker goes on", || count(&victim) > now + 2);
    let mut second = File::open(&path).unwrap();
    let told = second.metadata().unwrap();
    let (rest, all) = (read_in_pieces(&mut first, 10 << 10), read_in_pieces(&mut second, 4 << 10));
    assert!([head, rest].concat() == all && told.len() == all.len() as u64);
    assert_eq!(fs::metadata(&path).unwrap().mtime_nsec(), told.mtime_nsec(), "by its path as well");
    drop((first, second));
    let mut third = File::open(&path).unwrap();
    let again = third.metadata().unwrap();
    assert!((again.mtime(), again.mtime_nsec()) > (told.mtime(), told.mtime_nsec()));
    let fresh = read_in_pieces(&mut third, 10 << 10);
    assert!(fresh != all && fresh.len() as u64 == again.len());
    drop(third);
    ends_well(victim);
}

/// A mapped image does not change, and an open finds no page of an earlier snapshot in the page
/// cache.
#[test]
fn a_mapping_holds_its_instant() {
    let (victim, mount) = mounted_worker();
    let script = r#"
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def resident(map):
    pages = (len(map) + 4095) // 4096
    vector = (ctypes.c_ubyte * pages)()
    address = ctypes.addressof(ctypes.c_char.from_buffer(map))
    assert libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(map)), vector) == 0
    return sum(byte & 1 for byte in vector)
def opened():
    file = os.open(sys.argv[1], os.O_RDONLY)
    return file, mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
file, map = opened()
whole = bytes(map)
assert resident(map) * 4096 >= len(whole)
os.close(file)
assert bytes(map) == whole, "it is still open while it is mapped"
map.close()
file, map = opened()
left = resident(map)
assert left * 8 < len(map) // 4096, left
"#;
    let image = mount.of(victim.pid(), "image");
    let _read = tool::run(&["python3".as_ref(), "-c".as_ref(), script.as_ref(), image.as_os_str()]).success();
    ends_well(victim);
}

/// The pages of an image leave the page cache when the file is closed. The test counts the cached
/// memory of the whole machine, so the image is larger than everything that other tests read
/// meanwhile.
#[test]
fn what_was_read_is_given_back() {
    const MIB: u64 = 1 << 10;
    let cached = || -> u64 {
        let text = fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Cached:")).unwrap();
        line.trim_end_matches("kB").trim().parse().unwrap()
    };
    let script = "import time; large = bytearray(b'x') * (768 << 20); open('filled', 'w').close(); time.sleep(1000)";
    let victim = Victim::start(&Spec::command("python3").arg("-c").arg(script));
    ckptfs_tests::wait::until("it is filled", || victim.dir().join("filled").exists());
    let mount = Mounted::over(victim.pid());
    let mut file = File::open(mount.of(victim.pid(), "image")).unwrap();
    assert!(std::io::copy(&mut file, &mut std::io::sink()).unwrap() > 768 << 20);
    let read = cached();
    drop(file);
    ckptfs_tests::wait::until("the memory is given back", || cached() + 384 * MIB < read);
}

/// A snapshot that is lost in the middle of a read is an error for all further reads. They never
/// get zeros.
#[test]
fn a_lost_snapshot_is_no_zeros() {
    let (victim, mount) = mounted_worker();
    let mut file = File::open(mount.of(victim.pid(), "vmas/200000000000-200000800000")).unwrap();
    let mut head = [0; 4096];
    file.read_exact(&mut head).unwrap();
    let child = kept(&mount)[0];
    process::kill(child, nix::sys::signal::Signal::SIGKILL);
    let mut rest = Vec::new();
    let failed = file.read_to_end(&mut rest);
    let told = |error: std::io::Error| error.raw_os_error();
    assert!(failed.map_err(told) == Err(Some(libc::EIO)), "{} bytes", rest.len());
    drop(file);
    ends_well(victim);
}

/// The container's image is that of its root. An open file keeps its contents and its size when the
/// root ends, and when it is restored.
#[test]
fn what_is_open_stays_what_it_is() {
    let (mut victim, mount) = mounted_worker();
    let path = mount.file("image");
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    let mut first = File::open(&path).unwrap();
    let len = first.metadata().unwrap().len();
    let mut head = vec![0; 100_000];
    first.read_exact(&mut head).unwrap();
    victim.kill();
    assert_eq!(fs::metadata(&path).unwrap().len(), len, "by its path");
    mount.restore(&snap);
    assert!(victim.is_here());
    let mut second = File::open(&path).unwrap();
    assert_eq!([&first, &second].map(|file| file.metadata().unwrap().len()), [len, len]);
    let (all, rest) = (read_in_pieces(&mut second, 64 << 10), read_in_pieces(&mut first, 10 << 10));
    assert!([head, rest].concat() == all);
    let copy = mount.snap("copy");
    fs::write(&copy, &all).unwrap();
    verify(&copy);
    drop((first, second));
    let fresh = fs::read(&path).unwrap();
    assert!(fresh != all, "a new open reads the restored process");
    ends_well(victim);
}

/// Even root cannot truncate an image: the kernel would make it an empty file for all readers.
#[test]
fn an_image_cannot_be_truncated() {
    let (victim, mount) = mounted_worker();
    let pinned = mount.of(victim.pid(), "snapshots/one");
    fs::create_dir(&pinned).unwrap();
    for path in [mount.of(victim.pid(), "image"), pinned.join("image"), pinned.join("maps"), mount.file("image")] {
        let mut reader = File::open(&path).unwrap();
        let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_TRUNC;
        let opened = nix::fcntl::open(&path, flags, nix::sys::stat::Mode::empty());
        assert_eq!(opened.err(), Some(nix::errno::Errno::EACCES), "{}", path.display());
        let len = reader.metadata().unwrap().len();
        assert_eq!(read_in_pieces(&mut reader, 64 << 10).len() as u64, len);
    }
    fs::remove_dir(&pinned).unwrap();
    ends_well(victim);
}

/// When the mountpoint's path leads elsewhere, the daemon cannot make the kernel ask for the size
/// of a file. Images then do not go through the page cache.
#[test]
fn read_through_a_bind_mount() {
    let (victim, mount) = mounted_worker();
    let door = mount.snap("door");
    fs::create_dir(&door).unwrap();
    let script = r#"
        mount --bind "$1" "$2"; mount -t tmpfs none "$1"
        finish() { umount "$1"; umount "$2"; }
        trap 'finish "$1" "$2"' EXIT
        for n in 1 2 3; do
            cat "$2/$3/image" | "$4" verify - > /dev/null
            head -c 50000 "$2/$3/image" > /dev/null
            exec 3< "$2/$3/image"; size=$(stat -Lc %s /dev/fd/3); [ "$(wc -c <&3)" = "$size" ]; exec 3<&-
        done
    "#;
    let args = [mount.path(), door, victim.pid().to_string().into(), build::ckptfs()];
    let output = tool::shell(script, &args).success();
    assert_eq!(output.stderr, "");
    assert!(mount.log().contains("does not lead to this mount any more"), "{}", mount.log());
    ends_well(victim);
}
