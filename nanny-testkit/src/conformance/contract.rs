//! The contract, sentence by sentence, and what proves each.
//!
//! The sentences are those of the traits' documentation in `nanny_lib::backend`, word for word, so
//! that a sentence and its test change together: a test of this crate compares both ways, and writes
//! the table in `docs/backends.md`.

/// A sentence of the contract.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Clause {
    /// Whose documentation says it: a trait, or one of its methods.
    pub place: &'static str,
    /// The sentence.
    pub says: &'static str,
    /// What proves it.
    pub proof: Proof,
}

/// What proves a sentence of the contract.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Proof {
    /// These tests of the suite.
    Tests(&'static [&'static str]),
    /// Nothing here could: why, and where to look.
    Elsewhere(&'static str),
}

/// The whole contract, in the order in which the documentation tells it.
#[must_use]
pub fn contract() -> &'static [Clause] {
    CONTRACT
}

macro_rules! contract {
    ($($place:literal { $($says:literal => $proof:expr;)* })*) => {
        const CONTRACT: &[Clause] = &[
            $($(Clause { place: $place, says: $says, proof: $proof },)*)*
        ];
    };
}

use Proof::{Elsewhere, Tests};

/// A sentence that introduces others.
const TITLE: Proof = Elsewhere("says what it is");
const CALLER: Proof = Elsewhere("binds the caller");
const OUTAGE: Proof = Elsewhere("takes an engine that goes away: tests of the backend's own");
const BUILDS: Proof = Elsewhere("takes a look into images: tests of the backend's own");
const REGISTRY: Proof = Elsewhere("takes a registry: tests of the backend's own");

