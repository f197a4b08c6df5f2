//! Calls to the engines on their way: sent, executed, answered, or not.

use nanny_lib::backend::{ErrorKind, EventKind};
use tokio::sync::oneshot;

use super::engine::{Deferred, Mood, Op, Reply, Result, Starter, error};
use super::play::Play;
use super::temper::Fate;

/// A call on its way.
pub(super) struct Call {
    number: u64,
    epoch: u32,
    engine: usize,
    op: Op,
    fate: Fate,
    reply: Option<oneshot::Sender<Result<Reply>>>,
}

/// How late the late start of the examination is, in milliseconds.
const LATE: u64 = 14_000;

impl Play {
    /// A nanny sends a call, and is told its number.
    pub(super) fn send(
        &mut self,
        epoch: u32,
        engine: usize,
        op: Op,
        reply: oneshot::Sender<Result<Reply>>,
    ) -> u64 {
        // Whoever is dead waits for ever.
        if epoch != self.epoch {
            return 0;
        }
        self.calls += 1;
        let number = self.calls;
        let is_late = matches!(op, Op::Start(_)) && std::mem::take(&mut self.next_start_is_late);
        let fate = self.temper.fate(&mut self.random, op.changes_something());
        let fate = if is_late { Fate::Late } else { fate };
        let delay = self.temper.delay(&mut self.random);
        let call = Call { number, epoch, engine, op, fate, reply: Some(reply) };
        if call.op.changes_something() {
            self.note(|| format!("  call {number} on {engine}: {} ({fate:?})", shown(&call.op)));
            self.judge_call(engine, &call.op);
            if let Some(container) = call.op.container() {
                self.in_flight.insert(number, (container.clone(), call.op.clone()));
            }
        }
        if self.temper.kills_here(&mut self.random) {
            if self.random.percent(50) {
                self.later(delay, |play| play.arrive(call));
            }
            self.note(|| format!("the nanny is killed at call {number}"));
            self.kill(false);
            return number;
        }
        match fate {
            Fate::Refused(kind) => {
                self.later(delay, move |play| play.answer(call, Err(error(kind))));
            }
            Fate::Late => {
                let at = if is_late { LATE } else { 100 + self.random.below(10_000) };
                let Call { op, reply, .. } = call;
                let late = Call { number, epoch, engine, op: op.clone(), fate, reply: None };
                self.later(at, |play| play.arrive(late));
                let told = Call { number, epoch, engine, op, fate, reply };
                let kind = [ErrorKind::Timeout, ErrorKind::Unavailable];
                let kind = self.random.pick(&kind).unwrap_or(ErrorKind::Timeout);
                self.soon(100, move |play| play.answer(told, Err(error(kind))));
            }
            Fate::Obeyed | Fate::Lost(_) => self.later(delay, |play| play.arrive(call)),
        }
        number
    }

    /// Whoever sent the call waits for it no more.
    pub(super) fn forget(&mut self, number: u64) {
        self.in_flight.remove(&number);
    }

    /// A call reaches its engine.
    pub(super) fn arrive(&mut self, call: Call) {
        match self.engines[call.engine].mood {
            Mood::Down => {
                let delay = self.random.below(50);
                self.later(delay, |play| play.answer(call, Err(error(ErrorKind::Unavailable))));
                return;
            }
            Mood::Wedged => {
                self.engines[call.engine].deferred.push(Deferred::Arrival(call));
                return;
            }
            Mood::Up => {}
        }
        let given_up = call.reply.as_ref().is_none_or(oneshot::Sender::is_closed);
        let dead = call.epoch != self.epoch;
        if dead && self.random.percent(50) {
            return;
        }
        let by = match (dead, given_up) {
            (true, _) => Starter::Others,
            (false, true) => Starter::UsTooLate,
            (false, false) => Starter::Us,
        };
        let changes = call.op.changes_something();
        if changes {
            self.note(|| format!("  call {} is executed ({by:?})", call.number));
        }
        match self.execute(call.engine, &call.op, by) {
            Ok((reply, busy)) => {
                let delay = busy + self.temper.delay(&mut self.random);
                self.later(delay, move |play| play.deliver(call, Ok(reply)));
            }
            Err(failed) => {
                let delay = self.temper.delay(&mut self.random);
                self.later(delay, move |play| play.deliver(call, Err(failed)));
            }
        }
        self.judge_engines();
    }

