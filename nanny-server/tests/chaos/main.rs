//! Crashes and outages: the shipped binary, over HTTP, on a Docker Engine that the test owns, with a
//! fault proxy on the way there and a witness who asks the engine alone.
//!
//! Each test has an engine of its own, so that they run side by side, more of them than there are
//! cores: they mostly wait. Where none can be started they say so and pass; with `CI=true` or
//! `NANNY_TEST_DOCKER=1` they fail.

mod engine;
#[expect(dead_code, reason = "these tests need not all of what the end-to-end tests have")]
#[path = "../e2e/house.rs"]
mod house;
#[path = "../e2e/http.rs"]
mod http;
mod site;

mod calls;
mod killed;
mod outage;
mod sockets;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Names tests once, where they are listed.
macro_rules! trials {
    ($($module:ident::$test:ident,)*) => {
        vec![$(Trial::test(concat!(stringify!($module), "::", stringify!($test)), || {
            $module::$test();
            Ok(())
        })),*]
    };
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(4));
    // The longest first.
    let trials = trials![
        calls::b9_a_create_that_comes_after_it_was_given_up_makes_no_second,
        calls::b4_an_engine_that_takes_its_time_over_a_start_is_not_away,
        outage::b5_a_containerd_that_is_killed_wedges_nothing,
        outage::b4_a_frozen_engine_is_unknown_and_freezes_nobody_else,
        outage::b1_c14_an_engine_that_is_killed_keeps_the_gpu_for_its_holder,
        outage::b1_an_engine_that_is_killed_in_a_swap_leaves_one,
        outage::b3_what_comes_back_beside_the_holder_is_stopped,
        outage::b19_after_a_clean_restart_there_is_one,
        outage::c3_an_engine_that_dies_in_a_rollback_wedges_nothing,
        outage::b2_a_death_that_no_event_tells_of_is_seen,
        killed::a1_killed_again_and_again_it_finds_all_as_it_was,
        killed::a2_killed_between_create_and_start_makes_no_second,
        killed::a3_killed_in_a_swap_it_ends_with_one,
        killed::a4_killed_in_a_pull_it_pulls_on_and_can_be_stopped,
        killed::a12_who_was_frozen_looks_before_it_acts,
        sockets::b12_events_lost_or_repeated_are_no_matter,
        sockets::b13_an_engine_that_hangs_up_is_not_stormed,
        sockets::b14_a_socket_may_go_and_come_back,
        calls::b8_a_reply_that_is_lost_is_no_second_effect,
        calls::b8_b6_a_start_after_a_stop_whose_reply_is_lost_runs,
        calls::b9_a_start_that_comes_late_is_stopped_again,
        calls::b17_what_replaces_a_container_is_followed,
        calls::c4_a_holder_that_dies_in_a_swap_is_released_once,
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    engine::forget_image();
    conclusion.exit_code()
}
