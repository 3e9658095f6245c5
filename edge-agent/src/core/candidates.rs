//! What can stand in an argument, for whoever is typing it.

use authguardian_proto::{
    blackboard::v1::{ListBoardsRequest, ListRequest},
    grants::v1::ListResourceTypesRequest,
    ids::BoardName,
    reason::Problem,
};

use super::{Caller, Core, discover_agents::Asked};

const PAGE: u32 = 1000;
/// Resource types that begin so are agents, which a grant is for calling.
const OF_AGENT: &str = "agent:";
/// Of more resource types than this, the first by name are offered.
const MAX_PAGES: usize = 10;

/// A kind of value that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidates {
    /// The agents that the caller speaks for.
    Agents,
    /// The resource types that can be asked for.
    ResourceTypes,
    /// The boards that the caller may read.
    Boards,
    /// The keys of a board.
    Keys,
    /// The tasks of budgets that the caller may spend from, as far as it is known here.
    Tasks,
}

impl Core {
    /// The candidates that what was typed so far may become: those that begin
    /// with it first, then those that have it in them, in any case. Keys need the
    /// board that they are of, and begin with what was typed.
    ///
    /// # Errors
    /// `RATE_LIMITED`, and what the control plane refuses.
    pub async fn complete(
        &self,
        caller: &Caller,
        candidates: Candidates,
        typed: &str,
        of_board: Option<&str>,
    ) -> Result<Vec<String>, Problem> {
        let action = || "completion.read".to_owned();
        self.admit(caller, None, action).await?;
        let outcome = match candidates {
            Candidates::Agents => Ok(agents(caller)),
            Candidates::ResourceTypes if typed.starts_with(OF_AGENT) => {
                self.agent_audiences(caller).await
            }
            Candidates::ResourceTypes => self.resource_types(caller).await,
            Candidates::Boards => self.boards(caller).await,
            Candidates::Keys => self.keys(caller, of_board, typed).await,
            Candidates::Tasks => Ok(self.spenders.tasks_of(&caller.session().agent_ids)),
        };
        self.note_outcome(caller, action, || None, outcome.as_ref().err());
        outcome.map(|names| matching(names, typed))
    }

    /// The best agents that are found.
    async fn agent_audiences(&self, caller: &Caller) -> Result<Vec<String>, Problem> {
        let found = self
            .find_agents(caller, &Asked::anybody(), PAGE, None)
            .await?;
        let ids = found.agents.into_iter().map(|found| found.agent.agent_id);
        Ok(ids.map(|id| format!("{OF_AGENT}{id}")).collect())
    }

    async fn boards(&self, caller: &Caller) -> Result<Vec<String>, Problem> {
        let request = ListBoardsRequest {
            page_size: PAGE,
            ..ListBoardsRequest::default()
        };
        let page = self.upstream.list_boards(caller.login(), request).await?;
        Ok(page.boards.into_iter().map(|board| board.name).collect())
    }

    async fn keys(
        &self,
        caller: &Caller,
        board: Option<&str>,
        typed: &str,
    ) -> Result<Vec<String>, Problem> {
        let Some(board) = board.filter(|board| board.parse::<BoardName>().is_ok()) else {
            return Ok(Vec::new());
        };
        let request = ListRequest {
            board: board.to_owned(),
            prefix: typed.to_owned(),
            limit: PAGE,
            keys_only: true,
            ..ListRequest::default()
        };
        let page = self.upstream.board_list(caller.login(), request).await?;
        Ok(page.entries.into_iter().map(|entry| entry.key).collect())
    }

    async fn resource_types(&self, caller: &Caller) -> Result<Vec<String>, Problem> {
        let mut names = Vec::new();
        let mut page_token = String::new();
        for _ in 0..MAX_PAGES {
            let request = ListResourceTypesRequest {
                page_size: PAGE,
                page_token,
            };
            let page = self
                .upstream
                .list_resource_types(caller.login(), request)
                .await?;
            names.extend(page.resource_types.into_iter().map(|found| found.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(names)
    }
}

fn agents(caller: &Caller) -> Vec<String> {
    let session = caller.session();
    session.agent_ids.iter().map(ToString::to_string).collect()
}

fn matching(names: Vec<String>, typed: &str) -> Vec<String> {
    let typed = typed.to_lowercase();
    let (mut begin, others): (Vec<String>, Vec<String>) = names
        .into_iter()
        .partition(|name| name.to_lowercase().starts_with(&typed));
    let has = others
        .into_iter()
        .filter(|name| name.to_lowercase().contains(&typed));
    begin.extend(has);
    begin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_the_typed_comes_before_what_has_it() {
        let names = ["DATA_API", "API_KEYS", "SAP_API", "EXPORT"].map(str::to_owned);
        assert_eq!(
            matching(names.to_vec(), "api"),
            ["API_KEYS", "DATA_API", "SAP_API"]
        );
        assert_eq!(matching(names.to_vec(), ""), names);
        assert!(matching(names.to_vec(), "apis").is_empty());
    }
}
