//! Where the log goes. Its level is RUST_LOG's, or this project's own news and everybody's warnings.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use ckptfs_dumper::{Doing, Error, Result};
use env_logger::{Builder, Env, Target};

/// What is logged unless RUST_LOG says otherwise.
///
/// fuser calls it an error when the kernel no longer waits for a reply: that is a reader who was interrupted.
const LEVELS: &str = "warn,ckptfs=info,ckptfs_dumper=info,fuser::reply=off";

/// The socket of syslog(3).
const SYSLOG: &str = "/dev/log";

/// Facility daemon, severity informational: the text names the level of each line.
const PRIORITY: u8 = (3 << 3) | 6;

/// Logs to standard error.
pub fn to_stderr() -> Result<()> {
    init(builder())
}

/// Logs to the end of a file.
pub fn to_file(path: &Path) -> Result<()> {
    let file = File::options().append(true).create(true).open(path).doing(|| format!("-o log={}", path.display()))?;
    let mut builder = builder();
    builder.target(Target::Pipe(Box::new(file)));
    init(builder)
}

/// Logs to syslog, where there is one; else nowhere.
pub fn to_syslog() -> Result<()> {
    let Ok(socket) = UnixDatagram::unbound().and_then(|socket| socket.connect(SYSLOG).map(|()| socket)) else {
        return Ok(());
    };
    // A logger that does not keep up must not hold a dump up.
    socket.set_nonblocking(true).doing(|| SYSLOG)?;
    let mut builder = builder();
    builder.format(|out, record| {
        writeln!(out, "<{PRIORITY}>ckptfs[{}]: {} {}", std::process::id(), record.level(), record.args())
    });
    builder.target(Target::Pipe(Box::new(Datagrams(socket))));
    init(builder)
}

fn builder() -> Builder {
    Builder::from_env(Env::default().default_filter_or(LEVELS))
}

fn init(mut builder: Builder) -> Result<()> {
    builder.try_init().map_err(|error| Error::os(format!("starting the log: {error}"), libc::EBUSY))
}

/// A message per write: env_logger writes a record at once.
struct Datagrams(UnixDatagram);

impl Write for Datagrams {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.trim_ascii_end())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
