//! `mount -t fuse.ckptfs` and fstab(5).
//!
//! mount(8) runs `mount.fuse.ckptfs SOURCE DIR -o OPTIONS` if there is such a program (a link to
//! this one). Otherwise it runs libfuse's mount.fuse, which runs `ckptfs SOURCE DIR -o OPTIONS`.
//! Both command lines are translated to `ckptfs mount`.
//!
//! SOURCE is `tree:PID`, `cgroup:DIR` or `image:FILE`. Any other word means every process of the
//! pid namespace. The options `tree=PID`, `cgroup=DIR` and `image=FILE` mean the same.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use clap::CommandFactory;

use crate::cli::arguments::Cli;

/// What a mount can show, as the source and the options name it.
const TARGETS: [&str; 3] = ["tree", "cgroup", "image"];

/// How this program was invoked.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// As `ckptfs COMMAND`.
    Command,
    /// As a mount helper. It holds the arguments of the `ckptfs mount` that does the same, with the
    /// program's name first.
    Mount(Vec<OsString>),
    /// As a mount helper with `-f`: do everything but the mount.
    Fake,
}

/// Reads a command line, which begins with the program's name.
pub fn read(args: &[OsString]) -> Invocation {
    let [program, source, directory, rest @ ..] = args else { return Invocation::Command };
    let is_helper = Path::new(program).file_name().is_some_and(|name| name.as_bytes().starts_with(b"mount."));
    let is_word = |arg: &OsStr| !arg.is_empty() && !arg.as_bytes().starts_with(b"-");
    let known = Cli::command().get_subcommands().any(|command| *source == command.get_name()) || *source == "help";
    // libfuse's mount.fuse always passes options. Without them an unknown word is a mistyped
    // command.
    let has_options = rest.iter().any(|arg| arg.as_bytes() == b"-o");
    if !is_word(source) || !is_word(directory) || !is_helper && (known || !has_options) {
        return Invocation::Command;
    }
    let mut options: Vec<&[u8]> = Vec::new();
    let mut rest = rest.iter();
    while let Some(arg) = rest.next() {
        match arg.as_bytes() {
            b"-o" => {
                options.extend(rest.next().into_iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b',')))
            }
            // mount(8) enters the namespace, and has determined the type, before it runs a helper.
            b"-N" | b"-t" => drop(rest.next()),
            b"-f" => return Invocation::Fake,
            // Tolerance, no mtab, verbosity: they change nothing here.
            _ => {}
        }
    }
    let mut arguments: Vec<OsString> = vec![program.clone(), "mount".into()];
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for option in options {
        match target(option, b'=') {
            Some(target) => arguments.extend(target),
            // libfuse adds these for root. Nothing here depends on them.
            None if matches!(option, b"dev" | b"suid" | b"") => {}
            None => kept.push(option.to_vec()),
        }
    }
    if let Some(target) = target(source.as_bytes(), b':') {
        arguments.extend(target);
    }
    if !kept.iter().any(|option| option.starts_with(b"fsname=")) && !source.as_bytes().contains(&b',') {
        kept.push([b"fsname=", source.as_bytes()].concat());
    }
    arguments.extend(["-o".into(), OsString::from_vec(kept.join(&b','))]);
    arguments.extend(["--".into(), directory.clone()]);
    Invocation::Mount(arguments)
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

    fn invocation(line: &str) -> Invocation {
        read(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    fn mount(words: &str) -> Invocation {
        Invocation::Mount(words.split(' ').map(OsString::from).collect())
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
            assert_eq!(invocation(line), Invocation::Command, "{line}");
        }
        assert_eq!(
            invocation("/sbin/mount.fuse.ckptfs mount /ckpt -n -o rw,dev,suid"),
            mount("/sbin/mount.fuse.ckptfs mount -o rw,fsname=mount -- /ckpt")
        );
        assert_eq!(invocation("mount.fuse.ckptfs x /ckpt -f"), Invocation::Fake);
    }

    #[test]
    fn the_source_or_an_option_says_what_is_shown() {
        let line = "ckptfs cgroup:/sys/fs/cgroup/a /ckpt -o ro,freeze-timeout=2 -o noatime -t fuse.ckptfs";
        let words = "ckptfs mount --cgroup /sys/fs/cgroup/a -o ro,freeze-timeout=2,noatime,fsname=cgroup:/sys/fs/cgroup/a -- /ckpt";
        assert_eq!(invocation(line), mount(words));
        let line = "ckptfs none /ckpt -o tree=7,fsname=mine";
        assert_eq!(invocation(line), mount("ckptfs mount --tree 7 -o fsname=mine -- /ckpt"));
    }
}
