//! The same on one PostgreSQL server, which is killed as its control planes are.

use super::{
    dice::Dice,
    grpc::Grpc,
    load::{Load, cleared},
    watcher::Watcher,
    way::Way,
};
use crate::faults::{
    caller::AGENT,
    system::{System, Victim},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stdout, reason = "figures")]
async fn a_strong_board_keeps_its_promises_on_a_server_that_is_killed() {
    let mut system = System::start_with_machines(2, 2).await;
    let servers: Vec<_> = system
        .control_planes
        .iter()
        .map(|one| one.url().parse().unwrap())
        .collect();
    let mut clients = Vec::new();
    for (number, join_token) in system.join_tokens.iter().enumerate() {
        let mut servers = servers.clone();
        servers.rotate_left(number);
        clients.push(Grpc::join(&servers, join_token, AGENT, &system.api_key).await);
    }
    let ways: Vec<Way> = clients.iter().cloned().map(Way::Grpc).collect();
    let began = cleared(&ways[0]).await;
    let watchers = vec![
        Watcher::by_grpc(clients[0].clone(), "", began),
        Watcher::by_grpc(clients[1].clone(), "k/", began),
    ];
    let load = Load::start(&ways, watchers, "alone", began, &mut Dice::new(7));
    load.progress.writes(300).await;
    for victim in [Victim::ControlPlane, Victim::Postgres] {
        system.kill(victim).await;
        system.start_again(victim).await;
        load.progress.writes(300).await;
    }
    let told = load.end(&ways[0]).await;
    println!("{}", told.judge("alone"));
}
