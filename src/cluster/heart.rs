//! The heart monitor: beats go out, echoes come back, who is silent for too long is given up, and
//! who answers again after that comes back as who it was.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::json;

use crate::broadcast::child_id;
use crate::keep::KeptEngine;
use crate::stop::interruption;
use crate::{Channel, Cluster, Effect, EngineId, Frames, Millis};

/// A stock engine that misses more beats than this in a row is given up, as in ipyparallel.
const MISSES_MAX: u32 = 10;

/// While an engine waits for its first echo beats come this fast, so that it is announced within
/// milliseconds of being connected; and a little slower if it takes long.
const FIRST_BEAT_PERIOD: Millis = Millis(10);
const LATER_BEAT_PERIOD: Millis = Millis(100);
const LATER_AFTER: Millis = Millis(1000);

/// A registration without an echo is forgotten after this time.
const STALLED_AFTER: Millis = Millis(30_000);

/// A beat that is sent so much later than it was due says that the controller itself stood still
/// (a busy machine, a closed lid): what it did not hear in that time proves nothing.
const LATE_BEAT: Millis = Millis(500);

/// Engines that are remembered in case that they answer again. The oldest is forgotten.
const AWAY_MAX: usize = 1 << 16;

/// For so long after a restart beats come faster, so that the engines of before are back soon.
const EXPECTED_FOR: Millis = Millis(30_000);

/// When the next beat is due, and which echoes count.
#[derive(Debug)]
pub(crate) struct Beat {
    n_sent: u64,
    /// The first beat of the period before this one; older echoes do not count.
    oldest: u64,
    period_start: u64,
    next_period: Millis,
    /// While engines of ours are registered.
    next_quick: Option<Millis>,
    /// While engines are registered that have not answered yet.
    pub(crate) next_extra: Option<Millis>,
    /// Until when engines of a controller before this one are waited for.
    expected_until: Option<Millis>,
}

impl Beat {
    pub(crate) fn new(now: Millis) -> Self {
        let (next_quick, next_extra) = (None, None);
        Self {
            n_sent: 0,
            oldest: 0,
            period_start: 0,
            next_period: now,
            next_quick,
            next_extra,
            expected_until: None,
        }
    }

    /// Beats faster for a while.
    pub(crate) fn expect(&mut self, now: Millis) {
        self.next_extra = Some(now);
        self.expected_until = Some(now + EXPECTED_FOR);
    }

    fn due(&self) -> Millis {
        let early = [self.next_quick, self.next_extra];
        early.into_iter().flatten().min().map_or(self.next_period, |at| at.min(self.next_period))
    }
}

/// An engine that was given up because it was silent, or that a controller before this one knew.
#[derive(Clone, Debug)]
pub(crate) struct Away {
    pub(crate) id: EngineId,
    pub(crate) is_ours: bool,
    /// What it had when it was given up; nobody waits for that any more.
    pub(crate) left: Vec<String>,
    /// Whether it is known from a controller before this one.
    pub(crate) is_restored: bool,
    pub(crate) n_completed: u64,
}

/// The engines that may come back, by uuid.
#[derive(Debug, Default)]
pub(crate) struct AwayList {
    /// With their place in the order; lookups only.
    by_uuid: HashMap<Vec<u8>, (u64, Away)>,
    order: BTreeMap<u64, Vec<u8>>,
    n_added: u64,
    ids: BTreeSet<EngineId>,
}

impl AwayList {
    pub(crate) fn add(&mut self, uuid: Vec<u8>, away: Away) {
        self.take(&uuid);
        self.n_added += 1;
        self.ids.insert(away.id);
        self.order.insert(self.n_added, uuid.clone());
        self.by_uuid.insert(uuid, (self.n_added, away));
        if self.order.len() > AWAY_MAX {
            let (_, oldest) = self.order.pop_first().expect("it is longer than its limit");
            self.take(&oldest);
        }
    }

    pub(crate) fn take(&mut self, uuid: &[u8]) -> Option<Away> {
        let (at, away) = self.by_uuid.remove(uuid)?;
        self.order.remove(&at);
        self.ids.remove(&away.id);
        Some(away)
    }

