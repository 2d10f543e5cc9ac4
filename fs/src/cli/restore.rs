//! `ckptfs restore`: restores the processes of images without a mount, and reports each image at
//! once.
//!
//! A failure after an image, in the rest of the input or in writing standard output, does not undo
//! the restore of the image.

use std::io::{ErrorKind, Read, Write};

use ckptfs_dumper::{Context, Doing, Error, RestoreOptions, Restorer, Result, image};

use crate::cli::progress::{BarOutput, Input, complain};

/// Restores all images of an input. The processes live on after this one has ended.
pub fn restore_all(input: &mut Input, options: &RestoreOptions, out: &mut dyn Write) -> Result<()> {
    let name = input.name.clone();
    let mut restorer = Restorer::new(options.clone())?;
    let mut reporter = Reporter { name: &name, out: input.above_bar(out), reported: 0, failure: None };
    let fed = feed(input, &name, &mut restorer, &mut |restorer| {
        reporter.report(restorer);
        true
    });
    // A restore is reported some writes later. Only now all restored processes are known, also
    // after a failure.
    let finished = restorer.finish().on(|| &name);
    reporter.report(&restorer);
    fed.and(finished)?;
    if restorer.restored().is_empty() {
        return Err(image::empty(&name));
    }
    reporter.failure.map_or(Ok(()), Err)
}

/// Gives a restorer the bytes of an input, called `name`. `goes_on` is called after each write, and
/// decides whether more is read.
pub fn feed(
    input: &mut Input,
    name: &str,
    restorer: &mut Restorer,
    goes_on: &mut dyn FnMut(&Restorer) -> bool,
) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let len = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).doing(|| format!("reading {name}")),
        };
        restorer.write(&buffer[..len]).on(|| name)?;
        if !goes_on(restorer) {
            return Ok(());
        }
    }
}

/// Reports each restored image once.
struct Reporter<'a> {
    /// The name of the input.
    name: &'a str,
    out: BarOutput<'a>,
    /// How many images were reported.
    reported: usize,
    /// The first failure to report one.
    failure: Option<Error>,
}

impl Reporter<'_> {
    fn report(&mut self, restorer: &Restorer) {
        for restored in restorer.restored().iter().skip(self.reported) {
            let (name, root, count) = (self.name, restored.root, restored.pids.len());
            let line = writeln!(self.out, "{name}: pid {root} lives again ({count} processes)");
            let written = line.and_then(|()| self.out.flush()).doing(|| "writing the result");
            self.failure = self.failure.take().or(written.err());
            for warning in &restored.warnings {
                self.out.without_bar(|| complain(warning));
            }
        }
        self.reported = restorer.restored().len();
    }
}
