//! Answers messages on stdin with lines on stdout.

use anyhow::Result;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, stdin, stdout};

use super::message::answer;

pub(super) async fn serve() -> Result<()> {
    let mut lines = BufReader::new(stdin()).lines();
    let mut stdout = stdout();
    while let Some(line) = lines.next_line().await? {
        if let Some(mut answer) = answer(line.as_bytes())? {
            answer.push('\n');
            stdout.write_all(answer.as_bytes()).await?;
            stdout.flush().await?;
        }
    }
    Ok(())
}
