//! What goes wrong with processes, and with those who look after them.
//!
//! This program is the shim of its processes, and the nanny that is killed.

#![expect(clippy::unwrap_used, reason = "its functions are tests, if not by attribute")]

mod disk;
mod forged;
mod gpus;
mod house;
mod killed;
mod limits;
mod logs;
mod shared;
mod strays;
mod surroundings;

use std::process::ExitCode;

use libtest_mimic::Trial;
use nanny_backend_process::shim;

/// Each function, as a test of its name.
macro_rules! trials {
    ($($area:ident: $($name:ident),+;)*) => {
        vec![$($(Trial::test(concat!(stringify!($area), "::", stringify!($name)), || {
            house::run($area::$name());
            Ok(())
        })),+),*]
    };
}

fn main() -> ExitCode {
    if shim::is_asked() {
        return shim::main();
    }
    if let Some(owner) = killed::Owner::asked() {
        house::run(owner.live());
        return ExitCode::SUCCESS;
    }
    let trials = trials![
        killed: a1_a_nanny_that_is_killed_a_hundred_times_loses_nothing_and_doubles_nothing,
            a_shim_that_is_killed_is_replaced_and_the_log_goes_on,
            a_shim_that_is_killed_while_it_starts_something_leaves_one_or_none,
            what_is_left_of_a_killed_shim_and_program_is_not_started_twice,
            a_session_without_shim_program_or_mark_is_ended_all_the_same;
        forged: a_number_that_another_process_has_by_now_is_nobody,
            after_a_reboot_everything_has_ended,
            a13_a_damaged_record_loses_no_process,
            a13_a_damaged_spec_breaks_no_list;
        gpus: a_program_is_told_the_gpus_it_was_placed_on,
            every_process_of_a_run_descends_from_those_that_are_told;
        disk: h11_a_full_disk_stops_no_process_and_the_log_says_what_it_lacks;
        limits: too_much_memory_ends_it_and_that_is_told,
            a_limit_on_memory_holds_for_swap_too,
            other_limits_are_kept,
            a_shim_that_is_killed_leaves_no_control_group;
        logs: a_follower_gets_every_line_across_rotations,
            a_log_takes_up_no_more_than_it_may,
            a_tail_reaches_back_into_the_file_before;
        strays: a_stop_ends_what_has_run_away,
            what_a_program_leaves_behind_ends_with_it,
            a_group_has_its_grace_to_the_end,
            what_cannot_be_killed_holds_until_it_has_ended;
        shared: two_backends_create_one_container_of_a_name,
            two_backends_start_one_process,
            a_start_is_seen_by_others_before_its_shim_is_there,
            names_that_were_half_given_are_free,
            a_late_request_does_not_end_the_next_run;
        surroundings: a_program_inherits_nothing_of_ours,
            only_the_owner_may_read_what_is_kept,
            who_says_that_it_needs_a_gpu_is_believed,
            why_a_start_failed_is_told_and_kept,
            a_program_that_knows_nothing_of_shims_is_told_so,
            no_child_of_ours_is_left;
    ];
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
}
