//! Where an export goes on that was cut short.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
};

use crate::cli::audit::line::{Header, LONGEST, Line};

/// What there is of an export.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Which log it is of; `None`: not even that is there.
    pub(super) header: Option<Header>,
    /// The entry that comes next.
    pub(super) next: u64,
    /// Bytes that stay: whole lines, without a checkpoint at the end.
    pub(super) length: u64,
}

/// Why a file is no beginning of an export.
#[derive(Debug)]
pub(super) enum NoExport {
    /// The system does not give it.
    Unreadable(io::Error),
    /// One sentence.
    Other(String),
}

impl Kept {
    /// Reads the first line of a file and its last ones; changes nothing.
    pub(super) fn find(file: &mut File) -> Result<Self, NoExport> {
        let Some(first) = first_line(file)? else {
            return Ok(Self::default());
        };
        let header = Header::read(&first)
            .map_err(|detail| NoExport::Other(format!("its first line: {detail}")))?;
        let (tail, begin) = tail(file)?;
        let body = position(first.len() + 1);
        let mut kept = Self {
            header: Some(header),
            next: 0,
            length: body,
        };
        let end = last_end(&tail).map(|at| at + 1);
        let mut end = end.ok_or_else(|| NoExport::Other("its last line has no end".to_owned()))?;
        while begin + position(end) > body {
            let line_begin = tail
                .get(..end - 1)
                .and_then(last_end)
                .map_or(0, |at| at + 1);
            let text = std::str::from_utf8(&tail[line_begin..end - 1]);
            let line = text
                .map_err(|_| "not UTF-8".to_owned())
                .and_then(Line::read);
            match line {
                Ok(Line::Checkpoint(_)) => end = line_begin,
                Ok(Line::Leaf { index, .. }) => {
                    kept.next = index.saturating_add(1);
                    kept.length = begin + position(end);
                    break;
                }
                Err(detail) => {
                    return Err(NoExport::Other(format!("its last whole line: {detail}")));
                }
            }
        }
        Ok(kept)
    }
}

/// The first line, without its end; `None` when it is torn.
fn first_line(file: &mut File) -> Result<Option<String>, NoExport> {
    file.rewind()?;
    let mut line = Vec::new();
    BufReader::new(&mut *file)
        .take(position(LONGEST))
        .read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Ok(None);
    }
    match String::from_utf8(line) {
        Ok(line) => Ok(Some(line)),
        Err(_) => Err(NoExport::Other("its first line: not UTF-8".to_owned())),
    }
}

/// The end of the file, and where it begins: enough for a torn line, a
/// checkpoint and an entry.
fn tail(file: &mut File) -> Result<(Vec<u8>, u64), NoExport> {
    let length = file.seek(SeekFrom::End(0))?;
    let begin = length.saturating_sub(position(3 * LONGEST));
    file.seek(SeekFrom::Start(begin))?;
    let mut tail = Vec::new();
    file.take(length - begin).read_to_end(&mut tail)?;
    Ok((tail, begin))
}

fn last_end(text: &[u8]) -> Option<usize> {
    text.iter().rposition(|byte| *byte == b'\n')
}

fn position(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl From<io::Error> for NoExport {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const HEADER: &str =
        "{\"log\":{\"origin\":\"o\",\"epoch\":1,\"begun_at\":\"t\",\"verifier_keys\":[]}}\n";
    const CHECKPOINT: &str = "{\"checkpoint\":\"o\\n1\\nx\\n\\n— o y\\n\"}\n";

    fn leaf(index: u64) -> String {
        let hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        format!("{{\"index\":{index},\"leaf_hash\":\"{hash}\"}}\n")
    }

    fn find(text: &str) -> Result<(u64, usize), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        match Kept::find(&mut file) {
            Ok(kept) => {
                assert_eq!(kept.header.is_some(), text.starts_with(HEADER));
                Ok((kept.next, usize::try_from(kept.length).unwrap()))
            }
            Err(NoExport::Other(detail)) => Err(detail),
            Err(NoExport::Unreadable(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn it_goes_on_after_the_last_whole_entry() {
        let two = format!("{HEADER}{}{}", leaf(0), leaf(1));
        assert_eq!(find(&two), Ok((2, two.len())));
        let third = leaf(2);
        for torn in 1..third.len() {
            let text = format!("{two}{}", &third[..torn]);
            assert_eq!(find(&text), Ok((2, two.len())), "{torn}");
        }
        assert_eq!(find(HEADER), Ok((0, HEADER.len())));
        assert_eq!(find(&HEADER[..HEADER.len() - 1]), Ok((0, 0)));
        assert_eq!(find(""), Ok((0, 0)));
    }

    #[test]
    fn the_old_checkpoint_is_cut_off() {
        let two = format!("{HEADER}{}{}", leaf(0), leaf(1));
        for end in [CHECKPOINT, &CHECKPOINT[..20]] {
            assert_eq!(find(&format!("{two}{end}")), Ok((2, two.len())));
        }
        let none = format!("{HEADER}{CHECKPOINT}");
        assert_eq!(find(&none), Ok((0, HEADER.len())));
        let torn_after = format!("{two}{CHECKPOINT}{}", &leaf(2)[..5]);
        assert_eq!(find(&torn_after), Ok((2, two.len())));
    }

    #[test]
    fn the_end_of_a_long_export_is_found_without_reading_all_of_it() {
        let mut text = HEADER.to_owned();
        let entries = 50_000;
        for index in 0..entries {
            text.push_str(&leaf(index));
        }
        assert!(text.len() > 3 * LONGEST);
        assert_eq!(find(&text), Ok((entries, text.len())));
        let torn = format!("{text}{{\"ind");
        assert_eq!(find(&torn), Ok((entries, text.len())));
    }

    #[test]
    fn what_is_no_export_is_left_alone() {
        for text in [
            "a letter\n".to_owned(),
            format!("{}{HEADER}", leaf(0)),
            format!("{HEADER}nothing\n"),
            format!("{HEADER}{}\n", leaf(0)),
        ] {
            assert!(find(&text).is_err(), "{text}");
        }
    }
}
