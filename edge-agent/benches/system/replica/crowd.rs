//! Many edges that follow one control plane, while agents of one of them write.

use std::{collections::HashMap, net::SocketAddr, ops::Range, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{
    asker::{Asker, BOARD, Does},
    wire::Wire,
};
use crate::{
    args::Args,
    cpu::{self, Part, Processes},
    daemon::Edge,
    http::{Connection, Events, position},
    keys::Keys,
    load::on_own_thread,
    postgres::Postgres,
    progress,
    system::System,
};

const EDGES: usize = 50;
const EDGES_WHEN_QUICK: usize = 8;
/// Changes per second.
pub(super) const RATE: u32 = 1_000;
/// One of so many changes is looked for at all edges: what all are told of all changes
/// would be more work than the changes.
const PROBE: u32 = 20;
/// Connections that write.
const WRITERS: usize = 32;
/// Keys that are written in turn.
const KEYS: u32 = 10_000;
/// Changes before anything counts.
const WARM_UP: u32 = 500;
/// Numbers of a round, more than it has changes.
const NUMBERS: u32 = 10_000_000;
/// How long it is looked what an edge is told when nothing changes.
const IDLE: Duration = Duration::from_secs(2);
/// A change that was not seen by then is lost.
const DEADLINE: Duration = Duration::from_mins(1);

/// Edges, each a process of its own. Agents of the first write.
pub(super) struct Crowd {
    edges: Vec<Edge>,
    /// Of the last edge.
    wire: Wire,
    system: System,
}

/// What was seen of one round.
pub(super) struct Way {
    /// Changes per second that were acknowledged.
    pub(super) rate: f64,
    /// From when a change was acknowledged until the last edge had it; sorted.
    delays: Vec<Duration>,
    /// Between the control plane and an edge, for a change.
    pub(super) bytes: f64,
    /// CPU time by who used it, seconds per second.
    pub(super) cpu: Vec<(&'static str, f64)>,
}

/// A change was seen at an edge.
struct Seen {
    number: u32,
    at: Instant,
}

/// What was used up to a moment.
struct Used {
    at: Instant,
    bytes: u64,
    cpu: Vec<(&'static str, Duration)>,
}

impl Crowd {
    /// Starts all.
    pub(super) async fn start(args: &Args) -> Result<Self> {
        let count = if args.quick { EDGES_WHEN_QUICK } else { EDGES };
        progress!("replica: starting {count} edges");
        let mut system = System::start(Postgres::start().await?, count, &[]).await?;
        let wire = Wire::to(system.control_plane.address())?;
        let mut edges = (1..count)
            .map(|_| system.edge())
            .collect::<Result<Vec<_>>>()?;
        let token = system.join_token()?;
        edges.push(Edge::start(wire.server()?, &token, &[])?);
        Ok(Self {
            edges,
            wire,
            system,
        })
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        self.edges.len()
    }

    /// Writes for a while.
    pub(super) fn round(&self, args: &Args, round: usize) -> Result<Way> {
        let first = NUMBERS * u32::try_from(round)?;
        let changes = RATE * u32::try_from(args.duration().as_secs())?;
        on_own_thread(self.measure(first, changes))
    }

    async fn measure(&self, first: u32, changes: u32) -> Result<Way> {
        let (telling, mut told) = mpsc::unbounded_channel();
        let mut listeners = JoinSet::new();
        for edge in &self.edges {
            let events = self.listen(edge.address).await?;
            listeners.spawn(hear(events, telling.clone()));
        }
        let place = (self.edges[0].address, Does::Writes.at_an_edge());
        let (key, keys) = (&self.system.api_key, Keys::new(1));
        let mut askers = Asker::open(WRITERS, place, key, Does::Writes, &keys).await?;
        sleep(IDLE).await;
        let idle = self.used()?;
        sleep(IDLE).await;
        let from = self.used()?;
        let idle = from.bytes_since(&idle) / IDLE.as_secs_f64();

        let counted = first + WARM_UP;
        let mut probes = write(&mut askers, first..counted).await?;
        let from = self.used()?;
        let later = write(&mut askers, counted..counted + changes).await?;
        let to = self.used()?;
        probes.extend(later);
        let last = self.last(&mut told, &probes).await?;
        let counted = probes.iter().filter(|(number, _)| **number >= counted);
        let mut delays: Vec<Duration> = counted
            .filter_map(|(number, at)| Some(last.get(number)?.saturating_duration_since(*at)))
            .collect();
        delays.sort_unstable();
        let took = to.at.duration_since(from.at).as_secs_f64();
        let changes = f64::from(changes);
        Ok(Way {
            rate: changes / took,
            delays,
            bytes: (to.bytes_since(&from) - idle * took) / changes,
            cpu: to.cpu_since(&from),
        })
    }

    /// A stream of what is looked for.
    async fn listen(&self, edge: SocketAddr) -> Result<Events> {
        let bearer = format!("Bearer {}", self.system.api_key);
        let path = format!("/events?board={BOARD}&prefix=probe/");
        let stream = Connection::open(edge, &path, &[("Authorization", &bearer)]).await?;
        let mut events = stream.get_events().await?;
        // how soon to come again, then where it begins
        while !events.next().await?.starts_with(b"id: ") {}
        Ok(events)
    }

    /// When each of these changes was seen by the last edge.
    async fn last(
        &self,
        told: &mut UnboundedReceiver<Result<Seen>>,
        probes: &HashMap<u32, Instant>,
    ) -> Result<HashMap<u32, Instant>> {
        let deadline = Instant::now() + DEADLINE;
        let mut last = HashMap::new();
        for _ in 0..probes.len() * self.edges.len() {
            let seen = timeout_at(deadline, told.recv()).await;
            let seen = seen.context("changes are not seen everywhere")?;
            let Seen { number, at } = seen.context("streams are open")??;
            let known = last.entry(number).or_insert(at);
            *known = at.max(*known);
        }
        Ok(last)
    }

    fn used(&self) -> Result<Used> {
        let processes = Processes::look()?;
        let of = |parts: &[Part]| -> Result<Duration> {
            let used = parts.iter().map(|part| processes.of_tree(part.pid));
            used.sum()
        };
        let edges: Vec<Part> = self.edges.iter().map(Edge::part).collect();
        Ok(Used {
            at: Instant::now(),
            bytes: self.wire.bytes(),
            cpu: vec![
                (cpu::CONTROL_PLANE, of(&[self.system.control_plane.part()])?),
                (cpu::POSTGRESQL, of(&[self.system.postgres.part()])?),
                ("edge that is written to", of(&edges[..1])?),
                ("other edges together", of(&edges[1..])?),
                (cpu::LOAD_GENERATOR, cpu::of_this_thread()),
            ],
        })
    }
}

/// Writes these changes, each at its time; when those that are looked for were
/// acknowledged.
async fn write(askers: &mut [Asker], changes: Range<u32>) -> Result<HashMap<u32, Instant>> {
    let began = Instant::now();
    let first = changes.start;
    let each = askers.iter_mut().enumerate().map(|(writer, asker)| {
        let own = changes.clone().skip(writer).step_by(WRITERS);
        async move {
            let mut probes = Vec::new();
            for number in own {
                sleep_until(began + Duration::from_secs(1) * (number - first) / RATE).await;
                if number % PROBE > 0 {
                    asker.ask(&format!("task/{}", number % KEYS)).await?;
                    continue;
                }
                asker.ask(&format!("probe/{number}")).await?;
                probes.push((number, Instant::now()));
            }
            Ok::<_, anyhow::Error>(probes)
        }
    });
    let probes = futures::future::try_join_all(each).await?;
    Ok(probes.into_iter().flatten().collect())
}

/// Tells of changes as an edge tells of them.
async fn hear(mut events: Events, telling: UnboundedSender<Result<Seen>>) {
    loop {
        let number = match events.next().await {
            Ok(event) => number(event),
            Err(error) => {
                let _ = telling.send(Err(error));
                return;
            }
        };
        let at = Instant::now();
        if let Some(number) = number
            && telling.send(Ok(Seen { number, at })).is_err()
        {
            return;
        }
    }
}

/// Which change an event is of.
fn number(event: &[u8]) -> Option<u32> {
    const KEY: &[u8] = br#""key":"probe/"#;
    let digits = &event[position(event, KEY)? + KEY.len()..];
    let end = position(digits, b"\"")?;
    str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

impl Used {
    #[expect(clippy::cast_precision_loss, reason = "less than a terabyte")]
    fn bytes_since(&self, earlier: &Self) -> f64 {
        (self.bytes - earlier.bytes) as f64
    }

    /// Seconds per second.
    fn cpu_since(&self, earlier: &Self) -> Vec<(&'static str, f64)> {
        let took = self.at.duration_since(earlier.at).as_secs_f64();
        let both = self.cpu.iter().zip(&earlier.cpu);
        let share = |used: Duration| used.as_secs_f64() / took;
        both.map(|((name, to), (_, from))| (*name, share(to.saturating_sub(*from))))
            .collect()
    }
}

impl Way {
    /// After how many milliseconds so many percent of changes were everywhere.
    pub(super) fn percent(&self, percent: usize) -> f64 {
        let index = (self.delays.len() * percent / 100).min(self.delays.len().saturating_sub(1));
        let delay = self.delays.get(index);
        delay.map_or(f64::NAN, |delay| delay.as_secs_f64() * 1e3)
    }
}
