//! Which room may use what.

use super::source::{Source, Use};

/// The rules of one crate.
pub(super) struct Crate {
    /// From the ground up.
    floors: &'static [Floor],
    /// What only some rooms may use.
    borders: &'static [Border],
    /// What only tests may use: rooms, and crates.
    for_tests: &'static [&'static str],
}

/// Rooms that stand beside each other.
enum Floor {
    /// They may use each other.
    Open(&'static [&'static str]),
    /// They may not.
    Apart(&'static [&'static str]),
}

/// Something from outside that belongs to some rooms only.
struct Border {
    /// What it is, if the path is of that kind.
    matches: fn(&[String]) -> Option<String>,
    /// Rooms and file names that may use it.
    rooms: &'static [&'static str],
    /// The same in words.
    words: &'static str,
}

pub(super) const CONTROL_PLANE: Crate = Crate {
    floors: &[
        Floor::Open(&[
            "clock",
            "config",
            "db",
            "error",
            "lifecycle",
            "metrics",
            "telemetry",
        ]),
        Floor::Open(&["audit", "events"]),
        Floor::Open(&["policy"]),
        Floor::Open(&["identity"]),
        Floor::Open(&["registry"]),
        Floor::Open(&["budgets"]),
        Floor::Open(&["grants"]),
        Floor::Open(&["blackboard"]),
        Floor::Open(&["backup"]),
        Floor::Apart(&["grpc", "http", "jobs"]),
        Floor::Open(&["app", "serve"]),
        Floor::Open(&["cli"]),
    ],
    borders: &[
        Border {
            matches: sql,
            rooms: &["store.rs", "db"],
            words: "store.rs, db/",
        },
        Border {
            matches: grpc,
            rooms: &["grpc", "serve", "cli"],
            words: "grpc/, serve/, cli/",
        },
        Border {
            matches: axum,
            rooms: &["http", "serve"],
            words: "http/, serve/",
        },
    ],
    for_tests: &["testing", "edge_agent"],
};

pub(super) const EDGE: Crate = Crate {
    floors: &[
        Floor::Open(&[
            "clock",
            "config",
            "dial",
            "error",
            "files",
            "freshness",
            "lifecycle",
            "tail",
            "telemetry",
            "trust",
        ]),
        Floor::Apart(&[
            "limits",
            "verify",
            "agents",
            "neighbours",
            "gossip",
            "peers",
            "endpoints",
            "slices",
            "replica",
            "journal",
            "witness",
            "upstream",
            "identity",
        ]),
        Floor::Open(&["core"]),
        Floor::Open(&["mcp"]),
        Floor::Open(&["faces"]),
        Floor::Open(&["app"]),
        Floor::Open(&["cli"]),
    ],
    borders: &[
        Border {
            matches: sql,
            rooms: &[],
            words: "the control plane",
        },
        Border {
            matches: tonic,
            rooms: &["dial", "upstream", "identity"],
            words: "dial, upstream/, identity/",
        },
        Border {
            matches: axum,
            rooms: &["faces", "app"],
            words: "faces/, app",
        },
        Border {
            matches: rmcp,
            rooms: &["mcp", "faces", "app", "cli"],
            words: "mcp, faces/, app, cli/",
        },
    ],
    for_tests: &["testing", "control_plane"],
};

/// Statements; connections and transactions are passed on everywhere.
fn sql(path: &[String]) -> Option<String> {
    let [first, second, ..] = path else {
        return None;
    };
    let statement = second.starts_with("query") || second == "raw_sql" || second == "QueryBuilder";
    (first == "sqlx" && statement).then(|| format!("sqlx::{second}"))
}

/// tonic, and the generated messages, which are in modules named `v1`.
fn grpc(path: &[String]) -> Option<String> {
    let first = path.first()?;
    if first.starts_with("prost") {
        return Some(first.clone());
    }
    let message = || {
        let version = path.iter().position(|name| name == "v1")?;
        (first == "authguardian_proto").then(|| path[..=version].join("::"))
    };
    tonic(path).or_else(message)
}

fn tonic(path: &[String]) -> Option<String> {
    let first = path.first()?;
    (first == "tonic" || first.starts_with("tonic_")).then(|| first.clone())
}

fn axum(path: &[String]) -> Option<String> {
    path.first().filter(|first| *first == "axum").cloned()
}

fn rmcp(path: &[String]) -> Option<String> {
    path.first().filter(|first| *first == "rmcp").cloned()
}

impl Crate {
    /// What a file does against the rules, each as `file: sentence`.
    pub(super) fn violations(&self, source: &Source) -> Vec<String> {
        let file = &source.name;
        let room = file
            .split('/')
            .next()
            .unwrap_or(file)
            .trim_end_matches(".rs");
        if matches!(room, "lib" | "main" | "bin") || self.for_tests.contains(&room) {
            return Vec::new(); // they put the crate together
        }
        let Some(floor) = self.floor(room) else {
            let text = "has no floor: give it one in tests/it/architecture/rules.rs";
            return vec![format!("{file}: `{room}` {text}")];
        };
        let found = source.uses.iter().filter_map(|used| {
            self.import(room, floor, used)
                .or_else(|| self.border(file, room, used))
        });
        let mut found: Vec<_> = found
            .map(|sentence| format!("{file}: {sentence}"))
            .collect();
        found.dedup();
        found
    }

    fn floor(&self, room: &str) -> Option<usize> {
        self.floors.iter().position(|floor| match floor {
            Floor::Open(rooms) | Floor::Apart(rooms) => rooms.contains(&room),
        })
    }

    fn import(&self, room: &str, floor: usize, used: &Use) -> Option<String> {
        let first = used.path.first()?;
        let name = if first == "crate" {
            used.path.get(1)?
        } else {
            first
        };
        if self.for_tests.contains(&name.as_str()) {
            return (!used.in_tests).then(|| format!("`{name}` is for tests only"));
        }
        if first != "crate" || name == room {
            return None;
        }
        // what is no room is an item of lib.rs
        let other = self.floor(name)?;
        let apart = matches!(self.floors.get(floor)?, Floor::Apart(_));
        match other.cmp(&floor) {
            std::cmp::Ordering::Greater => {
                Some(format!("`{room}` may not use `{name}`, which is above it"))
            }
            std::cmp::Ordering::Equal if apart => {
                Some(format!("`{room}` may not use `{name}`, which is beside it"))
            }
            _ => None,
        }
    }

    fn border(&self, file: &str, room: &str, used: &Use) -> Option<String> {
        if used.in_tests {
            return None;
        }
        // a store of many tables is a folder, a file for each
        let name = if file.contains("/store/") {
            "store.rs"
        } else {
            file.rsplit('/').next().unwrap_or(file)
        };
        self.borders.iter().find_map(|border| {
            let what = (border.matches)(&used.path)?;
            let allowed = border
                .rooms
                .iter()
                .any(|allowed| [room, name].contains(allowed));
            (!allowed).then(|| format!("`{what}` is for {} only", border.words))
        })
    }
}
