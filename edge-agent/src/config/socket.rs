//! `[[socket.users]]`: who besides the edge's own user may use the Unix socket.

use std::collections::HashSet;

use authguardian_proto::ids::AgentId;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Who besides root and the edge's own user may use the Unix socket. With
/// nobody in here the socket's mode is 0600, else 0666, and whoever is not in
/// here is refused when connecting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Socket {
    /// Each with the agents that it may speak for.
    pub users: Vec<SocketUser>,
}

/// One user of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketUser {
    /// The user id.
    pub uid: u32,
    /// The agents that the user may speak for: a key that speaks for any other
    /// one is refused from this user.
    pub agents: Vec<String>,
}

impl SocketUser {
    /// The agents, read.
    ///
    /// # Errors
    /// When one is no agent id, or there are none.
    pub fn agents(&self) -> Result<Vec<AgentId>, ConfigError> {
        let refused = |problem: String| {
            ConfigError::value("socket.users", format!("of uid {}: {problem}", self.uid))
        };
        if self.agents.is_empty() {
            return Err(refused("has no `agents`, expected at least one".to_owned()));
        }
        let read = |text: &String| {
            text.parse()
                .map_err(|error| refused(format!("has the agent `{text}`: {error}")))
        };
        self.agents.iter().map(read).collect()
    }
}

impl Socket {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for user in &self.users {
            user.agents()?;
            if !seen.insert(user.uid) {
                let problem = format!("has the uid {} twice", user.uid);
                return Err(ConfigError::value("socket.users", problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32, agents: &[&str]) -> SocketUser {
        SocketUser {
            uid,
            agents: agents.iter().map(|&agent| agent.to_owned()).collect(),
        }
    }

    #[test]
    fn every_user_is_there_once_with_agents() {
        let validate = |users: &[SocketUser]| {
            let users = users.to_vec();
            Socket { users }
                .validate()
                .map_err(|error| error.to_string())
        };
        assert_eq!(validate(&[user(1, &["a"]), user(2, &["a", "b"])]), Ok(()));
        for (users, said) in [
            (vec![user(1, &[])], "uid 1: has no `agents`"),
            (vec![user(1, &["a", "b c"])], "the agent `b c`"),
            (vec![user(1, &["a"]), user(1, &["b"])], "the uid 1 twice"),
        ] {
            let error = validate(&users).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
