//! The same behaviour on every engine: scenarios that are written once, played by the shipped
//! binary on Docker, on Podman and with plain processes, in the eyes of a witness who asks the
//! kernel.
//!
//! Where an engine is missing its scenarios say so and pass; with `CI=true`, or the variables that
//! `scripts/engines up` prints, they fail.

mod containers;
#[expect(dead_code, reason = "these tests need not all of what the end-to-end tests have")]
#[path = "../e2e/house.rs"]
mod house;
#[path = "../e2e/http.rs"]
mod http;
mod kind;
mod processes;
mod stage;
mod witness;

mod adoption;
mod alike;
mod control;
mod failures;
mod gpus;
mod health;
mod killed;
mod logs;
mod mixed;
mod outage;
mod parts;
mod swaps;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use crate::containers::{Containers, DOCKER, PODMAN};
use crate::kind::{Kind, not_tested};
use crate::processes::PROCESS;
use crate::stage::engine;

static KINDS: [&dyn Kind; 3] = [&DOCKER, &PODMAN, &PROCESS];

/// What it says, and how it is played.
type Scenario<Play> = (&'static str, Play);
type OnAny = fn(&'static dyn Kind);

/// Names scenarios once, where they are listed.
macro_rules! scenarios {
    ($($module:ident::$test:ident,)*) => {
        &[$((stringify!($test), $module::$test as _)),*]
    };
}

const ABOUT_PROCESSES: &[Scenario<fn()>] = scenarios![
    killed::a1_killed_a_hundred_times_it_neither_loses_nor_doubles_a_process,
    witness::two_that_run_at_once_are_seen_and_two_of_one_project_are_not,
    outage::b5_a_shim_that_is_killed_loses_nothing,
    outage::h11_what_is_kept_of_processes_may_vanish_and_they_are_not_lost,
];
const ABOUT_PODMAN: &[Scenario<fn()>] =
    scenarios![outage::b1_a_podman_service_that_is_killed_loses_nothing,];
const ABOUT_BOTH: &[Scenario<fn()>] =
    scenarios![alike::one_folder_gets_the_same_answers_from_docker_and_from_podman,];
const ABOUT_ALL: &[Scenario<fn()>] = scenarios![
    mixed::c2_a_storm_over_all_engines_and_kills_never_has_two,
    mixed::b1_an_engine_that_is_down_never_blocks_services_of_another,
    mixed::b14_an_engine_that_is_absent_blocks_nobody_else,
    mixed::services_go_where_their_manifests_say,
];

/// Played on every engine that has containers.
const OF_CONTAINERS: &[Scenario<fn(&'static Containers)>] = scenarios![
    outage::b1_an_engine_out_of_reach_is_said_so_and_nothing_is_lost,
    outage::b4_who_waits_for_a_start_waits_on_while_no_list_is_answered,
    parts::b16_what_is_done_by_hand_is_seen,
    parts::parts_start_when_what_they_need_is_there_and_stop_with_it,
];

/// Played on every engine.
const OF_ALL: &[Scenario<OnAny>] = scenarios![
    adoption::a1_who_is_killed_finds_everything_as_it_was,
    adoption::a3_who_is_killed_in_a_swap_leaves_one_or_none,
    adoption::h8_what_runs_is_not_lost_because_its_manifest_is_unreadable,
    adoption::l4_a_polite_end_leaves_services_running,
    adoption::what_ended_while_nobody_looked_is_seen_by_the_next_nanny,
    control::a_service_is_started_and_stopped_and_started_again,
    control::what_is_removed_leaves_nothing_and_can_be_started,
    control::what_ignores_a_stop_is_told_first_and_killed_then,
    control::whoever_is_told_to_stop_may_run_programs_to_tidy_up,
    control::what_is_stopped_by_hand_is_seen_and_frees_the_gpu,
    control::a_plan_says_what_a_start_would_do,
    control::what_changed_is_said_and_made_anew_when_asked,
    failures::b18_a_program_that_is_missing_is_named_and_frees_the_gpu,
    failures::what_crashes_is_restarted_as_it_asks_and_keeps_the_gpu,
    failures::d10_what_is_not_to_be_restarted_fails_and_frees_the_gpu,
    gpus::a_service_runs_on_the_gpu_it_was_given_and_stays_there,
    gpus::what_moves_to_another_gpu_is_made_anew_there,
    health::d1_what_gets_healthy_late_is_unhealthy_until_then,
    health::who_waits_for_health_is_answered_when_it_is_there,
    logs::a_log_has_both_streams_and_a_tail_and_outlives_its_process,
    swaps::a_second_gpu_service_is_refused_and_the_holder_is_named,
    swaps::a_forced_start_makes_the_holder_go_and_says_so,
    swaps::c1_of_many_starts_at_once_one_wins,
    swaps::c2_a_storm_of_forced_starts_ends_with_one_and_never_has_two,
    swaps::c3_a_swap_whose_newcomer_cannot_start_is_rolled_back,
    swaps::c3_what_exits_at_once_is_rolled_back_or_seen_to_fail,
    swaps::a_restart_keeps_the_gpu_between_stop_and_start,
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They mostly wait.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    // The longest first.
    let mut trials = Vec::new();
    let mut add = |name: String, kinds: Vec<&'static dyn Kind>, play: Box<dyn Fn() + Send>| {
        trials.push(Trial::test(name.clone(), move || {
            let trouble = kinds.iter().find_map(|kind| Some((kind, kind.trouble()?)));
            match trouble {
                Some((kind, trouble)) => not_tested(&name, &trouble, *kind),
                None => play(),
            }
            Ok(())
        }));
    };
    for (name, play) in ABOUT_BOTH {
        add(format!("both::{name}"), vec![&DOCKER, &PODMAN], Box::new(*play));
    }
    for (name, play) in ABOUT_PROCESSES {
        add(format!("process::{name}"), vec![&PROCESS], Box::new(*play));
    }
    for (name, play) in ABOUT_ALL {
        add(format!("all::{name}"), KINDS.to_vec(), Box::new(*play));
    }
    for (name, play) in ABOUT_PODMAN {
        add(format!("podman::{name}"), vec![&PODMAN], Box::new(*play));
    }
    for engine in [&DOCKER, &PODMAN] {
        for (name, play) in OF_CONTAINERS {
            add(format!("{}::{name}", engine.name()), vec![engine], Box::new(move || play(engine)));
        }
    }
    for kind in KINDS {
        for (name, play) in OF_ALL {
            add(format!("{}::{name}", kind.name()), vec![kind], Box::new(move || play(kind)));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
