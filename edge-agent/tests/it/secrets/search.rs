//! Secrets, in every form in which somebody could have written them down, and
//! looking for all of them at once.

use std::fmt::Write;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use authguardian_proto::base62;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// A part of a secret that is as good as unique.
const PART: usize = 16;

/// What is looked for.
#[derive(Debug, Default, Clone)]
pub(super) struct Secrets {
    /// The name of each form, and the form.
    forms: Vec<(String, Vec<u8>)>,
}

/// All of it, ready to be looked for.
#[derive(Debug)]
pub(super) struct Search {
    names: Vec<String>,
    automaton: AhoCorasick,
    longest: usize,
}

impl Secrets {
    /// A secret text, by its last characters and some of its middle: neither a
    /// buffer's border nor a cut makes it unseen.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        assert!(text.len() >= 2 * PART, "{name} is too short to be a secret");
        let end = &text.as_bytes()[text.len() - PART..];
        let middle = &text.as_bytes()[text.len() - 2 * PART..text.len() - PART];
        for (part, bytes) in [("end", end), ("middle", middle)] {
            self.form(name, &format!("{part} of the text"), bytes);
            self.form(name, &format!("{part}, in hex"), hex(bytes).as_bytes());
        }
        for shift in 0..3 {
            // base64 of a text that the secret stands somewhere in
            let inner = &text.as_bytes()[text.len() - 2 * PART + shift..][..24];
            let encoded = STANDARD_NO_PAD.encode(inner);
            self.form(name, "base64 of the text", encoded.as_bytes());
        }
    }

    /// Secret bytes, 16 or more.
    pub(super) fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let halves = [
            ("first half", &bytes[..PART]),
            ("last half", &bytes[bytes.len() - PART..]),
        ];
        for (half, part) in halves {
            self.form(name, half, part);
            let hex = hex(part);
            self.form(name, &format!("{half}, in hex"), hex.as_bytes());
            let upper = hex.to_uppercase();
            self.form(name, &format!("{half}, in upper hex"), upper.as_bytes());
            let list = format!("{part:?}");
            let list = list.trim_matches(['[', ']']);
            self.form(name, &format!("{half}, as numbers"), list.as_bytes());
            let escaped = part.escape_ascii().to_string();
            self.form(name, &format!("{half}, escaped"), escaped.as_bytes());
        }
        let whole = STANDARD_NO_PAD.encode(bytes);
        self.form(name, "base64", &whole.as_bytes()[..21]);
        let whole = URL_SAFE_NO_PAD.encode(bytes);
        self.form(name, "base64url", &whole.as_bytes()[..21]);
    }

    /// `prefix_<id>_<secret>…`, or `prefix_<secret>`: the secret as text and as
    /// bytes.
    pub(super) fn credential(&mut self, name: &str, text: &str) {
        let mut parts = text.split('_').skip(1);
        let first = parts.next().unwrap();
        let secret = parts.next().unwrap_or(first);
        self.text(name, secret);
        self.bytes(name, &base62::decode::<32>(secret).unwrap());
    }

    /// A JWT: what it says is no secret, its signature is.
    pub(super) fn token(&mut self, name: &str, token: &str) {
        let (_, signature) = token.rsplit_once('.').unwrap();
        self.text(name, signature);
        self.bytes(name, &URL_SAFE_NO_PAD.decode(signature).unwrap());
    }

    /// A private key as PKCS #8 (RFC 5958); the secret number is an octet string
    /// of 32 bytes in it.
    pub(super) fn private_key(&mut self, name: &str, pkcs8: &[u8]) {
        let start = pkcs8.windows(2).position(|bytes| bytes == [0x04, 0x20]);
        let start = start.unwrap() + 2;
        self.bytes(name, &pkcs8[start..start + 32]);
    }

    /// Those of another list too.
    pub(super) fn extend(&mut self, others: Self) {
        self.forms.extend(others.forms);
    }

    fn form(&mut self, name: &str, form: &str, bytes: &[u8]) {
        self.forms.push((format!("{name}, {form}"), bytes.to_vec()));
    }

    /// Ready to be looked for.
    pub(super) fn search(self) -> Search {
        let (names, forms): (Vec<_>, Vec<_>) = self.forms.into_iter().unzip();
        let automaton = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::DFA))
            .prefilter(false)
            .build(&forms);
        Search {
            names,
            automaton: automaton.unwrap(),
            longest: forms.iter().map(Vec::len).max().unwrap_or_default(),
        }
    }
}

impl Search {
    /// What of it stands in `text`, each with what stands around it.
    pub(super) fn within(&self, text: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        let mut rest = 0;
        // most of a process's memory and of a database's files are zeroes
        for (start, end) in stretches(text) {
            let from = start.saturating_sub(self.longest).max(rest);
            let to = (end + self.longest).min(text.len());
            for hit in self.automaton.find_iter(&text[from..to]) {
                let around = from + hit.start();
                let around = &text[around.saturating_sub(64)..(around + 64).min(text.len())];
                found.push(format!(
                    "{}: `{}`",
                    self.names[hit.pattern().as_usize()],
                    around.escape_ascii()
                ));
            }
            rest = to.saturating_sub(self.longest);
        }
        found
    }
}

/// The pages that are not all zero, neighbours together.
fn stretches(text: &[u8]) -> Vec<(usize, usize)> {
    const PAGE: usize = 4096;
    const ZEROES: [u8; PAGE] = [0; PAGE];
    let mut stretches: Vec<(usize, usize)> = Vec::new();
    for (number, page) in text.chunks(PAGE).enumerate() {
        if page == &ZEROES[..page.len()] {
            continue;
        }
        let (start, end) = (number * PAGE, number * PAGE + page.len());
        match stretches.last_mut() {
            Some((_, last)) if *last == start => *last = end,
            _ => stretches.push((start, end)),
        }
    }
    stretches
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn a_secret_is_found_in_every_form_and_across_pages() {
    let key = "agk_0000000000000000000001_5mKTTFmgcMPIRlyj8XjDWz0lwYqLC7YkZzvWl8ZcPzZ";
    let seed = base62::decode::<32>(key.rsplit('_').next().unwrap()).unwrap();
    let mut secrets = Secrets::default();
    secrets.credential("key", key);
    let search = secrets.search();
    let hex = hex(&seed);
    let forms: [Vec<u8>; 9] = [
        key.as_bytes().to_vec(),
        key.as_bytes()[..key.len() - 9].to_vec(),
        seed.to_vec(),
        seed[16..].to_vec(),
        hex.clone().into_bytes(),
        hex.to_uppercase().into_bytes(),
        format!("{seed:?}").into_bytes(),
        URL_SAFE_NO_PAD.encode(seed).into_bytes(),
        STANDARD_NO_PAD.encode(format!("Bearer {key}")).into_bytes(),
    ];
    for form in &forms {
        for before in [0, 4090, 5000, 3 * 4096] {
            let mut text = vec![0; before];
            text.extend_from_slice(form);
            text.resize(text.len() + 9000, 0);
            let found = search.within(&text);
            assert!(!found.is_empty(), "`{}` at {before}", form.escape_ascii());
        }
    }
    let other = "agk_0000000000000000000001_0000000000000000000000000000000000000000001";
    assert!(search.within(other.as_bytes()).is_empty());
}
