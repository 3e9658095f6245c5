//! The memory of another process (proc(5)).

use std::{fs::File, os::unix::fs::FileExt};

use super::search::Search;

/// At once; a region's reads overlap, so that nothing hides at a border.
const CHUNK: usize = 1 << 20;
const OVERLAP: usize = 256;

/// What of `search` stands in all that a process can write to: its heaps, the
/// stacks of its threads, and the data of its programs.
pub(super) fn find(pid: u32, search: &Search) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = Vec::new();
    let mut read = 0;
    for line in maps.lines() {
        let Some(region) = Region::writable(line) else {
            continue;
        };
        let mut buffer = vec![0; CHUNK + OVERLAP];
        let mut at = region.start;
        while at < region.end {
            let length = (CHUNK + OVERLAP).min(usize::try_from(region.end - at).unwrap());
            // a region may have gone since it was listed
            let Ok(length) = memory.read_at(&mut buffer[..length], at) else {
                break;
            };
            read += length;
            for hit in search.within(&buffer[..length]) {
                found.push(format!("{} from {at:x}: {hit}", region.name));
            }
            at += CHUNK as u64;
        }
    }
    assert!(read > 1 << 20, "only {read} bytes could be read");
    found
}

struct Region<'a> {
    start: u64,
    end: u64,
    name: &'a str,
}

impl<'a> Region<'a> {
    /// `start-end perms offset device inode path`
    fn writable(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        words.next().filter(|perms| perms.starts_with("rw"))?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        Some(Self {
            start: address(start)?,
            end: address(end)?,
            name: words.nth(3).unwrap_or("anonymous"),
        })
    }
}
