//! Logs that are longer than they may be.

use std::fs;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use nanny_lib::backend::{ContainerBackend as _, LogOptions};

use crate::house::House;

const LOG_BYTES: u64 = 64 << 10;

fn house() -> House {
    House::with(|config| config.log_bytes = LOG_BYTES)
}

fn counts(to: u32) -> String {
    format!(
        "n=0; while [ $n -lt {to} ]; do n=$((n+1)); echo line $n; \
             [ $((n % 100)) = 0 ] && sleep 0.03; done; true"
    )
}

pub(crate) async fn a_follower_gets_every_line_across_rotations() {
    // So much that whoever follows may be held up for some seconds.
    let house = House::with(|config| config.log_bytes = 8 * LOG_BYTES);
    let id = house.started("a", &counts(24_000)).await;
    let lines = house.backend.logs(&id, LogOptions::default().follow());
    let lines = lines.map(|line| String::from_utf8(line.unwrap().bytes.to_vec()).unwrap());
    let all = tokio::time::timeout(Duration::from_secs(300), lines.collect::<Vec<_>>());
    let all = all.await.unwrap();
    let expected: Vec<_> = (1..=24_000).map(|n| format!("line {n}")).collect();
    let wrong = all.iter().zip(&expected).find(|(is, should)| is != should);
    assert_eq!((all.len(), wrong), (expected.len(), None));
    // It has been thrown away again and again meanwhile.
    let oldest = house.log(&id).await[0].clone();
    assert_ne!(oldest, "line 1");
}

pub(crate) async fn a_log_takes_up_no_more_than_it_may() {
    let house = house();
    let id = house.started("a", &counts(5_000)).await;
    house.ended(&id).await;
    let entries = fs::read_dir(house.home(&id)).unwrap().flatten();
    let logs = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("log-"));
    let sizes: Vec<_> = logs.map(|entry| entry.metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes.iter().sum::<u64>() <= LOG_BYTES, "{sizes:?}");
    // Its end is what is kept, without a gap.
    let log = house.log(&id).await;
    let first: u32 = log[0].split(' ').nth(1).unwrap().parse().unwrap();
    let expected: Vec<_> = (first..=5_000).map(|n| format!("line {n}")).collect();
    assert_eq!(log, expected);
}

pub(crate) async fn a_tail_reaches_back_into_the_file_before() {
    let house = house();
    let id = house.started("a", &counts(5_000)).await;
    house.ended(&id).await;
    let all = house.log(&id).await;
    for tail in [0, 1, 2, all.len() - 1, all.len(), all.len() + 1] {
        let options = LogOptions::tail(Some(u32::try_from(tail).unwrap()));
        let lines: Vec<_> = house.backend.logs(&id, options).try_collect().await.unwrap();
        let lines: Vec<_> =
            lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect();
        assert_eq!(lines, all[all.len().saturating_sub(tail)..], "the last {tail}");
    }
}
