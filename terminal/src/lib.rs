//! What both command lines share: looking at something again and again. On a
//! terminal the picture is redrawn; into a pipe or a file goes only what
//! changed.

mod screen;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use clap::Args;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use tokio::signal::unix::{SignalKind, signal};

use self::screen::Screen;

/// Whether, and how often, to look again.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct WatchArgs {
    /// Look again every so many seconds (2) until interrupted: redraws on a terminal, else writes only what changed
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    watch: Option<u32>,
}

/// What one look showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// For stdout, with its line end.
    pub text: String,
    /// For people, beside it: stderr where that is not the same screen.
    pub hint: Option<String>,
    /// What tells whether something changed; `None`: text and hint.
    pub compared: Option<String>,
}

/// Why a look failed.
pub trait Failed: From<io::Error> {
    /// What to tell meanwhile, where the same look may well succeed later.
    fn passing(&self) -> Option<String>;
}

impl WatchArgs {
    /// How often to look; `None`: once.
    pub fn interval(self) -> Option<Duration> {
        self.watch
            .map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// Looks until it is interrupted or nobody reads stdout any more; both end it
/// well. Pictures are redrawn in place on a terminal, unless they are
/// `documents`, which always follow each other.
///
/// # Errors
/// The first look's; later ones only where they will not pass.
pub async fn watch<E: Failed>(
    every: Duration,
    documents: bool,
    mut look: impl AsyncFnMut() -> Result<Sight, E>,
) -> Result<(), E> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut screen = Screen::new(!documents && io::stdout().is_terminal());
    let mut seen_any = false;
    loop {
        let seen = tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            seen = look() => seen,
        };
        let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
        let shown = match seen {
            Ok(sight) => screen.show(sight, &mut out, &mut err),
            Err(error) => match error.passing() {
                Some(trouble) if seen_any => screen.trouble(trouble, &mut out, &mut err),
                _ => return Err(error),
            },
        };
        drop((out, err));
        match shown {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            shown => shown?,
        }
        seen_any = true;
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            () = tokio::time::sleep(every) => {}
        }
        if reader_left()? {
            return Ok(());
        }
    }
}

/// Whether stdout leads to nobody: without this a watch of something that
/// never changes would never learn of it.
fn reader_left() -> io::Result<bool> {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    match poll(&mut fds, Some(&Timespec::default())) {
        Ok(_) => Ok(fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        watch: WatchArgs,
        what: Option<String>,
    }

    fn parse(args: &[&str]) -> Result<Command, clap::Error> {
        Command::try_parse_from([&["command"], args].concat())
    }

    fn interval(args: &[&str]) -> Option<u64> {
        let every = parse(args).unwrap().watch.interval();
        every.map(|every| every.as_secs())
    }

    #[test]
    fn the_interval_may_be_left_out_and_never_swallows_an_argument() {
        assert_eq!(interval(&[]), None);
        assert_eq!(interval(&["--watch"]), Some(2));
        assert_eq!(interval(&["--watch=5"]), Some(5));
        assert_eq!(interval(&["--watch", "what"]), Some(2));
        assert_eq!(parse(&["--watch", "9"]).unwrap().what.as_deref(), Some("9"));
        for refused in ["--watch=0", "--watch=-1", "--watch=often", "--watch=86401"] {
            assert!(parse(&[refused]).is_err(), "{refused}");
        }
    }
}
