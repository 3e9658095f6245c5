//! What `audit export`, `prove` and `consistency` write is verified elsewhere, by
//! the command line and in Python; and an export goes on where it was cut.

use std::{fs, path::Path, process::ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::{
    act,
    cli::{size_in, text, with_acts},
    verdict::{Given, verdict},
};
use crate::{
    operator::Operator,
    wait::{DEADLINE, until},
};

#[tokio::test]
async fn an_export_is_verified_without_the_database_by_both_verifiers() {
    let operator = with_acts(50).await;
    let early = operator.checkpoint("early").await;
    operator.rig.append((50..600).map(act)).await;
    operator.rig.signed().await;
    let (file, key) = (operator.export().await, operator.key().await);
    let late = operator.checkpoint("late").await;
    assert!(size_in(&early) < size_in(&late));
    for checkpoint in [None, Some(&*early), Some(&*late)] {
        for key in [None, Some(&*key)] {
            let (fits, told) = verdict("export", &file, Given { checkpoint, key }).await;
            assert!(fits, "{}", told.stdout);
            let own_word = told.stderr.contains("the keys came with the file");
            assert_eq!(own_word, key.is_none(), "{}", told.stderr);
        }
    }
    let keys = operator.kept("keys", &["audit", "log", "--keys"]).await;
    let verify = [
        "audit",
        "verify",
        "--export",
        text(&file),
        "--keys",
        text(&keys),
    ];
    let checked = operator.json(&verify).await;
    assert_eq!(
        (&checked["fits"], &checked["keys_from"]),
        (&true.into(), &"given".into())
    );
    assert_eq!(checked["entries"], size_in(&late));

    let good = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        good.replacen("\"subject\":\"300\"", "\"subject\":\"301\"", 1),
    )
    .unwrap();
    let given = Given {
        checkpoint: Some(&*early),
        key: Some(&*key),
    };
    let (fits, told) = verdict("export", &file, given).await;
    let from = format!("the entries {} to {} ", size_in(&early), size_in(&late) - 1);
    assert!(!fits && told.stdout.contains(&from), "{}", told.stdout);
    let lines: Vec<_> = good.split_inclusive('\n').collect();
    fs::write(&file, [&lines[..300], &lines[301..]].concat().concat()).unwrap();
    let (fits, told) = verdict("export", &file, given).await;
    assert!(
        !fits && told.stdout.starts_with("line 301: index 300 where 299"),
        "{}",
        told.stdout
    );
}

#[tokio::test]
async fn an_export_goes_on_wherever_it_was_cut() {
    let operator = with_acts(300).await;
    let whole = fs::read(operator.export().await).unwrap();
    let lines: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    let file = operator.path("resumed.jsonl");
    let resume = ["audit", "export", "--file", text(&file), "--resume"];
    let first = lines[0] + 1;
    let middle = lines[150] + 1;
    for cut in [
        0,
        1,
        first - 1,
        first,
        first + 1,
        middle - 1,
        middle,
        middle + 7,
        whole.len() - 1,
        whole.len(),
    ] {
        fs::write(&file, &whole[..cut]).unwrap();
        operator.done(&resume).await;
        assert!(fs::read(&file).unwrap() == whole, "cut at {cut}");
    }

    // with what has come since
    operator.rig.append((300..310).map(act)).await;
    operator.rig.signed().await;
    operator.done(&resume).await;
    assert!(fs::read(&file).unwrap() == fs::read(operator.export().await).unwrap());
    assert!(verdict("export", &file, Given::default()).await.0);

    let again = ["audit", "export", "--file", text(&file)];
    assert_eq!(
        operator.refused(&again).await,
        (2, "INVALID_ARGUMENT".to_owned())
    );
    let other = [&resume[..], &["--origin", "example.org/audit/other"]].concat();
    assert_eq!(
        operator.refused(&other).await,
        (2, "INVALID_ARGUMENT".to_owned())
    );
    fs::write(&file, "a letter\n").unwrap();
    assert_eq!(
        operator.refused(&resume).await,
        (2, "INVALID_ARGUMENT".to_owned())
    );
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "a letter\n",
        "left alone"
    );
}

