//! What `dev` prints when everything is ready.

use std::path::Path;

use super::{directory::Directory, ready::Running};
use crate::cli::output::write_stdout;

/// Prints addresses, keys and first calls; whether anybody reads them does not
/// matter.
pub(super) fn print(running: &Running, directory: &Directory, edge_binary: &Path) {
    let _ = write_stdout(&text(running, directory, edge_binary));
}

fn text(running: &Running, directory: &Directory, edge_binary: &Path) -> String {
    let control_plane = quoted(&edge_binary.with_file_name("control-plane"));
    format!(
        r#"
AuthGuardian is ready.

  MCP           {edge_http}/mcp
  WebSocket     {edge_ws}
  REST          {edge_http}/openapi.json
  events        {edge_http}/events
  admin gRPC    {admin_grpc}
  health        {http}/readyz
  database      {database_url}
  data          {root}
  API key       {api_key}

A first call, over REST:

  curl -s {edge_http}/mcp/tools/request_permission \
    -H 'Authorization: Bearer {api_key}' \
    -H 'Content-Type: application/json' \
    -d '{{"agent_id": "data_analyst", "resource_type": "SAP_API", "justification": "Q4 analysis task"}}'

The same with the command line:

  {edge} request-permission --server {edge_http} --api-key-file {api_key_file} \
    --agent data_analyst --resource SAP_API --justification "Q4 analysis task"

And as its operator:

  export AUTHGUARDIAN_SERVER={admin_grpc} AUTHGUARDIAN_CA_FILE={ca_file}
  export AUTHGUARDIAN_ADMIN_TOKEN=$(cat {admin_token_file})
  {control_plane} grant list

Ctrl-C stops everything.
"#,
        edge_http = running.edge_http,
        edge_ws = running.edge_ws,
        admin_grpc = running.admin_grpc,
        http = running.http,
        database_url = running.database_url,
        root = directory.root().display(),
        api_key = running.api_key,
        edge = quoted(edge_binary),
        api_key_file = quoted(&directory.api_key()),
        ca_file = quoted(&directory.ca_file()),
        admin_token_file = quoted(&directory.admin_token()),
    )
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_a_shell() {
        assert_eq!(quoted(Path::new("/a/b-1.sock")), "/a/b-1.sock");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
