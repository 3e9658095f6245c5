//! Checking an export without any server: every leaf is hashed again, and the
//! roots are compared with those of signed checkpoints.

#[cfg(test)]
mod tests;

mod lines;
mod tree;

use std::io::BufRead;

use authguardian_proto::{
    checkpoint::{Checkpoint, VerifierKey},
    merkle::{Hash, leaf_hash},
};
use serde::Serialize;

use self::{lines::Lines, tree::Tree};
use super::{
    keys::{Keys, KeysFrom},
    line::{Header, Leaf, Line},
    misfit::Misfit,
};

const OUTSIDE: &str = "the outside checkpoint";

/// What was checked, up to the first thing that does not fit.
#[derive(Debug, Default, Serialize)]
pub(super) struct Checked {
    pub(super) fits: bool,
    pub(super) origin: Option<String>,
    pub(super) entries: u64,
    /// Entries without a body: retention has dropped it, the hash is there.
    pub(super) dropped: u64,
    /// Of the checkpoint at the end.
    pub(super) checkpoint_size: Option<u64>,
    /// Of the checkpoint from outside.
    pub(super) outside_checkpoint_size: Option<u64>,
    /// Whose keys the checkpoints were checked with.
    pub(super) keys_from: Option<KeysFrom>,
    pub(super) misfit: Option<Misfit>,
}

/// Checks an export; `outside` is a checkpoint that was kept elsewhere, and
/// `tell` hears how many entries were read.
pub(super) fn check(
    input: impl BufRead,
    outside: Option<&str>,
    given: &[VerifierKey],
    tell: impl FnMut(u64),
) -> Checked {
    let mut checked = Checked::default();
    let mut reading = Reading {
        lines: Lines::of(input),
        tree: Tree::default(),
        outside: None,
        tell,
    };
    match reading.run(outside, given, &mut checked) {
        Ok(()) => checked.fits = true,
        Err(misfit) => checked.misfit = Some(misfit),
    }
    checked
}

struct Reading<R, T> {
    lines: Lines<R>,
    tree: Tree,
    outside: Option<Checkpoint>,
    tell: T,
}

impl<R: BufRead, T: FnMut(u64)> Reading<R, T> {
    fn run(
        &mut self,
        outside: Option<&str>,
        given: &[VerifierKey],
        checked: &mut Checked,
    ) -> Result<(), Misfit> {
        let (header, keys) = self.header(given)?;
        checked.origin = Some(header.origin.clone());
        checked.keys_from = Some(keys.from);
        if let Some(note) = outside {
            self.outside = Some(of_log(keys.open(note, OUTSIDE)?, OUTSIDE, &header.origin)?);
        }
        self.pass_outside(checked)?;
        while let Some(text) = self.lines.next()? {
            let number = self.lines.number();
            let line = Line::read(&text).map_err(|detail| Misfit::at(number, detail))?;
            match line {
                Line::Leaf { index, leaf } => self.leaf(index, &leaf, checked)?,
                Line::Checkpoint(note) => return self.end(&note, &keys, &header, checked),
            }
        }
        let whole = checked.outside_checkpoint_size == Some(self.tree.size());
        if whole {
            return Ok(());
        }
        Err(Misfit::new(format!(
            "there is no checkpoint after its {} entries: it was cut short, go on with `audit export --resume`",
            self.tree.size()
        )))
    }

    fn header(&mut self, given: &[VerifierKey]) -> Result<(Header, Keys), Misfit> {
        let text = self.lines.next()?;
        let text = text.ok_or_else(|| Misfit::new("the file is empty"))?;
        let header = Header::read(&text).map_err(|detail| Misfit::at(1, detail))?;
        let keys = Keys::choose(given, &header.verifier_keys)?;
        Ok((header, keys))
    }

    fn leaf(&mut self, index: u64, leaf: &Leaf, checked: &mut Checked) -> Result<(), Misfit> {
        let expected = self.tree.size();
        if index != expected {
            let why = if index > expected {
                "entries are missing before it"
            } else {
                "an entry with this index stands before it"
            };
            let detail = format!("index {index} where {expected} belongs: {why}");
            return Err(Misfit::at(self.lines.number(), detail));
        }
        self.tree.push(match leaf {
            Leaf::Entry(entry) => leaf_hash(entry.as_bytes()),
            Leaf::Dropped(hash) => *hash,
        })?;
        checked.entries += 1;
        checked.dropped += u64::from(matches!(leaf, Leaf::Dropped(_)));
        (self.tell)(checked.entries);
        self.pass_outside(checked)
    }

    /// Compares, once there are as many entries as in the outside checkpoint.
    fn pass_outside(&mut self, checked: &mut Checked) -> Result<(), Misfit> {
        let size = self.tree.size();
        match &self.outside {
            Some(outside) if outside.size == size => {
                let root = self.tree.root()?;
                same_root(root, outside, OUTSIDE, 0)?;
                checked.outside_checkpoint_size = Some(size);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The checkpoint has to be the end, and that of all entries.
    fn end(
        &mut self,
        note: &str,
        keys: &Keys,
        header: &Header,
        checked: &mut Checked,
    ) -> Result<(), Misfit> {
        const END: &str = "the checkpoint at the end";
        let number = self.lines.number();
        let in_line = |misfit: Misfit| Misfit::at(number, misfit.detail);
        let end = keys.open(note, END).map_err(in_line)?;
        let end = of_log(end, END, &header.origin).map_err(in_line)?;
        let entries = self.tree.size();
        if end.size != entries {
            let detail = format!("{END} is of {} entries, there are {entries}", end.size);
            return Err(Misfit::at(number, detail));
        }
        let proved = checked.outside_checkpoint_size.unwrap_or_default();
        same_root(self.tree.root()?, &end, END, proved)?;
        if self.lines.next()?.is_some() {
            let detail = "something stands after the checkpoint";
            return Err(Misfit::at(self.lines.number(), detail));
        }
        checked.checkpoint_size = Some(end.size);
        match &self.outside {
            Some(outside) if checked.outside_checkpoint_size.is_none() => {
                Err(Misfit::new(format!(
                    "{OUTSIDE} is of {} entries, there are {entries}: it is of a later time, or the end was cut off",
                    outside.size
                )))
            }
            _ => Ok(()),
        }
    }
}

fn of_log(checkpoint: Checkpoint, what: &str, origin: &str) -> Result<Checkpoint, Misfit> {
    if checkpoint.origin == origin {
        return Ok(checkpoint);
    }
    let other = &checkpoint.origin;
    Err(Misfit::new(format!(
        "{what} is of the log `{other}`, the export of `{origin}`"
    )))
}

/// A hash tells that something was changed, but not what: it is among the
/// entries that no earlier checkpoint has proved.
fn same_root(root: Hash, expected: &Checkpoint, what: &str, proved: u64) -> Result<(), Misfit> {
    if root == expected.root {
        return Ok(());
    }
    let size = expected.size;
    Err(Misfit::new(format!(
        "the root of {size} entries is {root}, {what} has {}: at least one of the entries {proved} to {} is not what it was, which one a hash cannot tell",
        expected.root,
        size.saturating_sub(1)
    )))
}
