//! `[zones]`: which networks are trusted more than the rest of the world.

use authguardian_proto::network::Networks;
use serde::{Deserialize, Serialize};

/// Which networks are trusted more than the rest of the world, and which
/// proxies are believed. Loopback and the Unix socket are always this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Zones {
    /// Clients there are in the zone Trusted Network instead of External.
    pub trusted_networks: Networks,
    /// Proxies whose `Forwarded`, `X-Forwarded-For` or `X-Real-IP` is believed.
    /// Each has to add its own client as the last one. From anybody else these
    /// headers make a call External.
    pub trusted_proxies: Networks,
}
