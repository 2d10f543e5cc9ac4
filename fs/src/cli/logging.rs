//! Where the log goes. RUST_LOG sets the level. The default is `info` for this project and `warn`
//! for libraries.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ckptfs_dumper::{Doing, Error, Result};
use env_logger::{Builder, DEFAULT_FILTER_ENV, Env, Target};
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::cli::progress::complain;

/// The levels unless RUST_LOG is set.
///
/// fuser logs an error when the kernel no longer waits for a reply. That only means that a reader
/// was interrupted.
const LEVELS: &str = "warn,ckptfs=info,ckptfs_dumper=info,fuser::reply=off";

/// The socket of syslog(3).
const SYSLOG: &str = "/dev/log";

/// Where messages go that syslog does not take.
const FALLBACK: &str = "/var/log/ckptfs.log";

/// A [`FALLBACK`] of this size is moved to a name of its own, with `.1` behind it. No tool may be
/// there that rotates it.
const FALLBACK_MOST: u64 = 16 << 20;

/// Facility daemon, severity informational. The text names the level of each line.
const PRIORITY: u8 = (3 << 3) | 6;

/// Logs to standard error.
pub fn to_stderr() -> Result<()> {
    init(builder())
}

/// Logs to the end of a file.
pub fn to_file(path: &Path) -> Result<LogFile> {
    let file = LogFile { path: path.to_owned(), open: Arc::new(Mutex::new(open(path)?)) };
    let mut builder = builder();
    builder.target(Target::Pipe(Box::new(file.clone())));
    init(builder).map(|()| file)
}

/// Logs to syslog while it listens, and to [`FALLBACK`] while it does not.
pub fn to_syslog() -> Result<()> {
    let mut builder = builder();
    builder.format(|out, record| {
        writeln!(out, "<{PRIORITY}>ckptfs[{}]: {} {}", std::process::id(), record.level(), record.args())
    });
    let syslog = Syslog { path: SYSLOG.into(), socket: None, fallback: FALLBACK.into() };
    if connect(&syslog.path).is_err()
        && let Err(error) = append(&syslog.fallback, &[])
    {
        // The terminal that has started the daemon still shows this.
        complain(&Error::os(
            format!("no syslog listens at {SYSLOG}, and {FALLBACK} cannot be written: use -o log=FILE"),
            error.raw_os_error().unwrap_or(libc::EIO),
        ));
    }
    builder.target(Target::Pipe(Box::new(syslog)));
    init(builder)
}

fn builder() -> Builder {
    let mut builder = Builder::from_env(Env::default().default_filter_or(LEVELS));
    // An empty variable has the same meaning as an unset one. env_logger would log errors only.
    if std::env::var_os(DEFAULT_FILTER_ENV).is_some_and(|levels| levels.is_empty()) {
        builder.parse_filters(LEVELS);
    }
    builder
}

fn init(mut builder: Builder) -> Result<()> {
    builder.try_init().map_err(|error| Error::os(format!("starting the log: {error}"), libc::EBUSY))
}

fn open(path: &Path) -> Result<File> {
    File::options().append(true).create(true).open(path).doing(|| format!("-o log={}", path.display()))
}

/// The file that is logged to. Clones share it.
#[derive(Clone)]
pub struct LogFile {
    path: PathBuf,
    open: Arc<Mutex<File>>,
}

impl LogFile {
    /// Opens the path again, after logrotate(8) has moved the old file away. If that fails, the old
    /// file stays in use.
    pub fn reopen(&self) -> Result<()> {
        let fresh = open(&self.path)?;
        *self.open.lock() = fresh;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends one message per write, because env_logger writes a record at once. Like syslog(3), it
/// connects when there is a message, and once more if no logger listens at the other end: the
/// logger may have been restarted.
struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    fallback: PathBuf,
}

impl Syslog {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => connect(&self.path)?,
        };
        // The socket is kept if it works, or may work later: the logger empties a full one.
        let sent = socket.send(message);
        if sent.is_ok() || sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            self.socket = Some(socket);
        }
        sent.map(drop)
    }
}

/// Appends to the file that takes the place of syslog. Several daemons may write to it.
fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = File::options().append(true).create(true).mode(0o640).open(path)?;
    if file.metadata()?.len() >= FALLBACK_MOST {
        let mut old = path.as_os_str().to_owned();
        old.push(".1");
        std::fs::rename(path, old)?;
        file = File::options().append(true).create(true).mode(0o640).open(path)?;
    }
    file.write_all(line)
}

/// Connects without blocking: a slow logger must not delay a dump.
fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Write for Syslog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let message = bytes.trim_ascii_end();
        let was_connected = self.socket.is_some();
        let mut sent = self.send(message);
        if sent.is_err() && was_connected && self.socket.is_none() {
            sent = self.send(message);
        }
        if sent.is_err() {
            // Syslog takes the priority off and adds the time.
            let text = message.strip_prefix(format!("<{PRIORITY}>").as_bytes()).unwrap_or(message);
            append(&self.fallback, &[format!("{:.3} ", Timestamp::now()).as_bytes(), text, b"\n"].concat())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn received(logger: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        logger.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let len = logger.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    #[test]
    fn a_logger_that_comes_back_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let fallback = folder.path().join("fallback");
        let mut syslog = Syslog { path: path.clone(), socket: None, fallback: fallback.clone() };
        // A missing logger is no error.
        syslog.write_all(b"<30>no logger listens\n").unwrap();
        for message in ["one", "two"] {
            let logger = UnixDatagram::bind(&path).unwrap();
            syslog.write_all(message.as_bytes()).unwrap();
            assert_eq!(received(&logger), message);
            drop(logger);
            std::fs::remove_file(&path).unwrap();
        }
        syslog.write_all(b"<30>nor does it now\n").unwrap();
        let kept = std::fs::read_to_string(&fallback).unwrap();
        let lines: Vec<&str> = kept.lines().filter_map(|line| Some(line.split_once("Z ")?.1)).collect();
        assert_eq!(lines, ["no logger listens", "nor does it now"], "{kept}");
        let logger = UnixDatagram::bind(&path).unwrap();
        syslog.write_all(b"three\n").unwrap();
        assert_eq!(received(&logger), "three");
    }

    #[test]
    fn the_file_in_the_place_of_syslog_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        File::create(&path).unwrap().set_len(FALLBACK_MOST).unwrap();
        append(&path, b"next\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"next\n");
        assert_eq!(std::fs::metadata(&old).unwrap().len(), FALLBACK_MOST);
    }

    #[test]
    fn a_file_that_was_moved_away_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        let mut file = LogFile { path: path.clone(), open: Arc::new(Mutex::new(open(&path).unwrap())) };
        std::fs::rename(&path, &old).unwrap();
        let other = file.clone();
        file.write_all(b"one\n").unwrap();
        other.reopen().unwrap();
        file.write_all(b"two\n").unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!((read(&old).as_str(), read(&path).as_str()), ("one\n", "two\n"));
    }
}
