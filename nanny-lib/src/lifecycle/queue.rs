//! The queue for a GPU: who is next, for how long others may go first, and who must make way.
//!
//! A start that finds no room and is willing to wait is work like any other start, without a claim.
//! After every step the queue is asked whether anybody in it can be let in now. Whoever is not next
//! may go before, as long as room is found for it; once the next one has waited for
//! [`max_bypass`](super::GpuSettings::max_bypass), nobody does, and those are stopped for it whom
//! `force` would stop, as soon as they have had the GPU for
//! [`min_hold`](super::GpuSettings::min_hold).
//!
//! The next one is the first who can be served so: who waits for the pinned, for those of a higher
//! priority, for other hands or for an engine that is away is in nobody's way.

use std::cmp::Reverse;
use std::time::Duration;

use jiff::Timestamp;

use super::admission::{Admitted, room_may_come};
use super::service::{Desired, Up, Waiter, Work};
use super::world::{Out, Timer, World};
use super::{Answer, Effect, Now};
use crate::error::Error;
use crate::gpu::Placement;
use crate::name::ServiceName;
use crate::nanny::{Change, QueueView, StartOptions};

/// A start that waits for a GPU.
#[derive(Debug)]
pub(super) struct Queued {
    options: StartOptions,
    since: Duration,
    since_wall: Timestamp,
    /// Who came first among equals.
    number: u64,
    /// When it gives up.
    until: Duration,
    /// Why it waits.
    error: Error,
}

impl World {
    /// Lets a start wait for a GPU; `error` is why it must.
    pub(super) fn enqueue(
        &mut self,
        name: &ServiceName,
        options: StartOptions,
        error: Error,
        waiter: Option<Waiter>,
        now: Now,
        out: &mut Out,
    ) {
        let until = now.mono.saturating_add(options.queue);
        let waits_already = self.up_to_come(name).and_then(|up| up.queued.as_mut());
        if let Some(queued) = waits_already {
            queued.until = queued.until.max(until);
        } else {
            let mut up = self.new_up(name, options, now);
            let number = self.next_sequence();
            up.queued = Some(Queued {
                options,
                since: now.mono,
                since_wall: now.wall,
                number,
                until,
                error,
            });
            self.queue.insert(name.clone());
            let holds = self.holds(name);
            if let Some(service) = self.services.get_mut(name)
                && !holds
                && service.restarts.due.is_none()
            {
                // A start that was under way waits as well, and counts no more unless it is let in.
                service.desired = Desired::Stopped;
            }
            self.begin_up(name, up, None, now, out);
        }
        self.schedule(until, Timer::Queue);
        let waiter = waiter.map(|waiter| Waiter { queues_until: Some(until), ..waiter });
        self.join(name, waiter, now, out);
        self.touch_queue();
    }

    /// Whether a service waits for a GPU.
    pub(super) fn is_queued(&self, name: &ServiceName) -> bool {
        self.queued(name).is_some()
    }

    fn queued(&self, name: &ServiceName) -> Option<&Queued> {
        match &self.services.get(name)?.work {
            Work::Up(up) => up.queued.as_ref(),
            Work::None | Work::Down(_) => None,
        }
    }

    fn queued_mut(&mut self, name: &ServiceName) -> Option<&mut Queued> {
        match &mut self.services.get_mut(name)?.work {
            Work::Up(up) => up.queued.as_mut(),
            Work::None | Work::Down(_) => None,
        }
    }

    /// Nobody goes before whoever is next and has waited long enough, but by force.
    pub(super) fn in_turn(
        &self,
        name: &ServiceName,
        options: StartOptions,
        now: Now,
    ) -> Result<(), Error> {
        let needs_gpu = self.services.get(name).is_some_and(|service| service.needs_gpu());
        if !needs_gpu || options.force || self.ledger.get(name).is_some() {
            return Ok(());
        }
        let is_next =
            |next: &ServiceName| self.usable(next.as_str()).is_ok() && self.takes_its_turn(next);
        match self.gpu_queue(now).into_iter().find(is_next) {
            Some(next) if next != *name && self.has_waited(&next, now) => {
                let holders = vec![next.to_string()];
                Err(Error::GpuConflict { holders, account: Box::new(self.account(name, options)) })
            }
            _ => Ok(()),
        }
    }

    /// Whether it has let others go first for long enough.
    fn has_waited(&self, name: &ServiceName, now: Now) -> bool {
        let (Some(limit), Some(queued)) = (self.settings.gpu.max_bypass, self.queued(name)) else {
            return false;
        };
        now.mono >= queued.since.saturating_add(limit)
    }

