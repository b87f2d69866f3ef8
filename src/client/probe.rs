//! What the engines of somebody else's cluster are. A hub tells ids and uuids only, so each engine
//! is asked (`kernel_info_request` over mux); until it says that it is ours, no work goes there.
//! Also how long such a controller may say nothing.

use super::command::{ClientEvent, OtherEngine};
use super::event::{Channel, Now, Number};
use super::state::State;
use prust::EngineId;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The implementation by which our engines answer.
const OURS: &str = "prust";
/// An engine is asked again after this, then after twice as long: its sockets may not have been
/// connected, or it is a Python engine with a long task.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// It is not asked less often than this.
const ASKED_EVERY_MAX: Duration = Duration::from_secs(64);
/// A controller that has answered nothing for so long has ended without a word. It is asked every
/// five seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The engines that are not known to be ours.
#[derive(Default)]
pub(super) struct Others {
    engines: BTreeMap<EngineId, Other>,
    /// Questions that are not answered.
    asked: HashMap<Number, EngineId>,
    /// When the controller was heard last.
    heard: Duration,
    /// It was given up.
    silent: bool,
}

impl Others {
    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }
}

struct Other {
    uuid: Arc<str>,
    implementation: Option<String>,
    ask_at: Duration,
    pause: Duration,
}

impl State {
    /// Asks new engines what they are; those that need not be asked come back.
    pub(super) fn probe(
        &mut self,
        engines: Vec<(EngineId, String)>,
        now: Now,
    ) -> Vec<(EngineId, String)> {
        if !self.settings.foreign {
            return engines;
        }
        let mut known = Vec::new();
        let mut due = Vec::new();
        for (id, uuid) in engines {
            if self.is_live(id, &uuid) {
                known.push((id, uuid));
                continue;
            }
            let new = || Other {
                uuid: uuid.as_str().into(),
                implementation: None,
                ask_at: now.at,
                pause: ASKED_AGAIN_AFTER,
            };
            let other = self.others.engines.entry(id).or_insert_with(new);
            if *other.uuid != *uuid {
                *other = new();
            }
            if other.implementation.is_none() && other.ask_at <= now.at {
                other.ask_at = now.at + other.pause;
                other.pause = (other.pause * 2).min(ASKED_EVERY_MAX);
                due.push((id, other.uuid.clone()));
            }
        }
        for (id, uuid) in due {
            let content = self.empty.clone();
            let number = self.send_plain(Channel::Mux, Some(uuid), "kernel_info_request", content);
            self.others.asked.insert(number, id);
        }
        known
    }

    /// An engine has said what it is.
    pub(super) fn engine_said(&mut self, number: Number, implementation: Option<String>, now: Now) {
        let Some(id) = self.others.asked.remove(&number) else { return };
        // Nothing but an error: it is asked again.
        let (Some(other), Some(said)) = (self.others.engines.get_mut(&id), implementation) else {
            return;
        };
        if said == OURS {
            let uuid = other.uuid.to_string();
            self.others.engines.remove(&id);
            self.tell_others();
            self.live_now(vec![(id, uuid)], now);
        } else {
            other.implementation = Some(said);
            self.tell_others();
        }
    }

    /// An engine that was not ours has gone.
    pub(super) fn lose_other(&mut self, id: EngineId, uuid: &str) {
        if self.others.engines.get(&id).is_some_and(|other| &*other.uuid == uuid) {
            self.others.engines.remove(&id);
            self.others.asked.retain(|_, of| *of != id);
            self.tell_others();
        }
    }

    /// Those that are not in the controller's list any more.
    pub(super) fn keep_others(&mut self, listed: &[(EngineId, String)]) {
        let gone = |(id, other): (&EngineId, &Other)| {
            let there = listed.iter().any(|(live, uuid)| live == id && *uuid == *other.uuid);
            (!there).then(|| (*id, other.uuid.clone()))
        };
        for (id, uuid) in self.others.engines.iter().filter_map(gone).collect::<Vec<_>>() {
            self.lose_other(id, &uuid);
        }
    }

    /// Whether balanced work has to name the engines it may go to.
    pub(super) fn has_others(&self) -> bool {
        !self.others.engines.is_empty()
    }

    /// What an engine is that is not ours, or has not said that it is.
    pub(super) fn other(&self, id: EngineId) -> Option<&str> {
        let other = self.others.engines.get(&id)?;
        Some(other.implementation.as_deref().unwrap_or("something that has not answered yet"))
    }

    fn tell_others(&mut self) {
        let engines = self.others.engines.iter().map(|(id, other)| OtherEngine {
            id: *id,
            uuid: other.uuid.to_string(),
            implementation: other.implementation.clone(),
        });
        let event = ClientEvent::Others { engines: engines.collect() };
        self.emit(event);
    }

    /// The controller has answered something.
    pub(super) fn heard(&mut self, now: Now) {
        self.others.heard = now.at;
        self.others.silent = false;
    }

    /// Gives a controller up that has ended without a word: what waits for it would wait for ever.
    /// Its engines come back with it, should it have been but slow.
    pub(super) fn end_by_silence(&mut self, now: Now) {
        let is_over = now.at >= self.others.heard + SILENCE_MAX;
        if !self.settings.foreign || !self.connected || self.others.silent || !is_over {
            return;
        }
        self.others.silent = true;
        let cause = format!("the controller has not answered for {} s", SILENCE_MAX.as_secs());
        let engines = self.live();
        self.controller_gone(&cause, now);
        self.forget_lost(&engines);
    }
}