    /// A reply sets out on its way back.
    pub(super) fn deliver(&mut self, mut call: Call, result: Result<Reply>) {
        match self.engines[call.engine].mood {
            Mood::Down => self.answer(call, Err(error(ErrorKind::Unavailable))),
            Mood::Wedged => {
                self.engines[call.engine].deferred.push(Deferred::Reply(call, Box::new(result)));
            }
            Mood::Up => match call.fate {
                Fate::Lost(Some(kind)) => self.answer(call, Err(error(kind))),
                // Nobody ever answers. Whoever asked must give it up.
                Fate::Lost(None) => drop(call.reply.take()),
                Fate::Obeyed | Fate::Refused(_) | Fate::Late => self.answer(call, result),
            },
        }
    }

    pub(super) fn answer(&mut self, call: Call, result: Result<Reply>) {
        if let Err(failed) = &result
            && call.op.changes_something()
        {
            self.note(|| format!("  call {} fails: {:?}", call.number, failed.kind()));
        }
        if call.epoch == self.epoch
            && let Some(reply) = call.reply
        {
            // Whoever has given it up is not interested.
            let _ = reply.send(result);
        }
    }

    /// What the engine does, and for how long it is at it.
    pub(super) fn execute(&mut self, engine: usize, op: &Op, by: Starter) -> Result<(Reply, u64)> {
        let times = (self.now(), self.wall());
        let at = &mut self.engines[engine];
        Ok(match op {
            Op::Ping => (Reply::Done, 0),
            Op::List => (Reply::Containers(at.list()), 0),
            Op::Inspect(id) => match at.containers.get(id) {
                Some(held) => (Reply::Container(Box::new(held.info.clone())), 0),
                None => return Err(error(ErrorKind::NotFound)),
            },
            Op::Image(reference) => (Reply::Image(at.images.contains(reference)), 0),
            Op::Pull(reference) => {
                let most = if self.random.percent(20) { 20_000 } else { 50 };
                let takes = self.random.below(most);
                let reference = reference.clone();
                self.later(takes, move |play| {
                    play.engines[engine].images.insert(reference);
                });
                (Reply::Done, takes + 1)
            }
            Op::FindNetworks(name) => {
                let named = at.networks.values().filter(|network| network.name == *name);
                (Reply::Networks(named.cloned().collect()), 0)
            }
            Op::ListNetworks => (Reply::Networks(at.networks.values().cloned().collect()), 0),
            Op::CreateNetwork(spec) => {
                at.create_network(spec)?;
                (Reply::Done, 1)
            }
            Op::RemoveNetwork(id) => {
                at.networks.remove(id);
                (Reply::Done, 1)
            }
            Op::FindVolume(name) => (Reply::Volume(at.volumes.contains(name)), 0),
            Op::CreateVolume(name) => {
                at.volumes.insert(name.clone());
                (Reply::Done, 1)
            }
            Op::Create(spec) => {
                let id = at.create(["p", "q"][engine], spec, times.0)?;
                self.emit(engine, &id, &EventKind::Created);
                (Reply::Made(id), 1)
            }
            Op::Rename(id, name) => {
                at.rename(id, name)?;
                self.emit(engine, id, &EventKind::Changed);
                (Reply::Done, 1)
            }
            Op::Fill(id, files) => {
                at.fill(id, *files)?;
                (Reply::Done, 1)
            }
            Op::Start(id) => {
                let swallows = self.temper.swallows;
                self.mark(engine, id);
                let name = self.engines[engine].containers.get(id).map(|held| &held.info.name);
                if name.is_some_and(|name| self.refused.contains(name)) {
                    return Err(error(ErrorKind::Invalid));
                }
                if self.engines[engine].start(id, by, swallows, times)? {
                    self.started(engine, id);
                }
                (Reply::Done, self.random.below(300))
            }
            Op::Stop(id, grace) => {
                let grace = u64::try_from(grace.as_millis()).unwrap_or(10_000);
                let after = if self.random.percent(10) { grace } else { self.random.below(2000) };
                self.ask_to_stop(engine, id, after)?;
                (Reply::Done, after + 1)
            }
            Op::Kill(id) => {
                self.ask_to_stop(engine, id, 0)?;
                (Reply::Done, 1)
            }
            Op::Remove(id) => {
                self.mark(engine, id);
                if self.engines[engine].remove(id, times.0).is_some() {
                    self.emit(engine, id, &EventKind::Removed);
                }
                (Reply::Done, 1)
            }
        })
    }
}

pub(super) fn shown(op: &Op) -> String {
    match op {
        Op::Create(spec) => format!("create {}", spec.name),
        other => format!("{other:?}"),
    }
}
