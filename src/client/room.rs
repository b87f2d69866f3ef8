//! The client's loop: one event at a time from the kernel, the sockets or the clock, its effects
//! carried out in bursts. Decides nothing.

use super::bring;
use super::command::{ClientEvent, Command};
use super::event::{Effect, Event, Now};
use super::messages::Messages;
use super::sockets::Sockets;
use super::state::State;
use crate::process::{Alarm, others_first};
use crate::wire::Batch;
use std::time::{Instant, SystemTime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// A long submission leaves in pieces, so that the engines begin while the rest is being written.
const SENDS_PER_BATCH_MAX: usize = 256;

pub(super) struct Room {
    pub(super) state: State,
    pub(super) messages: Messages,
    pub(super) sockets: Sockets,
    pub(super) commands: UnboundedReceiver<Command>,
    pub(super) events: UnboundedSender<ClientEvent>,
    pub(super) start: Instant,
    pub(super) alarm: Alarm,
}

enum Input {
    Command(Command),
    Batch(Batch),
    Tick,
    Closed,
}

impl Room {
    pub(super) async fn run(mut self) {
        let mut open = self.step(vec![Event::Tick]).await;
        while open {
            open = match self.next().await {
                Input::Command(command) => self.commanded(command).await,
                Input::Batch(batch) => {
                    let read = |(socket, frames)| self.messages.read(socket, frames);
                    let events = batch.into_iter().filter_map(read).collect();
                    self.step(events).await
                }
                Input::Tick => self.step(vec![Event::Tick]).await,
                Input::Closed => false,
            };
        }
        self.sockets.close().await;
        // The kernel may have stopped listening first.
        let _ = self.events.send(ClientEvent::Closed);
    }

    /// Takes a command, and with it those that have come since.
    async fn commanded(&mut self, command: Command) -> bool {
        let open = self.step(vec![Event::Command(command)]).await;
        if !open || self.commands.is_empty() {
            return open;
        }
        // What the first one sends is on its way before the rest is looked at: a cell that submits
        // a call asks for its result at once.
        others_first().await;
        let mut events = Vec::new();
        while let Ok(command) = self.commands.try_recv() {
            events.push(Event::Command(command));
        }
        self.step(events).await
    }

    async fn next(&mut self) -> Input {
        self.alarm.set(self.state.next_deadline().map(|at| self.start + at));
        tokio::select! {
            command = self.commands.recv() => command.map_or(Input::Closed, Input::Command),
            batch = self.sockets.recv() => Input::Batch(batch),
            () = self.alarm.ring() => Input::Tick,
        }
    }

    /// Handles events and carries out their effects; false when that was the end.
    async fn step(&mut self, events: Vec<Event>) -> bool {
        let mut batch = Batch::new();
        let mut open = true;
        for event in events {
            let now = Now { at: self.start.elapsed(), date: SystemTime::now() };
            for effect in self.state.handle(event, now) {
                match effect {
                    Effect::Send(outgoing) => {
                        self.messages.write(outgoing, &mut batch);
                        if batch.len() >= SENDS_PER_BATCH_MAX {
                            self.sockets.send_batch(std::mem::take(&mut batch));
                            // The controller may be of this thread.
                            tokio::task::yield_now().await;
                        }
                    }
                    Effect::Bring { to, number, names, folder } => {
                        let outgoing = bring::request(&folder, to, number, names);
                        self.messages.write(outgoing, &mut batch);
                    }
                    Effect::Emit(event) => open &= self.events.send(event).is_ok(),
                    Effect::Remove { path } => {
                        // What cannot be removed now goes with its folder.
                        let _ = std::fs::remove_file(path);
                    }
                    Effect::Close => open = false,
                }
            }
        }
        self.sockets.send_batch(batch);
        open
    }
}