    /// Returns them as a store keeps them, the oldest first.
    pub(crate) fn kept(&self) -> impl Iterator<Item = KeptEngine> {
        self.order.values().map(|uuid| {
            let (_, away) = &self.by_uuid[uuid];
            let uuid = String::from_utf8_lossy(uuid).into_owned();
            KeptEngine { id: away.id, uuid, is_ours: away.is_ours }
        })
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(crate) fn has(&self, uuid: &[u8]) -> bool {
        self.by_uuid.contains_key(uuid)
    }

    pub(crate) fn knows_id(&self, id: EngineId) -> bool {
        self.ids.contains(&id)
    }
}

impl Cluster {
    /// Takes the echo of a beat in: `[uuid, beat]`, as every stock engine sends it.
    pub(crate) fn echo(&mut self, frames: &Frames, now: Millis) {
        let [uuid, beat] = frames.as_slice() else {
            self.counts.malformed += 1;
            return;
        };
        let number = std::str::from_utf8(beat).ok().and_then(|text| text.parse::<u64>().ok());
        let Some(number) = number else {
            self.counts.malformed += 1;
            return;
        };
        let is_fresh = number >= self.beat.oldest && number < self.beat.n_sent;
        match self.by_uuid.get(uuid).copied() {
            Some(id) if is_fresh => {
                let engine = self.engines.get_mut(&id).expect("by_uuid and engines agree");
                engine.heard = true;
                engine.last_heard = now;
                if !engine.announced {
                    self.announce(id, now);
                }
            }
            Some(_) => (),
            None if self.away.has(uuid) => {
                if is_fresh {
                    self.comes_back(uuid, now);
                }
            }
            None => self.counts.malformed += 1,
        }
    }

    /// An engine that was given up answers again: it has its number back, and drops what it had and
    /// nobody waits for any more.
    fn comes_back(&mut self, uuid: &[u8], now: Millis) {
        let Some(away) = self.away.take(uuid) else { return };
        let uuid = String::from_utf8_lossy(uuid).into_owned();
        let mut engine = self.new_engine(away.id, uuid.clone(), away.is_ours, now);
        engine.n_completed = away.n_completed;
        // What was queued again may come to this engine once more, and is not to be dropped then.
        let mut left = away.left;
        left.retain(|msg_id| self.records.by_id(msg_id).is_none_or(|record| !record.is_open()));
        if !left.is_empty() {
            // What a stock engine is at by now may be something new: it cannot tell.
            self.effects.extend(interruption(&engine, &left, !away.is_restored));
        }
        self.by_uuid.insert(uuid.into_bytes(), away.id);
        self.engines.insert(away.id, engine);
        self.announce(away.id, now);
        self.offer_followers(away.id, now);
    }

    #[cfg(test)]
    pub(crate) fn n_beats(&self) -> u64 {
        self.beat.n_sent
    }

    pub(crate) fn next_beat(&self) -> Millis {
        self.beat.due()
    }

    /// The time between two beats for engines of ours, of which three may be missed.
    fn quick_period(&self) -> Millis {
        let third = Millis((self.settings.lost_after.0 / 3).max(1));
        third.min(self.settings.period)
    }

    /// Sends the beats that are due, and gives up who was silent for too long.
    pub(crate) fn beat_if_due(&mut self, now: Millis) {
        let late = now - self.beat.due();
        if late > LATE_BEAT {
            for engine in self.engines.values_mut() {
                engine.last_heard = (engine.last_heard + late).min(now);
            }
        }
        if self.beat.expected_until.is_some_and(|until| until <= now) || self.away.is_empty() {
            self.beat.expected_until = None;
        }
        let is_awaited = !self.silent.is_empty() || self.beat.expected_until.is_some();
        if self.beat.next_extra.is_some() && !is_awaited {
            self.beat.next_extra = None;
        }
        let is_due = |at: Option<Millis>| at.is_some_and(|at| at <= now);
        if self.beat.next_period <= now {
            self.count_misses(now);
            self.beat.oldest = self.beat.period_start;
            self.beat.period_start = self.beat.n_sent;
            self.beat.next_period = now + self.settings.period;
            self.send_beat(now);
        } else if is_due(self.beat.next_extra) || is_due(self.beat.next_quick) {
            self.send_beat(now);
        }
        if is_due(self.beat.next_quick) {
            self.beat.next_quick = (self.n_ours > 0).then(|| now + self.quick_period());
            self.give_up_silent(now);
        }
    }

