//! The texts of forwarding headers. What is not of its form is not read at all.

use std::net::{IpAddr, SocketAddr};

/// `X-Forwarded-For`: addresses separated by commas.
pub(super) fn addresses(text: &str) -> Option<Vec<IpAddr>> {
    text.split(',').map(node).collect()
}

/// `X-Real-IP`: one address.
pub(super) fn one_address(text: &str) -> Option<Vec<IpAddr>> {
    node(text).map(|address| vec![address])
}

/// `Forwarded` (RFC 7239 §4): the `for` of each element. One without, or with
/// the `unknown` or hidden nodes of §6, tells of nobody.
pub(super) fn clients(text: &str) -> Option<Vec<IpAddr>> {
    split(text, ',')?
        .into_iter()
        .map(|element| {
            let mut clients = split(element, ';')?.into_iter().filter_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case("for").then_some(value)
            });
            let client = node(unquoted(clients.next()?.trim())?)?;
            // a second `for` in one element is no element
            clients.next().is_none().then_some(client)
        })
        .collect()
}

/// An address, with or without a port.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .filter(|inner| inner.contains(':'))
        .unwrap_or(text);
    bare.parse()
        .or_else(|_| text.parse().map(|address: SocketAddr| address.ip()))
        .ok()
}

/// Splits outside of quoted strings (RFC 9110 §5.6.4); `None` when a quote is
/// not closed.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => {
                parts.push(&text[begin..at]);
                begin = at + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    (!quoted).then_some(parts)
}

/// A quoted string's content, or the token as it is. No address needs an escape.
fn unquoted(text: &str) -> Option<&str> {
    match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(parse: fn(&str) -> Option<Vec<IpAddr>>, text: &str) -> Option<Vec<String>> {
        let addresses = parse(text)?;
        Some(addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn addresses_come_with_and_without_ports_and_brackets() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1:4711 ", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
        ] {
            assert_eq!(read(one_address, text).unwrap(), [expected]);
        }
        for bad in [
            "",
            "unknown",
            "192.0.2",
            "[192.0.2.1]",
            "[2001:db8::1",
            "192.0.2.1:99999",
        ] {
            assert_eq!(one_address(bad), None, "{bad}");
        }
    }

    #[test]
    fn elements_of_forwarded_are_read_as_rfc_7239_writes_them() {
        for (text, expected) in [
            (
                "for=192.0.2.60;proto=http;by=203.0.113.43",
                &["192.0.2.60"][..],
            ),
            ("For=\"[2001:db8:cafe::17]:4711\"", &["2001:db8:cafe::17"]),
            (
                "for=192.0.2.43, for=198.51.100.17",
                &["192.0.2.43", "198.51.100.17"],
            ),
            ("host=\"a,b;for=1.1.1.1\";for=192.0.2.1", &["192.0.2.1"]),
        ] {
            assert_eq!(read(clients, text).unwrap(), expected, "{text}");
        }
        for bad in [
            "",
            "for",
            "for=_gazonk",
            "for=192.0.2.1,",
            "for=192.0.2.1;for=192.0.2.2",
            "for=\"192.0.2.1",
            "for=192.0.2.1\"",
        ] {
            assert_eq!(clients(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}|[for=\";,\\\\\\[\\]:.0-9a-f ]{0,60}") {
            for parse in [addresses, one_address, clients] {
                let _ = parse(&text);
            }
        }

        #[test]
        fn what_a_client_sends_first_never_hides_what_the_proxy_adds(
            claimed in "[for=\";,\\\\\\[\\]:.0-9a-f ]{0,40}",
        ) {
            let added: IpAddr = "203.0.113.5".parse().unwrap();
            for (parse, text) in [
                (addresses as fn(&str) -> Option<Vec<IpAddr>>, format!("{claimed}, 203.0.113.5")),
                (clients, format!("{claimed}, for=203.0.113.5")),
            ] {
                if let Some(addresses) = parse(&text) {
                    prop_assert_eq!(addresses.last(), Some(&added));
                }
            }
        }
    }
}
