//! `ckptfs restore`: the processes of images live again without a mount, and whoever does is told of at once. Neither what stands behind
//! an image in the input nor a standard output that nobody reads undoes that.

use std::io::{ErrorKind, Read, Write};

use ckptfs_dumper::{ChangedFiles, Context, Doing, Error, Restorer, Result};

use crate::cli::progress::{Beside, Input, complain};

/// Feeds all of an input to a restorer; what it makes lives on when this process has ended.
pub fn revive(input: &mut Input, policy: ChangedFiles, out: &mut dyn Write) -> Result<()> {
    let name = input.name.clone();
    let mut restorer = Restorer::new(policy)?;
    let mut news = News { name: &name, out: input.beside(out), told: 0, failure: None };
    let fed = feed(input, &mut restorer, &mut news);
    // Answers come some writes later: only now everybody who lives is known, also behind a failure.
    let finished = restorer.finish().on(|| &name);
    news.tell(&restorer);
    fed.and(finished)?;
    if restorer.restored().is_empty() {
        return Err(Error::damaged(format!("{name}: offset 0: empty: there is no image")));
    }
    news.failure.map_or(Ok(()), Err)
}

fn feed(input: &mut Input, restorer: &mut Restorer, news: &mut News) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let len = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io(format_args!("reading {}", news.name), &error)),
        };
        restorer.write(&buffer[..len]).on(|| news.name)?;
        news.tell(restorer);
    }
}

/// Who lives again, told once.
struct News<'a> {
    /// The input's.
    name: &'a str,
    out: Beside<'a>,
    /// How many were told of.
    told: usize,
    /// Why the first one could not be told of who could not.
    failure: Option<Error>,
}

impl News<'_> {
    fn tell(&mut self, restorer: &Restorer) {
        for restored in restorer.restored().iter().skip(self.told) {
            let (name, root, count) = (self.name, restored.root, restored.pids.len());
            let line = writeln!(self.out, "{name}: pid {root} lives again ({count} processes)");
            let told = line.and_then(|()| self.out.flush()).doing(|| "writing the result");
            self.failure = self.failure.take().or(told.err());
            for warning in &restored.warnings {
                self.out.without_bar(|| complain(warning));
            }
        }
        self.told = restorer.restored().len();
    }
}
