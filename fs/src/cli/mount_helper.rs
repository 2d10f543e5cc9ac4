//! `mount -t fuse.ckptfs` and fstab(5): mount(8) runs `mount.fuse.ckptfs SOURCE DIR -o OPTIONS` where such a program is (a link to this one),
//! else libfuse's mount.fuse, which runs `ckptfs SOURCE DIR -o OPTIONS`. Both are put into the words of `ckptfs mount`.
//!
//! SOURCE is `tree:PID`, `cgroup:DIR`, `image:FILE`, or any other word for every process of the pid namespace; the options `tree=PID`,
//! `cgroup=DIR` and `image=FILE` say the same.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use clap::CommandFactory;

use crate::cli::arguments::Cli;

/// What a mount can show, as the source and the options name it.
const TARGETS: [&str; 3] = ["tree", "cgroup", "image"];

/// What the command line of a mount helper asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is none.
    Nothing,
    /// Arguments of `ckptfs`, its name first.
    Mount(Vec<OsString>),
    /// `-f` of mount(8): everything but the mount.
    Fake,
}

/// Reads a command line, the program's name first.
pub fn read(args: &[OsString]) -> Asked {
    let [program, source, directory, rest @ ..] = args else { return Asked::Nothing };
    let is_helper = Path::new(program).file_name().is_some_and(|name| name.as_bytes().starts_with(b"mount."));
    let is_word = |arg: &OsStr| !arg.is_empty() && !arg.as_bytes().starts_with(b"-");
    let known = Cli::command().get_subcommands().any(|command| *source == command.get_name()) || *source == "help";
    // libfuse's mount.fuse always has options; a word that is no command is a mistake.
    let has_options = rest.iter().any(|arg| arg.as_bytes() == b"-o");
    if !is_word(source) || !is_word(directory) || !is_helper && (known || !has_options) {
        return Asked::Nothing;
    }
    let mut options: Vec<&[u8]> = Vec::new();
    let mut rest = rest.iter();
    while let Some(arg) = rest.next() {
        match arg.as_bytes() {
            b"-o" => {
                options.extend(rest.next().into_iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b',')))
            }
            // A namespace is entered, and a type known, before a helper runs.
            b"-N" | b"-t" => drop(rest.next()),
            b"-f" => return Asked::Fake,
            // Tolerance, no mtab, verbosity: nothing here depends on them.
            _ => {}
        }
    }
    let mut asked: Vec<OsString> = vec![program.clone(), "mount".into()];
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for option in options {
        match target(option, b'=') {
            Some(target) => asked.extend(target),
            // libfuse says so for root; there is nothing here to which they apply.
            None if matches!(option, b"dev" | b"suid" | b"") => {}
            None => kept.push(option.to_vec()),
        }
    }
    if let Some(target) = target(source.as_bytes(), b':') {
        asked.extend(target);
    }
    if !kept.iter().any(|option| option.starts_with(b"fsname=")) && !source.as_bytes().contains(&b',') {
        kept.push([b"fsname=", source.as_bytes()].concat());
    }
    asked.extend(["-o".into(), OsString::from_vec(kept.join(&b','))]);
    asked.extend(["--".into(), directory.clone()]);
    Asked::Mount(asked)
}

/// `tree:7` or `tree=7` as arguments.
fn target(word: &[u8], separator: u8) -> Option<[OsString; 2]> {
    let at = word.iter().position(|byte| *byte == separator)?;
    let (name, value) = (&word[..at], &word[at + 1..]);
    let name = TARGETS.iter().find(|known| known.as_bytes() == name)?;
    Some([format!("--{name}").into(), OsString::from_vec(value.to_vec())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Asked {
        read(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    fn mount(words: &str) -> Asked {
        Asked::Mount(words.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn helpers_are_told_from_commands() {
        for line in [
            "ckptfs mount /ckpt",
            "ckptfs help mount",
            "ckptfs --version x y",
            "ckptfs verify a b",
            "ckptfs umount /ckpt",
            "ckptfs",
            "ckptfs a",
        ] {
            assert_eq!(asked(line), Asked::Nothing, "{line}");
        }
        assert_eq!(
            asked("/sbin/mount.fuse.ckptfs mount /ckpt -n -o rw,dev,suid"),
            mount("/sbin/mount.fuse.ckptfs mount -o rw,fsname=mount -- /ckpt")
        );
        assert_eq!(asked("mount.fuse.ckptfs x /ckpt -f"), Asked::Fake);
    }

    #[test]
    fn the_source_or_an_option_says_what_is_shown() {
        let line = "ckptfs cgroup:/sys/fs/cgroup/a /ckpt -o ro,freeze-timeout=2 -o noatime -t fuse.ckptfs";
        let words = "ckptfs mount --cgroup /sys/fs/cgroup/a -o ro,freeze-timeout=2,noatime,fsname=cgroup:/sys/fs/cgroup/a -- /ckpt";
        assert_eq!(asked(line), mount(words));
        let line = "ckptfs none /ckpt -o tree=7,fsname=mine";
        assert_eq!(asked(line), mount("ckptfs mount --tree 7 -o fsname=mine -- /ckpt"));
    }
}