contract! {
    "ContainerBackend" {
        "One engine that can run containers: a Docker Engine, a Podman service, plain processes." =>
            TITLE;
        "Every sentence here has a test in `nanny-testkit`'s conformance suite, or says there why it has none." =>
            Elsewhere("`nanny-testkit/tests/contract.rs`");
        "`start` of a running container, `stop` and `kill` of one that is not running, and `remove` of one that is gone succeed, and so does `rename` to the name it has." =>
            Tests(&[
                "lifecycle::start_of_a_running_container_succeeds_and_changes_nothing",
                "lifecycle::stop_of_what_does_not_run_succeeds",
                "lifecycle::kill_of_what_does_not_run_succeeds",
                "lifecycle::remove_of_what_is_gone_succeeds",
                "lifecycle::rename_gives_it_another_name",
            ]);
        "`create` and `rename` under a name that is taken fail with `ErrorKind::Conflict` and change nothing." =>
            Tests(&[
                "lifecycle::create_under_a_taken_name_is_a_conflict_and_changes_nothing",
                "lifecycle::rename_to_a_taken_name_is_a_conflict_and_changes_nothing",
            ]);
        "Any future may be dropped at any point." =>
            Tests(&[
                "lifecycle::a_dropped_create_made_all_of_it_or_nothing",
                "lifecycle::a_dropped_stop_leaves_nothing_behind",
            ]);
        "What had reached the engine may still happen there; the caller inspects before it repeats." =>
            CALLER;
        "Nothing else is left behind." =>
            Tests(&[
                "lifecycle::a_dropped_create_made_all_of_it_or_nothing",
                "lifecycle::a_dropped_stop_leaves_nothing_behind",
            ]);
        "All operations may run at once, also on one container; the engine orders them." =>
            Tests(&[
                "lifecycle::whatever_happens_to_it_at_once_happens_in_some_order",
                "lifecycle::creates_at_once_under_one_name_make_one",
                "lifecycle::starts_at_once_start_it_once",
                "lifecycle::stops_at_once_succeed",
                "lifecycle::b10_removes_at_once_succeed",
            ]);
        "An operation on an id that does not exist fails with `ErrorKind::NotFound` (`remove` succeeds)." =>
            Tests(&[
                "errors::what_does_not_exist_is_not_found",
                "errors::strange_ids_are_not_found",
                "lifecycle::rename_gives_it_another_name",
                "lifecycle::files_are_there_when_it_starts",
                "logs::a_log_of_what_does_not_exist_is_not_found",
            ]);
        "So does a `create` of which the image is not there." =>
            Tests(&["errors::a_missing_image_is_not_found"]);
        "What stands in the way of a start, a port that is taken, is `ErrorKind::Conflict`." =>
            Tests(&["resources::b18_a_taken_port_fails_the_start"]);
        "An engine that is out of reach is `ErrorKind::Unavailable`: it says nothing about the containers." =>
            OUTAGE;
        "`ErrorKind::Timeout` means the outcome is unknown." => OUTAGE;
        "What the backend cannot honour in a spec is `ErrorKind::Unsupported` and named; nothing in a spec is ever dropped in silence." =>
            Tests(&[
                "errors::what_a_backend_lacks_is_unsupported_and_named",
                "errors::a_gpu_request_is_never_dropped",
                "errors::no_wrong_spec_is_dropped_in_silence",
                "listing::restart_policies_come_back",
                "listing::labels_come_back_as_they_were",
                "listing::variables_arrive_as_they_were",
                "resources::a_published_port_can_be_reached",
                "resources::a_container_is_found_by_its_aliases_on_every_network",
            ]);
        "Implementations MUST bound each call to the engine; the driver sets its own deadline around every call besides." =>
            OUTAGE;
    }
    "ContainerBackend::info" {
        "Who this is." => Tests(&["identity::it_says_who_it_is"]);
        "Never blocks, and answers also while the engine is out of reach." => OUTAGE;
    }
    "ContainerBackend::capabilities" {
        "What this backend can do; fixed for its lifetime." =>
            Tests(&["identity::what_it_can_do_is_fixed"]);
    }
    "ContainerBackend::ping" {
        "Asks the engine for a sign of life." =>
            Tests(&["identity::an_engine_that_answers_gives_a_sign_of_life"]);
        "Success is no proof of health: a `list` that succeeds is." => CALLER;
    }
    "ContainerBackend::create" {
        "Creates a container and does not start it." =>
            Tests(&["lifecycle::create_does_not_start"]);
        "The name is unique within the engine." =>
            Tests(&[
                "lifecycle::create_under_a_taken_name_is_a_conflict_and_changes_nothing",
                "lifecycle::creates_at_once_under_one_name_make_one",
                "lifecycle::a_removed_name_is_free_again",
            ]);
        "Networks and named volumes of the spec exist already." => CALLER;
    }
    "ContainerBackend::rename" {
        "Gives a container another name." => Tests(&["lifecycle::rename_gives_it_another_name"]);
    }
    "ContainerBackend::put_files" {
        "Puts files into a container, which may have run or not, over what is there at their paths." =>
            Tests(&["lifecycle::files_are_there_when_it_starts"]);
        "`ErrorKind::Unsupported` without the capability `files`." =>
            Tests(&["errors::what_a_backend_lacks_is_unsupported_and_named"]);
    }
    "ContainerBackend::start" {
        "Starts a container, which may have run before." =>
            Tests(&["lifecycle::start_runs_it", "lifecycle::an_ended_container_can_be_started_again"]);
        "Returns once the engine says it was started; it may have exited since." =>
            Tests(&["lifecycle::start_runs_it", "lifecycle::an_exit_code_is_kept"]);
        "One that fails leaves its reason in the container's `Exit::error`." =>
            Tests(&["errors::b18_a_missing_program_fails_the_start_and_its_error_is_kept"]);
        "A start that meets a stop under way MUST NOT be swallowed: it fails with `ErrorKind::Conflict`, or the container runs." =>
            Tests(&[
                "lifecycle::b6_start_during_a_stop_is_not_swallowed",
                "lifecycle::b6_start_during_a_stop_by_other_hands_is_not_swallowed",
            ]);
    }
    "ContainerBackend::stop" {
        "Sends the container's stop signal, waits up to `grace`, then kills." =>
            Tests(&["lifecycle::stop_kills_after_the_grace_period"]);
        "Returns when it is down." => Tests(&["lifecycle::stop_returns_when_it_is_down"]);
        "`None` is the container's own grace period." =>
            Tests(&["lifecycle::stop_without_a_grace_period_uses_the_containers_own"]);
    }
    "ContainerBackend::kill" {
        "Kills a container at once, also while a `stop` of it is under way." =>
            Tests(&["lifecycle::kill_ends_it_at_once", "lifecycle::b7_kill_overtakes_a_stop"]);
    }
    "ContainerBackend::remove" {
        "Removes a container, killing it first if it runs." =>
            Tests(&["lifecycle::remove_takes_a_running_container_away"]);
        "Its volumes stay, also those without a name: nobody can tell what is in them." =>
            Tests(&["lifecycle::a_volume_without_a_name_goes_over_to_another_container"]);
    }
    "ContainerBackend::inspect" {
        "What the engine knows about one container." =>
            Tests(&[
                "lifecycle::create_does_not_start",
                "lifecycle::an_exit_code_is_kept",
                "listing::a_plain_container_uses_no_gpu",
                "resources::a_health_check_of_the_engines_becomes_healthy",
            ]);
    }
    "ContainerBackend::list" {
        "All containers that `selector` picks, running or not, each as complete as `inspect`'s answer." =>
            Tests(&[
                "listing::a_list_has_what_runs_and_what_does_not",
                "listing::a_list_picks_by_all_labels",
                "listing::a_list_is_as_complete_as_an_inspect",
            ]);
        "It is the truth of the moment, whatever a backend remembers." =>
            Tests(&[
                "listing::lists_follow_every_change",
                "listing::what_came_and_went_between_two_lists_shows",
            ]);
        "A container that vanishes while the list is made is left out; it is not an error." =>
            Tests(&["listing::a_container_that_vanishes_breaks_no_list"]);
    }
    "ContainerBackend::watch" {
        "What happens to containers, as it happens." =>
            Tests(&[
                "events::a_life_is_told",
                "events::an_exit_is_told_with_its_code",
                "events::a_stop_is_told_as_wanted",
            ]);
        "Every stream tells all of it." => Tests(&["events::every_stream_tells_all"]);
        "The stream begins with `EventKind::Resync` once it is subscribed, reconnects by itself and says `Resync` again each time, and ends only when dropped." =>
            Tests(&["events::a_stream_begins_with_resync"]);
        "It SHOULD say `Resync` also when its connection breaks: an engine that ends and is back before the next list would not be missed otherwise." =>
            OUTAGE;
        "Events are hints: they may be lost, repeated and out of order, so consumers also `list`." =>
            CALLER;
    }
    "ContainerBackend::logs" {
        "A container's log, oldest line first, each from its stream and with its time where the engine knows them." =>
            Tests(&[
                "logs::lines_come_in_order",
                "logs::stderr_is_told_from_stdout",
                "logs::lines_have_times_that_do_not_go_back",
            ]);
        "`tail` and `since` leave out what is older." =>
            Tests(&["logs::a_tail_is_the_last_lines", "logs::since_leaves_out_what_was_before"]);
        "Lines are split at 16 KiB; whatever bytes the container wrote, memory stays bounded." =>
            Tests(&[
                "logs::e3_a_long_line_is_split_and_nothing_of_it_is_lost",
                "logs::e4_a_terminal_cannot_forge_frames",
                "logs::a_last_line_needs_no_end",
            ]);
        "With `follow` the stream ends when the container does; without it, at the end of the log." =>
            Tests(&[
                "logs::a_followed_log_goes_on_and_ends_with_its_container",
                "logs::e10_following_a_silent_container_waits",
                "logs::a_log_that_is_not_followed_ends_while_its_container_runs",
            ]);
        "A container that never ran has an empty log." =>
            Tests(&["logs::a_log_of_what_never_ran_is_empty"]);
    }
    "ContainerBackend::stats" {
        "One reading of a container's resource use; a container that does not run reads as zeros." =>
            Tests(&[
                "resources::what_runs_uses_something",
                "resources::what_does_not_run_uses_nothing",
            ]);
    }
    "ContainerBackend::images" { "The engine's images, if it has such a thing." => TITLE; }
    "ContainerBackend::networks" { "The engine's networks, if it has such a thing." => TITLE; }
    "ContainerBackend::volumes" { "The engine's named volumes, if it has such a thing." => TITLE; }
    "Images" { "An engine's store of images." => TITLE; }
    "Images::inspect" {
        "The image that `reference` names here, or `None` if the engine does not have it." =>
            Tests(&["resources::a_present_image_is_found_and_a_missing_one_is_none"]);
    }
    "Images::pull" {
        "Fetches `reference` from its registry, for `platform` or else the engine's own, calling `progress` whenever something moved." =>
            REGISTRY;
        "One that is nowhere is an error." =>
            Tests(&["resources::a_pull_of_what_is_nowhere_fails"]);
        "Dropping the future stops the pull; layers that arrived may be kept." => REGISTRY;
    }
    "Images::build" {
        "Builds an image, calling `progress` whenever something moved." =>
            Tests(&["resources::a_built_image_is_there"]);
        "What is outside the context stays outside, wherever links lead." => BUILDS;
        "A context that is too big is `Invalid`, and so is one that is not there." => BUILDS;
        "Without the capability `builds`, and for what a spec asks in vain, it is `Unsupported`." =>
            Tests(&["errors::what_a_backend_lacks_is_unsupported_and_named"]);
        "Dropping the future stops the build; layers that were made may be kept." => BUILDS;
    }
    "Networks" { "An engine's networks." => TITLE; }
    "Networks::find" {
        "All networks called `name`: an engine may have several of one name." =>
            Tests(&["resources::networks_are_made_found_and_removed"]);
    }
    "Networks::list" {
        "All networks that `selector` picks." =>
            Tests(&["resources::networks_are_made_found_and_removed"]);
    }
    "Networks::create" {
        "Creates a network; `Conflict` if the name is taken." =>
            Tests(&["resources::a_second_network_of_one_name_is_a_conflict"]);
    }
    "Networks::remove" {
        "Removes a network by id." => Tests(&["resources::networks_are_made_found_and_removed"]);
        "One that is gone is success; one in use is `Conflict`." =>
            Tests(&[
                "resources::networks_are_made_found_and_removed",
                "resources::a_network_in_use_is_not_removed",
            ]);
    }
    "Volumes" { "An engine's named volumes." => TITLE; }
    "Volumes::find" {
        "The volume called `name`, or `None`." => Tests(&["resources::volumes_are_made_and_found"]);
    }
    "Volumes::create" {
        "Creates a volume; one that exists under the name is left as it is." =>
            Tests(&["resources::volumes_are_made_and_found"]);
    }
}
