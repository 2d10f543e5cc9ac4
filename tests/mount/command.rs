//! The commands beside the mount: the contents of an image, the differences of two images, a
//! restore without a mount, the mount helper, manual pages and completions.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ckptfs_tests::{Event, Mounted, Spec, Victim, build, mounted, process, tool, wait};

use super::{ends_well, mounted_worker};

fn ckptfs(args: &[&Path]) -> tool::Output {
    let mut argv = vec![build::ckptfs()];
    argv.extend(args.iter().map(|arg| arg.to_path_buf()));
    tool::run(&argv)
}

#[test]
fn inspect_shows_processes_memory_and_descriptors() {
    let victim = Victim::ready(&Spec::c("inherited_fds"));
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    let output = ckptfs(&[Path::new("inspect"), &snap]).success();
    let text = output.text();
    let line = |words: &[&str]| {
        let found = text.lines().any(|line| words.iter().all(|word| line.split_whitespace().any(|it| it == *word)));
        assert!(found, "no line with {words:?}:\n{text}");
    };
    let (pid, data) = (victim.pid().to_string(), victim.dir().join("data"));
    let program = fs::read_to_string(format!("/proc/{}/cmdline", victim.pid())).unwrap();
    for child in process::children(victim.pid()) {
        // Its arguments are in a page that it shares with its parent.
        line(&[&child.to_string(), &pid, "runs", program.split('\0').next().unwrap()]);
    }
    line(&["[stack]", "rw-p", "ANON"]);
    line(&["40", "regular", "30", "rw", data.to_str().unwrap()]);
    line(&["40", "regular", "30", "rw,cloexec", data.to_str().unwrap()]);
    assert!(text.contains("/dev/null") && text.contains("whole") != text.contains("total:"), "{text}");
    assert!(output.stderr.is_empty(), "{}", output.stderr);
    let records = ckptfs(&[Path::new("inspect"), Path::new("--records"), &snap]).success().text();
    assert!(records.lines().filter(|line| line.contains(" REGS ")).count() == 3, "{records}");
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

#[test]
fn diff_lists_pages_and_fields() {
    let (victim, mount) = mounted_worker();
    let (one, two) = (mount.snap("one"), mount.snap("two"));
    mount.dump(victim.pid(), &one);
    let before = super::count(&victim);
    wait::until("it works", || super::count(&victim) > before);
    mount.dump(victim.pid(), &two);
    let diff = |words: &[&Path]| ckptfs(&[&[Path::new("diff")], words].concat());
    let same = diff(&[&one, &one]).success();
    assert!(same.text().starts_with("total: pages: 0 changed, 0 gone, 0 new; 0 fields"), "{}", same.text());
    let output = diff(&[&one, &two]);
    assert_eq!((output.code, output.stderr.as_str()), (1, ""), "{}", output.text());
    assert!(output.text().lines().any(|line| line.contains("pages: ") && !line.contains(" 0 changed")));
    let json: serde_json::Value = serde_json::from_slice(&diff(&[Path::new("--json"), &one, &two]).stdout).unwrap();
    assert!(
        json["memory"][0]["changed"].as_u64().unwrap() > 0 && json["only_a"].as_array().unwrap().is_empty(),
        "{json}"
    );
    let failed = diff(&[&one, &mount.snap("nothing")]);
    assert!(failed.code == 2 && failed.stderr.contains("nothing"), "{}", failed.stderr);
    fs::write(&two, fs::read(&one).unwrap().repeat(2)).unwrap();
    let failed = diff(&[&one, &two]);
    assert!(failed.code == 2 && failed.stderr.matches(two.to_str().unwrap()).count() == 1, "{}", failed.stderr);
    ends_well(victim);
}

#[test]
fn restore_needs_no_mount() {
    let (mut victim, mount) = mounted_worker();
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    victim.kill();
    let output = ckptfs(&[Path::new("restore"), &snap]).success();
    assert!(output.text().contains(&format!("pid {} lives again (1 processes)", victim.pid())), "{}", output.text());
    assert!(output.stderr.is_empty(), "no progress is printed to a pipe: {}", output.stderr);
    assert!(victim.is_here());
    ckptfs(&[Path::new("restore"), &snap]).fails_with("is taken");
    ends_well(victim);
}

/// A restore prints the processes that live, whatever follows their image in the file. The exit
/// status alone would say that none lives.
#[test]
fn restore_prints_live_pids_before_it_fails() {
    let (mut victim, mount) = mounted_worker();
    let (snap, spoilt, twice) = (mount.snap("snap"), mount.snap("spoilt"), mount.snap("twice"));
    mount.dump(victim.pid(), &snap);
    fs::write(&spoilt, [&fs::read(&snap).unwrap()[..], b"garbage\n"].concat()).unwrap();
    fs::write(&twice, fs::read(&snap).unwrap().repeat(2)).unwrap();
    for (file, why) in [(&spoilt, "neither zeros nor an image"), (&twice, "is taken")] {
        victim.kill();
        let output = ckptfs(&[Path::new("restore"), file]);
        let lives = format!("pid {} lives again (1 processes)\n", victim.pid());
        assert!(output.code == 1 && output.text().ends_with(&lives), "{}{}", output.text(), output.stderr);
        assert_eq!(output.text().lines().count(), 1, "{}", output.text());
        output.fails_with(why);
        assert!(victim.is_here());
    }
    // A full standard output changes only the exit status.
    victim.kill();
    tool::shell("\"$1\" restore \"$2\" > /dev/full", &[build::ckptfs(), snap]).fails_with("no space left on device");
    assert!(victim.is_here());
    ends_well(victim);
}

/// Makes /sbin/mount.fuse.ckptfs if it is missing; Drop removes it again. Only one exists at a
/// time, because one test would remove it while another uses it.
struct Helper {
    link: Option<PathBuf>,
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Helper {
    fn new() -> Helper {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let link = PathBuf::from("/sbin/mount.fuse.ckptfs");
        Helper { link: symlink(build::ckptfs(), &link).is_ok().then_some(link), _turn: turn }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            let _gone = fs::remove_file(link);
        }
    }
}

#[test]
fn mount_8_and_fstab() {
    let _helper = Helper::new();
    let victim = super::worker();
    let dir = tempfile::tempdir().unwrap();
    let (point, table) = (dir.path().join("ckpt"), dir.path().join("fstab"));
    fs::create_dir(&point).unwrap();
    let source = format!("tree:{}", victim.pid());
    let umount = || tool::run(&["umount".into(), point.clone()]);
    let script = r#"mount -t fuse.ckptfs -o noatime "$1" "$2"; findmnt -no SOURCE,FSTYPE "$2"; ls "$2""#;
    let seen = tool::shell(script, &[Path::new(&source), &point]);
    let _unmounted = umount();
    let text = seen.success().text();
    assert!(text.starts_with(&format!("{source} fuse.ckptfs")) && text.contains(&victim.pid().to_string()), "{text}");
    let line = format!("none {} fuse.ckptfs tree={},freeze-timeout=2,noauto 0 0\n", point.display(), victim.pid());
    fs::write(&table, line).unwrap();
    let seen = tool::shell(r#"mount --fstab "$1" "$2"; cat "$2/status""#, &[&table, &point]);
    let _unmounted = umount();
    assert!(seen.success().text().contains(&format!("tree {}", victim.pid())));
    ends_well(victim);
}

#[test]
fn why_prints_the_reason_of_a_failure() {
    let victim = Victim::start(
        &Spec::command("python3")
            .arg("-c")
            .arg("import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); time.sleep(3600)"),
    );
    let mount = Mounted::over(victim.pid());
    let why = |word: &str| tool::shell(r#""$1" why $2"#, &[build::ckptfs().as_os_str(), word.as_ref()]);
    let pid = victim.pid().to_string();
    wait::until("it listens", || tool::run(&["cat".into(), mount.of(victim.pid(), "image")]).code != 0);
    let line = format!("{}: pid {pid} fd 3: TCP socket 127.0.0.1:", mount.path().display());
    let told = why(&pid).success().text();
    assert!(told.starts_with(&line) && told.ends_with("(listening) cannot be checkpointed\n"), "{told}");
    mount.try_restore(Path::new("/bin/true")).fails_with("Invalid argument");
    let told = why("").success().text();
    let restore = format!("{}: restore: offset 0: this is an ELF file", mount.path().display());
    assert!(told.contains(&line) && told.contains(&restore), "{told}");
    why("1").fails_with("no error of pid 1 is known to ");
}

/// A word that is misspelt does not show every process.
#[test]
fn mount_8_refuses_a_source_that_it_does_not_know() {
    let _helper = Helper::new();
    let dir = tempfile::tempdir().unwrap();
    let seen = tool::shell(r#"mount -t fuse.ckptfs tre:1234 "$1""#, &[dir.path()]);
    if mounted::is_mounted(dir.path()) {
        let _unmounted = tool::run(&[Path::new("umount"), dir.path()]);
    }
    seen.fails_with("source tre:1234: not known (known: tree:PID");
}

#[test]
fn a_tree_is_a_number() {
    let dir = tempfile::tempdir().unwrap();
    for word in ["abc", "0", "-1", "12x"] {
        let output = ckptfs(&["mount".as_ref(), Path::new(&format!("--tree={word}")), dir.path()]);
        assert!(output.code == 2 && output.stderr.contains("a pid is wanted: the number"), "{}", output.stderr);
    }
}

/// What is no image because it is packed, or empty, is named with the command that helps.
#[test]
fn packed_and_empty_input_is_named() {
    let victim = super::worker();
    let mount = Mounted::over(victim.pid());
    let (snap, file) = (mount.snap("snap"), mount.snap("file"));
    mount.dump(victim.pid(), &snap);
    let told = || fs::read_to_string(mount.file("restore")).unwrap().lines().last().unwrap_or_default().to_owned();
    for (tool, named) in [
        ("zstd -qc", "this is zstd, not a ckptfs image: zstd -dc FILE | ..."),
        ("gzip -c", "this is gzip, not a ckptfs image: gzip -dc FILE | ..."),
        ("xz -0c", "this is xz, not a ckptfs image: xz -dc FILE | ..."),
        ("head -c 0", "empty: there is no image; a dump that is refused leaves an empty file"),
    ] {
        let _packed = tool::shell(&format!(r#"{tool} "$1" > "$2""#), &[&snap, &file]).success();
        for command in ["restore", "verify", "inspect"] {
            ckptfs(&[Path::new(command), &file]).fails_with(named);
        }
        let written = mount.try_restore(&file);
        assert!(written.code != 0 || tool == "head -c 0", "{tool}");
        // The kernel releases a file after its close has returned.
        wait::until("the attempt has its line", || told().contains(named));
    }
    ends_well(victim);
}

/// The options that fstab(5) allows for every filesystem.
#[test]
fn mount_8_options() {
    let _helper = Helper::new();
    let victim = super::worker();
    let dir = tempfile::tempdir().unwrap();
    let source = format!("tree:{}", victim.pid());
    let args = [Path::new(&source), dir.path()];
    let script = r#"
        for option in relatime nodiratime sync lazytime strictatime dirsync silent nosymfollow user users owner group nouser noauto auto \
            nofail _netdev x-a=b X-c comment=d defaults async loud noatime,norelatime; do
            mount -t fuse.ckptfs "$1" "$2" -o $option; umount "$2"
        done
        mount -t fuse.ckptfs "$1" "$2" -o sync,nodiratime,nosymfollow,users; findmnt -no OPTIONS "$2"
        mount -i -o remount,ro "$2"; findmnt -no OPTIONS "$2"
        mount -o remount,ro "$2" 2>&1 || :
        umount "$2"
    "#;
    let output = tool::shell(script, &args).success();
    let text = output.text();
    let lines: Vec<&str> = text.lines().collect();
    let has = |line: usize, wanted: &[&str]| {
        let options: Vec<&str> = lines[line].split(',').collect();
        assert!(wanted.iter().all(|option| options.contains(option)), "{wanted:?}: {text}");
    };
    has(0, &["rw", "sync", "nodiratime", "nosymfollow", "noexec"]);
    has(1, &["ro"]);
    assert!(
        lines[2].contains("-o remount: a mount cannot be changed") && output.stderr.is_empty(),
        "{text}{}",
        output.stderr
    );
    ends_well(victim);
}

/// A mount over something that is neither a tree nor a cgroup would be empty.
#[test]
fn what_cannot_be_shown_is_refused() {
    let victim = Victim::ready(&Spec::c("many_threads"));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cgroup.procs"), "").unwrap();
    let threads = fs::read_dir(format!("/proc/{}/task", victim.pid())).unwrap();
    let mut threads = threads.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let thread = threads.find(|tid| *tid != victim.pid().to_string()).unwrap();
    let mount = |words: [&str; 2]| {
        let output = ckptfs(&[Path::new("mount"), words[0].as_ref(), words[1].as_ref(), dir.path()]);
        if mounted::is_mounted(dir.path()) {
            let _unmounted = tool::run(&[Path::new("umount"), dir.path()]);
        }
        output
    };
    mount(["--tree", &thread]).fails_with(&format!("--tree {thread}: a thread of process {}", victim.pid()));
    mount(["--cgroup", dir.path().to_str().unwrap()]).fails_with("not a cgroup");
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

#[test]
fn manual_pages() {
    let assets = build::ckptfs().parent().unwrap().join("assets");
    let script = r#"
        cd "$1"
        export LC_ALL=C.UTF-8 MANWIDTH=100
        # Format each page once. Lines break only at spaces, and no spaces are added.
        show() { man --warnings --no-hyphenation --no-justification -E UTF-8 -l "man/$1" > "$2/$1"; }
        for page in man/*; do show "${page##*/}" "$2"; done
        has() { grep -qE -- "$2" "$shown/$1" || echo "$1 has no $2" >&2; }
        shown=$2
        says() { tr -s '[:space:]' ' ' < "$shown/$1" | grep -F -- "$2" > /dev/null || echo "$1 does not say $2" >&2; }
        has ckptfs.5 'SHA-256 over the CRCs'
        # The synopsis, with values.
        has ckptfs-mount.1 'ckptfs mount \[--cgroup DIR . --tree PID . --image FILE\] \[-f\] \[-o OPT\[,OPT\]\]\.\.\. MOUNTPOINT'
        for name in restore verify; do has ckptfs-$name.1 "ckptfs $name .*FILE\.\.\."; done
        # A list: each option begins a line.
        for option in freeze-timeout=SECONDS external-pipes=refuse log=FILE ro,; do has ckptfs-mount.1 "^       $option"; done
        has ckptfs-mount.1 '^SIGNALS'; has ckptfs-mount.1 SIGHUP
        for what in RUST_LOG '^       <pid>/vmas/START-END' 'mount -t fuse.ckptfs tree:' '^EXIT STATUS' '^SEE ALSO' 'ckptfs-mount\(1\)'; do
            has ckptfs.1 "$what"
        done
        for name in '' -mount -restore -core -inspect -diff -verify -check -ps -why -install-assets; do has "ckptfs$name.1" 'ckptfs\(5\)'; done
        # What went wrong, and what to do: each page has the errors of its own command.
        for name in '' -mount -restore -core -inspect -diff -verify -check -ps -why -install-assets; do
            says "ckptfs$name.1" 'its reason is printed by ckptfs why'; has "ckptfs$name.1" '^EXIT STATUS'; has "ckptfs$name.1" '^       2 +'; has "ckptfs$name.1" '^ERRORS'
        done
        has ckptfs-install-assets.1 '^       EACCES( |$)'
        for name in '' -mount -restore -core -inspect -diff -verify; do
            has "ckptfs$name.1" '^       EINVAL( |$)'
        done
        says ckptfs.1 'Detach the debugger'; says ckptfs-restore.1 'with ipcrm -m'; says ckptfs-mount.1 'Run ckptfs mount as root'
        says ckptfs-verify.1 'Use another copy'
        for section in 'READING AN IMAGE' 'PINNED SNAPSHOTS' RESTORING 'WHERE THE REASON STANDS'; do has ckptfs.1 "^$section"; done
        ! grep -l EXTRA man/* || false
    "#;
    let shown = tempfile::tempdir().unwrap();
    let output = tool::shell(script, &[assets.as_path(), shown.path()]).success();
    assert!(output.stderr.is_empty(), "{}", output.stderr);
    // Every record of the format is in ckptfs(5).
    let page = fs::read_to_string(assets.join("man/ckptfs.5")).unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dumper/src");
    let tags = tool::shell(
        r#"grep -rhoP 'const TAG[A-Z]*: Tag = Tag\(\*b"\K....|const TABLE: Tag = Tag\(\*b"\K....' "$1""#,
        &[&sources],
    );
    let tags = tags.success().text();
    assert!(tags.lines().count() > 15, "{tags}");
    for tag in tags.lines() {
        assert!(page.contains(tag), "record {tag} is not in ckptfs(5)");
    }
}

/// The errnos that the code of a source names when it makes an error, without its tests.
fn errnos(source: &str) -> Vec<&str> {
    let (code, _) = source.split_once("#[cfg(test)]").unwrap_or((source, ""));
    let given = code.lines().map(str::trim).filter(|line| {
        let makes =
            ["Error::os(", "Error::new(", "refused(", "refuse(", "=> libc::E"].iter().any(|made| line.contains(made));
        let is_alone = line.strip_prefix("libc::E").is_some_and(|rest| rest.ends_with(',') && !rest.contains(' '));
        !line.starts_with("//") && (makes || is_alone)
    });
    let names =
        given.filter_map(|line| line.split_once("libc::E").map(|(before, _)| &line[before.len() + "libc::".len()..]));
    names.filter_map(|name| name.split(|c: char| !c.is_ascii_alphanumeric()).next()).collect()
}

/// The manual explains every errno that the program itself chooses.
#[test]
fn manual_pages_explain_every_errno() {
    let page = fs::read_to_string(build::ckptfs().parent().unwrap().join("assets/man/ckptfs.1")).unwrap();
    let (_, explained) = page.split_once(".SH ERRORS").unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let sources = tool::shell(
        r#"find "$1" "$2" -name '*.rs' -not -path '*/tests/*'"#,
        &[root.join("dumper/src"), root.join("fs/src")],
    );
    let mut count = 0;
    for path in sources.success().text().lines() {
        for errno in errnos(&fs::read_to_string(path).unwrap()) {
            count += 1;
            assert!(explained.contains(&format!(".B {errno}\n")), "{errno}, given in {path}, is not in ckptfs(1)");
        }
    }
    assert!(count > 40, "the sources are not found: {count}");
}

#[test]
fn completions() {
    let assets = build::ckptfs().parent().unwrap().join("assets/completions");
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a folder")).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    // Called as complete(1) does: the command, the word, the word before. Without a result bash
    // offers files.
    let script = r#"
        ! grep -r daemon-stage "$1" || false
        cd "$2"; compopt() { :; }; . "$1/ckptfs.bash"
        typed() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ckptfs ckptfs "${*: -1}" "${*: -2:1}"; echo "$*:$(printf ' [%s]' "${COMPREPLY[@]}")"; }
        typed ckptfs moun
        typed ckptfs mount ''
        typed ckptfs mount -f ''
        typed ckptfs mount --tree ''
        typed ckptfs mount -o ''
        typed ckptfs mount --t
        typed ckptfs verify ''
        typed ckptfs diff file ''
        typed ckptfs install-assets ''
    "#;
    let output = tool::shell(script, &[assets.as_path(), dir.path()]).success();
    assert_eq!(
        output.text().lines().collect::<Vec<_>>(),
        [
            "ckptfs moun: [mount]",
            "ckptfs mount : [a folder]",
            "ckptfs mount -f : [a folder]",
            "ckptfs mount --tree : []",
            "ckptfs mount -o : []",
            "ckptfs mount --t: [--tree]",
            "ckptfs verify : []",
            "ckptfs diff file : []",
            "ckptfs install-assets : [a folder]",
        ],
        "{}",
        output.stderr
    );
}

/// cargo-install(1) does not install pages and completions.
#[test]
fn install_assets() {
    let prefix = tempfile::tempdir().unwrap();
    let install = |dir: &Path| ckptfs(&[Path::new("install-assets"), dir]);
    // Installed twice: the second time replaces the files.
    let _ = install(prefix.path()).success();
    let output = install(prefix.path()).success();
    assert!(output.stderr.is_empty(), "{}", output.stderr);
    let beside = build::ckptfs().parent().unwrap().join("assets");
    let made = tool::shell(r#"ls "$1/man" "$1/completions" | grep ckptfs | wc -l"#, &[&beside]).success().text();
    let installed: Vec<String> = output.text().lines().map(str::to_owned).collect();
    assert_eq!(installed.len().to_string(), made.trim(), "{installed:?}");
    assert!(installed.iter().all(|path| Path::new(path).is_file()), "{installed:?}");
    let left = tool::shell(r#"find "$1" -type f | wc -l"#, &[prefix.path()]).success().text();
    assert_eq!(left.trim(), made.trim(), "no other file is left there");
    let script = r#"
        cd "$1/share"
        export LC_ALL=C.UTF-8
        for page in '1 ckptfs' '1 ckptfs-mount' '1 ckptfs-install-assets' '5 ckptfs'; do
            man -M "$1/share/man" $page | grep -q ^NAME || echo "no page $page" >&2
        done
        . bash-completion/completions/ckptfs && complete -p ckptfs
        head -1 zsh/site-functions/_ckptfs
        grep -c 'complete -c ckptfs' fish/vendor_completions.d/ckptfs.fish
    "#;
    let output = tool::shell(script, &[prefix.path()]).success();
    let text = output.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(output.stderr.is_empty(), "{}", output.stderr);
    assert!(lines[0].contains("-F _ckptfs") && lines[0].ends_with("ckptfs") && lines[1] == "#compdef ckptfs", "{text}");
    // Where no directory can be made, the error names it.
    let file = prefix.path().join("file");
    fs::write(&file, "").unwrap();
    install(&file).fails_with(file.join("share").to_str().unwrap());
}
