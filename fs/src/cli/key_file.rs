//! The file of the key that signs images.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use ckptfs_dumper::{Context, Doing, Error, Key, Kind, Result};

/// The permission bits of users other than the owner. Access lists are in them too: the bits of the
/// group are their mask.
const OF_OTHERS: u32 = 0o077;

/// Reads the key in `path`. All bytes of the file count, also a last newline.
///
/// # Errors
/// EACCES: another user owns the file, or others may read or write it, so the key may be theirs
/// too. EINVAL: no regular file, or too short or too long.
pub fn read(path: &Path) -> Result<Key> {
    read_checked(path).on(|| format!("key {}", path.display()))
}

fn read_checked(path: &Path) -> Result<Key> {
    // A FIFO must not keep this waiting for a writer.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).doing(|| "opening it")?;
    let facts = file.metadata().doing(|| "stat of it")?;
    if !facts.is_file() {
        return Err(refused(libc::EINVAL, "it is no regular file".into()));
    }
    let (owner, mode) = (facts.uid(), facts.mode() & 0o7777);
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(refused(libc::EACCES, format!("it belongs to another user, uid {owner}")));
    }
    if mode & OF_OTHERS != 0 {
        let sentence = format!("users other than its owner may read or write it (mode {mode:04o}): chmod 600 it");
        return Err(refused(libc::EACCES, sentence));
    }
    let (least, most) = Key::SECRET_LEN.into_inner();
    let mut secret = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut secret).doing(|| "reading it")?;
    let len = secret.len();
    Key::new(&secret).ok_or_else(|| {
        let has = if len > most { format!("more than {most}") } else { len.to_string() };
        refused(libc::EINVAL, format!("it has {has} bytes, a key has {least} to {most}"))
    })
}

fn refused(errno: i32, sentence: String) -> Error {
    Error::new(Kind::System(errno), sentence)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_may_have_access() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, [7; 32]).unwrap();
        for mode in [0o644, 0o640, 0o620, 0o604, 0o602, 0o610, 0o601] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = read(&path).unwrap_err();
            assert_eq!(error.errno(), Some(libc::EACCES), "{mode:o}");
            let told = format!("may read or write it (mode {mode:04o}): chmod 600 it");
            assert!(error.to_string().ends_with(&told), "{error}");
        }
        for mode in [0o600, 0o400, 0o700] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(Some(read(&path).unwrap()), Key::new(&[7; 32]), "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let told = || read(&path).unwrap_err().to_string();
        let name = format!("key {}: ", path.display());
        assert_eq!(told(), format!("{name}opening it: no such file or directory"));
        fs::create_dir(&path).unwrap();
        assert_eq!(told(), format!("{name}it is no regular file"));
        fs::remove_dir(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(told(), format!("{name}it is no regular file"));
        fs::remove_file(&path).unwrap();
        for (len, has) in [(0, "0"), (15, "15"), (4097, "more than 4096"), (9999, "more than 4096")] {
            fs::write(&path, vec![7; len]).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert_eq!(told(), format!("{name}it has {has} bytes, a key has 16 to 4096"));
        }
    }
}
