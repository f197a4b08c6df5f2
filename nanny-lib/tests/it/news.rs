//! What is told to those who listen.

use futures_util::StreamExt as _;
use nanny_lib::{Change, Heard, StopOptions};

use crate::house::{House, cpu, name};

#[tokio::test(start_paused = true)]
async fn whoever_listens_after_the_latest_change_hears_nothing_of_the_past() {
    let house = House::new([cpu("a")]).await;
    house.start("a").await;
    let mut news = house.nanny.changes(house.nanny.latest_change());
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    house.nanny.shutdown().await;
    let mut told = Vec::new();
    while let Some(heard) = news.next().await {
        let Heard::Change(recorded) = heard else { panic!("{heard:?}") };
        told.push(recorded.change.clone());
    }
    assert!(told.contains(&Change::Stopped { service: name("a") }), "{told:?}");
    assert!(!told.iter().any(|change| matches!(change, Change::Started { .. })), "{told:?}");
}