    fn send_beat(&mut self, now: Millis) {
        let beat = self.beat.n_sent.to_string().into_bytes();
        self.beat.n_sent += 1;
        self.effects.push(Effect::Forward { channel: Channel::Ping, frames: vec![beat] });
        if self.beat.next_extra.is_some() {
            let mut silent = self.silent.iter().map(|id| &self.engines[id]);
            let is_new = silent.any(|engine| now - engine.registered < LATER_AFTER);
            let period = if is_new { FIRST_BEAT_PERIOD } else { LATER_BEAT_PERIOD };
            self.beat.next_extra = Some(now + period);
        }
    }

    fn count_misses(&mut self, now: Millis) {
        let mut silent = Vec::new();
        let is_behind = now - self.caught_up > LATE_BEAT;
        for engine in self.engines.values_mut() {
            engine.misses = if engine.heard || is_behind { 0 } else { engine.misses + 1 };
            let stalled = !engine.announced && now - engine.registered > STALLED_AFTER;
            if stalled || engine.announced && engine.misses > MISSES_MAX {
                silent.push((engine.id, engine.misses));
            }
            engine.heard = false;
        }
        for (id, misses) in silent {
            self.lose_silent(id, &format!("it did not answer {misses} heartbeats"), now);
        }
    }

    /// Gives up the engines of ours that have not answered for `Settings::lost_after`.
    fn give_up_silent(&mut self, now: Millis) {
        let limit = self.settings.lost_after;
        let ours = self.engines.values().filter(|engine| engine.is_ours && engine.announced);
        let silent = ours.filter(|engine| self.caught_up - engine.last_heard > limit);
        for id in silent.map(|engine| engine.id).collect::<Vec<_>>() {
            let cause = format!("it was silent for more than {} s", limit.0 as f64 / 1000.0);
            self.lose_silent(id, &cause, now);
        }
    }

    /// Gives up an engine that something did not reach, so that nobody waits for what it missed.
    pub(crate) fn unreached(&mut self, uuid: &[u8], now: Millis) {
        let Some(id) = self.by_uuid.get(uuid).copied() else { return };
        if self.engines[&id].announced {
            let cause = "a message did not reach it: its connection is gone, or it does not read";
            self.lose_silent(id, cause, now);
        }
    }

    /// Ends an engine that may come back.
    fn lose_silent(&mut self, id: EngineId, cause: &str, now: Millis) {
        let engine = &self.engines[&id];
        let tasks = engine.in_flight.iter().map(|(key, _)| *key);
        let keys = tasks.chain(engine.direct.iter().copied());
        let msg_id = |key| Some(self.records.get(key)?.msg_id.clone());
        let copies = engine.broadcasts.iter().filter_map(|key| msg_id(*key));
        let copies = copies.map(|original| child_id(&original, &engine.uuid));
        let away = Away {
            id,
            is_ours: engine.is_ours,
            left: keys.filter_map(msg_id).chain(copies).collect(),
            is_restored: false,
            n_completed: engine.n_completed,
        };
        if engine.announced {
            self.away.add(engine.ident(), away);
        }
        self.lose(id, cause, now);
    }

    pub(crate) fn announce(&mut self, id: EngineId, now: Millis) {
        let engine = self.engines.get_mut(&id).expect("only registered engines are announced");
        engine.announced = true;
        engine.misses = 0;
        engine.heard = true;
        engine.last_heard = now;
        self.silent.remove(&id);
        self.n_announced += 1;
        if engine.is_ours {
            self.n_ours += 1;
            let first = now + self.quick_period();
            self.beat.next_quick.get_or_insert(first);
        }
        let content = json!({"id": id, "uuid": self.engines[&id].uuid});
        self.notify("registration_notification", content);
        self.engines_changed(now);
        self.offer_engine(id, now);
    }
}
