//! A program that talks with the test: it says a line, and waits until it is
//! told that it is done.

use std::process::{ExitStatus, Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

use crate::{rig::Rig, wait::DEADLINE};

/// A running program; gone when it is dropped.
pub(super) struct Script {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    said: Vec<String>,
    complaints: JoinHandle<String>,
}

impl Script {
    /// Starts a program that finds edge and key in its environment.
    pub(super) fn start(command: Command, rig: &Rig) -> Self {
        Self::start_with_key(command, rig, &rig.api_key)
    }

    /// The same with another key.
    pub(super) fn start_with_key(mut command: Command, rig: &Rig, api_key: &str) -> Self {
        let mut child = command
            .env("AUTHGUARDIAN_EDGE_URL", &rig.edge.url)
            .env("AUTHGUARDIAN_API_KEY", api_key)
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            said: Vec::new(),
            complaints: tokio::spawn(async move {
                let mut text = Vec::new();
                stderr.read_to_end(&mut text).await.unwrap();
                String::from_utf8_lossy(&text).into_owned()
            }),
            child,
        }
    }

    /// Runs a program to its end and returns what it said.
    pub(super) async fn run(command: Command, rig: &Rig) -> String {
        Self::start(command, rig).ends_well().await
    }

    /// Runs a program that has to fail and returns what it complained of.
    pub(super) async fn fails(command: Command, rig: &Rig, api_key: &str) -> String {
        let mut script = Self::start_with_key(command, rig, api_key);
        let status = script.end().await;
        let told = script.last_words().await;
        assert!(!status.success(), "{told}");
        told
    }

    /// Waits for its next line, which has to be this.
    pub(super) async fn says(&mut self, expected: &str) {
        assert_eq!(self.line().await, expected);
    }

    /// Waits for its next line, whatever it is.
    pub(super) async fn line(&mut self) -> String {
        match self.next_line().await {
            Some(line) => line,
            None => panic!("it has ended\n{}", self.last_words().await),
        }
    }

    /// Tells it that the test has done what it said.
    pub(super) async fn done(&mut self) {
        self.stdin.write_all(b"done\n").await.unwrap();
    }

    /// Waits for its end, which has to be a good one, and returns what it
    /// said.
    pub(super) async fn ends_well(mut self) -> String {
        let status = self.end().await;
        assert!(status.success(), "{status}\n{}", self.last_words().await);
        self.said.join("\n")
    }

    async fn end(&mut self) -> ExitStatus {
        while self.next_line().await.is_some() {}
        let ended = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        ended.unwrap().unwrap()
    }

    async fn next_line(&mut self) -> Option<String> {
        let Ok(line) = tokio::time::timeout(DEADLINE, self.lines.next_line()).await else {
            self.child.kill().await.unwrap();
            panic!("it hangs\n{}", self.last_words().await);
        };
        let line = line.unwrap()?;
        self.said.push(line.clone());
        Some(line)
    }

    /// All that it has written, for a failure.
    async fn last_words(&mut self) -> String {
        let complaints = tokio::time::timeout(DEADLINE, &mut self.complaints).await;
        format!("{}\n{}", self.said.join("\n"), complaints.unwrap().unwrap())
    }
}
