//! A source file as the paths that occur in it.

/// A path such as `crate::grants::store`; `use` groups are written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// From the root of the crate where that is known, else as written.
    pub(super) path: Vec<String>,
    /// Whether it stands in a module of tests.
    pub(super) in_tests: bool,
}

/// One file.
#[derive(Debug)]
pub(super) struct Source {
    /// Its path below `src/`.
    pub(super) name: String,
    /// The paths in it.
    pub(super) uses: Vec<Use>,
}

impl Source {
    /// Reads a file; its name tells which module it is.
    pub(super) fn read(name: &str, text: &str) -> Self {
        let module = name.trim_end_matches(".rs").split('/');
        let mut module: Vec<String> = module.map(str::to_owned).collect();
        module.pop_if(|last| last == "mod" || last == "lib" || last == "main");
        let words = words(text);
        let mut reader = Reader {
            words: &words,
            module,
            blocks: Vec::new(),
            uses: Vec::new(),
        };
        reader.read(0);
        Self {
            name: name.to_owned(),
            uses: reader.uses,
        }
    }
}

struct Reader<'a> {
    words: &'a [String],
    /// The module that is being read, inline ones included.
    module: Vec<String>,
    /// For each open brace, whether it is an inline module's.
    blocks: Vec<bool>,
    uses: Vec<Use>,
}

impl Reader<'_> {
    fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    fn read(&mut self, mut at: usize) {
        while at < self.words.len() {
            match self.word(at) {
                "mod" if self.word(at + 2) == "{" => {
                    self.module.push(self.word(at + 1).to_owned());
                    self.blocks.push(true);
                    at += 3;
                }
                "{" => {
                    self.blocks.push(false);
                    at += 1;
                }
                "}" => {
                    if self.blocks.pop() == Some(true) {
                        self.module.pop();
                    }
                    at += 1;
                }
                word if is_name(word) => at = self.path(at, &[]),
                _ => at += 1,
            }
        }
    }

    /// Reads a path, or what stands in a group, after a prefix; returns where it ends.
    fn path(&mut self, mut at: usize, prefix: &[String]) -> usize {
        let mut path = prefix.to_vec();
        loop {
            match self.word(at) {
                "{" => return self.group(at + 1, &path),
                word if is_name(word) => path.push(word.to_owned()),
                _ => break,
            }
            at += 1;
            if self.word(at) != "::" {
                break;
            }
            at += 1;
        }
        if path.len() > 1 || !prefix.is_empty() {
            let in_tests = self
                .module
                .iter()
                .any(|name| name == "tests" || name.ends_with("_tests"));
            self.uses.push(Use {
                path: self.resolve(path),
                in_tests,
            });
        }
        at
    }

    fn group(&mut self, mut at: usize, prefix: &[String]) -> usize {
        while !matches!(self.word(at), "}" | "") {
            at = if is_name(self.word(at)) {
                self.path(at, prefix)
            } else {
                at + 1
            };
        }
        at + 1
    }

    /// `self::` and `super::` as `crate::`.
    fn resolve(&self, path: Vec<String>) -> Vec<String> {
        let mut base = match path.first().map(String::as_str) {
            Some("self" | "super") => self.module.clone(),
            _ => return path,
        };
        let mut rest = path.as_slice();
        while let [first, after @ ..] = rest {
            match first.as_str() {
                "self" => {}
                "super" => drop(base.pop()),
                _ => break,
            }
            rest = after;
        }
        std::iter::once("crate".to_owned())
            .chain(base)
            .chain(rest.iter().cloned())
            .collect()
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::` and single signs, without comments, literals and lifetimes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest) {
            length
        } else if first == '\'' {
            quote(rest)
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let length = end.unwrap_or(rest.len());
            words.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            words.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                words.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    words
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of the string literal at the start, if there is one.
fn string(text: &str) -> Option<usize> {
    let unprefixed = text.trim_start_matches(['b', 'c']);
    let start = text.len() - unprefixed.len();
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let body = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = body
            .find(&end)
            .map_or(body.len(), |found| found + end.len());
        return Some(start + 1 + hashes + 1 + length);
    }
    let body = unprefixed.strip_prefix('"')?;
    let mut escaped = false;
    let end = body.find(|c: char| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    Some(start + 1 + end.map_or(body.len(), |end| end + 1))
}

/// The length of the character literal at the start, or of a lifetime's quote.
fn quote(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, c))) => {
            let after = escaped + c.len_utf8();
            text[after..]
                .find('\'')
                .map_or(after, |end| after + end + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}