    /// The priority of one who waits, which grows with its waiting.
    fn rank(&self, name: &ServiceName, now: Duration) -> Option<i128> {
        let waited = now.saturating_sub(self.queued(name)?.since).as_nanos();
        let aged = waited / self.settings.gpu.ageing.as_nanos().max(1);
        let priority = i128::from(self.services[name].wanted.manifest.priority);
        Some(priority.saturating_add(i128::try_from(aged).unwrap_or(i128::MAX)))
    }

    /// Services that wait for a GPU, the next one first: by priority, which grows while they wait,
    /// and then in the order in which they came.
    #[must_use]
    pub fn gpu_queue(&self, now: Now) -> Vec<ServiceName> {
        let waiting = self.queue.iter().filter_map(|name| {
            Some((Reverse(self.rank(name, now.mono)?), self.queued(name)?.number, name))
        });
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, _, name)| name.clone()).collect()
    }

    /// Lets in whom there is room for now. Called at the end of every step.
    pub(super) fn serve_queue(&mut self, now: Now, out: &mut Out) {
        if self.queue.is_empty() {
            return;
        }
        self.answer_the_impatient(now, out);
        // Each round takes one out of the queue.
        while self.serve_one(now, out) {
            self.touch_queue();
        }
        let gone: Vec<_> =
            self.queue.iter().filter(|name| !self.is_queued(name)).cloned().collect();
        for name in &gone {
            self.queue.remove(name);
        }
    }

    /// Answers callers who wanted to wait for a GPU for less than those who go on waiting with them.
    fn answer_the_impatient(&mut self, now: Now, out: &mut Out) {
        for name in self.queue.clone() {
            let Some(Work::Up(up)) = self.services.get_mut(&name).map(|s| &mut s.work) else {
                continue;
            };
            let Some(queued) = up.queued.as_ref().filter(|queued| queued.until > now.mono) else {
                continue;
            };
            let is_over =
                |waiter: &mut Waiter| waiter.queues_until.is_some_and(|at| at <= now.mono);
            for waiter in up.waiters.extract_if(.., is_over) {
                let error = queued.error.clone();
                out.push(Effect::Reply(waiter.request, Answer::Started(Err(error))));
            }
        }
    }

    /// Takes the first out of the queue who can be let in, or whose turn will never come.
    fn serve_one(&mut self, now: Now, out: &mut Out) -> bool {
        let mut is_next = true;
        for name in self.gpu_queue(now) {
            let over = self.queued(&name).filter(|queued| queued.until <= now.mono);
            if let Some(error) = over.map(|queued| queued.error.clone()) {
                self.leave_queue(&name, &error, now, out);
                return true;
            }
            if self.services[&name].gone {
                self.leave_queue(&name, &Error::NotFound { name: name.to_string() }, now, out);
                return true;
            }
            if self.is_complete(&name) {
                self.found_running(&name, now, out);
                return true;
            }
            // Whoever cannot be started now is in nobody's way.
            if self.usable(name.as_str()).is_err() {
                continue;
            }
            match self.admit_queued(&name, is_next, now) {
                Ok((options, admitted)) => {
                    let up = self.grant(&name, options, admitted, now, out);
                    self.let_in(&name, up, now, out);
                    return true;
                }
                Err(error) if room_may_come(&error) => {
                    if let Some(queued) = self.queued_mut(&name) {
                        queued.error = error;
                    }
                }
                Err(error) => {
                    self.leave_queue(&name, &error, now, out);
                    return true;
                }
            }
            let takes_its_turn = self.takes_its_turn(&name);
            if takes_its_turn && self.has_waited(&name, now) {
                return false;
            }
            is_next &= !takes_its_turn;
        }
        false
    }

    /// Asks for leave, the next one as if by force once it has waited long enough.
    fn admit_queued(
        &mut self,
        name: &ServiceName,
        is_next: bool,
        now: Now,
    ) -> Result<(StartOptions, Admitted), Error> {
        let Some(queued) = self.queued(name) else {
            return Err(Error::NotFound { name: name.to_string() });
        };
        let (options, since) = (queued.options, queued.since);
        let refused = match self.admit(name, options) {
            Ok(admitted) => return Ok((options, admitted)),
            Err(error) => error,
        };
        let Some(limit) = self.settings.gpu.max_bypass.filter(|_| is_next) else {
            return Err(refused);
        };
        let due = since.saturating_add(limit);
        if now.mono < due {
            self.schedule(due, Timer::Queue);
            return Err(refused);
        }
        let Some((victims, placement)) = self.would_evict(name, options) else {
            return Err(refused);
        };
        let held = victims.iter().filter_map(|victim| self.held_until(victim)).max();
        match held.filter(|until| *until > now.mono) {
            Some(until) => {
                self.schedule(until, Timer::Queue);
                Err(refused)
            }
            None => {
                let forced = StartOptions { force: true, ..options };
                Ok((forced, Admitted::Evicting(victims, placement)))
            }
        }
    }

    /// Whether it gets its GPU in the end although nobody gives one up. Who must wait for the
    /// pinned, for those of a higher priority or for other hands keeps nobody from other room.
    fn takes_its_turn(&self, name: &ServiceName) -> bool {
        let options = self.queued(name).map(|queued| queued.options);
        options.is_some_and(|options| {
            self.would_evict(name, options).is_some() || self.admit(name, options).is_ok()
        })
    }

    /// Whom `force` would stop for it, and where it then is, were those pinned whose priority is
    /// higher than its own has grown to. `None` if that makes no room, or if it would go beside a
    /// container of other hands: nobody does so unasked.
    fn would_evict(
        &self,
        name: &ServiceName,
        options: StartOptions,
    ) -> Option<(Vec<ServiceName>, Placement)> {
        let forced = StartOptions { force: true, ..options };
        let rank = self.rank(name, self.now.mono)?;
        let mut snapshot = self.gpu_snapshot(name);
        for holder in &mut snapshot.holders {
            holder.pinned |= i128::from(holder.priority) > rank;
        }
        match self.admit_beside(name, forced, &snapshot) {
            Ok(Admitted::Evicting(victims, placement)) => Some((victims, placement)),
            Ok(Admitted::Freely(_) | Admitted::WithoutGpu) | Err(_) => None,
        }
    }

    /// Until when nobody but `force` takes its GPU away. One that is being started has not had it yet.
    pub(super) fn held_until(&self, name: &ServiceName) -> Option<Duration> {
        let service = self.services.get(name)?;
        let since = match &service.work {
            Work::Up(_) => self.now.mono,
            Work::None => service.gpu_since?,
            Work::Down(_) => return None,
        };
        Some(since.saturating_add(self.settings.gpu.min_hold))
    }

    /// It is its turn: its start goes on as one that was let in at once.
    fn let_in(&mut self, name: &ServiceName, up: Up, now: Now, out: &mut Out) {
        self.leave_for_start(name);
        self.take_in_hand(name, Desired::Running);
        self.begin_up(name, up, None, now, out);
    }

    /// A start that waited goes on, with those who wait for it.
    pub(super) fn leave_for_start(&mut self, name: &ServiceName) {
        if !self.is_queued(name) {
            return;
        }
        self.touch_queue();
        self.queue.remove(name);
        if let Some(Work::Up(waiting)) = self.services.get_mut(name).map(|s| &mut s.work) {
            waiting.queued = None;
        }
    }

    /// Somebody else has started it.
    fn found_running(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let Some(up) = self.take_queued(name) else { return };
        self.take_in_hand(name, Desired::Running);
        for waiter in up.waiters {
            self.already_running(name, Some(waiter), now, out);
        }
        self.rest(name, now, out);
    }

    /// It waits no longer, and is not started: nothing else was changed.
    pub(super) fn leave_queue(
        &mut self,
        name: &ServiceName,
        error: &Error,
        now: Now,
        out: &mut Out,
    ) {
        let Some(up) = self.take_queued(name) else { return };
        if up.waiters.is_empty() {
            // Such as one that the last run had begun: nobody is told otherwise.
            out.push(Effect::Announce(Change::Interrupted { service: name.clone() }));
        }
        for waiter in up.waiters {
            out.push(Effect::Reply(waiter.request, Answer::Started(Err(error.clone()))));
        }
        // What ended while it waited is answered only now.
        self.observe_exits(name, false, now, out);
        self.rest(name, now, out);
    }

    /// Takes a start out of the queue.
    pub(super) fn take_queued(&mut self, name: &ServiceName) -> Option<Up> {
        if !self.is_queued(name) {
            return None;
        }
        self.touch_queue();
        self.queue.remove(name);
        let service = self.services.get_mut(name)?;
        match std::mem::replace(&mut service.work, Work::None) {
            Work::Up(up) => Some(up),
            Work::None | Work::Down(_) => None,
        }
    }

    /// Places in the queue change for all.
    fn touch_queue(&mut self) {
        for name in self.queue.clone() {
            self.touch(&name);
        }
    }

    /// A service's place in the queue.
    pub(super) fn queue_view(&self, name: &ServiceName, now: Now) -> Option<QueueView> {
        let queued = self.queued(name)?;
        let position = self.gpu_queue(now).iter().position(|waiting| waiting == name)?;
        let reason = queued.error.to_string();
        Some(QueueView { position, since: queued.since_wall, reason })
    }
}