#[tokio::test]
async fn an_export_that_is_interrupted_or_killed_goes_on() {
    let operator = with_acts(40_000).await;
    let file = operator.path("long.jsonl");
    let fresh = ["audit", "export", "--file", text(&file)];
    let resumed = ["audit", "export", "--file", text(&file), "--resume"];
    let (status, told) = end(&operator, &fresh, &file, 0, Signal::INT).await;
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("go on with `--resume`"), "{told}");
    let length = fs::metadata(&file).unwrap().len();
    let (status, _) = end(&operator, &resumed, &file, length, Signal::KILL).await;
    assert_eq!(status.code(), None);
    let cut = fs::read_to_string(&file).unwrap();
    assert!(cut.len() as u64 > length && !cut.contains("checkpoint\":"));

    operator.done(&resumed).await;
    assert!(fs::read(&file).unwrap() == fs::read(operator.export().await).unwrap());
    assert!(verdict("export", &file, Given::default()).await.0);
}

/// Runs an export, and ends it as soon as its file is longer.
async fn end(
    operator: &Operator,
    args: &[&str],
    file: &Path,
    length: u64,
    signal: Signal,
) -> (ExitStatus, String) {
    let mut child = operator.command(args).spawn().unwrap();
    let grown = || fs::metadata(file).is_ok_and(|metadata| metadata.len() > length);
    until("it writes", grown).await;
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
    let status = tokio::time::timeout(DEADLINE, child.wait()).await.unwrap();
    let mut told = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut told).await.unwrap();
    (status.unwrap(), told)
}

#[tokio::test]
async fn proofs_are_verified_without_the_database_by_both_verifiers() {
    let operator = with_acts(50).await;
    let early = operator.checkpoint("early").await;
    operator.rig.append((50..600).map(act)).await;
    operator.rig.signed().await;
    let (key, late) = (operator.key().await, operator.checkpoint("late").await);
    let (from, size) = (size_in(&early), size_in(&late));
    let given = |checkpoint| Given {
        checkpoint,
        key: Some(&*key),
    };
    for index in [0, 255, 256, size - 1] {
        let proof = operator
            .kept("proof", &["audit", "prove", "--index", &index.to_string()])
            .await;
        let (holds, told) = verdict("proof", &proof, given(Some(&*late))).await;
        assert!(holds, "{}", told.stdout);
        assert_eq!(
            told.stdout,
            format!("entry {index} is in the log of {size} entries\n")
        );
    }
    let file = operator.path("entry.json");
    let prove = ["audit", "prove", "--index", "300", "--file", text(&file)];
    assert_eq!(operator.done(&prove).await.stdout, "");
    assert!(verdict("proof", &file, given(None)).await.0);
    let mut changed: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    changed["entry"]["outcome"] = "failed".into();
    fs::write(&file, changed.to_string()).unwrap();
    let (holds, told) = verdict("proof", &file, given(None)).await;
    assert!(!holds && told.stdout.contains("`entry` is not what `leaf` says"));
    let beyond = ["audit", "prove", "--index", "100000"];
    assert_eq!(operator.run(&beyond).await.code, 3);

    let consistency = async |args: &[&str]| {
        let from = from.to_string();
        let args = [&["audit", "consistency", "--from", &from], args].concat();
        operator.kept("consistency", &args).await
    };
    for proof in [consistency(&[]).await, consistency(&["--to", "300"]).await] {
        for kept in [&early, &late] {
            assert!(
                verdict("proof", &proof, given(Some(kept.as_path())))
                    .await
                    .0
            );
        }
    }
    let beyond = ["audit", "consistency", "--from", "1", "--to", "100000"];
    assert_ne!(operator.run(&beyond).await.code, 0);
}
